"""Ray on this machine."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar

from benchmarks.peers.peer import Function, Peer, Wait

STORE_BYTES = 2 << 30
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


class Ray(Peer):
    """Plain tasks of one CPU; its default chunks, and results as they come, are those of its own Pool."""

    name = "ray"
    includes = "daemons of its own, shared memory, gRPC on loopback, no encryption, no isolation"
    packages = ("ray",)
    module = "ray"
    shares: ClassVar = {"W8": 0.02}

    def start(self) -> None:
        """See Peer."""
        os.environ.update(QUIET)
        import ray

        ray.init(
            num_cpus=self.workers,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            object_store_memory=STORE_BYTES,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(self.folder),  # the path of a socket in it is nearly as long as one may be
        )
        self._get: Any = ray.get
        self._remote: dict[Function, Any] = {}

    def stop(self) -> None:
        """See Peer."""
        import ray

        ray.shutdown()

    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return list(self._get(self._made(function, items)))

    def map_by_default(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return list(self._pool.map(function, items))

    def one(self, function: Function, item: Any) -> Any:
        """See Peer."""
        return self._get(self._made(function, [item])[0])

    def submit(self, function: Function, items: Sequence[Any]) -> list[Wait]:
        """See Peer."""
        return [partial(self._wait, made) for made in self._made(function, items)]

    def unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """See Peer."""
        return iter(self._pool.imap_unordered(function, items))

    def _made(self, function: Function, items: Sequence[Any]) -> list[Any]:
        import ray

        if function not in self._remote:
            self._remote[function] = ray.remote(num_cpus=1)(function)
        return [self._remote[function].remote(item) for item in items]

    def _wait(self, made: Any, seconds: float) -> Any:
        from ray.exceptions import GetTimeoutError

        try:
            return self._get(made, timeout=seconds)
        except GetTimeoutError:
            raise TimeoutError from None

    @cached_property
    def _pool(self) -> Any:
        """Made when it is needed; its actors take no CPU from plain tasks while nobody calls them."""
        from ray.util.multiprocessing import Pool

        return Pool(self.workers, ray_remote_args={"num_cpus": 0})
