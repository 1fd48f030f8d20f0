"""What the network of a task does not lead to: this machine, the networks that it is on, and all that is private."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from discogrid_agent.uplink.addresses import ANYCAST, BROADCAST, LOCAL, UNICAST, Interface, Prefix, Route

# A shorter prefix that is reached without a gateway is a way out, such as a tunnel for everything.
LAN_BITS_MIN: Final = {4: 8, 6: 16}
PREFIXES_MAX: Final = 4096  # of one host
_HERE: Final = (LOCAL, BROADCAST, ANYCAST)

_PRIVATE_4: Final = (
    "0.0.0.0/8",  # this machine
    "10.0.0.0/8",
    "100.64.0.0/10",  # of providers
    "127.0.0.0/8",
    "169.254.0.0/16",  # of a link; clouds tell machines their secrets there
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",  # of laboratories
    "224.0.0.0/4",  # to many
    "240.0.0.0/4",  # to all
)
_PRIVATE_6: Final = (
    "::/64",  # this machine, and IPv4 in the clothes of IPv6
    "64:ff9b:1::/48",
    "100::/64",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
)
# Prefixes behind which a gateway finds an address of IPv4: NAT64 and 6to4.
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16"))


def private() -> Iterator[Prefix]:
    """What is nowhere the public's."""
    for text in _PRIVATE_4:
        yield from _either_way(IPv4Network(text))
    for text in _PRIVATE_6:
        yield IPv6Network(text)


def of_host(addresses: Iterable[Interface], routes: Iterable[Route]) -> set[Prefix]:
    """What a host is, what is on its links, and its gateways."""
    found: set[Prefix] = set()
    for interface in addresses:
        found |= {ip_network(interface.ip), interface.network}
    for route in routes:
        found |= {ip_network(gateway) for gateway in route.gateways}
        if route.kind in _HERE or (route.kind == UNICAST and not route.gateways):
            found.add(route.to)
    near = {prefix for prefix in found if prefix.prefixlen >= LAN_BITS_MIN[prefix.version]}
    return {way for prefix in near for way in _either_way(prefix)}


def has_way_out(routes: Iterable[Route], version: int) -> bool:
    """Whether a host reaches the world by this version of IP."""
    return any(
        route.kind == UNICAST and route.to.version == version and route.to.prefixlen < LAN_BITS_MIN[version]
        for route in routes
    )


def _either_way(network: Prefix) -> Iterator[Prefix]:
    """A network as it is, and of IPv4 as gateways translate it."""
    yield network
    if isinstance(network, IPv4Network):
        for prefix in _TRANSLATED:
            shift = 128 - prefix.prefixlen - 32
            start = int(prefix.network_address) | int(network.network_address) << shift
            yield IPv6Network((start, prefix.prefixlen + network.prefixlen))
