"""Dask's distributed scheduler on this machine."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from benchmarks.peers.peer import Function, Peer, Wait


class Dask(Peer):
    """distributed.LocalCluster; its default chunks are those of a bag."""

    name = "dask"
    includes = "scheduler in the client's process, TCP on loopback, no encryption, no isolation"
    packages = ("dask[distributed]",)
    module = "distributed"
    shares: ClassVar = {"W8": 0.02}

    def start(self) -> None:
        """See Peer."""
        from distributed import Client, LocalCluster

        self._cluster = LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tcp",
            dashboard_address=None,
            memory_limit=0,
            local_directory=str(self.folder),
        )
        self._client = Client(self._cluster)
        self._client.wait_for_workers(self.workers)

    def stop(self) -> None:
        """See Peer."""
        self._client.close()
        self._cluster.close()

    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return list(self._client.gather(self._client.map(function, items, pure=False)))

    def map_by_default(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        from dask import bag

        return list(bag.from_sequence(items).map(function).compute(scheduler=self._client))

    def map_large(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer: the arguments go to the workers first."""
        scattered = self._client.scatter(list(items), hash=False)
        return list(self._client.gather(self._client.map(function, scattered, pure=False)))

    def one(self, function: Function, item: Any) -> Any:
        """See Peer."""
        return self._client.submit(function, item, pure=False).result()

    def submit(self, function: Function, items: Sequence[Any]) -> list[Wait]:
        """See Peer."""
        return [future.result for future in self._client.map(function, items, pure=False)]

    def unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """See Peer."""
        from distributed import as_completed

        made = self._client.map(function, list(items), pure=False)
        return (result for _, result in as_completed(made, with_results=True))
