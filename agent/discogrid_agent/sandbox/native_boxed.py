"""A command in the strict box that our own program builds: learns its process 1, gives the word, hears how it ended."""

import asyncio
import os
import signal
import socket
import subprocess
from contextlib import suppress
from typing import Final

from discogrid_agent.sandbox.box import BoxEnd
from discogrid_agent.sandbox.control_groups import Group
from discogrid_agent.sandbox.inside import inhabitants, shared_memory_bytes
from discogrid_agent.sandbox.kernel_limits import let_go_first
from discogrid_agent.sandbox.steps import FAILED, NOT_STARTED, REPORT, STARTED, reports
from discogrid_agent.uplink.attachment import Attachment, Uplink

REPORT_S: Final = 2.0  # for the program to name process 1, once it is to be killed; it takes a millisecond
_REPORTS_BYTES: Final = 8 * REPORT.size  # it makes three at most
_TASK: Final = 2  # by the box's own numbers


class NativeBoxed:
    """See Boxed."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        channel: socket.socket,
        group: Group | None,
        uplink: Uplink | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Watch `process`, which reports to `channel` and ends when it has made process 1.

        `uplink` gives the box a network before it gets the word.
        """
        self.ended: asyncio.Future[BoxEnd] = loop.create_future()
        self._loop = loop
        self._process = process
        self._channel = channel
        self._group = group
        self._uplink = uplink
        self._attachment: Attachment | None = None
        self._killed = False
        self._said = b""
        self._silent = False  # nobody is left to say anything
        self._init: int | None = None  # the box's process 1
        self._init_alive: int | None = None  # its pidfd, until it is dead and all others with it
        self._started: float | None = None
        self._stopped = 0.0
        channel.setblocking(False)
        loop.add_reader(channel, self._on_said)

    def processes(self) -> list[int]:
        """See Boxed.processes; without the box's own process 1."""
        return inhabitants(self._first)

    def shared_bytes(self) -> int:
        """See Boxed.shared_bytes."""
        return shared_memory_bytes(self._first)

    @property
    def _first(self) -> int | None:
        """The box's process 1 while it lives."""
        return None if self._init_alive is None else self._init

    def kill(self) -> None:
        """See Boxed.kill; nothing runs before process 1 is known."""
        self._killed = True
        if self._init_alive is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init_alive, signal.SIGKILL)
        elif not self.ended.done():
            self._loop.call_later(REPORT_S, self._process.kill)

    def _on_said(self) -> None:
        """Learn process 1; what is said later is read when that has ended."""
        self._hear()
        init = self._answer(STARTED)
        if init is None and self._answer(FAILED) is None and not self._silent:
            return
        self._loop.remove_reader(self._channel)
        if init is None or not self._release(init):
            self._finish()

    def _release(self, init: int) -> bool:
        """Process 1 builds the box: watch it, then let it go on; False when it is dead already."""
        try:
            self._init_alive = os.pidfd_open(init)
        except ProcessLookupError:
            return False
        self._init = init
        self._loop.add_reader(self._init_alive, self._on_init_ended)
        if self._killed:
            self.kill()
            return True
        let_go_first(init)
        if self._group is not None:
            with suppress(OSError):  # the watch is there all the same
                self._group.take(init)
        if self._uplink is None:
            self._give_word()
        else:
            self._attachment = Attachment(self._uplink, init, self._give_word, self.kill)
        return True

    def _give_word(self) -> None:
        self._started = self._loop.time()
        with suppress(OSError):  # it has failed: its end says so
            self._channel.send(b"\0")

    def _on_init_ended(self) -> None:
        assert self._init_alive is not None
        self._loop.remove_reader(self._init_alive)
        os.close(self._init_alive)
        self._init_alive = None
        self._stopped = self._loop.time()
        if self._attachment is None:
            self._finish()
        else:
            self._attachment.end(self._finish)

    def _finish(self) -> None:
        """All in the box is dead."""
        self._hear()
        self._channel.close()
        self._process.wait()  # it has ended, or is about to
        if self._init is not None:
            with suppress(ChildProcessError):
                os.waitpid(self._init, 0)
        end = self._end(0.0 if self._started is None else self._stopped - self._started)
        if self._attachment is not None:
            end = self._attachment.close(end)
        self.ended.set_result(end if self._group is None else self._group.close(end))

    def _hear(self) -> None:
        try:
            part = self._channel.recv(_REPORTS_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:  # it ended without reading all that it was sent
            part = b""
        self._said += part
        self._silent = not part

    def _answer(self, process: int) -> int | None:
        """What was reported of a process, or of what stands in its place."""
        return next((report.answer for report in reports(self._said) if report.process == process), None)

    def _end(self, seconds: float) -> BoxEnd:
        refused, error, status = map(self._answer, (FAILED, NOT_STARTED, _TASK))
        if refused is not None:
            return BoxEnd(ran=False, exit=None, seconds=seconds, refused=-refused)
        if error is not None:
            return BoxEnd(ran=False, exit=None, seconds=seconds, error=-error)
        if status is not None:
            return BoxEnd(ran=True, exit=os.waitstatus_to_exitcode(status), seconds=seconds)
        if self._killed and self._started is not None:
            return BoxEnd(ran=True, exit=-signal.SIGKILL, seconds=seconds)
        return BoxEnd(ran=False, exit=None, seconds=seconds)
