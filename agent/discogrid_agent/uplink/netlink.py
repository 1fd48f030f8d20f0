"""As much of rtnetlink (man 7 rtnetlink) as lays the cables and routes of an uplink, and reads those of the host."""

import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

from discogrid_agent.uplink.addresses import UNICAST, Address, Interface, Prefix, Route

_REQUEST, _ACK, _REPLACE, _EXCLUSIVE, _CREATE, _DUMP = 0x1, 0x4, 0x100, 0x200, 0x400, 0x300
_ERROR, _DONE = 2, 3
_NEW_LINK, _GET_LINK, _NEW_ADDRESS, _GET_ADDRESS = 16, 18, 20, 22
_NEW_ROUTE, _GET_ROUTE, _NEW_RULE = 24, 26, 32
_LINK_NAME, _LINK_MTU, _LINK_INFO, _LINK_NAMESPACE = 3, 4, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_ADDRESS, _ADDRESS_LOCAL, _ADDRESS_FLAGS = 1, 2, 8
_NOT_CHECKED: Final = 0x02  # IFA_F_NODAD: nobody else is there who could have it, and asking takes a second
_ROUTE_TO, _ROUTE_DEVICE, _ROUTE_GATEWAY, _ROUTE_MULTIPATH, _ROUTE_TABLE, _ROUTE_VIA = 1, 4, 5, 9, 15, 18
_RULE_TO, _RULE_PRIORITY, _RULE_TABLE, _RULE_PROTOCOL, _RULE_PORTS = 1, 6, 15, 22, 24
_UP: Final = 1
_BOOT: Final = 3
_UNIVERSE, _ON_LINK = 0, 253
_UNREACHABLE: Final = 7
_GATEWAY_IS_THERE: Final = 4  # RTNH_F_ONLINK
MAIN_TABLE: Final = 254
# Groups to hear of changes of addresses and routes: RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE.
CHANGES: Final = 0x10 | 0x40 | 0x100 | 0x400
ANSWER_BYTES_MAX: Final = 1 << 16


class Netlink:
    """The interfaces and routes of the network namespace in which it was made, wherever it is used later."""

    def __init__(self, groups: int = 0) -> None:
        """`groups` of changes to hear of."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, groups))
        self._sequence = 0

    def fileno(self) -> int:
        """Readable when something has changed in its groups."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Take what has been heard; that there was too much to keep is heard as well."""
        self._socket.setblocking(False)
        while True:
            try:
                self._socket.recv(ANSWER_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: some of it is lost, and whoever listens looks at everything anyway
                continue

    def add_pair(self, here: str, there: str, namespace: int, mtu: int) -> None:
        """A cable: `here` in this namespace, `there` in the one of a descriptor."""
        size = _attribute(_LINK_MTU, struct.pack("=I", mtu))
        peer = (
            _link()
            + _attribute(_LINK_NAME, _text(there))
            + _attribute(_LINK_NAMESPACE, struct.pack("=i", namespace))
            + size
        )
        kind = _attribute(_INFO_KIND, _text("veth")) + _attribute(_INFO_DATA, _attribute(_VETH_PEER, peer))
        body = _link() + _attribute(_LINK_NAME, _text(here)) + size + _attribute(_LINK_INFO, kind)
        self._ask(_NEW_LINK, _CREATE | _EXCLUSIVE, body)

    def set_up(self, name: str, mtu: int | None = None) -> None:
        """Switch an interface on."""
        size = b"" if mtu is None else _attribute(_LINK_MTU, struct.pack("=I", mtu))
        self._ask(_NEW_LINK, 0, _link(self.index(name), _UP, _UP) + size)

    def add_address(self, name: str, interface: Interface) -> None:
        """Give an interface an address with its prefix."""
        address = interface.ip.packed
        head = struct.pack(
            "=BBBBI",
            _family(interface.version),
            interface.network.prefixlen,
            _NOT_CHECKED,
            0,
            self.index(name),
        )
        body = head + _attribute(_ADDRESS_LOCAL, address) + _attribute(_ADDRESS, address)
        self._ask(_NEW_ADDRESS, _CREATE | _EXCLUSIVE, body)

    def add_route(
        self, to: Prefix, device: str, gateway: Address | None = None, table: int = MAIN_TABLE
    ) -> None:
        """Reach `to` at an interface, or by somebody there."""
        scope = _UNIVERSE if gateway is not None or to.version == 6 else _ON_LINK
        body = _route(to, table, scope, UNICAST, _GATEWAY_IS_THERE if gateway is not None else 0)
        body += _attribute(_ROUTE_DEVICE, struct.pack("=I", self.index(device)))
        if gateway is not None:
            body += _attribute(_ROUTE_GATEWAY, gateway.packed)
        self._ask(_NEW_ROUTE, _CREATE | _REPLACE, body)

    def shut(self, to: Prefix) -> None:
        """Answer that `to` cannot be reached."""
        self._ask(_NEW_ROUTE, _CREATE | _REPLACE, _route(to, MAIN_TABLE, _UNIVERSE, _UNREACHABLE, 0))

    def add_rule(self, to: Address, protocol: int, port: int, table: int, priority: int) -> None:
        """What goes to a port of an address goes by a table of its own."""
        body = struct.pack("=BBBBBBBBI", _family(to.version), to.max_prefixlen, 0, 0, 0, 0, 0, UNICAST, 0)
        body += _attribute(_RULE_TO, to.packed)
        body += _attribute(_RULE_PRIORITY, struct.pack("=I", priority))
        body += _attribute(_RULE_TABLE, struct.pack("=I", table))
        body += _attribute(_RULE_PROTOCOL, struct.pack("=B", protocol))
        body += _attribute(_RULE_PORTS, struct.pack("=HH", port, port))
        self._ask(_NEW_RULE, _CREATE | _EXCLUSIVE, body)

    def addresses(self) -> Iterator[Interface]:
        """Every address of every interface, and those at the other ends of direct lines."""
        for body in self._dump(_GET_ADDRESS, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
            family, bits = struct.unpack_from("=BB", body)
            found = _attributes(body[8:])
            for kind in (_ADDRESS_LOCAL, _ADDRESS):
                if kind in found:
                    yield _interface(family, found[kind], bits)

    def routes(self) -> Iterator[Route]:
        """Every route of every table."""
        for body in self._dump(_GET_ROUTE, struct.pack("=BBBBBBBBI", 0, 0, 0, 0, 0, 0, 0, 0, 0)):
            family, bits, _, _, _, _, _, kind = struct.unpack_from("=8B", body)
            if family not in (socket.AF_INET, socket.AF_INET6):
                continue
            found = _attributes(body[12:])
            size = 4 if family == socket.AF_INET else 16
            to = _interface(family, found.get(_ROUTE_TO, bytes(size)), bits).network
            yield Route(to, kind, tuple(_gateways(family, found)))

    def index(self, name: str) -> int:
        """The number of an interface; OSError when there is none of this name."""
        answer = self._ask(_GET_LINK, 0, _link() + _attribute(_LINK_NAME, _text(name)))
        return int(struct.unpack_from("=i", answer, 4)[0])

    def close(self) -> None:
        """Nothing more is asked."""
        self._socket.close()

    def _ask(self, kind: int, flags: int, body: bytes) -> bytes:
        """The body of the answer, empty for an acknowledgement; OSError when the kernel refuses."""
        self._send(kind, _REQUEST | flags | (0 if kind == _GET_LINK else _ACK), body)
        while True:
            for answered, content in self._answers():
                if answered != _ERROR:
                    return content
                _check(content)
                return b""

    def _dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        self._send(kind, _REQUEST | _DUMP, body)
        while True:
            for answered, content in self._answers():
                if answered == _DONE:
                    return
                if answered == _ERROR:
                    _check(content)
                yield content

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0) + body)

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        """What one datagram holds of the answer to the last question: kinds and bodies."""
        said = self._socket.recv(ANSWER_BYTES_MAX)
        while len(said) >= 16:
            length, kind, _, sequence, _ = struct.unpack_from("=IHHII", said)
            if sequence == self._sequence:
                yield kind, said[16:length]
            said = said[(length + 3) & ~3 :]


def _check(error: bytes) -> None:
    (code,) = struct.unpack_from("=i", error)
    if code:
        raise OSError(-code, f"rtnetlink: {os.strerror(-code)}")


def _gateways(family: int, found: dict[int, bytes]) -> Iterator[Address]:
    if _ROUTE_GATEWAY in found:
        yield _interface(family, found[_ROUTE_GATEWAY], 0).ip
    if _ROUTE_VIA in found:  # of another family than what is reached by it
        (other,) = struct.unpack_from("=H", found[_ROUTE_VIA])
        yield _interface(other, found[_ROUTE_VIA][2:], 0).ip
    several = found.get(_ROUTE_MULTIPATH, b"")
    while len(several) >= 8:
        (length,) = struct.unpack_from("=H", several)
        yield from _gateways(family, _attributes(several[8:length]))
        several = several[max(8, (length + 3) & ~3) :]


def _interface(family: int, packed: bytes, bits: int) -> Interface:
    if family == socket.AF_INET:
        return IPv4Interface((packed, bits))
    return IPv6Interface((packed, bits))


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _route(to: Prefix, table: int, scope: int, kind: int, flags: int) -> bytes:
    head = struct.pack(
        "=BBBBBBBBI", _family(to.version), to.prefixlen, 0, 0, table, _BOOT, scope, kind, flags
    )
    return (
        head
        + _attribute(_ROUTE_TO, to.network_address.packed)
        + _attribute(_ROUTE_TABLE, struct.pack("=I", table))
    )


def _link(index: int = 0, flags: int = 0, mask: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, mask)


def _attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + b"\0" * (-len(content) % 4)


def _attributes(body: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(body) >= 4:
        length, kind = struct.unpack_from("=HH", body)
        found[kind & 0x3FFF] = body[4:length]  # without the marks of nesting and byte order
        body = body[max(4, (length + 3) & ~3) :]
    return found


def _text(value: str) -> bytes:
    return value.encode() + b"\0"
