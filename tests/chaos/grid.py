"""A grid of real hosts that things can be done to: a hub with the coordinator and the client, and three agents."""

import contextlib
import os
import shlex
import signal
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos.plan import AGENTS
from tests.network.hosts import Host, Network, until

CLOCK = Path(__file__).with_name("clock.py")
HUB = "hub"
JOIN_S = 30.0
CODES_MAX = 5
HUB_DISK_MIB, HUB_FILLER_MIB = 384, 384  # the coordinator leaves 256 MiB of its disk to others
AGENT_DISK_MIB, AGENT_FILLER_MIB = 1200, 250  # an agent leaves its owner 1 GiB


class Node:
    """One host, its clock, and what runs on it."""

    def __init__(self, network: Network, name: str, *, small: bool) -> None:
        """`small`: its home is on a disk of its own, that can be filled."""
        self.host: Host = network.host(name)
        self.name = name
        self._clock = self.host.work.parent / "clock"
        self._small = small
        self._log = self.host.work.parent / "log"
        self.set_clock(0.0)
        if small:
            size = HUB_DISK_MIB if name == HUB else AGENT_DISK_MIB
            self.host.home.mkdir()
            self.host.as_owner(
                "mount", "-t", "tmpfs", "-o", f"size={size}m,mode=700", "tmpfs", self.host.home
            )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Run a command of discogrid by this host's clock, beside the test."""
        command = self.host.entered(sys.executable, CLOCK, self._clock, *arguments)
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.host.work, env=self.host.environment, stdout=log, stderr=log
            )
        self.host.processes.append(process)
        return process

    def run(self, *arguments: str, patience_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """The same, to its end."""
        return subprocess.run(
            self.host.entered(sys.executable, CLOCK, self._clock, *arguments),
            cwd=self.host.work,
            env=self.host.environment,
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )

    def shell(self, line: str) -> str:
        """What a line of shell says, run where this host's files are."""
        done = subprocess.run(
            self.host.entered("sh", "-c", line), capture_output=True, text=True, check=False
        )
        return done.stdout

    def signal(self, command: str, number: int) -> int:
        """To every process of a command of discogrid here; how many there were."""
        found = self._processes(command)
        for process in found:
            with contextlib.suppress(ProcessLookupError):  # one that was killed takes others along
                os.kill(process, number)
        return len(found)

    def _processes(self, command: str) -> list[int]:
        found: list[int] = []
        for process in self.host.children():
            try:
                words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(CLOCK).encode() in words and command.encode() in words[:6] and b"enter.py" not in words[2]:
                found.append(process)
        return found

    def set_clock(self, off_s: float) -> None:
        """What its clock is off by, from now on."""
        with self._clock.open("r+b" if self._clock.exists() else "wb") as file:
            file.write(struct.pack("<d", off_s))

    def fill_disk(self) -> None:
        size = HUB_FILLER_MIB if self.name == HUB else AGENT_FILLER_MIB
        self.shell(f"head -c {size}M /dev/zero > {shlex.quote(str(self.host.home / 'filler'))} 2>/dev/null")

    def free_disk(self) -> None:
        self.shell(f"rm -f {shlex.quote(str(self.host.home / 'filler'))}")


class Grid:
    """Who is there, how each is started, and what it takes to make all well again."""

    def __init__(self, network: Network, small: set[str]) -> None:
        self.hub = Node(network, HUB, small=HUB in small)
        self.agents = {name: Node(network, name, small=name in small) for name in AGENTS}
        self.coordinate()
        until(lambda: self.hub.shell(f"cat {self.hub.host.address} 2>/dev/null"))
        with ThreadPoolExecutor() as together:
            list(together.map(self._join, self.agents.values()))

    def nodes(self) -> list[Node]:
        """All of them."""
        return [self.hub, *self.agents.values()]

    def coordinate(self) -> None:
        """Start the coordinator where it always is."""
        self.hub.start("coordinator", "--listen", f"{self.hub.host.ip()}:7717")

    def lend(self, name: str) -> None:
        """Start an agent that has joined."""
        self.agents[name].start("agent", "--slots", "1", "--name", name)

    def mend(self) -> None:
        """End all troubles: what is stopped goes on, what is dead or away is there again."""
        for node in self.nodes():
            node.host.heal()
            node.free_disk()
            node.set_clock(0.0)
        for command, node in [("coordinator", self.hub), *(("agent", node) for node in self.agents.values())]:
            if not node.signal(command, signal.SIGCONT):
                self.coordinate() if command == "coordinator" else self.lend(node.name)

    def stop(self) -> None:
        """Everybody is there, and ends as it should."""
        until(lambda: set(self.hub.host.live_agents()) == set(AGENTS))
        for node in self.agents.values():
            node.signal("agent", signal.SIGTERM)
        for node in self.agents.values():
            until(lambda node=node: not node.signal("agent", 0))  # type: ignore[misc]
        self.hub.signal("coordinator", signal.SIGTERM)
        until(lambda: not self.hub.signal("coordinator", 0))

    def _join(self, node: Node) -> None:
        """By a code. Of several invitations at a time two may have the same number, and burn each other's: once more."""
        for _ in range(CODES_MAX):
            invitation = subprocess.Popen(
                self.hub.host.entered(sys.executable, "-m", "discogrid", "invite"),
                env=self.hub.host.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            assert invitation.stdout is not None
            code = invitation.stdout.readline().strip()
            node.start("agent", "--slots", "1", "--name", node.name, "--join", code)
            joined = invitation.wait(JOIN_S) == 0
            invitation.stdout.close()
            if joined:
                return
        raise AssertionError(f"{node.name} cannot join")
