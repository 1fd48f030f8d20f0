"""`concurrent.futures.Executor` over a line of workers, with real futures."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from discogrid.calls.arguments import Arguments
from discogrid.calls.dispatch import Dispatcher, Source
from discogrid.calls.pool import IMapIterator

P = ParamSpec("P")
T = TypeVar("T")
UNBOUNDED = 1 << 62
"""Room in what has a place for each answer."""


class ExecutorShutDown(RuntimeError):
    """The executor was shut down before the call had an answer."""


class CallExecutor(Executor):
    """Each call is a future, which can be cancelled until the call has left."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Take the dispatcher, whose line and workers are this executor's alone."""
        self._dispatcher = dispatcher
        self._futures: WeakSet[Future[Any]] = WeakSet()  # that may be cancelled
        self._maps: WeakSet[IMapIterator[Any]] = WeakSet()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Make a call; RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        source = Source(fn, _unless_cancelled(future, args, kwargs), _FutureSink(future), 1)
        try:
            self._dispatcher.put(source)
        except RuntimeError:
            raise RuntimeError("cannot schedule new futures after shutdown") from None
        self._futures.add(future)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[T]:
        """Results in the order of the items; calls are made from now on, and the iterables are read as results are taken.

        TimeoutError where a result is not there `timeout` seconds after this call. Calls travel in chunks of `chunksize`;
        1 lets that follow from how long they take. Who stops taking results cancels the calls that have not left.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        options.pop("buffersize", None)  # of Python 3.14: they are read no further ahead than they have to be
        if options:
            raise TypeError(f"map() got an unexpected keyword argument {next(iter(options))!r}")
        until = None if timeout is None else time.monotonic() + timeout
        found: IMapIterator[T] = IMapIterator(self._dispatcher.took)
        arguments: Iterator[Arguments] = ((items, {}) for items in zip(*iterables, strict=False))
        try:
            self._dispatcher.put(Source(fn, arguments, found, size=chunksize if chunksize > 1 else None))
        except RuntimeError:
            raise RuntimeError("cannot schedule new futures after shutdown") from None
        self._maps.add(found)
        return self._taken(found, until)

    def _taken(self, found: IMapIterator[T], until: float | None) -> Iterator[T]:
        try:
            while True:
                try:
                    value, failed = found.take(None if until is None else max(0.0, until - time.monotonic()))
                except StopIteration:
                    return
                except multiprocessing.TimeoutError:
                    raise TimeoutError from None
                if failed is not None:
                    raise failed
                only = [value]
                del value  # so that nobody but the taker has it
                yield only.pop()
        finally:
            self._dispatcher.withdraw(found)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; `cancel_futures`: nor make those that have not left. `wait` until all are answered."""
        self._dispatcher.close()
        if cancel_futures:
            self.cancel_all()
        if wait:
            self._dispatcher.join()

    def cancel_all(self) -> None:
        """Of the calls that were made, those that have not left never will."""
        for future in list(self._futures):
            future.cancel()
        for found in list(self._maps):
            self._dispatcher.cancel(found, CancelledError())

    def terminate(self) -> None:
        """End everything at once; whoever waits is told so."""
        self._dispatcher.terminate(ExecutorShutDown("the executor was terminated"))


class _FutureSink:
    """Gives the answer to its future."""

    def __init__(self, future: Future[Any]) -> None:
        self._future: Future[Any] | None = future

    @property
    def quick(self) -> bool:
        """See Sink: a future calls whoever wants to be called."""
        return False

    def room(self, made: int) -> int:  # noqa: ARG002
        """See Sink: a future has a place for its answer."""
        return UNBOUNDED

    def returned(self, index: int, value: Any) -> None:  # noqa: ARG002
        """See Sink."""
        future, self._future = self._future, None
        if future is not None:
            future.set_result(value)

    def raised(self, index: int, error: BaseException) -> None:  # noqa: ARG002
        """See Sink."""
        future, self._future = self._future, None
        if future is not None:
            future.set_exception(error)

    def exhausted(self, calls: int, error: BaseException | None) -> None:  # noqa: ARG002
        """See Sink."""
        future = self._future
        if error is not None and future is not None and (future.running() or _begin(future)):
            self.raised(0, error)


def _unless_cancelled(future: Future[Any], arguments: tuple[Any, ...], keywords: Any) -> Iterator[Arguments]:
    if _begin(future):
        yield arguments, keywords


def _begin(future: Future[Any]) -> bool:
    """Whether it was not cancelled, which it cannot be any more."""
    return future.set_running_or_notify_cancel()
