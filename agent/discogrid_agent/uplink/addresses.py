"""Addresses, prefixes and routes; and who is where in the network of a task: the same in every one, as nobody else is there."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final, NamedTuple

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Prefix = IPv4Network | IPv6Network

UNICAST, LOCAL, BROADCAST, ANYCAST = 1, 2, 3, 4  # kinds of routes, as the kernel numbers them


class Route(NamedTuple):
    """What is sent where; no dataclass, whose import is a tenth of a router's start."""

    to: Prefix
    kind: int
    gateways: tuple[Address, ...] = ()  # by whom; nobody where it is on the link itself


# What slirp4netns is, by itself, in every network that it makes.
GATEWAY_4, RESOLVER_4 = "10.0.2.2", "10.0.2.3"
GATEWAY_6, RESOLVER_6 = "fd00::2", "fd00::3"
RESOLVERS: Final = (RESOLVER_4, RESOLVER_6)
ROUTER_4, TASK_4 = "10.0.2.1", "10.0.2.100"
ROUTER_6, ROUTER_6_OUTSIDE, TASK_6 = "fe80::1", "fe80::2", "fd00::100"
