"""As much of rtnetlink (man 7 rtnetlink) as lays cables between network namespaces; no `ip` program is needed."""

import hashlib
import ipaddress
import os
import socket
import struct

REQUEST, ACK, CREATE, EXCLUSIVE = 0x1, 0x4, 0x400, 0x200
ERROR = 2
NEW_LINK, DELETE_LINK, GET_LINK, NEW_ADDRESS, DELETE_ADDRESS, NEW_ROUTE = 16, 17, 18, 20, 21, 24
LINK_ADDRESS, LINK_NAME, LINK_MASTER, LINK_INFO, LINK_NAMESPACE_OF = 1, 3, 10, 18, 19
LOCAL_CARD = b"\x02"  # not given out by any maker
INFO_KIND, INFO_DATA, VETH_PEER = 1, 2, 1
ADDRESS, ADDRESS_LOCAL = 1, 2
ROUTE_GATEWAY = 5
UP = 1
AT_ONCE = 0x02  # IFA_F_NODAD: an address of IPv6 is good without asking whether somebody else has it
MAIN_TABLE, PROTOCOL_BOOT, SCOPE_UNIVERSE, UNICAST = 254, 3, 0, 1
ANSWER_BYTES_MAX = 1 << 16


def attribute(kind: int, content: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(content), kind) + content + b"\0" * (-len(content) % 4)


def link_head(index: int = 0, flags: int = 0, mask: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, mask)


def text(value: str) -> bytes:
    return value.encode() + b"\0"


class Netlink:
    """The cables of the network namespace in which it was made, wherever it is used later."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sequence = 0

    def add_bridge(self, name: str) -> None:
        kind = attribute(LINK_INFO, attribute(INFO_KIND, text("bridge")))
        self._ask(NEW_LINK, CREATE | EXCLUSIVE, link_head() + attribute(LINK_NAME, text(name)) + kind)
        self.set_up(name, up=True)

    def add_cable(self, here: str, there: str, process: int) -> None:
        """A pair of interfaces: `here` in this namespace, `there` in that of the process.

        Its hardware address follows from `here`: a host that is switched on again has the network card it had.
        """
        card = LOCAL_CARD + hashlib.sha256(here.encode()).digest()[:5]
        peer = (
            link_head()
            + attribute(LINK_NAME, text(there))
            + attribute(LINK_ADDRESS, card)
            + attribute(LINK_NAMESPACE_OF, struct.pack("=I", process))
        )
        info = attribute(INFO_KIND, text("veth")) + attribute(INFO_DATA, attribute(VETH_PEER, peer))
        body = link_head() + attribute(LINK_NAME, text(here)) + attribute(LINK_INFO, info)
        self._ask(NEW_LINK, CREATE | EXCLUSIVE, body)

    def remove(self, name: str) -> None:
        """Take an interface away, and the other end of its cable with it."""
        self._ask(DELETE_LINK, 0, link_head(self._index(name)))

    def set_up(self, name: str, *, up: bool) -> None:
        self._ask(NEW_LINK, 0, link_head(self._index(name), UP if up else 0, UP))

    def set_bridge(self, name: str, bridge: str | None) -> None:
        """Attach to a bridge, or with None detach: what is sent into it is lost, and nobody is told."""
        master = self._index(bridge) if bridge else 0
        self._ask(
            NEW_LINK, 0, link_head(self._index(name)) + attribute(LINK_MASTER, struct.pack("=I", master))
        )

    def add_address(self, name: str, interface: str) -> None:
        """`interface` is an address with its prefix, such as 10.7.0.2/24."""
        self._ask(NEW_ADDRESS, CREATE | EXCLUSIVE, self._address(name, interface))

    def remove_address(self, name: str, interface: str) -> None:
        self._ask(DELETE_ADDRESS, 0, self._address(name, interface))

    def add_default_route(self, gateway: str) -> None:
        to = ipaddress.ip_address(gateway)
        family = socket.AF_INET if to.version == 4 else socket.AF_INET6
        head = struct.pack(
            "=BBBBBBBBI", family, 0, 0, 0, MAIN_TABLE, PROTOCOL_BOOT, SCOPE_UNIVERSE, UNICAST, 0
        )
        body = head + attribute(ROUTE_GATEWAY, to.packed)
        self._ask(NEW_ROUTE, CREATE, body)

    def close(self) -> None:
        self._socket.close()

    def _address(self, name: str, interface: str) -> bytes:
        parsed = ipaddress.ip_interface(interface)
        family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
        flags = AT_ONCE if parsed.version == 6 else 0
        head = struct.pack("=BBBBI", family, parsed.network.prefixlen, flags, 0, self._index(name))
        return head + attribute(ADDRESS_LOCAL, parsed.packed) + attribute(ADDRESS, parsed.packed)

    def _index(self, name: str) -> int:
        answer = self._ask(GET_LINK, 0, link_head() + attribute(LINK_NAME, text(name)))
        return int(struct.unpack_from("=i", answer, 4)[0])

    def _ask(self, kind: int, flags: int, body: bytes) -> bytes:
        """The body of the answer, empty for an acknowledgement; OSError when the kernel refuses."""
        self._sequence += 1
        wanted = REQUEST | flags | (0 if kind == GET_LINK else ACK)
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, wanted, self._sequence, 0) + body)
        while True:
            answer = self._socket.recv(ANSWER_BYTES_MAX)
            _, answered, _, sequence, _ = struct.unpack_from("=IHHII", answer)
            if sequence != self._sequence:
                continue
            if answered != ERROR:
                return answer[16:]
            (code,) = struct.unpack_from("=i", answer, 16)
            if code:
                raise OSError(-code, os.strerror(-code))
            return b""
