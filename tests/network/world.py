"""A process that owns a switch and hosts: network namespaces joined by cables. It is told what to do line by line.

An ordinary user's is root of a user namespace of its own. Every host has its processes in a namespace: when its first
one ends, all end, and all hosts end with the world, which ends with whoever started it.
"""

import json
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import NoReturn

from tests.network import namespaces
from tests.network.netlink import Netlink


@dataclass
class Host:
    process: int
    cables: Netlink
    ports: list[str] = field(default_factory=list)


def first_process(name: str, guardian: int) -> NoReturn:
    namespaces.die_with_parent(guardian)
    namespaces.name_host(name)
    namespaces.keep_mounts()
    namespaces.own_processes()
    namespaces.open_tun()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are not left behind as zombies
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, b"up\n")  # at once: unbuffered, print() lets the guardian's line come in between
    while True:
        signal.pause()


def guard(name: str, world: int, ready: int) -> NoReturn:
    """Stands between the world and a host's first process, whose number it tells, and ends with it."""
    namespaces.die_with_parent(world)
    namespaces.unshare(
        namespaces.NETWORK | namespaces.MOUNTS | namespaces.HOSTNAME | namespaces.IPC | namespaces.PROCESSES
    )
    guardian = os.getpid()
    if (first := os.fork()) == 0:
        os.dup2(ready, 1)
        first_process(name, guardian)
    os.write(ready, f"{first}\n".encode())
    os.close(ready)
    os.waitpid(first, 0)
    os._exit(0)


class World:
    """The switch, whose ports are called as host and network are, and the hosts."""

    def __init__(self) -> None:
        self.switch = Netlink()
        self.switch.set_up("lo", up=True)
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.hosts: dict[str, Host] = {}

    def bridge(self, network: str) -> None:
        self.switch.add_bridge(network)

    def boot(self, host: str) -> int:
        """The number of the host's first process. A host of this name that was there is gone with its cables."""
        if (gone := self.hosts.pop(host, None)) is not None:
            for port in gone.ports:
                self.switch.remove(port)
            gone.cables.close()
        reading, writing = os.pipe()
        world = os.getpid()
        if os.fork() == 0:
            os.close(reading)
            guard(host, world, writing)
        os.close(writing)
        with os.fdopen(reading) as said:
            words = {said.readline().strip(), said.readline().strip()}
        if "up" not in words:
            raise OSError(f"the first process of {host} could not prepare itself")
        process = int((words - {"up"}).pop())
        namespaces.enter(process, "net")
        cables = Netlink()
        namespaces.check(namespaces.library.setns(self.home, namespaces.NETWORK))
        cables.set_up("lo", up=True)
        self.hosts[host] = Host(process, cables)
        return process

    def plug(self, host: str, network: str, interface: str, address: str) -> None:
        """A new cable from the host's `interface` to the switch."""
        to, port = self.hosts[host], f"{host}-{network}"
        self.switch.add_cable(port, interface, to.process)
        to.ports.append(port)
        self.switch.set_bridge(port, network)
        self.switch.set_up(port, up=True)
        to.cables.set_up(interface, up=True)
        if address:
            to.cables.add_address(interface, address)

    def cut(self, host: str, network: str) -> None:
        """From now on what either side sends is lost; neither is told."""
        self.switch.set_bridge(f"{host}-{network}", None)

    def heal(self, host: str, network: str) -> None:
        self.switch.set_bridge(f"{host}-{network}", network)

    def unplug(self, host: str, network: str) -> None:
        """Take the cable out: the host sees that its carrier is gone."""
        self.switch.set_up(f"{host}-{network}", up=False)

    def plug_again(self, host: str, network: str) -> None:
        self.switch.set_up(f"{host}-{network}", up=True)

    def route(self, host: str, gateway: str) -> None:
        self.hosts[host].cables.add_default_route(gateway)

    def address(self, host: str, interface: str, address: str) -> None:
        self.hosts[host].cables.add_address(interface, address)

    def no_address(self, host: str, interface: str, address: str) -> None:
        self.hosts[host].cables.remove_address(interface, address)


def main() -> None:
    namespaces.die_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, whose end is ours
    try:
        if os.geteuid() != 0:
            namespaces.become(0, os.geteuid(), os.getegid())
        namespaces.unshare(namespaces.NETWORK)
        world = World()
    except OSError as error:
        print(json.dumps({"failed": f"a network of its own: {error}"}), flush=True)
        return
    print(json.dumps({"done": os.getpid()}), flush=True)
    for line in sys.stdin:
        verb, *words = json.loads(line)
        try:
            answer = {"done": getattr(world, verb)(*words)}
        except OSError as error:
            answer = {"failed": f"{verb} {' '.join(words)}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
