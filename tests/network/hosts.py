"""Hosts on a network, for tests: each with a name, addresses, a home and processes of its own.

Real namespaces joined by real cables, made without privileges: see world.py.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.grid.machines import Machine, until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LAN = "lan"
END_S = 15.0


class WorldRefused(Exception):
    """The system did not make what the world was told to make."""


class Network:
    """A switch and its hosts. Use `with Network(folder) as network`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hosts: list[Host] = []
        self._networks: list[str] = []
        self._world = subprocess.Popen(
            [sys.executable, "-m", "tests.network.world", str(os.getpid())],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.process = int(self._answer())
        except WorldRefused:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def host(self, name: str, *networks: str) -> "Host":
        """A new host on these networks, `lan` if none is named: `eth0` on the first one, and so on."""
        host = Host(self._folder / name, self, name, networks or (LAN,))
        self._hosts.append(host)
        return host

    def tell(self, verb: str, *words: str) -> Any:
        """Have the world do something."""
        assert self._world.stdin is not None
        self._world.stdin.write(json.dumps([verb, *words]) + "\n")
        self._world.stdin.flush()
        return self._answer()

    def number(self, network: str) -> int:
        """Which network it is; the first one that was named is 0."""
        if network not in self._networks:
            self.tell("bridge", network)
            self._networks.append(network)
        return self._networks.index(network)

    @contextmanager
    def captured(self, network: str = LAN) -> Iterator[Path]:
        """What is sent over a network during the block, frame after frame, in a file."""
        kept = self._folder / f"{network}.frames"
        capture = subprocess.Popen(
            entered(self.process, "owner", sys.executable, str(HERE / "capture.py"), network, str(kept)),
            stdout=subprocess.PIPE,
        )
        assert capture.stdout is not None
        assert capture.stdout.readline() == b"listening\n"
        try:
            yield kept
        finally:
            capture.terminate()
            capture.wait()
            capture.stdout.close()

    def close(self) -> None:
        """Everything ends, whatever state it is in."""
        for host in self._hosts:
            host.close()
        assert self._world.stdin is not None
        assert self._world.stdout is not None
        self._world.stdin.close()
        self._world.wait(END_S)
        self._world.stdout.close()

    def _answer(self) -> Any:
        assert self._world.stdout is not None
        line = self._world.stdout.readline()
        assert line, "the world has ended"
        answer = json.loads(line)
        if "failed" in answer:
            raise WorldRefused(answer["failed"])
        return answer["done"]


class Host(Machine):
    """One host; its commands run in its namespaces."""

    def __init__(self, folder: Path, network: Network, name: str, networks: tuple[str, ...]) -> None:
        super().__init__(folder)
        self.name = name
        self._network = network
        self._networks = networks
        self._places = {each: len(network._hosts) + 1 for each in networks}
        self.first = 0
        self.boot()

    def ip(self, network: str = "") -> str:
        """Its address in a network, by default its first one."""
        network = network or self._networks[0]
        return f"10.77.{self._network.number(network)}.{self._places[network]}"

    def command(self, *arguments: str | Path) -> list[str]:
        return self.entered(*super().command(*arguments))

    def entered(self, *command: str | Path, user: str = "user") -> list[str]:
        """A command line that runs `command` on this host."""
        return entered(self.first, user, *map(str, command))

    def log(self, command: str) -> Path:
        """What commands of this name that were started here said."""
        return self.work.parent / f"{command}.log"

    def run_python(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run Python here, to its end."""
        return subprocess.run(
            self.entered(sys.executable, "-c", script),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def begin(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Run any command beside the test; its output can be read."""
        process = subprocess.Popen(
            self.entered(*command),
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        return process

    def boot(self) -> None:
        """Switch on: networks and home are there, nothing runs."""
        self.first = self._network.tell("boot", self.name)
        for network in self._networks:
            self._network.number(network)
            self._network.tell("plug", self.name, network, self._interface(network), f"{self.ip(network)}/24")

    def power_off(self) -> None:
        """As when the plug is pulled: nobody on the network hears a goodbye."""
        for network in self._networks:
            self.cut(network)
        os.kill(self.first, signal.SIGKILL)
        self._reap()

    def cut(self, network: str = "") -> None:
        """From now on what is sent to and from here is lost, and nobody is told."""
        self._network.tell("cut", self.name, network or self._networks[0])

    def heal(self, network: str = "") -> None:
        self._network.tell("heal", self.name, network or self._networks[0])

    def place(self, network: str = "") -> int:
        """The last number of its address in a network."""
        return self._places[network or self._networks[0]]

    def leave_network(self, network: str = "") -> None:
        """Lose the address there, as when a lease has run out."""
        network = network or self._networks[0]
        self._network.tell("no_address", self.name, self._interface(network), f"{self.ip(network)}/24")

    def join_network(self, place: int, network: str = "") -> None:
        """Get an address there, as from DHCP."""
        network = network or self._networks[0]
        self._places[network] = place
        self._network.tell("address", self.name, self._interface(network), f"{self.ip(network)}/24")

    def forward(self) -> None:
        """Be a router between its networks; what is sent to all on one of them stays there."""
        for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.as_owner("sh", "-c", f"echo 1 > /proc/sys/net/{setting}")

    def as_owner(self, *command: str | Path) -> None:
        """Run a command as root of this host, to its end."""
        done = subprocess.run(self.entered(*command, user="owner"), check=False)
        assert done.returncode == 0, command

    def serve(self, *command: str | Path) -> None:
        """Run Python as root of this host beside the test, from when it says that it serves."""
        process = subprocess.Popen(
            self.entered(sys.executable, "-S", *command, user="owner"), stdout=subprocess.PIPE
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"

    def add_address(self, address: str, network: str = "") -> None:
        """One more, with its prefix, at the interface to a network; `lo` is the host's own."""
        interface = "lo" if network == "lo" else self._interface(network or self._networks[0])
        self._network.tell("address", self.name, interface, address)

    def route_by_address(self, gateway: str) -> None:
        """Reach everything that is not here by a gateway of either version of IP."""
        self._network.tell("route", self.name, gateway)

    def resolve_by(self, address: str) -> None:
        """Ask this address for names."""
        told = self.home.with_name("resolv.conf")
        told.write_text(f"nameserver {address}\n")
        told.chmod(0o644)
        self.as_owner("mount", "--bind", told, "/etc/resolv.conf")

    def route_by(self, router: "Host") -> None:
        """Reach everything that is not here by a router on the same network."""
        self._network.tell("route", self.name, router.ip(self._networks[0]))

    def _interface(self, network: str) -> str:
        return f"eth{self._networks.index(network)}"

    def close(self) -> None:
        """Nothing of it is left; what would say goodbye does not."""
        try:
            os.kill(self.first, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._reap()

    def _reap(self) -> None:
        for process in self.processes:
            process.wait(END_S)
            if process.stdout is not None:
                process.stdout.close()
        self.processes.clear()


def entered(first: int, user: str, *command: str) -> list[str]:
    """A command line that runs `command` in the namespaces of the process `first`."""
    return [sys.executable, "-S", str(HERE / "enter.py"), str(first), user, *command]


__all__ = ["LAN", "Host", "Network", "WorldRefused", "until"]
