"""A command in the strict box of bwrap: holds it back until its limits are set, tells when all of it is dead.

bwrap's first process (the box's process 1) is held back because RLIMIT_NPROC counts the owner's whole session unless it
is set on a process inside the user namespace; a shell that sets it there costs more than all mounts together.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from discogrid.errors import DiscogridError
from discogrid.types import Limits
from discogrid_agent.sandbox.box import BoxEnd, Owner
from discogrid_agent.sandbox.control_groups import Group
from discogrid_agent.sandbox.credentials import acting_as
from discogrid_agent.sandbox.inside import inhabitants, shared_memory_bytes
from discogrid_agent.sandbox.kernel_limits import box_limits, let_go_first, set_limits
from discogrid_agent.sandbox.steps import NOT_STARTED, REPORT, Report, reports
from discogrid_agent.uplink.attachment import Attachment, Uplink

REPORT_S: Final = 2.0  # for bwrap to name its process 1, once it is to be killed; it takes a millisecond
_REPORT_BYTES: Final = 4096  # of bwrap's status; it is two short lines


@dataclass(slots=True)
class Channels:
    """The descriptors between an agent and one bwrap."""

    hold: int  # a pipe that is its own writer: the box waits for a byte, and goes on waiting when the agent dies
    report: int
    report_far: int
    launcher: int  # what the launcher says, and what is its first descriptor
    launcher_far: int

    @classmethod
    def open(cls) -> Self:
        """Both pipes."""
        near, far = os.pipe()
        try:
            hold = os.open(f"/proc/self/fd/{near}", os.O_RDWR | os.O_CLOEXEC)
        finally:
            os.close(near)
            os.close(far)
        report, report_far = os.pipe()
        os.set_blocking(report, False)
        launcher, launcher_far = (end.detach() for end in socket.socketpair())
        os.set_blocking(launcher, False)
        return cls(hold, report, report_far, launcher, launcher_far)

    def close_far_ends(self) -> None:
        """What only bwrap uses."""
        os.close(self.report_far)
        os.close(self.launcher_far)

    def close(self) -> None:
        """What the agent uses."""
        os.close(self.hold)
        os.close(self.report)
        os.close(self.launcher)

    def launched(self) -> Report | None:
        """What kept the command from being started, if the launcher said so; all of it is dead."""
        with suppress(OSError):
            return next(iter(reports(os.read(self.launcher, REPORT.size))), None)
        return None


class Bubblewrapped:
    """See Boxed."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        channels: Channels,
        limits: Limits,
        owner: Owner | None,
        group: Group | None,
        uplink: Uplink | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Watch `process`, a bwrap that waits at `channels`; `uplink` gives the box a network before it goes on."""
        self.ended: asyncio.Future[BoxEnd] = loop.create_future()
        self._loop = loop
        self._process = process
        self._channels = channels
        self._limits = limits
        self._owner = owner
        self._group = group
        self._uplink = uplink
        self._attachment: Attachment | None = None
        self._killed = False
        self._reported = b""
        self._init: int | None = None  # the box's process 1
        self._init_alive: int | None = None  # its pidfd, until it is dead and all others with it
        self._started: float | None = None
        self._stopped = 0.0
        loop.add_reader(channels.report, self._on_report)

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
        """See Boxed.kill."""
        self._killed = True
        # Before process 1 is known nothing runs; killing only the outer bwrap then could leave process 1 behind,
        # which asks for its death with its parent late in its life. Its report arrives within milliseconds.
        if self._init_alive is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init_alive, signal.SIGKILL)
            self._process.kill()
        elif not self.ended.done():
            self._loop.call_later(REPORT_S, self._process.kill)

    def _on_report(self) -> None:
        """Learn which process is the box's first, or that bwrap has failed before there was one."""
        part = self._read_report()
        init = _field(self._reported, "child-pid")
        if init is not None or not part or len(self._reported) > _REPORT_BYTES:
            self._loop.remove_reader(self._channels.report)
            if init is None or not self._release(init):
                self._reap()

    def _release(self, init: int) -> bool:
        """Process 1 is held back: limit it, then let it go; False when it is dead already."""
        try:
            self._init_alive = os.pidfd_open(init)
        except ProcessLookupError:
            return False
        self._init = init
        self._loop.add_reader(self._init_alive, self._on_init_ended)
        if self._killed:
            self.kill()
            return True
        try:
            with acting_as(
                self._owner
            ):  # root without CAP_SYS_RESOURCE may not limit others, their own user may
                set_limits(init, box_limits(self._limits))
        except (OSError, DiscogridError):  # without its limits it does not run: a box that failed
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
        os.write(self._channels.hold, b"\0")

    def _on_init_ended(self) -> None:
        assert self._init_alive is not None
        self._loop.remove_reader(self._init_alive)
        os.close(self._init_alive)
        self._init_alive = None
        self._reap()

    def _reap(self) -> None:
        """All in the box is dead; the outer bwrap has ended, or does so now."""
        self._stopped = self._loop.time()
        if self._process.poll() is not None:
            self._detach()
            return
        outer = os.pidfd_open(self._process.pid)

        def on_ended() -> None:
            self._loop.remove_reader(outer)
            os.close(outer)
            self._process.wait()
            self._detach()

        self._loop.add_reader(outer, on_ended)

    def _detach(self) -> None:
        if self._attachment is None:
            self._finish()
        else:
            self._attachment.end(self._finish)

    def _finish(self) -> None:
        while self._read_report():
            pass
        launched = self._channels.launched()
        self._channels.close()
        if self._init is not None:
            with suppress(ChildProcessError):  # reaped by the outer bwrap, or never adopted
                os.waitpid(self._init, os.WNOHANG)
        end = self._end(launched)
        if self._attachment is not None:
            end = self._attachment.close(end)
        self.ended.set_result(end if self._group is None else self._group.close(end))

    def _read_report(self) -> bytes:
        """What bwrap reported next; nothing when that is all, for now or for ever."""
        with suppress(BlockingIOError):
            part = os.read(self._channels.report, _REPORT_BYTES)
            self._reported += part
            return part
        return b""

    def _end(self, launched: Report | None) -> BoxEnd:
        seconds = self._stopped - self._started if self._started is not None else 0.0
        if launched is not None:
            error = -launched.answer if launched.process == NOT_STARTED else None
            return BoxEnd(ran=False, exit=None, seconds=seconds, error=error)
        code = _field(self._reported, "exit-code")
        if code is not None:
            return BoxEnd(ran=True, exit=_as_signal(code), seconds=seconds)
        if self._killed and self._started is not None:
            return BoxEnd(ran=True, exit=-signal.SIGKILL, seconds=seconds)
        return BoxEnd(ran=False, exit=None, seconds=seconds)


def _field(reported: bytes, name: str) -> int | None:
    """A number that bwrap reported: one JSON object a line."""
    for line in reported.split(b"\n")[:-1]:
        with suppress(ValueError):
            value = json.loads(line).get(name)
            if isinstance(value, int):
                return value
    return None


def _as_signal(code: int) -> int:
    """bwrap, like a shell, says 128 + n for signal n."""
    number = code - 128
    return -number if number in _SIGNALS else code


_SIGNALS: Final = frozenset(int(number) for number in signal.valid_signals())
