"""Says at an interface that somebody is behind it, as if by himself: one frame of ARP, one of NDP (RFC 5227, RFC 4861).

slirp4netns believes an answer about an address of IPv6 only from that very address, which a router has not.
"""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

_TO_ALL, _TO_ALL_6 = b"\xff" * 6, bytes.fromhex("333300000001")
_ARP, _IPV6 = 0x0806, 0x86DD
_EVERY_NODE: Final = IPv6Address("ff02::1")
_ADVERTISEMENT, _INSTEAD_OF_OTHERS, _MY_LINK_ADDRESS = 136, 0x2000_0000, 2
_HOPS: Final = 255  # fewer, and it would be from elsewhere


def announce(interface: str, *addresses: IPv4Address | IPv6Address) -> None:
    """Have everybody at `interface` send what is for these addresses to this end of it."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as packets:
        packets.bind((interface, 0))
        link: bytes = packets.getsockname()[4]
        for address in addresses:
            packets.send(
                arp(link, address) if isinstance(address, IPv4Address) else advertisement(link, address)
            )


def arp(link: bytes, address: IPv4Address) -> bytes:
    """Who asks for his own address lets know that it is his."""
    return (
        struct.pack(">6s6sH", _TO_ALL, link, _ARP)
        + struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1)
        + struct.pack(">6s4s6s4s", link, address.packed, bytes(6), address.packed)
    )


def advertisement(link: bytes, address: IPv6Address) -> bytes:
    """An advertisement that nobody has asked for."""
    option = struct.pack(">BB6s", _MY_LINK_ADDRESS, 1, link)
    body = struct.pack(">I16s", _INSTEAD_OF_OTHERS, address.packed) + option
    size = 4 + len(body)
    ends = address.packed + _EVERY_NODE.packed
    summed = (
        ends
        + struct.pack(">II", size, socket.IPPROTO_ICMPV6)
        + struct.pack(">BBH", _ADVERTISEMENT, 0, 0)
        + body
    )
    told = struct.pack(">BBH", _ADVERTISEMENT, 0, checksum(summed)) + body
    head = struct.pack(">IHBB", 6 << 28, size, socket.IPPROTO_ICMPV6, _HOPS) + ends
    return struct.pack(">6s6sH", _TO_ALL_6, link, _IPV6) + head + told


def checksum(content: bytes) -> int:
    """The internet's (RFC 1071), of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
