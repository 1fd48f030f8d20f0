"""The strict box with a warm start: a task is forked from a Python that waits, when there is one; else it starts cold.

Both make the same promises, which `probe.py` tries with the same script; only the start is another.
"""

import asyncio
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

from discogrid.errors import SandboxError
from discogrid_agent.sandbox.box import Boxed, Scene
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.warm.kind import Kind
from discogrid_agent.warm.warm_server import TASKS_MAX, WarmServer

SERVERS_MAX: Final = 8
IDLE_S: Final = 120.0  # a server that nobody has used for so long is ended
LOOK_S: Final = 10.0  # between two looks at who is idle, and at the memory that is left
SPARE_BYTES_MIN: Final = 1 << 30  # of this machine's memory; where less is left, no server waits for tasks
KINDS_MAX: Final = 256  # of which it is known that one task came before, or that they cannot be warm


class WarmBox:
    """See Box."""

    def __init__(self, cold: StrictBox) -> None:
        """`cold` starts what cannot start warm."""
        self._cold = cold
        self.level = cold.level
        self.owner = cold.owner
        self.python = cold.python
        self.warm_starts = 0
        self._folder: Path | None = None
        self._servers: OrderedDict[Kind, WarmServer] = OrderedDict()  # the one used last is last
        self._ending: list[WarmServer] = []  # closed, and perhaps not dead yet
        self._seen: OrderedDict[Kind, bool] = OrderedDict()  # False: it cannot be warm
        self._look: asyncio.TimerHandle | None = None

    @property
    def no_network(self) -> str:
        """See Box.no_network."""
        return self._cold.no_network

    def settle(self, folder: Path) -> None:
        """See Box.settle."""
        self.close()
        self._cold.settle(folder)
        self._folder = folder

    def start(self, scene: Scene) -> Boxed:
        """See Box.start."""
        if threading.current_thread() is not threading.main_thread():
            raise AssertionError("a box dies with the thread that starts it: start it on the main thread")
        self._cold.check_mounts(scene)
        if (server := self._server(scene)) is not None and (boxed := server.start(scene)) is not None:
            self.warm_starts += 1
            return boxed
        return self._cold.start(scene)

    async def prepare(self, scene: Scene) -> bool:
        """Wait until tasks like this one start warm; False when they never will."""
        found = Kind.of(scene, str(self.python))
        if found is None:
            return False
        self._seen.setdefault(found[0], True)
        server = self._server(scene)
        return server is not None and await server.ready

    def close(self) -> None:
        """End every server, and wait for their end; when no task runs any more."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        for kind in list(self._servers):
            self._end(kind)
        self._seen.clear()
        for server in self._ending:
            server.wait()
        self._ending.clear()

    def _end(self, kind: Kind) -> None:
        """Close a server, of which somebody has to hear that it is dead."""
        server = self._servers.pop(kind)
        server.close()
        self._ending = [known for known in (*self._ending, server) if known.lives]

    def _server(self, scene: Scene) -> WarmServer | None:
        """The server for a task like this; one is started for the second of its kind: most jobs of one task are the last."""
        found = Kind.of(scene, str(self.python))
        if found is None:
            return None
        kind, script = found
        self._retire()
        if (server := self._servers.get(kind)) is not None:
            if server.open:
                self._servers.move_to_end(kind)
                return server
            self._end(kind)
            if server.ready.done() and not server.ready.result():
                self._remember(kind, fit=False)
                return None
        if kind not in self._seen:
            self._remember(kind, fit=True)
            return None
        return self._begin(kind, script) if self._seen[kind] else None

    def _begin(self, kind: Kind, script: bytes) -> WarmServer | None:
        assert self._folder is not None, "settle the box first"
        if spare_bytes() < SPARE_BYTES_MIN:
            return None
        if len(self._servers) >= SERVERS_MAX:
            idle = next((kind for kind, server in self._servers.items() if not server.running), None)
            if idle is None:
                return None
            self._end(idle)
        try:
            self._servers[kind] = WarmServer(self._cold, kind, script, self._folder)
        except (SandboxError, OSError):
            self._remember(kind, fit=False)
            return None
        self._look_again()
        return self._servers[kind]

    def _look_again(self) -> None:
        if self._look is None and self._servers:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._on_look)

    def _on_look(self) -> None:
        self._look = None
        self._retire(scarce=spare_bytes() < SPARE_BYTES_MIN)
        self._look_again()

    def _remember(self, kind: Kind, *, fit: bool) -> None:
        self._seen[kind] = fit
        self._seen.move_to_end(kind)
        if len(self._seen) > KINDS_MAX:
            self._seen.popitem(last=False)

    def _retire(self, *, scarce: bool = False) -> None:
        """End servers that are worn or idle, and all when memory is scarce; one that runs tasks ends after them."""
        for kind, server in list(self._servers.items()):
            worn = server.tasks >= TASKS_MAX
            idle = server.loop.time() - server.used > IDLE_S
            if (worn or idle or scarce) and not server.running:
                self._end(kind)


def spare_bytes() -> int:
    """The memory of this machine that programs could get now, without making others wait for it."""
    with open("/proc/meminfo", "rb") as told:
        for line in told:
            name, _, value = line.partition(b":")
            if name == b"MemAvailable":
                return int(value.split()[0]) << 10
    return SPARE_BYTES_MIN
