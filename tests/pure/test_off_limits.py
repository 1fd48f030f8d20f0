"""What the network of a task does not lead to."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from discogrid_agent.uplink import off_limits
from discogrid_agent.uplink.addresses import BROADCAST, LOCAL, UNICAST, Interface, Prefix, Route

BLACKHOLE = 6  # a kind of route that leads nowhere
ADDRESSES: list[Interface] = [ip_interface("198.51.100.2/24"), ip_interface("2001:db8:7::2/64")]


def is_shut(address: str, shut: set[Prefix]) -> bool:
    return any(ip_address(address) in prefix for prefix in shut)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.0.1",
        ),
        *("192.0.0.8", "198.19.0.1", "224.0.0.251", "239.255.255.250", "255.255.255.255"),
        *(
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::192.168.0.1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
        ),
        *("ff02::1", "100::1", "64:ff9b:1::1"),
        *("64:ff9b::10.1.2.3", "64:ff9b::169.254.169.254", "2002:7f00:1::1", "2002:c0a8:1::1"),
    ],
)
def test_what_is_private_is_shut_on_every_machine(address: str) -> None:
    assert is_shut(address, set(off_limits.private()))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "2002:808:808::1"],
)
def test_what_is_public_is_not(address: str) -> None:
    assert not is_shut(address, set(off_limits.private()))


def test_a_machines_own_addresses_and_those_beside_it_are_shut() -> None:
    shut = off_limits.of_host(ADDRESSES, [])
    assert all(is_shut(address, shut) for address in ("198.51.100.2", "198.51.100.77", "2001:db8:7::1"))
    assert is_shut("64:ff9b::198.51.100.77", shut)  # by a gateway that translates
    assert is_shut("2002:c633:644d::1", shut)
    assert not any(is_shut(address, shut) for address in ("198.51.101.1", "2001:db8:8::1"))


def test_what_is_reached_without_a_gateway_and_gateways_are_shut() -> None:
    gateway = ip_address("203.0.113.1")
    shut = off_limits.of_host(
        [],
        [
            Route(ip_network("0.0.0.0/0"), UNICAST, (gateway,)),
            Route(ip_network("192.88.99.0/24"), UNICAST, (gateway,)),
            Route(ip_network("198.51.100.0/24"), UNICAST),
            Route(ip_network("203.0.113.9/32"), LOCAL, (gateway,)),
            Route(ip_network("203.0.113.255/32"), BROADCAST),
            Route(ip_network("192.0.2.0/24"), BLACKHOLE),
        ],
    )
    assert {prefix for prefix in shut if prefix.version == 4} == set(
        map(ip_network, ("203.0.113.1/32", "198.51.100.0/24", "203.0.113.9/32", "203.0.113.255/32"))
    )


def test_a_tunnel_for_everything_is_a_way_out_and_nothing_to_shut() -> None:
    tunnel = [Route(ip_network("0.0.0.0/1"), UNICAST), Route(ip_network("::/0"), UNICAST)]
    assert off_limits.of_host([ip_interface("198.51.100.2/0")], tunnel) == off_limits.of_host(
        [ip_interface("198.51.100.2/32")], []
    )
    assert off_limits.has_way_out(tunnel, 4)
    assert off_limits.has_way_out(tunnel, 6)


def test_a_machine_on_a_lan_alone_has_no_way_out() -> None:
    lan = [Route(ip_network("192.168.7.0/24"), UNICAST), Route(ip_network("::/0"), BLACKHOLE)]
    assert not off_limits.has_way_out(lan, 4)
    assert not off_limits.has_way_out(lan, 6)
