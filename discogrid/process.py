"""`multiprocessing.Process` on a grid.

It runs in a process of its own on some agent, once a slot is free there. Nothing comes back but its exit code: who wants a
value uses a Pool. It has no pid, for that would be of another machine.
"""

import atexit
import itertools
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Unpack

from discogrid.calls import functions
from discogrid.calls.arguments import pack_arguments
from discogrid.calls.course import Course
from discogrid.calls.dispatch import Dispatcher, Source
from discogrid.remote.keywords import PlaceKeywords, call_options
from discogrid.remote.options import CallOptions
from discogrid.remote.shared import shared

CALLS_MAX = 1
"""Of one worker: each process is a fresh one, as it is with multiprocessing."""

_numbers = itertools.count(1)
_children: set["Process"] = set()  # that have started and not ended


class Process:
    """A function that runs beside this program; subclasses may override `run`, and travel by value."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        **asked: Unpack[PlaceKeywords],
    ) -> None:
        """`target(*args, **kwargs)` is what `run` calls. `daemon`: terminated when the program ends, instead of waited for.

        The other keywords are those of `discogrid.Pool`; processes that have the same share one job of the grid.
        """
        assert group is None, "group argument must be None for now"
        self._parent_pid = os.getpid()
        self._options: CallOptions | None = call_options(asked, calls_max=CALLS_MAX)
        self._course: Course | None = None
        self._dispatcher: Dispatcher | None = None
        self._closed = False
        self._target = target
        self._args = tuple(args)
        self._kwargs = dict(kwargs or {})
        self._name = name or f"{type(self).__name__}-{next(_numbers)}"
        self._daemon = bool(daemon)

    def __getstate__(self) -> dict[str, Any]:
        """What of it travels: all but what is of this machine."""
        return {**self.__dict__, "_course": None, "_dispatcher": None, "_options": None}

    def __repr__(self) -> str:
        """Its class, name and state, as multiprocessing writes them."""
        words = [type(self).__name__, f"name={self._name!r}", f"parent={self._parent_pid}", self._state()]
        if self._course is not None and self._course.exit_code is not None:
            words.append(f"exitcode={_exit_name(self._course.exit_code)}")
        return f"<{' '.join([*words, *(['daemon'] if self._daemon else [])])}>"

    # -- its life

    def run(self) -> None:
        """What runs on the agent; override it, or give a target."""
        if self._target is not None:
            self._target(*self._args, **self._kwargs)

    def start(self) -> None:
        """Send it on its way, with its arguments as they are now. Once.

        Unshareable and other InputErrors when something of it cannot be sent; GridError when no grid is in reach,
        NoAgentFits and VersionMismatch when none of its agents could run it.
        """
        self._check_closed()
        assert self._course is None, "cannot start a process twice"
        assert self._parent_pid == os.getpid(), "can only start a process object created by current process"
        assert self._options is not None
        function, arguments, keywords = self._call()
        content = pack_arguments(arguments, keywords, bound=function is functions.call)
        dispatcher = shared(self._options)
        packed = b"" if dispatcher.knows(function) else functions.pack(function)
        course = Course(self._name, lambda: _children.discard(self))
        dispatcher.put(Source(function, iter([content]), course, 1, size=1, packed=packed))
        self._course, self._dispatcher = course, dispatcher
        _children.add(self)
        if course.exit_code is not None:  # before it was among the children
            _children.discard(self)
        del self._target, self._args, self._kwargs  # which may hold what the caller wants to be rid of

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, or for `timeout` seconds."""
        self._check_closed()
        assert self._parent_pid == os.getpid(), "can only join a child process"
        assert self._course is not None, "can only join a started process"
        self._course.wait(timeout)

    def is_alive(self) -> bool:
        """Whether it has started and not ended; also while it waits for a slot."""
        self._check_closed()
        assert self._parent_pid == os.getpid(), "can only test a child process"
        return self._course is not None and self._course.exit_code is None

    def terminate(self) -> None:
        """End it; its exit code is that of SIGTERM. It is not asked before."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it; its exit code is that of SIGKILL."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Let go of what belongs to it, after which it can be used no more. ValueError while it is running."""
        if self._course is not None and self._course.exit_code is None:
            raise ValueError(
                "Cannot close a process while it is still running. You should first call join() or terminate()."
            )
        self._course = self._dispatcher = None
        self._closed = True

    # -- what is known of it

    @property
    def name(self) -> str:
        """For people; it need not be unique."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        assert isinstance(name, str), "name must be a string"
        self._name = name

    @property
    def daemon(self) -> bool:
        """Whether it is terminated when the program ends, instead of waited for."""
        return self._daemon

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        assert self._course is None, "process has already started"
        self._daemon = daemonic

    @property
    def exitcode(self) -> int | None:
        """None until it has ended. 0; 1 after an exception; what sys.exit was given; minus the signal that ended it.

        A process that took too long or too much memory was killed: -9. Why is said on stderr.
        """
        self._check_closed()
        return None if self._course is None else self._course.exit_code

    @property
    def ident(self) -> None:
        """None: it is a process of another machine, and a number of there would mean another process here."""
        self._check_closed()

    @property
    def pid(self) -> None:
        """None, as `ident`."""
        self._check_closed()

    @property
    def sentinel(self) -> int:
        """A file descriptor that is ready when it has ended, for multiprocessing.connection.wait. ValueError before `start`."""
        self._check_closed()
        if self._course is None:
            raise ValueError("process not started")
        return self._course.sentinel()

    # -- bookkeeping

    def _call(self) -> tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]:
        """What is called there: the target itself, where nothing is to be run around it."""
        run = type(self).run
        if run is not Process.run:
            return (run, (self,), {}) if functions.is_plain(run) else (functions.call, (self.run,), {})
        if self._target is None:
            return run, (self,), {}
        if functions.is_plain(self._target):
            return self._target, self._args, self._kwargs
        return functions.call, (self._target, *self._args), self._kwargs

    def _end(self, number: signal.Signals) -> None:
        self._check_closed()
        assert self._course is not None, "can only end a started process"
        self._course.end(-number)
        if self._dispatcher is not None:
            self._dispatcher.withdraw(self._course, end=True)

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError("process object is closed")

    def _state(self) -> str:
        if self._closed:
            return "closed"
        if self._parent_pid != os.getpid():
            return "unknown"
        if self._course is None:
            return "initial"
        return "started" if self._course.exit_code is None else "stopped"


def _exit_name(exit_code: int) -> str:
    try:
        return f"-{signal.Signals(-exit_code).name}" if exit_code < 0 else str(exit_code)
    except ValueError:
        return str(exit_code)


@atexit.register
def end_all() -> None:
    """Terminate the daemons and wait for the others; end these, too, where the wait is interrupted."""
    own = [process for process in list(_children) if process._parent_pid == os.getpid()]  # noqa: SLF001 (ours)
    for process in own:
        if process.daemon:
            process.terminate()
    try:
        for process in own:
            process.join()
    except BaseException:
        for process in own:
            process.terminate()
        raise
