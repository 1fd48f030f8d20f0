"""Parsl with the executor that it recommends."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import as_completed
from typing import Any, ClassVar

from benchmarks.peers.peer import Function, Peer, Wait

LOOPBACK = "127.0.0.1"


class Parsl(Peer):
    """HighThroughputExecutor; one retry, without which what a lost worker ran is lost."""

    name = "parsl"
    includes = "interchange and manager, ZeroMQ over TCP on loopback, CURVE, no isolation, 1 retry"
    packages = ("parsl",)
    module = "parsl"
    shares: ClassVar = {"W1": 0.2, "W8": 0.01}

    def start(self) -> None:
        """See Peer."""
        import parsl
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        executor = HighThroughputExecutor(
            label="peers",
            address=LOOPBACK,
            loopback_address=LOOPBACK,
            max_workers_per_node=self.workers,
            cores_per_worker=0.1,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        config = Config(
            executors=[executor], retries=1, run_dir=str(self.folder / "runs"), initialize_logging=False
        )
        self._kernel = parsl.load(config)
        self._app: Any = parsl.python_app
        self._apps: dict[Function, Any] = {}

    def stop(self) -> None:
        """See Peer."""
        self._kernel.cleanup()

    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return [future.result() for future in self._made(function, items)]

    def submit(self, function: Function, items: Sequence[Any]) -> list[Wait]:
        """See Peer."""
        return [future.result for future in self._made(function, items)]

    def unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """See Peer."""
        return (future.result() for future in as_completed(self._made(function, items)))

    def _made(self, function: Function, items: Iterable[Any]) -> list[Any]:
        if function not in self._apps:
            self._apps[function] = self._app(function)
        return [self._apps[function](item) for item in items]
