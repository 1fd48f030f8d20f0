"""`multiprocessing.Pool` over a line of workers: the same methods, arguments, results and errors.

What differs is said where it does: calls travel in chunks that follow from how long they take, whatever `chunksize` would
do by itself; and an iterable given to `imap` is read as its results are taken, so that it may be endless.
"""

import collections.abc
import itertools
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing import TimeoutError as MultiprocessingTimeoutError
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from discogrid.calls.arguments import Arguments
from discogrid.calls.dispatch import Dispatcher, Source

T = TypeVar("T")
RESULTS_AHEAD_MAX = 100_000
"""Results of one `imap` that wait to be taken; more calls of it are made when some have been."""
TOLD_EVERY = 64
"""Results that are taken before the pool hears that there is room again, unless all are."""
UNBOUNDED = 1 << 62


class PoolTerminated(RuntimeError):
    """The pool was terminated before the call had an answer."""


class AsyncResult(Generic[T]):
    """What `apply_async` and `map_async` return; see multiprocessing.pool.AsyncResult."""

    def __init__(
        self,
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._event = threading.Event()
        self._callback = callback
        self._error_callback = error_callback
        self._value: Any = None
        self._error: BaseException | None = None

    def ready(self) -> bool:
        """Whether there is an answer."""
        return self._event.is_set()

    def successful(self) -> bool:
        """Whether it is no exception; ValueError when there is none yet."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Until there is an answer, or for `timeout` seconds."""
        self._event.wait(timeout)

    def get(self, timeout: float | None = None) -> T:
        """The answer; multiprocessing.TimeoutError when there is none after `timeout` seconds."""
        if not self._event.wait(timeout):
            raise MultiprocessingTimeoutError
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[no-any-return]

    @property
    def quick(self) -> bool:
        """See Sink: answers are counted by one thread."""
        return False

    def room(self, made: int) -> int:  # noqa: ARG002
        """See Sink: it has a place for each answer."""
        return UNBOUNDED

    def _end(self, value: Any, error: BaseException | None) -> None:
        if self._event.is_set():
            return
        self._value, self._error = value, error
        if error is None and self._callback is not None:
            self._callback(value)
        elif error is not None and self._error_callback is not None:
            self._error_callback(error)
        self._event.set()
        self._callback = self._error_callback = None


class ApplyResult(AsyncResult[T]):
    """Of one call."""

    @property
    def quick(self) -> bool:
        """See Sink."""
        return self._callback is None

    def returned(self, index: int, value: Any) -> None:  # noqa: ARG002
        """See Sink."""
        self._end(value, None)

    def raised(self, index: int, error: BaseException) -> None:  # noqa: ARG002
        """See Sink."""
        self._end(None, error)

    def exhausted(self, calls: int, error: BaseException | None) -> None:  # noqa: ARG002
        """See Sink."""
        if error is not None:
            self._end(None, error)


class MapResult(AsyncResult[list[T]]):
    """Of as many calls as there were items, in their order; the first exception by time is that of all."""

    def __init__(
        self,
        length: int,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        super().__init__(callback, error_callback)
        self._found: list[Any] = [None] * length
        self._left = length
        self._first: BaseException | None = None
        if not length:
            self._end([], None)

    def returned(self, index: int, value: Any) -> None:
        """See Sink."""
        self._found[index] = value
        self._count()

    def returned_many(self, start: int, values: Sequence[Any]) -> None:
        """See TakesMany."""
        self._found[start : start + len(values)] = values
        self._count(len(values))

    def raised(self, index: int, error: BaseException) -> None:  # noqa: ARG002
        """See Sink."""
        self._first = self._first or error
        self._count()

    def exhausted(self, calls: int, error: BaseException | None) -> None:  # noqa: ARG002
        """See Sink."""
        if error is not None:
            self._end(None, error)

    def _count(self, answers: int = 1) -> None:
        self._left -= answers
        if not self._left:
            self._end(None if self._first else self._found, self._first)


class IMapIterator(Iterator[T]):
    """Results in the order of the items, as they come; see multiprocessing.pool.IMapIterator. For one thread at a time."""

    def __init__(self, took: Callable[[], None]) -> None:
        self._took = took
        self._lock = threading.Condition()
        self._found: dict[int, tuple[Any, BaseException | None]] = {}
        self._next: deque[tuple[Any, BaseException | None]] = deque()  # that are taken next, without the lock
        self._moved = 0  # results that have gone there, or been taken
        self._length: int | None = None
        self._ending: BaseException | None = None  # what ended the iterable
        self._full = False  # calls wait until results have been taken

    @property
    def quick(self) -> bool:
        """See Sink."""
        return True

    def room(self, made: int) -> int:
        """See Sink."""
        room = RESULTS_AHEAD_MAX - (made - self._moved + len(self._next))
        self._full = room <= 0
        return room

    def returned(self, index: int, value: Any) -> None:
        """See Sink."""
        self._put(index, value, None)

    def returned_many(self, start: int, values: Sequence[Any]) -> None:
        """See TakesMany."""
        with self._lock:
            self._found.update((index, (value, None)) for index, value in enumerate(values, start))
            self._lock.notify_all()

    def raised(self, index: int, error: BaseException) -> None:
        """See Sink."""
        self._put(index, None, error)

    def exhausted(self, calls: int, error: BaseException | None) -> None:
        """See Sink."""
        with self._lock:
            self._length, self._ending = calls, error
            self._lock.notify_all()

    def __iter__(self) -> Self:
        """Itself."""
        return self

    def __next__(self) -> T:
        """The next result, or what its call raised."""
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The same; multiprocessing.TimeoutError when there is none after `timeout` seconds."""
        value, failed = self.take(timeout)
        if failed is not None:
            raise failed
        return value  # type: ignore[no-any-return]

    def take(self, timeout: float | None = None) -> tuple[Any, BaseException | None]:
        """The next result, and what its call raised instead; for the rest as `next`."""
        if not self._next:
            self._wait(timeout)
        found = self._next.popleft()
        if self._full and len(self._next) % TOLD_EVERY == 0:
            self._took()
        return found

    def _wait(self, timeout: float | None) -> None:
        """Until there is a result to take; StopIteration, or what ended the iterable, when there are no more."""
        with self._lock:
            if not self._lock.wait_for(self._move, timeout):
                raise MultiprocessingTimeoutError
            if not self._next:
                error, self._ending = self._ending, None
                raise error or StopIteration

    def _move(self) -> bool:
        """Let all results that may be taken be taken next; whether there are any, or there are no more."""
        for index in self._due():
            self._next.append(self._found.pop(index))
            self._moved += 1
        return bool(self._next) or (self._length is not None and self._moved >= self._length)

    def _due(self) -> Iterator[int]:
        """Of what is found, what may be taken, in order."""
        return itertools.takewhile(self._found.__contains__, itertools.count(self._moved))

    def _put(self, index: int, value: Any, error: BaseException | None) -> None:
        with self._lock:
            self._found[index] = (value, error)
            self._lock.notify_all()


class IMapUnorderedIterator(IMapIterator[T]):
    """Results as they come, whatever the order of the items."""

    def _due(self) -> Iterator[int]:
        return iter(list(self._found))


def _star(arguments: Iterable[Any]) -> Arguments:
    return tuple(arguments), {}


def _single(item: Any) -> Arguments:
    return (item,), {}


class CallPool:
    """A pool over one dispatcher."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Take the dispatcher, whose line and workers are this pool's alone."""
        self._dispatcher = dispatcher
        self._state = "RUN"

    def __repr__(self) -> str:
        """The class and whether it takes calls."""
        return f"<{type(self).__module__}.{type(self).__qualname__} state={self._state}>"

    def __del__(self) -> None:
        """Say so where it was left to the collector, as multiprocessing's does."""
        if getattr(self, "_state", "") == "RUN":
            warnings.warn(
                f"unclosed running multiprocessing pool {self!r}", ResourceWarning, stacklevel=2, source=self
            )
            self.terminate()

    def __enter__(self) -> Self:
        """Itself; ValueError when it takes no calls any more."""
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Terminate it."""
        self.terminate()

    def __reduce__(self) -> Any:
        """A pool stays in its process."""
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    # -- calls

    def apply(
        self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None
    ) -> T:
        """What the call returns."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult[T]:
        """The same, without waiting for it."""
        self._check()
        result: ApplyResult[T] = ApplyResult(callback, error_callback)
        self._dispatcher.put(Source(func, iter([(tuple(args), kwds or {})]), result, 1))
        return result

    def map(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None) -> list[T]:
        """What the function returns for each item, in their order."""
        return self.map_async(func, iterable, chunksize).get()

    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        """The same, where each item is a tuple of arguments."""
        return self.starmap_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """`map`, without waiting for it."""
        return self._map(func, iterable, _single, chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """`starmap`, without waiting for it."""
        return self._map(func, iterable, _star, chunksize, callback, error_callback)

    def imap(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator[T]:
        """Results one by one, in the order of the items, which may be endless."""
        return self._imap(IMapIterator, func, iterable, chunksize)

    def imap_unordered(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator[T]:
        """Results one by one, as they come."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize)

    # -- its end

    def close(self) -> None:
        """Take no more calls; those that were made go on."""
        if self._state == "RUN":
            self._state = "CLOSE"
            self._dispatcher.close()

    def terminate(self) -> None:
        """End everything at once."""
        self._state = "TERMINATE"
        self._dispatcher.terminate(PoolTerminated("the pool was terminated"))

    def join(self) -> None:
        """Wait for everything to end; ValueError unless it is closed or terminated."""
        if self._state == "RUN":
            raise ValueError("Pool is still running")
        self._dispatcher.join()

    # -- bookkeeping

    def _check(self) -> None:
        if self._state != "RUN":
            raise ValueError("Pool not running")

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        arguments: Callable[[Any], Arguments],
        chunksize: int | None,
        callback: Callable[[list[Any]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> MapResult[Any]:
        self._check()
        items: Sequence[Any] = iterable if isinstance(iterable, collections.abc.Sequence) else list(iterable)
        result: MapResult[Any] = MapResult(len(items), callback, error_callback)
        if len(items):
            self._dispatcher.put(Source(func, map(arguments, items), result, len(items), chunksize))
        return result

    def _imap(
        self,
        kind: type[IMapIterator[Any]],
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
    ) -> IMapIterator[Any]:
        self._check()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        result = kind(self._dispatcher.took)
        self._dispatcher.put(Source(func, map(_single, _read(iterable, chunksize)), result))
        return result


def _read(iterable: Iterable[Any], chunksize: int) -> Iterator[Any]:
    """The items; as in multiprocessing, none of a chunk before whose end the iterable fails."""
    items = iter(iterable)
    while chunk := tuple(itertools.islice(items, chunksize)):
        yield from chunk
