"""What a thousand agents that only beat cost a coordinator.

    python benchmarks/thousand_agents.py [AGENTS] [SECONDS]

1,000 DEALER sockets with CURVE, all in this process, under the keys of eight members of the grid, say hello to a real
coordinator process and beat as it tells them to: then the processor time of that process over 30 s is read from /proc. At most 20 % of one core. Exit code 1 when it is more, or when an agent is lost meanwhile.
"""

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from discogrid import __version__, transport
from discogrid.channel import Channel, Received
from discogrid.client import AsyncClient
from discogrid.grid import HOME, Grid, open_grid
from discogrid.keys import Identity, new_identity
from discogrid.messages import PROTOCOL, Heartbeat, HeartbeatSeen, Hello, Resync, Welcome
from discogrid.trust.owner import member_of
from discogrid.types import GIB, Role

AGENTS, SECONDS = 1_000, 30.0
MEMBERS = 8
SHARE_MAX = 0.20
JOIN_S = 120.0
FILES = 16_384


class Agent:
    """One socket that says hello, and beats."""

    def __init__(self, crowd: "Crowd", name: str, identity: Identity) -> None:
        self._crowd = crowd
        self._name = name
        self._loop = asyncio.get_running_loop()
        keys = transport.CurveKeys(identity.curve_public, identity.curve_secret)
        self.channel = Channel(
            lambda take: transport.dial(crowd.context, crowd.endpoint, keys, crowd.server, take),
            self._receive,
        )
        self._beating: asyncio.TimerHandle | None = None
        self._hello()

    def close(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
        self.channel.close(linger_ms=0)

    def _hello(self) -> None:
        hello = Hello(
            protocol=PROTOCOL,
            software=__version__,
            role=Role.AGENT,
            session=self._name,
            name=self._name,
            platform=sys.platform,
            python="3.11",
            clock=time.time(),
            slots=2,
            memory_bytes=8 * GIB,
            sandbox="strict",
        )
        self.channel.send(hello)

    def _receive(self, batch: list[Received]) -> None:
        for received in batch:
            match received.message:
                case Welcome(heartbeat_s=heartbeat_s):
                    self._crowd.welcomed.add(self._name)
                    if self._beating is None:
                        self._beat(heartbeat_s)
                    self._crowd.heartbeat_s = max(self._crowd.heartbeat_s, heartbeat_s)
                case Resync():
                    self._crowd.lost += 1
                    self._hello()
                case HeartbeatSeen():
                    self._crowd.seen += 1
                case _:
                    pass

    def _beat(self, every_s: float) -> None:
        self.channel.send(Heartbeat())
        self._beating = self._loop.call_later(max(every_s, self._crowd.heartbeat_s), self._beat, every_s)


class Crowd:
    """All of them, and what they were told."""

    def __init__(self, grid: Grid, endpoint: str, members: list[Identity], agents: int) -> None:
        self.context = transport.new_context()
        self.endpoint = endpoint
        self.server = grid.roster.coordinator().curve
        self.heartbeat_s = 0.0
        self.welcomed: set[str] = set()
        self.lost = self.seen = 0
        self.agents = [Agent(self, f"agent-{n:04}", members[n % len(members)]) for n in range(agents)]

    def close(self) -> None:
        for agent in self.agents:
            agent.close()
        self.context.destroy(linger=0)


def grown(grid: Grid) -> list[Identity]:
    """New members of the grid."""
    owner = grid.owner()
    assert owner is not None
    members = [new_identity() for _ in range(MEMBERS)]
    for number, identity in enumerate(members):
        member = member_of(identity.statement(), f"host-{number}", [Role.AGENT])
        grid.keeper.offer(owner.admit(grid.roster, member, time.time()).envelope, time.time())
    return members


@contextmanager
def coordinator(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A coordinator process."""
    command = [sys.executable, "-m", "discogrid", "coordinator", "--listen", "127.0.0.1:0", "--no-announce"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def processor_s(pid: int) -> float:
    """Seconds of a processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(
    process: subprocess.Popen[bytes], grid: Grid, members: list[Identity], agents: int, s: float
) -> bool:
    """Print what it took; whether that was too much."""
    while (endpoint := open_grid(HOME).endpoint) is None:  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.1)
    began = time.perf_counter()
    crowd = Crowd(grid, endpoint, members, agents)
    try:
        async with asyncio.timeout(JOIN_S):
            while len(crowd.welcomed) < agents:  # noqa: ASYNC110 - a thousand sockets fill it
                await asyncio.sleep(0.05)
        print(
            f"{agents:,} agents have joined in {time.perf_counter() - began:.1f} s, beating every {crowd.heartbeat_s:g} s"
        )
        await asyncio.sleep(crowd.heartbeat_s)
        seen, used, began = crowd.seen, processor_s(process.pid), time.perf_counter()
        await asyncio.sleep(s)
        took = time.perf_counter() - began
        share, beats = (processor_s(process.pid) - used) / took, crowd.seen - seen
        async with AsyncClient(open_grid(HOME)) as client:
            live = sum(agent.state == "live" for agent in await client.agents())
    finally:
        crowd.close()
    print(
        f"{beats / took:.0f} beats a second: {share:.1%} of a core (at most {SHARE_MAX:.0%}); {live:,} live, {crowd.lost} lost"
    )
    return share > SHARE_MAX or live < agents or crowd.lost > 0


def main() -> int:
    """1 when a bar is missed."""
    agents = int(sys.argv[1]) if len(sys.argv) > 1 else AGENTS
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    with tempfile.TemporaryDirectory(prefix="discogrid-thousand-") as scratch:
        os.environ["DISCOGRID_HOME"] = scratch
        grid = open_grid(HOME)
        members = grown(grid)
        with coordinator(Path(scratch)) as process:
            return int(asyncio.run(measure(process, grid, members, agents, seconds)))


if __name__ == "__main__":
    sys.exit(main())
