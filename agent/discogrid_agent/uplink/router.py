"""The process between a box and the world: builds a router in a network namespace of its own, and keeps it.

The box's own namespace has one cable to the router and no other way. The router forwards what comes from the box to a
program that speaks for it on the host (slirp4netns), and shuts what is off limits. In the box itself no route would
hold: a socket that is bound to an interface passes by every route that says no (SO_BINDTODEVICE, IP_PKTINFO), and so
does multicast. What is forwarded has no such choice.

Started once a box: `router.main()`, with its descriptors and the program as arguments. It says `speaker PID`, which is
the program, then `ready` when a task may start; `lost WHY` when that cannot be, or is over. It ends when its standard
input does, with all that it has started.
"""

import ctypes
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, NoReturn

from discogrid_agent.uplink import off_limits
from discogrid_agent.uplink.addresses import (
    GATEWAY_4,
    GATEWAY_6,
    RESOLVER_4,
    RESOLVER_6,
    ROUTER_4,
    ROUTER_6,
    ROUTER_6_OUTSIDE,
    TASK_4,
    TASK_6,
    Prefix,
)
from discogrid_agent.uplink.announcement import announce
from discogrid_agent.uplink.netlink import CHANGES, Netlink

MTU_BYTES: Final = 65_520  # the largest that the program takes: fewer, larger packets
# Of the program, which keeps a buffer and a descriptor for each connection of the task.
CONNECTIONS_MAX: Final = 1000
_OWN_DESCRIPTORS: Final = 24
MEMORY_BYTES: Final = 512 << 20
CLOSED: Final = ("--disable-host-loopback",)  # what the program itself shuts
SAID_BYTES_MAX: Final = 2048  # of the program's last words
REASON_LINES: Final = 3

_TASK_SIDE, _BOX_SIDE, _OUTSIDE = "task", "net0", "tap0"
_DNS_PORT, _DNS_TABLE = 53, 53
_TCP, _UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
_NEW_NETWORK: Final = 0x4000_0000  # CLONE_NEWNET
_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG
_SETTINGS: Final = Path("/proc/sys/net")

_library = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """See above; arguments: parent, uid and gid or -1, descriptors of the box's namespaces of networks and users, program."""
    try:
        parent, uid, gid, network, users, program = sys.argv[1:]
        _run(int(parent), int(uid), int(gid), int(network), int(users), program)
        os._exit(0)
    except _Lost as error:
        _say(f"lost {error}")
    except (OSError, EOFError) as error:
        _say(f"lost the network of the task could not be made: {error}")
    os._exit(1)


class _Lost(Exception):
    """The uplink has ended, or never was."""


def _run(parent: int, uid: int, gid: int, network: int, users: int, program: str) -> None:
    if uid >= 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _die_with(parent)
    changes, host = Netlink(CHANGES), Netlink()  # of the host's namespace, wherever this process goes
    with_6 = (_SETTINGS / "ipv6").exists() and off_limits.has_way_out(list(host.routes()), 6)
    speaker = Speaker(program, users, with_6=with_6)
    _say(f"speaker {speaker.process}")
    try:
        _set_namespace(users)
        _die_with(parent)  # the kernel forgets it with the other user namespace
        _checked(_library.unshare(_NEW_NETWORK))
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        box = _within(network, own, Netlink)
        _allow_forwarding(with_6=with_6)
        router = Router(Netlink(), box, host, with_6=with_6)
        router.lay(network)
        router.shut()
        speaker.begin(own)
        router.connect()
        _say("ready")
        _keep(router, changes, speaker)
    finally:
        speaker.end()


def _keep(router: "Router", changes: Netlink, speaker: "Speaker") -> None:
    """Until the agent lets go, or is gone."""
    poll = select.poll()
    for descriptor in (0, speaker.alive, speaker.said, changes.fileno()):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if 0 in ready:
            return
        if speaker.said in ready and not speaker.hear():
            poll.unregister(speaker.said)
        if speaker.alive in ready:
            raise _Lost(speaker.last_words())
        if changes.fileno() in ready:
            changes.drain()
            router.shut()


class Router:
    """The cables and routes between the box and the program."""

    def __init__(self, own: Netlink, box: Netlink, host: Netlink, *, with_6: bool) -> None:
        """By what is asked and told in the three namespaces."""
        self._own = own
        self._box = box
        self._host = host
        self._with_6 = with_6
        self._shut: set[Prefix] = set()

    def lay(self, network: int) -> None:
        """The cable to the box, whose only way it is."""
        own, box = self._own, self._box
        own.set_up("lo")
        own.add_pair(_TASK_SIDE, _BOX_SIDE, network, MTU_BYTES)
        own.set_up(_TASK_SIDE)
        own.add_address(_TASK_SIDE, IPv4Interface(f"{ROUTER_4}/32"))
        own.add_route(IPv4Network(TASK_4), _TASK_SIDE)
        box.set_up("lo")
        box.set_up(_BOX_SIDE)
        box.add_address(_BOX_SIDE, IPv4Interface(f"{TASK_4}/32"))
        box.add_route(_EVERYWHERE_4, _BOX_SIDE, ip_address(ROUTER_4))
        if self._with_6:
            own.add_address(_TASK_SIDE, IPv6Interface(f"{ROUTER_6}/64"))
            own.add_route(IPv6Network(TASK_6), _TASK_SIDE)
            box.add_address(_BOX_SIDE, IPv6Interface(f"{TASK_6}/128"))
            box.add_route(_EVERYWHERE_6, _BOX_SIDE, ip_address(ROUTER_6))

    def shut(self) -> None:
        """What is off limits; again whenever the host's addresses or routes have changed."""
        wanted = off_limits.of_host(self._host.addresses(), list(self._host.routes()))
        if len(wanted) > off_limits.PREFIXES_MAX:
            raise _Lost(f"this machine is on more than {off_limits.PREFIXES_MAX:,} networks")
        if not self._shut:
            wanted |= set(off_limits.private())
        for prefix in wanted - self._shut:
            if prefix.version == 4 or self._with_6:
                self._own.shut(prefix)
        self._shut |= wanted  # what the host was is not opened again while the task runs

    def connect(self) -> None:
        """The program is there: from here on packets leave."""
        own = self._own
        for name in ("accept_dad", "autoconf", "accept_ra"):
            _set(f"ipv6/conf/{_OUTSIDE}/{name}", "0")
        own.set_up(_OUTSIDE, MTU_BYTES)
        # The resolver's address, which stands for one of the host's or of its network, on this port alone.
        own.add_route(IPv4Network(RESOLVER_4), _OUTSIDE, table=_DNS_TABLE)
        for number, protocol in enumerate((_UDP, _TCP)):
            own.add_rule(ip_address(RESOLVER_4), protocol, _DNS_PORT, _DNS_TABLE, 100 + number)
        own.add_route(_EVERYWHERE_4, _OUTSIDE, ip_address(GATEWAY_4))
        if self._with_6:
            own.add_address(_OUTSIDE, IPv6Interface(f"{ROUTER_6_OUTSIDE}/64"))
            own.add_route(IPv6Network(RESOLVER_6), _OUTSIDE, table=_DNS_TABLE)
            for number, protocol in enumerate((_UDP, _TCP)):
                own.add_rule(ip_address(RESOLVER_6), protocol, _DNS_PORT, _DNS_TABLE, 100 + number)
            own.add_route(_EVERYWHERE_6, _OUTSIDE, ip_address(GATEWAY_6))
        announce(_OUTSIDE, ip_address(TASK_4), *([ip_address(TASK_6)] if self._with_6 else []))


class Speaker:
    """The program that makes the task's connections on the host, as a child that waits to be told in which namespace."""

    def __init__(self, program: str, users: int, *, with_6: bool) -> None:
        """Fork it now, while this process is where the host is."""
        self._near, far = socket.socketpair()
        self.said, said = os.pipe()
        self._ready, ready = os.pipe()
        end, self._end = os.pipe()
        self._words = b""
        parent = os.getpid()
        self.process = os.fork()
        if self.process == 0:
            try:
                self._near.close()
                os.close(self._end)
                _die_with(parent)
                _become_speaker(program, far, users, ready, end, said, with_6=with_6)
            except BaseException as error:  # noqa: BLE001 - this is another process: it must not go on as its parent
                os.write(said, f"{error}\n".encode())
                os._exit(127)
        for descriptor in (said, ready, end):
            os.close(descriptor)
        far.close()
        self.alive = os.pidfd_open(self.process)

    def begin(self, network: int) -> None:
        """Have it connect to the namespace `network`, and wait until it has."""
        socket.send_fds(self._near, [b"\0"], [network])
        self._near.close()
        if os.read(self._ready, 1) != b"1":
            while self.hear():
                pass
            raise _Lost(self.last_words())

    def hear(self) -> bool:
        """Keep the last of what it says; False when it says nothing more."""
        part = os.read(self.said, SAID_BYTES_MAX)
        self._words = (self._words + part)[-SAID_BYTES_MAX:]
        return bool(part)

    def last_words(self) -> str:
        """How it ended."""
        os.waitpid(self.process, 0)
        lines = self._words.decode(errors="replace").splitlines()
        telling = [line.strip() for line in lines if line.strip() and not line.startswith(_CHATTER)]
        return "; ".join(["slirp4netns has ended", *telling[-REASON_LINES:]])

    def end(self) -> None:
        """It is dead."""
        with suppress(ProcessLookupError, ChildProcessError):  # perhaps it has ended, and was waited for
            signal.pidfd_send_signal(self.alive, signal.SIGKILL)
            os.waitpid(self.process, 0)


def _become_speaker(
    program: str, orders: socket.socket, users: int, ready: int, end: int, said: int, *, with_6: bool
) -> NoReturn:
    _, descriptors, _, _ = socket.recv_fds(orders, 1, 1)
    if not descriptors:
        os._exit(0)  # the router was not made
    [network] = descriptors
    for kind, most in (
        (resource.RLIMIT_NOFILE, CONNECTIONS_MAX + _OWN_DESCRIPTORS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    for given in (users, network, ready, end):
        os.set_inheritable(given, True)
    arguments = [
        *(f"--ready-fd={ready}", f"--exit-fd={end}", f"--mtu={MTU_BYTES}"),
        *("--enable-seccomp", *CLOSED),
        *(["--enable-ipv6"] if with_6 else []),
        *("--netns-type=path", f"--userns-path=/proc/self/fd/{users}", f"/proc/self/fd/{network}", _OUTSIDE),
    ]
    os.execve(program, [program, *arguments], {})  # noqa: S606 - there is no shell


def _allow_forwarding(*, with_6: bool) -> None:
    _set("ipv4/ip_forward", "1")
    # Answers come from where no route leads.
    for each in ("all", "default"):
        _set(f"ipv4/conf/{each}/rp_filter", "0")
    _set("ipv4/icmp_ratelimit", "0")  # who is refused shall hear it every time
    if with_6:
        for each in ("all", "default"):
            _set(f"ipv6/conf/{each}/forwarding", "1")
        _set("ipv6/icmp/ratelimit", "0")


def _set(name: str, value: str) -> None:
    """A setting of the network namespace that this process is in; one that this kernel does not have is passed by."""
    with suppress(FileNotFoundError):
        (_SETTINGS / name).write_text(value)


def _within(network: int, own: int, action: Callable[[], Netlink]) -> Netlink:
    """What `action` makes in another network namespace."""
    _set_namespace(network)
    try:
        return action()
    finally:
        _set_namespace(own)


def _set_namespace(descriptor: int) -> None:
    _checked(_library.setns(descriptor, 0))


def _die_with(parent: int) -> None:
    _checked(_library.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(1)


def _checked(answer: int) -> None:
    if answer != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _say(line: str) -> None:
    with suppress(OSError):  # nobody listens any more
        os.write(1, line.replace("\n", "; ").encode() + b"\n")


_EVERYWHERE_4: Final = ip_network("0.0.0.0/0")
_EVERYWHERE_6: Final = ip_network("::/0")
_CHATTER: Final = ("WARNING", "sent tapfd", "received tapfd", "starting slirp", "* ")
