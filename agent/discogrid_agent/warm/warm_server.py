"""One Python that waits, loaded, for tasks of one kind: started in a box, asked by messages, believed in nothing else.

It has seen nothing of the submitter but the names of modules. Tasks are its forks, each in namespaces of its own inside
the server's, so that the kernel ends all of them with it, and it with the agent.
"""

import asyncio
import logging
import marshal
import os
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
from discogrid_agent.sandbox.last_steps import strict_grants
from discogrid_agent.sandbox.processes import children
from discogrid_agent.sandbox.reach import REACH
from discogrid_agent.sandbox.strict import SHARED_MEMORY_BYTES, StrictBox, memory_file, shown
from discogrid_agent.sandbox.strict_boxed import OPEN_FILES, PROCESSES_MARGIN
from discogrid_agent.sandbox.system_files import HOST_NAME
from discogrid_agent.warm import startup
from discogrid_agent.warm.kind import Kind, importable_names, own_variables
from discogrid_agent.warm.warm_boxed import WarmBoxed

LOAD_S: Final = 30.0  # for all that a script imports first
RESIDENT_BYTES_MAX: Final = 1024 * MIB  # a server that needs more is not kept
TASKS_MAX: Final = 1000  # started by one server: tasks of one server share their hash seed, for instance
SCRATCH_BYTES: Final = 16 * MIB  # of the server's own /tmp, which tasks do not see
_SAID_BYTES: Final = 4096

_STARTUP: Final = Path(startup.__file__)
_NAMESPACES: Final = (
    *("--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--hostname", HOST_NAME),
    # User 0 of its own namespace: otherwise bwrap nests a second one, in which nothing may be mounted or hidden.
    *("--uid", "0", "--gid", "0", "--as-pid-1", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"),
    # Else no fork could map user 0 into a namespace of its own (Linux 5.12 and later).
    *("--cap-add", "CAP_SETFCAP"),
)

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
            self._process, self._said = _start(box, kind, folder, far, stack)
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
        status, far = os.pipe()
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
    box: StrictBox, kind: Kind, folder: Path, far: socket.socket, stack: ExitStack
) -> "tuple[subprocess.Popen[bytes], int]":
    """The server's bwrap, and what it says on its standard streams."""
    given = [far.fileno()]

    def give(content: bytes) -> str:
        descriptor = memory_file(content)
        stack.callback(os.close, descriptor)
        given.append(descriptor)
        return str(descriptor)

    own = ["--size", str(SCRATCH_BYTES), "--tmpfs", startup.TEMPORARY]
    own += shown(folder, startup.WORK, "--bind")
    for number, (target, source) in enumerate(kind.mounts):
        if box.owner is not None:
            REACH.show(source)
        own += (*shown(source, f"{startup.HOOK}/{number}"), "--dir", target)
    settings = marshal.dumps(_settings(box, kind, far.fileno()))
    arguments = [
        *_NAMESPACES,
        *box.world(own),
        *("--file", give(_STARTUP.read_bytes()), f"{startup.HOOK}/sitecustomize.py"),
        *("--file", give(settings), f"{startup.HOOK}/settings"),
    ]
    packed = give("\0".join([*arguments, ""]).encode(errors="surrogateescape"))
    command = [str(box.python), "-I", "-S", f"{startup.HOOK}/sitecustomize.py"]
    said, said_far = os.pipe()
    os.set_blocking(said, False)
    try:
        with acting_as(box.owner):
            process = subprocess.Popen(
                [box.bwrap, "--args", packed, "--", *command],
                env={},
                stdin=subprocess.DEVNULL,
                stdout=said_far,
                stderr=said_far,
                pass_fds=given,
            )
    except OSError as error:
        os.close(said)
        raise SandboxError(f"{box.bwrap} could not be started: {error.strerror}.") from error
    finally:
        os.close(said_far)
    return process, said


def _settings(box: StrictBox, kind: Kind, channel: int) -> dict[str, object]:
    """What the server is told once; see startup.py."""
    temporary = Path(startup.TEMPORARY)
    return {
        "python": str(box.python),
        "script": kind.script_name,
        "environment": {**box.environment, "PWD": startup.WORK, **dict(kind.environment)},
        "channel": channel,
        "filter": box.filter,
        "landlock": _landlock(box.landlock),
        "shared_bytes": SHARED_MEMORY_BYTES,
        "capabilities": int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1,
        "mounts": [target for target, _ in kind.mounts],
        "below_temporary": [str(path) for path in box.at_own_path if path.is_relative_to(temporary)],
    }


def _landlock(version: int) -> tuple[bytes, list[tuple[str, int]]]:
    """Attributes and rules for the kernel, none when it has no Landlock."""
    if version == 0:
        return b"", []
    granted = [(str(path), rights) for path, rights in strict_grants(version)]
    return landlock.attributes(version, network=False), granted
