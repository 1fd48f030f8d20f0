"""One Python that waits, loaded, for tasks of one kind: started in a box, asked by messages, believed in nothing else.

It has seen nothing of the submitter but the names of modules. Tasks are its forks, each in namespaces of its own inside
the server's, so that the kernel ends all of them with it, and it with the agent.
"""

import asyncio
import logging
import marshal
import os
import platform
import signal
import socket
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from discogrid.errors import SandboxError
from discogrid.types import MIB
from discogrid_agent.sandbox import landlock
from discogrid_agent.sandbox.box import Scene
from discogrid_agent.sandbox.credentials import acting_as
from discogrid_agent.sandbox.kernel_limits import OPEN_FILES, PROCESSES_MARGIN
from discogrid_agent.sandbox.memory_files import memory_file, program_file
from discogrid_agent.sandbox.native import plan_of
from discogrid_agent.sandbox.processes import children
from discogrid_agent.sandbox.reach import REACH
from discogrid_agent.sandbox.steps import CHANNEL
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.sandbox.strict_program import (
    SHARED_MEMORY_BYTES,
    capabilities,
    server_program,
    strict_grants,
)
from discogrid_agent.sandbox.world import Shown
from discogrid_agent.warm import startup
from discogrid_agent.warm.kind import Kind, importable_names, own_variables
from discogrid_agent.warm.warm_boxed import WarmBoxed

LOAD_S: Final = 30.0  # for all that a script imports first
RESIDENT_BYTES_MAX: Final = 1024 * MIB  # a server that needs more is not kept
TASKS_MAX: Final = 1000  # started by one server: tasks of one server share their hash seed, for instance
SCRATCH_BYTES: Final = 16 * MIB  # of the server's own /tmp, which tasks do not see
_SAID_BYTES: Final = 4096

_STARTUP: Final = Path(startup.__file__)

log = logging.getLogger(__name__)


class WarmServer:
    """Starts at once; `ready` is done when it can fork tasks, with False when it never will."""

    def __init__(self, box: StrictBox, kind: Kind, script: bytes, folder: Path) -> None:
        """Tasks' folders lie below `folder`; SandboxError when it cannot even be started. On the main thread."""
        self.loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[bool] = self.loop.create_future()
        self.modules: frozenset[str] = frozenset()
        self.used = self.loop.time()
        self.running = 0
        self.tasks = 0
        self._kind = kind
        self._folder = folder
        self._groups = box.groups
        self._python = str(box.python)
        self._environment = {**box.environment, "PWD": startup.WORK}
        self._asked: list[WarmBoxed] = []  # not answered yet, in order
        self._channel, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)
        with ExitStack() as stack:
            stack.callback(far.close)
            self._process, self._said = _start(box, kind, folder, far)
            source = memory_file(script)
            stack.callback(os.close, source)
            self._send(b"load", [source])
        self._alive = os.pidfd_open(self._process.pid)
        self.loop.add_reader(self._alive, self._on_process_ended)
        self.loop.add_reader(self._channel.fileno(), self._on_said)
        self._late = self.loop.call_later(LOAD_S, self.close)

    @property
    def open(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._channel.fileno() >= 0

    @property
    def lives(self) -> bool:
        """Whether its process has not been waited for."""
        return self._alive >= 0

    def start(self, scene: Scene) -> WarmBoxed | None:
        """Fork a task; None when it has to start cold."""
        if not self.open or not self.ready.done() or not self.ready.result():
            return None
        if importable_names(scene.work) & self.modules:
            return None  # a file of the submitter's has the name of a module that is loaded already
        request = self._request(scene)
        if len(request) > startup.REQUEST_BYTES:
            return None
        status, far = (end.detach() for end in socket.socketpair())
        os.set_blocking(status, False)
        try:
            self._send(request, [scene.stdout, scene.stderr, far])
        except OSError:
            os.close(status)
            return None
        finally:
            os.close(far)
        group = self._groups.make(scene.limits) if self._groups else None
        boxed = WarmBoxed(status, self.loop, self.close, group)
        self._asked.append(boxed)
        self.used = self.loop.time()
        self.tasks += 1
        self.running += 1
        boxed.ended.add_done_callback(self._on_task_ended)
        return boxed

    def close(self) -> None:
        """End it, and every task that it runs."""
        if not self.open:
            return
        self._late.cancel()
        if not self.loop.is_closed():
            self.loop.remove_reader(self._channel.fileno())
        self._channel.close()
        for process in children(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not self.ready.done():
            self.ready.set_result(False)
        for boxed in self._asked:
            boxed.on_lost()
        self._asked.clear()

    def wait(self) -> None:
        """Wait until it has ended, after `close`."""
        if self._alive >= 0:
            self._process.wait()
            self._on_process_ended()

    def _request(self, scene: Scene) -> bytes:
        limits = scene.limits
        own = own_variables(scene)
        return marshal.dumps(
            {
                "folders": [
                    str(folder.relative_to(self._folder)) for folder in (scene.work, scene.temporary)
                ],
                "command": scene.command,
                "own": own,
                "environment": {**self._environment, **scene.environment},
                "limits": {
                    "CORE": 0,
                    "DATA": limits.memory_bytes,
                    "FSIZE": limits.disk_bytes,
                    "NOFILE": OPEN_FILES,
                    "NPROC": limits.processes + PROCESSES_MARGIN,
                },
            }
        )

    def _send(self, request: bytes, descriptors: list[int]) -> None:
        socket.send_fds(self._channel, [request], descriptors)

    def _on_said(self) -> None:
        """One word of the server: at most one descriptor comes along, and only with the word that means one."""
        try:
            said, ancillary, _, _ = self._channel.recvmsg(
                startup.NAMES_BYTES + 1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            said, ancillary = b"", []
        given = [int.from_bytes(content[:4], "little") for _, _, content in ancillary]
        if said == startup.STARTED and len(given) == 1 and self._asked:
            self._asked.pop(0).on_started(given[0])
            return
        for descriptor in given:
            os.close(descriptor)
        if said[:1] == startup.READY and not self.ready.done() and self._is_small():
            self._late.cancel()
            self.modules = frozenset(said[1:].decode(errors="replace").split("\n"))
            self.ready.set_result(True)
        else:  # it has ended, or says what it must not
            self.close()

    def _is_small(self) -> bool:
        for process in children(self._process.pid):
            with suppress(OSError, IndexError, ValueError), open(f"/proc/{process}/statm") as told:
                return int(told.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") <= RESIDENT_BYTES_MAX
        return False

    def _on_task_ended(self, _: object) -> None:
        self.running -= 1
        self.used = self.loop.time()

    def _on_process_ended(self) -> None:
        if not self.loop.is_closed():
            self.loop.remove_reader(self._alive)
        os.close(self._alive)
        self._alive = -1
        self._process.wait()
        with suppress(BlockingIOError):
            if said := os.read(self._said, _SAID_BYTES):
                log.info("a warm Python said: %s", said.decode(errors="replace").strip())
        os.close(self._said)
        self.close()


def _start(
    box: StrictBox, kind: Kind, folder: Path, far: socket.socket
) -> "tuple[subprocess.Popen[bytes], int]":
    """The parent of the server, and what the server says on its standard streams."""
    own = [Shown.at(folder, startup.WORK, writable=True)]
    for number, (_, source) in enumerate(kind.mounts):
        if box.owner is not None:
            REACH.show(source)
        own.append(Shown.at(source, f"{startup.HOOK}/{number}"))
    server = program_file(
        server_program(
            platform.machine(),
            plan_of(box, own),
            (startup.TEMPORARY, SCRATCH_BYTES),
            [target for target, _ in kind.mounts],
            {
                f"{startup.HOOK}/sitecustomize.py": _STARTUP.read_bytes(),
                f"{startup.HOOK}/settings": marshal.dumps(_settings(box, kind)),
            },
        )
    )
    said, said_far = os.pipe()
    os.set_blocking(said, False)
    try:
        with acting_as(box.owner):
            process = subprocess.Popen(
                [f"/proc/self/fd/{server}", str(box.python), "-I", "-S", f"{startup.HOOK}/sitecustomize.py"],
                env={},
                stdin=far.fileno(),
                stdout=said_far,
                stderr=said_far,
                pass_fds=[server],
            )
    except OSError as error:
        os.close(said)
        raise SandboxError(f"A warm Python could not be started: {error.strerror}.") from error
    finally:
        os.close(said_far)
        os.close(server)
    return process, said


def _settings(box: StrictBox, kind: Kind) -> dict[str, object]:
    """What the server is told once; see startup.py."""
    temporary = Path(startup.TEMPORARY)
    return {
        "python": str(box.python),
        "script": kind.script_name,
        "environment": {**box.environment, "PWD": startup.WORK, **dict(kind.environment)},
        "channel": CHANNEL,
        "filter": box.filter(network=False),
        "landlock": _landlock(box.landlock),
        "shared_bytes": SHARED_MEMORY_BYTES,
        "capabilities": capabilities(),
        "mounts": [target for target, _ in kind.mounts],
        "below_temporary": [str(path) for path in box.at_own_path if path.is_relative_to(temporary)],
    }


def _landlock(version: int) -> tuple[bytes, list[tuple[str, int]]]:
    """Attributes and rules for the kernel, none when it has no Landlock."""
    if version == 0:
        return b"", []
    granted = [(str(path), rights) for path, rights in strict_grants(version)]
    return landlock.attributes(version, network=False), granted
