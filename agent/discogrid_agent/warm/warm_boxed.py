"""A task that a warm Python forks into a box: hears that it lives, and that all of it is dead."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from discogrid_agent.sandbox.box import BoxEnd
from discogrid_agent.sandbox.control_groups import Group
from discogrid_agent.sandbox.inside import inhabitants, shared_memory_bytes

ANSWER_S: Final = 2.0  # for a warm Python to fork, once the task is to be killed; it takes some milliseconds
_STATUS_BYTES: Final = 4


class WarmBoxed:
    """See Boxed."""

    def __init__(
        self,
        status: int,
        loop: asyncio.AbstractEventLoop,
        stuck: Callable[[], None],
        group: Group | None = None,
    ) -> None:
        """At `status` the box waits for a word, and says how its task ended; `stuck`: nobody answers a kill."""
        self._group = group
        self.ended: asyncio.Future[BoxEnd] = loop.create_future()
        self._loop = loop
        self._status = status
        self._stuck = stuck
        self._killed = False
        self._init: int | None = None  # the box's process 1
        self._alive: int | None = None  # its pidfd, until it is dead and all others with it
        self._started: float | None = None

    def processes(self) -> list[int]:
        """See Boxed.processes; without the box's own process 1."""
        return inhabitants(self._first)

    def shared_bytes(self) -> int:
        """See Boxed.shared_bytes."""
        return shared_memory_bytes(self._first)

    @property
    def _first(self) -> int | None:
        """The box's process 1 while it lives."""
        return None if self._alive is None else self._init

    def kill(self) -> None:
        """See Boxed.kill."""
        self._killed = True
        if self._alive is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._alive, signal.SIGKILL)
        elif not self.ended.done():
            self._loop.call_later(ANSWER_S, self._unanswered)

    def on_started(self, alive: int) -> None:
        """Process 1 of the box lives; `alive` is its pidfd, which is this object's from now on."""
        self._alive = alive
        self._init = _process_of(alive)
        self._started = self._loop.time()
        self._loop.add_reader(alive, self._on_ended)
        if self._killed:
            self.kill()
            return
        if self._group is not None and self._init is not None:
            with suppress(OSError):  # the watch is there all the same
                self._group.take(self._init)
        with suppress(OSError):  # it is dead already
            os.write(self._status, b"\0")

    def on_lost(self) -> None:
        """The warm Python is gone, and never started this task."""
        if self._alive is None and not self.ended.done():
            self._finish()

    def _unanswered(self) -> None:
        if self._alive is None and not self.ended.done():
            self._stuck()

    def _on_ended(self) -> None:
        assert self._alive is not None
        self._loop.remove_reader(self._alive)
        os.close(self._alive)
        self._alive = None
        self._finish()

    def _finish(self) -> None:
        told = b""
        with suppress(BlockingIOError, ConnectionError):
            told = os.read(self._status, _STATUS_BYTES)
        os.close(self._status)
        end = self._end(told)
        self.ended.set_result(end if self._group is None else self._group.close(end))

    def _end(self, told: bytes) -> BoxEnd:
        seconds = 0.0 if self._started is None else self._loop.time() - self._started
        if len(told) == _STATUS_BYTES:
            with suppress(ValueError):
                code = os.waitstatus_to_exitcode(int.from_bytes(told, "little") & 0xFFFF)
                return BoxEnd(ran=True, exit=code, seconds=seconds)
        if self._killed and self._started is not None:
            return BoxEnd(ran=True, exit=-signal.SIGKILL, seconds=seconds)
        return BoxEnd(ran=False, exit=None, seconds=seconds)


def _process_of(alive: int) -> int | None:
    """The process of a pidfd, by the agent's own numbers; None when it is dead already."""
    with open(f"/proc/self/fdinfo/{alive}") as told:
        for line in told:
            if line.startswith("Pid:"):
                process = int(line.split()[1])
                return process if process > 0 else None
    return None
