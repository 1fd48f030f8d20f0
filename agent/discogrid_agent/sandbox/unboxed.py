"""No box: limits and a process group. For tasks of the machine's own user, when nothing better works or is wanted.

What it keeps: the limits of time, memory, processes, disk and output; an end that leaves no process behind, unless the
task hides one on purpose. What it does not: a task reads and changes whatever the agent's user can.
"""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from discogrid.errors import SandboxError
from discogrid.types import SandboxLevel
from discogrid_agent.sandbox.box import BoxEnd, Owner, Scene
from discogrid_agent.sandbox.interpreter import Interpreter
from discogrid_agent.sandbox.kernel_limits import kernel_limits, set_limits
from discogrid_agent.sandbox.processes import adopt_orphans, children, descendants
from discogrid_agent.sandbox.programs import SYSTEM_FOLDERS, task_programs

_MARK: Final = "DISCOGRID_BOX"  # tells whose an orphan is
_SWEEPS_MAX: Final = 100  # a task that starts processes faster than this ends them wins, at this level


class Unboxed:
    """Starts tasks as they are."""

    level = SandboxLevel.NONE
    no_network = "only the strict box has one to give"
    owner: Owner | None = None

    def __init__(self, *, adopt: bool = True) -> None:
        """`adopt`: orphans of tasks become children of this process from now on, so that they can be found and ended.

        That is for an agent without any other box: it ends and reaps what it finds of orphans.
        """
        self._adopt = adopt
        self.python = Path(sys.executable)
        self._programs: Path | None = None
        # When the agent is killed, the kernel ends the task's first process at least.
        setpriv = shutil.which("setpriv")
        self._prefix = () if setpriv is None else (setpriv, "--pdeathsig", "KILL", "--")
        if adopt:
            adopt_orphans()

    def settle(self, folder: Path) -> None:
        """See Box.settle."""
        self._programs = folder / "programs"
        shutil.rmtree(self._programs, ignore_errors=True)
        self._programs.mkdir(parents=True)
        for name, program in task_programs(Interpreter(self.python, ())).items():
            (self._programs / name).symlink_to(program)

    def start(self, scene: Scene) -> "UnboxedTask":
        """See Box.start."""
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
        mark = secrets.token_hex(16)
        folders = (
            *(() if self._programs is None else (str(self._programs),)),
            str(self.python.parent),
            *SYSTEM_FOLDERS,
        )
        environment = {
            "HOME": str(scene.temporary),
            "TMPDIR": str(scene.temporary),
            "LANG": "C.UTF-8",
            "PATH": ":".join(dict.fromkeys(folders)),
            **scene.environment,
            _MARK: mark,
        }
        try:
            process = subprocess.Popen(
                [*self._prefix, *scene.command],
                cwd=scene.work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=scene.stdout,
                stderr=scene.stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"{scene.command[0]} could not be started: {error.strerror}.") from error
        with suppress(ProcessLookupError):
            set_limits(process.pid, kernel_limits(scene.limits))
        loop = asyncio.get_running_loop()
        return UnboxedTask(process, f"{_MARK}={mark}".encode() if self._adopt else b"", loop)

    def close(self) -> None:
        """See Box.close."""


class UnboxedTask:
    """See Boxed."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", mark: bytes, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Watch `process`; orphans of it carry `mark` in their environment, unless that is empty: then they are nobody's."""
        self.ended: asyncio.Future[BoxEnd] = loop.create_future()
        self._loop = loop
        self._process = process
        self._mark = mark
        self._started = time.monotonic()
        self._alive = os.pidfd_open(process.pid)
        _first_processes.add(process.pid)
        loop.add_reader(self._alive, self._on_ended)

    def processes(self) -> list[int]:
        """See Boxed.processes."""
        return [
            *descendants(self._process.pid),
            *(one for orphan in self._orphans() for one in descendants(orphan)),
        ]

    def shared_bytes(self) -> int:
        """See Boxed.shared_bytes; shared memory of the machine cannot be told apart."""
        return 0

    def kill(self) -> None:
        """See Boxed.kill."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _on_ended(self) -> None:
        if self._process.poll() is None:
            return
        seconds = time.monotonic() - self._started
        _first_processes.discard(self._process.pid)
        self._loop.remove_reader(self._alive)
        os.close(self._alive)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for _ in range(_SWEEPS_MAX if self._mark else 0):
            orphans = self._orphans()
            if not orphans:
                break
            for orphan in orphans:
                _end(orphan)
        if self._mark:
            _reap_adopted()
        self.ended.set_result(BoxEnd(ran=True, exit=self._process.returncode, seconds=seconds))

    def _orphans(self) -> list[int]:
        """Children of the agent that this task started and left."""
        if not self._mark:
            return []
        return [
            child for child in children(os.getpid()) if child != self._process.pid and self._is_mine(child)
        ]

    def _is_mine(self, process: int) -> bool:
        with suppress(OSError), open(f"/proc/{process}/environ", "rb") as environment:
            return self._mark in environment.read().split(b"\0")
        return False


def _end(orphan: int) -> None:
    for process in reversed(descendants(orphan)):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(orphan, 0)


def _reap_adopted() -> None:
    """Let go of dead orphans. A process that the agent started for itself is in the agent's own session."""
    session = os.getsid(0)
    for child in children(os.getpid()):
        with suppress(OSError, IndexError), open(f"/proc/{child}/stat", "rb") as told:
            state, _, _, its_session = told.read().rpartition(b")")[2].split()[:4]
            if state == b"Z" and int(its_session) != session and child not in _first_processes:
                os.waitpid(child, os.WNOHANG)


_first_processes: Final[set[int]] = set()  # of tasks that run: their ends are waited for
