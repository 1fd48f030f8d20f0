"""Makes what a plan says go wrong, and what it takes to end it. Each trouble is ended by whoever began it, in time."""

import asyncio
import contextlib
import shlex
import signal
from collections.abc import AsyncIterator

from tests.chaos.grid import Grid, Node
from tests.chaos.plan import Fault

FLAP_S = 0.15
CLOCK_S = 240.0  # less than what a coordinator refuses
DAMAGE = """
import pathlib, sys
for folder in pathlib.Path(sys.argv[1]).rglob("blobs"):
    (folder / "boot").write_text("another")
    for number, blob in enumerate(sorted(folder.glob("??/*"))):
        if number % 2:
            content = bytearray(blob.read_bytes())
            content[len(content) // 2 : len(content) // 2 + 1] = b"!"
            blob.chmod(0o600)
            blob.write_bytes(content)
"""


class Faults:
    """Strikes a grid."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    async def strike(self, fault: Fault) -> None:
        """From its beginning to its end."""
        async with self._during(fault):
            await asyncio.sleep(fault.lasts_s)

    @contextlib.asynccontextmanager
    async def _during(self, fault: Fault) -> AsyncIterator[None]:
        grid, hub = self._grid, self._grid.hub
        node = grid.agents[fault.where] if fault.where else hub
        match fault.what:
            case "kill agent":
                node.signal("agent", signal.SIGKILL)
                yield
                grid.lend(node.name)
            case "power off":
                await asyncio.to_thread(node.host.power_off)
                yield
                await self._boot(node)
            case "damage blobs":
                await asyncio.to_thread(node.host.power_off)
                yield
                node.host.boot()
                await asyncio.to_thread(
                    node.shell, f"python3 -c {shlex.quote(DAMAGE)} {shlex.quote(str(node.host.home))}"
                )
                grid.lend(node.name)
            case "fill disk" | "fill disk of coordinator":
                await asyncio.to_thread(node.fill_disk)
                yield
                node.free_disk()
                if node is hub and not hub.signal("coordinator", 0):
                    grid.coordinate()
            case "stop agent":
                node.signal("agent", signal.SIGSTOP)
                yield
                node.signal("agent", signal.SIGCONT)
            case "cut link":
                node.host.cut()
                yield
                node.host.heal()
            case "poor link":
                flapping = asyncio.create_task(self._flap(node))
                yield
                flapping.cancel()
                node.host.heal()
            case "jump clock of" | "jump clock of hub":
                node.set_clock(CLOCK_S * (2 * fault.number - 1))
                yield
                node.set_clock(0.0)
            case "kill coordinator":
                hub.signal("coordinator", signal.SIGKILL)
                yield
                grid.coordinate()
            case "stop coordinator":
                hub.signal("coordinator", signal.SIGSTOP)
                yield
                hub.signal("coordinator", signal.SIGCONT)
            case "kill client":
                hub.signal("submit", signal.SIGKILL)
                yield
            case other:
                raise AssertionError(other)

    async def _boot(self, node: Node) -> None:
        node.host.boot()
        self._grid.lend(node.name)

    async def _flap(self, node: Node) -> None:
        """Most of what is sent is lost, and sent again."""
        while True:
            node.host.cut()
            await asyncio.sleep(FLAP_S)
            node.host.heal()
            await asyncio.sleep(FLAP_S)
