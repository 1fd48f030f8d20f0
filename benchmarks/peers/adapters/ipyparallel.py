"""ipyparallel with a controller and engines on this machine."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from benchmarks.peers.peer import Function, Peer, Wait, waiting


class Ipyparallel(Peer):
    """Its load-balanced view; its default chunks are those of the direct view. One retry, as for Parsl."""

    name = "ipyparallel"
    includes = (
        "controller and engines, ZeroMQ over TCP on loopback, HMAC, no encryption, no isolation, 1 retry"
    )
    packages = ("ipyparallel",)
    module = "ipyparallel"
    shares: ClassVar = {"W1": 0.1, "W8": 0.01}

    def start(self) -> None:
        """See Peer."""
        import ipyparallel

        self._cluster = ipyparallel.Cluster(
            n=self.workers,
            profile_dir=str(self.folder / "profile"),
            controller_ip="127.0.0.1",
            log_level=logging.CRITICAL,
        )
        self._client = self._cluster.start_and_connect_sync(n=self.workers)
        self._direct = self._client[:]
        self._view = self._client.load_balanced_view()
        self._view.retries = 1

    def stop(self) -> None:
        """See Peer."""
        self._client.close()
        self._cluster.stop_cluster_sync()

    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return list(self._view.map_sync(function, items, chunksize=1))

    def map_by_default(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return list(self._direct.map_sync(function, items))

    def one(self, function: Function, item: Any) -> Any:
        """See Peer."""
        return self._view.apply_sync(function, item)

    def submit(self, function: Function, items: Sequence[Any]) -> list[Wait]:
        """See Peer."""
        return [waiting(self._view.apply_async(function, item).get) for item in items]

    def unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """See Peer."""
        return iter(self._view.imap(function, items, ordered=False))
