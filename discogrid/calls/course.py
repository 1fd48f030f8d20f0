"""The course of one process on a grid, as far as is known here: whether it has ended, and with which exit code."""

import os
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

from discogrid.calls.executor import UNBOUNDED
from discogrid.errors import CallLost, WorkerLost

SHELLS_SIGNALS = 128
"""What a box that starts like a shell adds to the number of the signal."""


class Course:
    """The sink of one call, which is a whole process."""

    def __init__(self, name: str, on_end: Callable[[], None]) -> None:
        """`name` stands above what is told on stderr; `on_end` is called once, on any thread."""
        self.exit_code: int | None = None
        self._name = name
        self._on_end = on_end
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._reader: int | None = None
        self._writer: int | None = None

    def wait(self, timeout: float | None) -> None:
        """Until it has ended, or for `timeout` seconds."""
        self._ended.wait(timeout)

    def end(self, exit_code: int, said: str = "") -> None:
        """It has ended so, unless that is known already; `said` goes to stderr, as the process would have put it there."""
        with self._lock:
            if self.exit_code is not None:
                return
            self.exit_code = exit_code
            if self._writer is not None:
                os.close(self._writer)
        if said:
            sys.stderr.write(said)
        self._on_end()
        self._ended.set()

    def sentinel(self) -> int:
        """A file descriptor that is ready to be read when it has ended; closed with this object."""
        with self._lock:
            if self._reader is None:
                self._reader, writer = os.pipe()
                weakref.finalize(self, os.close, self._reader)
                if self.exit_code is None:
                    self._writer = writer
                else:
                    os.close(writer)
            return self._reader

    # -- as a sink

    @property
    def quick(self) -> bool:
        """See Sink: who waits for a process is called."""
        return False

    def room(self, made: int) -> int:  # noqa: ARG002
        """See Sink: there is one answer, and a place for it."""
        return UNBOUNDED

    def returned(self, index: int, value: Any) -> None:  # noqa: ARG002
        """See Sink."""
        self.end(0)

    def raised(self, index: int, error: BaseException) -> None:  # noqa: ARG002
        """See Sink."""
        exit_code, said = _exit_of(error)
        self.end(exit_code, f"Process {self._name}:\n{said}\n" if said else "")

    def exhausted(self, calls: int, error: BaseException | None) -> None:
        """See Sink."""
        if error is not None:
            self.raised(calls, error)


def _exit_of(error: BaseException) -> tuple[int, str]:
    """The exit code of a process that ended with this, and what it says of it."""
    match error:
        case SystemExit(code=None):
            return 0, ""
        case SystemExit(code=int() as code):
            return code, ""
        case SystemExit(code=text):
            return 1, str(text)
        case WorkerLost(exit_status=int() as status):
            by_signal = SHELLS_SIGNALS < status <= SHELLS_SIGNALS + signal.NSIG
            return SHELLS_SIGNALS - status if by_signal else status, "" if status == 0 else str(error)
        case CallLost():
            return -signal.SIGKILL, str(error)
        case _:
            return 1, _told(error)


def _told(error: BaseException) -> str:
    """The traceback as it was written where it was raised, and the notes."""
    there = str(error.__cause__) if error.__cause__ is not None else ""
    if not there.startswith('\n"""\n'):
        return "".join(traceback.format_exception(error)).rstrip()
    lines = there.removeprefix('\n"""\n').removesuffix('"""').rstrip().splitlines()
    return "\n".join([*lines, *(note for note in getattr(error, "__notes__", ()) if note not in lines)])
