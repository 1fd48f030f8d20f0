"""Counts connections and what each has sent or was sent and is not through yet; says which are too many.

Keeps books only: `gate.py` looks at descriptors and cuts. Two threads tell it what happens, so there is a lock.
"""

import ipaddress
import threading
from collections.abc import Callable
from dataclasses import dataclass

from discogrid.rates import Rates
from discogrid.transport.limits import (
    ADDRESSES_MAX,
    CONNECTIONS_ADDRESS_MAX,
    CONNECTIONS_MEMBER_MAX,
    CONNECTS_BURST,
    CONNECTS_S_MAX,
    IDLE_BYTES_S,
    UNHEARD_BYTES_ALL_MAX,
    UNREAD_BYTES_ALL_MAX,
    UNREAD_BYTES_MAX,
    UNTAKEN_BYTES_ALL_MAX,
    UNTAKEN_BYTES_MAX,
)

FRAME_OVERHEAD_BYTES = 35  # of a CURVE frame: flags, length, command name, nonce and box
LONG_FRAME_OVERHEAD_BYTES = 42  # the length takes eight bytes
SHORT_FRAME_BYTES_MAX = 222


@dataclass(slots=True)
class Connection:
    """One accepted connection.

    `delivered` counts the bytes on the wire of whole messages that were handed over, `sent` those that it is to get.
    """

    fd: int
    address: str
    since: float
    delivered: int = 0
    sent: int = 0
    member: str = ""
    route: bytes = b""


@dataclass(frozen=True, slots=True)
class Moved:
    """What the kernel says of a connection: bytes that came in, and bytes that the peer's kernel has taken."""

    received: int = 0
    taken: int = 0


UNKNOWN = Moved(0, 1 << 62)
"""Where the kernel does not say, nothing is on the way."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What one connection, and all of a kind together, may have on the way; `what` that is."""

    one_max: int
    all_max: int
    what: str


@dataclass(frozen=True, slots=True)
class Excess:
    """A connection that is to be cut, and why."""

    connection: Connection
    reason: str


class Connections:
    """The open connections of one listening socket."""

    def __init__(
        self,
        total_max: int,
        *,
        address_max: int = CONNECTIONS_ADDRESS_MAX,
        member_max: int = CONNECTIONS_MEMBER_MAX,
        unread_max: int = UNREAD_BYTES_MAX,
        unread_all_max: int = UNREAD_BYTES_ALL_MAX,
        unheard_all_max: int = UNHEARD_BYTES_ALL_MAX,
        untaken_max: int = UNTAKEN_BYTES_MAX,
        untaken_all_max: int = UNTAKEN_BYTES_ALL_MAX,
    ) -> None:
        """At most `total_max` at once."""
        self._total_max = total_max
        self._address_max = address_max
        self._member_max = member_max
        self._unread = Bound(unread_max, unread_all_max, "that are no whole message")
        self._unheard = Bound(unread_max, unheard_all_max, "before anybody knew who it is")
        self._untaken = Bound(untaken_max, untaken_all_max, "for it that it does not take")
        self._lock = threading.Lock()
        self._open: dict[int, Connection] = {}
        self._addresses: dict[str, int] = {}
        self._members: dict[str, int] = {}
        self._routes: dict[bytes, Connection] = {}
        self._early: dict[int, Connection] = {}  # what was delivered before its connection was told of
        self._rates = Rates(CONNECTS_BURST, CONNECTS_S_MAX, ADDRESSES_MAX)

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def opened(self, fd: int, address: str, now: float) -> Excess | None:
        """A connection was accepted; what is returned is one too many."""
        host = network_of(address)
        with self._lock:
            self._drop(fd)
            connection = Connection(fd, host, now)
            self._open[fd] = connection
            self._addresses[host] = self._addresses.get(host, 0) + 1
            if (early := self._early.pop(fd, None)) is not None:
                over = self._count(connection, early.delivered, early.member, early.route)
                if over is not None:
                    return over
            if len(self._open) > self._total_max:
                return Excess(connection, f"{self._total_max} connections are open")
            if self._addresses[host] > self._address_max:
                return Excess(connection, f"its host has {self._address_max} connections open")
            if not self._rates.take(host, now):
                return Excess(connection, "its host connects too often")
        return None

    def closed(self, fd: int) -> None:
        """A connection has ended."""
        with self._lock:
            self._drop(fd)

    def delivered(self, fd: int, size: int, member: str, route: bytes = b"") -> Excess | None:
        """A whole message of `size` bytes on the wire was handed over; what is returned is one too many.

        `route` is where answers go.
        """
        with self._lock:
            connection = self._open.get(fd)
            if connection is None:
                # The accept is told by another thread, and may come later.
                early = self._early.setdefault(fd, Connection(fd, "", 0.0))
                early.delivered = min(early.delivered + size, self._unread.one_max)
                early.member, early.route = member, route
                return None
            return self._count(connection, size, member, route)

    def sent(self, route: bytes, size: int) -> None:
        """A message of `size` bytes on the wire waits for whoever is heard by this route."""
        with self._lock:
            if (connection := self._routes.get(route)) is not None:
                connection.sent += size

    def greedy(self, moved: Callable[[int], Moved | None], now: float) -> list[Excess]:
        """Who has too much on the way, in or out; `moved(fd)` is what the kernel says, None when it is gone."""
        unread: list[tuple[int, Connection]] = []
        unheard: list[tuple[int, Connection]] = []
        untaken: list[tuple[int, Connection]] = []
        with self._lock:
            for connection in list(self._open.values()):
                through = moved(connection.fd)
                if through is None:
                    self._drop(connection.fd)
                    continue
                idle = int((now - connection.since) * IDLE_BYTES_S)
                waiting = unread if connection.member else unheard
                waiting.append((through.received - connection.delivered - idle, connection))
                # Pings are taken and were not counted: they must not make room for more.
                connection.sent = max(connection.sent, through.taken)
                untaken.append((connection.sent - through.taken, connection))
        return [
            *_over(self._unread, unread),
            *_over(self._unheard, unheard),
            *_over(self._untaken, untaken),
        ]

    def _count(self, connection: Connection, size: int, member: str, route: bytes) -> Excess | None:
        connection.delivered += size
        if connection.route != route:
            connection.route = route
            self._routes[route] = connection
        if not member or connection.member == member:
            return None
        if connection.member:  # what was delivered early was of an older connection with this descriptor
            _count_down(self._members, connection.member)
        connection.member = member
        self._members[member] = self._members.get(member, 0) + 1
        if self._members[member] > self._member_max:
            return Excess(connection, f"this member has {self._member_max} connections open")
        return None

    def _drop(self, fd: int) -> None:
        connection = self._open.pop(fd, None)
        if connection is None:
            return
        if self._routes.get(connection.route) is connection:
            del self._routes[connection.route]
        _count_down(self._addresses, connection.address)
        if connection.member:
            _count_down(self._members, connection.member)


def network_of(address: str) -> str:
    """What one host may call its own: an IPv4 address, or an IPv6 /64."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def wire_bytes(size: int) -> int:
    """What a frame of `size` bytes takes on the wire."""
    return size + (FRAME_OVERHEAD_BYTES if size <= SHORT_FRAME_BYTES_MAX else LONG_FRAME_OVERHEAD_BYTES)


def _over(bound: Bound, waiting: list[tuple[int, Connection]]) -> list[Excess]:
    """Who is over the bound of one, and the greediest of all until they are within theirs together."""
    waiting.sort(key=lambda pair: -pair[0])
    total = sum(size for size, _ in waiting if size > 0)
    excess = []
    for size, connection in waiting:
        if size > bound.one_max:
            reason = f"there are {size >> 20} MiB {bound.what}"
        elif total > bound.all_max:
            reason = f"there are {total >> 20} MiB {bound.what}, of all connections; {size >> 20} of this one"
        else:
            break
        excess.append(Excess(connection, reason))
        total -= size
    return excess


def _count_down(counts: dict[str, int], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
