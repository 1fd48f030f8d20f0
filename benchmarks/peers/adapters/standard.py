"""What comes with Python: multiprocessing and concurrent.futures."""

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, ClassVar, NoReturn

from benchmarks.peers import calls
from benchmarks.peers.peer import Function, NotOffered, Peer, PoolPeer, Wait


class Multiprocessing(PoolPeer):
    """multiprocessing.Pool."""

    name = "multiprocessing"
    includes = "fork, OS pipes, no sockets, no isolation"

    def pool(self, calls_max: int | None = None) -> Any:
        """See PoolPeer."""
        return get_context("fork").Pool(self.workers, maxtasksperchild=calls_max)


class Forkserver(PoolPeer):
    """The same, whose workers are forked from a server that has imported everything: the rival of warm starts."""

    name = "forkserver"
    includes = "fork of a server that has imported numpy, cv2 and dlib, OS pipes, no sockets, no isolation"

    def pool(self, calls_max: int | None = None) -> Any:
        """See PoolPeer."""
        context = get_context("forkserver")
        there = [name for name in calls.MODULES if importlib.util.find_spec(name)]
        # The main program is loaded again in every worker: at least what it imports is there.
        context.set_forkserver_preload([*there, calls.__name__, "benchmarks.peers.alone"])
        return context.Pool(self.workers, maxtasksperchild=calls_max)


class Futures(Peer):
    """concurrent.futures.ProcessPoolExecutor."""

    name = "futures"
    includes = "fork, OS pipes, no sockets, no isolation"
    shares: ClassVar = {"W8": 0.1}

    def start(self) -> None:
        """See Peer."""
        self._pool = ProcessPoolExecutor(self.workers, mp_context=get_context("fork"))

    def stop(self) -> None:
        """See Peer."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return list(self._pool.map(function, items, chunksize=1))

    def map_by_default(self, function: Function, items: Sequence[Any]) -> NoReturn:  # noqa: ARG002
        """See Peer."""
        raise NotOffered("its default is one call a task, as in W1")

    def one(self, function: Function, item: Any) -> Any:
        """See Peer."""
        return self._pool.submit(function, item).result()

    def submit(self, function: Function, items: Sequence[Any]) -> list[Wait]:
        """See Peer."""
        return [self._pool.submit(function, item).result for item in items]

    def unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """See Peer: in order, for it has nothing else that makes no list of futures here."""
        return self._pool.map(function, items)
