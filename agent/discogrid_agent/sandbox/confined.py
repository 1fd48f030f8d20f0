"""The confined box, for machines without namespaces: Landlock, a seccomp filter without any socket, limits, one parent.

A task sees the machine's own paths: its work folder, its HOME, the system's programs and the agent's Python read-only;
no other file, no socket, no device but the harmless ones. What it shares with the machine: the names of processes, the
clock of who runs when, /tmp by name. It has no /local, no mounts, and no shared memory, so that Lock() fails.
"""

import asyncio
import os
import platform
import shutil
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from discogrid.errors import SandboxError
from discogrid.types import SandboxLevel
from discogrid_agent.sandbox import landlock
from discogrid_agent.sandbox.box import BoxEnd, Scene
from discogrid_agent.sandbox.confined_program import confined_program, orders
from discogrid_agent.sandbox.control_groups import ControlGroups, Group
from discogrid_agent.sandbox.credentials import acting_as, task_owner
from discogrid_agent.sandbox.interpreter import own_interpreter
from discogrid_agent.sandbox.kernel_limits import kernel_limits
from discogrid_agent.sandbox.landlock import Rules
from discogrid_agent.sandbox.memory_files import program_file
from discogrid_agent.sandbox.processes import adopt_orphans, descendants
from discogrid_agent.sandbox.programs import SYSTEM_FOLDERS, task_programs, unseen
from discogrid_agent.sandbox.reach import REACH
from discogrid_agent.sandbox.seccomp import filter_program
from discogrid_agent.sandbox.steps import FAILED, NOT_STARTED, REPORT, STARTED, Report, reports

SWEEP_S: Final = 0.01  # between two looks at what a killed task has left
_REPORTS_BYTES: Final = 64 * REPORT.size
_SYSTEM: Final = tuple(
    map(
        Path,
        (
            *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
            *("/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types"),
            *("/etc/os-release", "/etc/nsswitch.conf", "/sys/devices/system/cpu"),
        ),
    )
)
_DEVICES: Final = tuple(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom"))


class ConfinedBox:
    """Starts tasks through one launcher."""

    level = SandboxLevel.CONFINED
    no_network = "only the strict box has one to give"

    def __init__(self, groups: ControlGroups | None = None) -> None:
        """SandboxError when this kernel has no Landlock, or the tasks' user cannot reach the agent's Python."""
        self._version = landlock.abi()
        if self._version == 0:
            raise SandboxError(
                "The confined box needs Landlock, which this kernel does not have, or has switched off.",
                fix="Boot with lsm=landlock,… on the kernel's command line (Linux 5.13 or later).",
            )
        adopt_orphans()
        self._groups = groups
        self.owner = task_owner()
        self._interpreter = own_interpreter()
        self.python = self._interpreter.executable
        self._programs = task_programs(self._interpreter)
        self._folder: Path | None = None
        self._launcher = -1
        if self.owner is not None and (closed := _closed_to_others(self._interpreter.roots)) is not None:
            raise SandboxError(
                f"Root's tasks run as another user, who cannot reach this agent's Python in {closed}.",
                fix="Run the agent as an ordinary user, or install it where all may read, such as /opt/discogrid.",
            )

    def settle(self, folder: Path) -> None:
        """See Box.settle."""
        self._folder = folder / "programs"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        for name, program in self._programs.items():
            (self._folder / name).symlink_to(program)
        if self.owner is not None:
            folder.chmod(0o711)
            self._folder.chmod(0o755)
            REACH.show(folder)
        roots = self._interpreter.roots
        shown = (*_SYSTEM, *roots, *unseen(self._programs.values(), roots), self._folder)
        rules = Rules(read_only=shown, devices=_DEVICES, sockets=False)
        machine = platform.machine()
        if self._launcher >= 0:
            os.close(self._launcher)
        self._launcher = program_file(
            confined_program(machine, self._version, rules, filter_program(machine, (), shared=True))
        )

    def start(self, scene: Scene) -> "ConfinedBoxed":
        """See Box.start."""
        if threading.current_thread() is not threading.main_thread():
            raise AssertionError("a box dies with the thread that starts it: start it on the main thread")
        assert self._folder is not None, "settle the box first"
        if scene.shown:
            raise SandboxError(
                "The task brings packages, whose environment only a strict box can show.",
                fix="Run it on an agent with a strict box.",
            )
        if scene.mounts:
            raise SandboxError(
                "The task wants files at fixed paths (--mount), which only a strict box can show.",
                fix="Run it on an agent with a strict box, or send the files with --const.",
            )
        near, far = socket.socketpair()
        temporary = REACH.path(scene.temporary)
        folders = (REACH.path(self._folder), str(self.python.parent), *SYSTEM_FOLDERS)
        environment = {
            "HOME": temporary,
            "TMPDIR": temporary,
            "LANG": "C.UTF-8",
            "PATH": ":".join(dict.fromkeys(folders)),
            **scene.environment,
        }
        try:
            with acting_as(self.owner):
                process = subprocess.Popen(
                    [f"/proc/self/fd/{self._launcher}", *scene.command],
                    cwd=REACH.path(scene.work),
                    env=environment,
                    stdin=far.fileno(),
                    stdout=scene.stdout,
                    stderr=scene.stderr,
                    pass_fds=[self._launcher],
                )
            group = self._groups.make(scene.limits) if self._groups else None
            if group is not None:
                with suppress(OSError):  # the watch is there all the same
                    group.take(process.pid)
            with suppress(OSError):  # it ended already, which is heard from it
                near.sendall(orders(kernel_limits(scene.limits), temporary))  # it has waited for them
        except OSError as error:
            near.close()
            raise SandboxError(f"The launcher could not be started: {error.strerror}.") from error
        finally:
            far.close()
        return ConfinedBoxed(process, near, group, asyncio.get_running_loop())

    def close(self) -> None:
        """See Box.close."""


class ConfinedBoxed:
    """See Boxed."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        near: socket.socket,
        group: Group | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Watch `process`, a launcher that reports to `near`."""
        self.ended: asyncio.Future[BoxEnd] = loop.create_future()
        self._loop = loop
        self._process = process
        self._near = near
        self._group = group
        self._said = b""
        self._first = 0  # the command's own process
        self._status: int | None = None
        self._error: int | None = None
        self._killed = False
        self._started: float | None = None
        self._stopped: float | None = None
        near.setblocking(False)
        loop.add_reader(near, self._on_report)

    def processes(self) -> list[int]:
        """See Boxed.processes."""
        return [] if self.ended.done() else descendants(self._process.pid)[1:]

    def shared_bytes(self) -> int:
        """See Boxed.shared_bytes; at this level there is none."""
        return 0

    def kill(self) -> None:
        """See Boxed.kill."""
        self._killed = True
        self._sweep()

    def _sweep(self) -> None:
        """End everything below the launcher, which ends by itself when nothing is left."""
        if self.ended.done():
            return
        left = descendants(self._process.pid)[1:]
        if not left and self._first == 0:
            self._process.kill()  # it has not started the command yet
        for number in (signal.SIGSTOP, signal.SIGKILL):  # what is stopped starts no more
            for process in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process, number)
        self._loop.call_later(SWEEP_S, self._sweep)

    def _on_report(self) -> None:
        said = b""
        with suppress(BlockingIOError, ConnectionError):
            said = self._near.recv(_REPORTS_BYTES)
        if not said:
            self._finish()
            return
        self._said += said
        for report in reports(self._said):
            self._take(report)
        self._said = self._said[len(self._said) // REPORT.size * REPORT.size :]

    def _take(self, report: Report) -> None:
        if report.process == STARTED:
            self._first, self._started = report.answer, self._loop.time()
        elif report.process == NOT_STARTED:
            self._error = -report.answer
        elif report.process == FAILED:
            self._error = 0
        elif report.process == self._first and self._status is None:
            self._status, self._stopped = report.answer, self._loop.time()
            self._sweep()  # its daemons end with it

    def _finish(self) -> None:
        """The launcher has ended, and so has everything below it."""
        self._loop.remove_reader(self._near)
        self._near.close()
        self._process.wait()  # its end of the pair is closed: it is dead, or about to be
        end = self._end()
        self.ended.set_result(end if self._group is None else self._group.close(end))

    def _end(self) -> BoxEnd:
        seconds = 0.0
        if self._started is not None:
            seconds = (self._stopped or self._loop.time()) - self._started
        if self._error is not None:
            return BoxEnd(ran=False, exit=None, seconds=seconds, error=self._error or None)
        if self._status is None:
            return BoxEnd(ran=self._killed and self._started is not None, exit=None, seconds=seconds)
        return BoxEnd(ran=True, exit=os.waitstatus_to_exitcode(self._status), seconds=seconds)


def _closed_to_others(paths: tuple[Path, ...]) -> Path | None:
    """The first of these that not everybody may walk to."""
    for path in paths:
        for part in path.resolve().parents:
            if not part.stat().st_mode & 0o001:
                return path
    return None
