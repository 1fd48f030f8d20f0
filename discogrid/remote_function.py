"""`@discogrid.function`: a function that also runs on a grid, one call or many at a time.

Its module is not called like the decorator, which would take its place in the package when somebody imports it.
"""

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from discogrid.calls.executor import CallExecutor
from discogrid.errors import CallLost
from discogrid.remote.keywords import CallKeywords, call_options
from discogrid.remote.options import CallOptions
from discogrid.remote.shared import shared

P = ParamSpec("P")
T = TypeVar("T")
Errors = type[BaseException] | tuple[type[BaseException], ...]

CALLS_AHEAD = 10_000
"""Calls of one `map` that are made before the first of their results is taken."""


class RemoteFunction(Generic[P, T]):
    """The function itself when it is called; `remote`, `map`, `starmap` and `spawn` run it on a grid."""

    __name__: str  # all of them those of the function
    __qualname__: str
    __wrapped__: Callable[P, T]

    def __init__(
        self, target: Callable[P, T], options: CallOptions, retries: int = 0, retry_on: Errors = ()
    ) -> None:
        """Use `discogrid.function`."""
        functools.update_wrapper(self, target)
        self._target = target
        self._options = options
        self._retries = retries
        self._retry_on: tuple[type[BaseException], ...] = (
            CallLost,
            *(retry_on if isinstance(retry_on, tuple) else (retry_on,)),
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it here, in this process."""
        return self._target(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method: the same for the function that is bound to the instance."""
        if instance is None:
            return self
        bound = MethodType(self._target, instance)
        return RemoteFunction(bound, self._options, self._retries, self._retry_on[1:])

    def __reduce__(self) -> Any:
        """By name where a module has it, by value where that is the main program, or nobody has."""
        if getattr(self, "__module__", None) not in (None, "__main__"):
            found: Any = sys.modules.get(self.__module__)
            for name in self.__qualname__.split("."):
                found = getattr(found, name, None)
            if found is self:
                return self.__qualname__
        return RemoteFunction, (self._target, self._options, self._retries, self._retry_on[1:])

    def __repr__(self) -> str:
        """What it was made of."""
        return f"<discogrid.function {self._target!r}>"

    def local(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it here, in this process."""
        return self._target(*args, **kwargs)

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it on the grid, and wait for what it returns or raises."""
        return self.spawn(*args, **kwargs).result()

    def spawn(self, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call it on the grid, without waiting; GridError when none is in reach.

        The future can be cancelled until the call has left. The program waits for it at its end.
        """
        executor = CallExecutor(shared(self._options))
        if not self._retries:
            return executor.submit(self._target, *args, **kwargs)
        tries = _Tries(lambda: executor.submit(self._target, *args, **kwargs), self._retries, self._retry_on)
        return tries.future

    def map(self, iterable: Iterable[Any]) -> Iterator[T]:
        """What it returns for each item, in their order, or raises; it begins now, and reads on as results are taken.

        Who stops taking results cancels the calls that have not left.
        """
        return self._results((item,) for item in iterable)

    def starmap(self, iterable: Iterable[Iterable[Any]]) -> Iterator[T]:
        """The same, where each item is a tuple of arguments."""
        return self._results(tuple(items) for items in iterable)

    def _results(self, arguments: Iterator[tuple[Any, ...]]) -> Iterator[T]:
        spawn: Callable[..., Future[T]] = self.spawn
        waiting = deque(spawn(*items) for items in islice(arguments, CALLS_AHEAD))

        def taken() -> Iterator[T]:
            try:
                while waiting:
                    waiting.extend(spawn(*items) for items in islice(arguments, CALLS_AHEAD - len(waiting)))
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

        return taken()


class _Tries(Generic[T]):
    """Makes a call again while it may; its future is answered with the last try."""

    def __init__(
        self, submit: Callable[[], Future[T]], left: int, retry_on: tuple[type[BaseException], ...]
    ) -> None:
        self.future: Future[T] = Future()
        self._submit = submit
        self._left = left
        self._retry_on = retry_on
        self._lock = threading.Lock()
        self._begun = False
        self._trying = submit()
        self.future.add_done_callback(self._cancelled)
        self._trying.add_done_callback(self._ended)

    def _ended(self, tried: Future[T]) -> None:
        """On the thread of the answer."""
        if tried.cancelled():
            self.future.cancel()
            return
        error = tried.exception()
        if error is not None and self._left and isinstance(error, self._retry_on) and self._again():
            return
        if not self._begin():
            return
        if error is None:
            self.future.set_result(tried.result())
        else:
            self.future.set_exception(error)

    def _cancelled(self, future: Future[T]) -> None:
        """It is over; if it was cancelled, so is the try."""
        if future.cancelled():
            self._trying.cancel()
            self._begin()

    def _begin(self) -> bool:
        """Whether the future takes an answer now; once, for it tells those that wait for it when it was cancelled."""
        with self._lock:
            begun, self._begun = self._begun, True
        return not begun and self.future.set_running_or_notify_cancel()

    def _again(self) -> bool:
        """Whether it is tried once more: nobody has cancelled it, and calls are taken."""
        if self.future.cancelled():
            return False
        self._left -= 1
        try:
            self._trying = self._submit()
        except RuntimeError:
            return False
        self._trying.add_done_callback(self._ended)
        return True


@overload
def function(target: Callable[P, T], /) -> RemoteFunction[P, T]: ...


@overload
def function(
    *, retries: int = 0, retry_on: Errors = (), **asked: Unpack[CallKeywords]
) -> Callable[[Callable[P, T]], RemoteFunction[P, T]]: ...


def function(
    target: Callable[..., Any] | None = None,
    /,
    *,
    retries: int = 0,
    retry_on: Errors = (),
    **asked: Unpack[CallKeywords],
) -> Any:
    """Let a function run on a grid, too: `@discogrid.function` or `@discogrid.function(cpus=2, retries=2)`.

    `retries`: how often a call is made again that was lost: WorkerLost, TaskTimeout, OutOfMemory. What the function
    itself raises would most likely be raised again, and is not tried again unless it is one of `retry_on`, an exception
    or a tuple of them: `retry_on=Exception` for all. The other keywords are those of `discogrid.Pool`.
    """
    options = call_options(asked)
    if not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries must be 0 or more, not {retries!r}")

    def made(target: Callable[..., Any]) -> RemoteFunction[..., Any]:
        if not callable(target):
            raise TypeError(f"discogrid.function wants a function, not {target!r}")
        return RemoteFunction(target, options, retries, retry_on)

    return made if target is None else made(target)
