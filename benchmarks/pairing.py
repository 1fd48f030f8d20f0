"""How long a pairing takes: from the code that was typed to the joined grid kept on disk.

    python benchmarks/pairing.py [ROUNDS]

A real coordinator, a real desk with the owner's key, TCP on loopback: SPAKE2, confirmations, the new roster written,
taken by the coordinator and told to all, the grant kept, the coordinator's key proven. The floor beside it is one
SPAKE2 exchange in one process. Then the same by zeroconf, as it is when no address is typed.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from discogrid.client import AsyncClient
from discogrid.grid import HOME, Grid, open_grid
from discogrid.keys import new_identity
from discogrid.pairing.codes import Code, Target
from discogrid.pairing.host import inviting
from discogrid.pairing.join import Secret, join
from discogrid.pairing.spake import ENTROPY_BYTES, Exchange, Side
from discogrid.types import Role
from discogrid_coordinator.server import Server

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
PROMISED_S = 2.0


def floor() -> float:
    """Seconds for both sides of one exchange and nothing else."""
    began = time.perf_counter()
    joiner = Exchange(Side.JOINER, b"code", os.urandom(ENTROPY_BYTES))
    inviter = Exchange(Side.INVITER, b"code", os.urandom(ENTROPY_BYTES))
    assert joiner.key(inviter.share) == inviter.key(joiner.share)
    return time.perf_counter() - began


async def pair(grid: Grid, client: AsyncClient, *, told: bool) -> float:
    """Seconds for one pairing; `told`: the joiner knows the address."""
    owner = grid.owner()
    assert owner is not None
    async with inviting(grid, owner, client, lambda _: None, port=0) as offer:
        assert isinstance(offer.secret, Code)
        began = time.perf_counter()
        target = Target(offer.secret, offer.addresses[0] if told else None)
        await join(Secret.of(target), new_identity(), "cellar", (Role.AGENT,))
        return time.perf_counter() - began


async def main() -> None:
    """Print medians and extremes."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DISCOGRID_HOME"] = str(Path(folder) / "home")
        home = open_grid(HOME)
        os.makedirs(Path(folder) / "coordinator")
        server = Server(home, Path(folder) / "coordinator", listen="tcp://0.0.0.0:0")
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(server.run(ready.set_result))
        port = (await ready).rpartition(":")[2]
        grid = Grid(HOME, home.identity, home.keeper, f"tcp://127.0.0.1:{port}")
        async with AsyncClient(grid) as client:
            show("one SPAKE2 exchange", [floor() for _ in range(ROUNDS)])
            show("paired at an address", [await pair(grid, client, told=True) for _ in range(ROUNDS)])
            show("paired by zeroconf", [await pair(grid, client, told=False) for _ in range(ROUNDS)])
        server.stop()
        await running
    print(f"promised: less than {PROMISED_S:.0f} s")


def show(what: str, seconds: list[float]) -> None:
    """One line."""
    print(
        f"{what:<24} {statistics.median(seconds) * 1000:7.1f} ms"
        f"  (min {min(seconds) * 1000:.1f}, max {max(seconds) * 1000:.1f}, {len(seconds)} rounds)"
    )


asyncio.run(main())
