"""A task with a network of its own reaches the public, by address and by name, and nothing else: not its machine, and
not the networks that this is on, in whichever way it tries.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from discogrid_agent.uplink.router import _OWN_DESCRIPTORS, CONNECTIONS_MAX
from tests.grid.test_owner_rules import rules
from tests.network.hosts import HERE, ROOT, Host, Network, until
from tests.skips import skip_without_uplink

PORT = 8000
GROUP_4, GROUP_6 = "239.7.7.7", "ff02::7:7"
RESOLVER = "127.0.0.53"
PUBLIC_4, PUBLIC_6 = "203.0.113.80", "2001:db8:80::80"

Call = tuple[str, str, int]

PUBLIC: dict[str, Call] = {
    "the public": ("stream", PUBLIC_4, PORT),
    "the public, by IPv6": ("stream", PUBLIC_6, PORT),
    "the public, by name": ("name", "public.example", PORT),
    "the public, by datagrams": ("datagram", PUBLIC_4, PORT),
    "the public, by datagrams of IPv6": ("datagram", PUBLIC_6, PORT),
    "the public, bound to the interface": ("stream bound", PUBLIC_4, PORT),
    "the public by IPv6, bound to the interface": ("stream bound", PUBLIC_6, PORT),
    "the public, a packet by interface": ("datagram by interface", PUBLIC_4, PORT),
    "the public, a packet of IPv6 by interface": ("datagram by interface", PUBLIC_6, PORT),
}
# Whom, apart from the public, the host itself reaches.
OTHERS = {
    "the host": "192.168.7.2",
    "the host's public address": "198.51.100.2",
    "the host's address on no network": "203.0.113.9",
    "the host, by IPv6": "2001:db8:7::2",
    "the host, by private IPv6": "fd77::2",
    "the LAN": "192.168.7.3",
    "the LAN's public addresses": "198.51.100.3",
    "the LAN, by IPv6": "2001:db8:7::3",
    "the LAN, by private IPv6": "fd77::3",
    "the gateway": "192.168.7.1",
    "another private network": "172.20.0.1",
    "a provider's network": "100.64.0.1",
    "the cloud's secrets": "169.254.169.254",
}
WAYS = (
    "stream",
    "stream bound",
    "datagram",
    "datagram bound",
    "datagram by interface",
    "datagram bound unrouted",
)
HOSTILE: dict[str, Call] = {
    **{f"{whom}, by {way}": (way, address, PORT) for whom, address in OTHERS.items() for way in WAYS},
    "the LAN, by name": ("name", "lan.example", PORT),
    "the LAN, by multicast": ("datagram to many", GROUP_4, PORT),
    "the LAN, by multicast of IPv6": ("datagram to many", GROUP_6, PORT),
    "the LAN, by a broadcast": ("datagram bound to many", "255.255.255.255", PORT),
}
# What stands in a task's network for the host's loopback.
STAND_INS: dict[str, Call] = {
    f"{whom}, by {way}": (way, address, PORT)
    for whom, address in {
        "the host's loopback": "10.0.2.2",
        "the host's loopback, by IPv6": "fd00::2",
    }.items()
    for way in WAYS
}
# And for its resolver, which is to be asked for names alone; newer versions of libslirp see to that as well.
RESOLVERS_MACHINE: dict[str, Call] = {
    f"the resolver's machine, by {way}": (way, "10.0.2.3", PORT) for way in WAYS
}

# By themselves no router's business, whatever it shuts.
NOT_FORWARDED = {
    name for name, (how, _, _) in (HOSTILE | STAND_INS).items() if how.endswith(("unrouted", "to many"))
}


@dataclass
class World:
    """A lent machine, the LAN that it is on, and the public behind a router."""

    attic: Host
    folder: Path

    def boxed(self, how: str, given: object, script: str = "calls.py") -> dict[str, Any]:
        """What came of a task on the lent machine that makes the given calls."""
        ran = subprocess.run(
            self.attic.entered(
                *(sys.executable, HERE / "boxed.py", self.folder, how, HERE / script),
                *("net0", json.dumps(given)),
            ),
            cwd=ROOT,
            env={**self.attic.environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'agent'}", "TMPDIR": "/tmp"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return dict(json.loads(ran.stdout))

    def unboxed(self, interface: str, calls: dict[str, Call]) -> set[str]:
        """Who answers the lent machine itself."""
        ran = subprocess.run(
            self.attic.entered(sys.executable, HERE / "calls.py", interface, json.dumps(calls)),
            cwd=ROOT,
            env=self.attic.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return {name for name, answered in json.loads(ran.stdout).items() if answered}


def answered(told: dict[str, Any]) -> set[str]:
    assert told["outcome"] == "succeeded", told
    return {name for name, there in json.loads(told["stdout"]).items() if there}


@pytest.fixture
def world(network: Network, tmp_path: Path) -> World:
    skip_without_uplink()
    attic, neighbour = network.host("attic"), network.host("neighbour")
    router, public = network.host("router", "lan", "wide"), network.host("public", "wide")
    addresses: dict[Host, tuple[str, ...]] = {
        attic: ("192.168.7.2/24", "198.51.100.2/24", "2001:db8:7::2/64", "fd77::2/64"),
        neighbour: ("192.168.7.3/24", "198.51.100.3/24", "2001:db8:7::3/64", "fd77::3/64"),
        router: ("192.168.7.1/24", "2001:db8:7::1/64"),
        public: ("203.0.113.80/24", "2001:db8:80::80/64"),
    }
    for host, own in addresses.items():
        for address in own:
            host.add_address(address)
    attic.add_address("203.0.113.9/32", "lo")
    for address in ("203.0.113.1/24", "2001:db8:80::1/64"):
        router.add_address(address, "wide")
    for address in ("172.20.0.1/32", "100.64.0.1/32", "169.254.169.254/32"):
        router.add_address(address, "lo")
    router.forward()
    for host in (attic, neighbour):
        host.route_by_address("192.168.7.1")
        host.route_by_address("2001:db8:7::1")
    public.route_by_address("203.0.113.1")
    public.route_by_address("2001:db8:80::1")
    for host in (attic, neighbour, router, public):
        host.serve(HERE / "serve.py", str(PORT), GROUP_4, GROUP_6, "eth0")
    attic.serve(
        *(HERE / "names.py", RESOLVER, f"public.example={PUBLIC_4}", f"public.example={PUBLIC_6}"),
        "lan.example=192.168.7.3",
    )
    attic.resolve_by(RESOLVER)
    return World(attic, tmp_path)


def test_a_task_reaches_the_public_and_nobody_else(world: World) -> None:
    told = world.boxed("shut", PUBLIC | HOSTILE | STAND_INS | RESOLVERS_MACHINE)
    assert answered(told) == set(PUBLIC)


def test_the_same_calls_are_answered_where_nothing_is_shut(world: World) -> None:
    """So that a call that cannot be made at all does not pass for one that is refused."""
    by_any = world.unboxed("eth0", PUBLIC | HOSTILE) | world.unboxed("lo", HOSTILE)
    assert by_any == set(PUBLIC) | set(HOSTILE)
    told = world.boxed("open", PUBLIC | HOSTILE | STAND_INS)
    assert {*PUBLIC, *HOSTILE, *STAND_INS} - answered(told) <= NOT_FORWARDED


def test_a_task_holds_so_many_connections_and_no_more(world: World) -> None:
    told = world.boxed("shut", (PUBLIC_4, PORT, 2 * CONNECTIONS_MAX), "many.py")
    assert told["outcome"] == "succeeded", told
    assert CONNECTIONS_MAX <= int(told["stdout"]) < CONNECTIONS_MAX + _OWN_DESCRIPTORS


def test_a_job_that_asks_for_the_network_gets_it_once_the_owner_allows_it(world: World) -> None:
    attic = world.attic
    attic.coordinate()
    attic.lend()
    calls = {"the public": PUBLIC["the public"], "the LAN": HOSTILE["the LAN, by stream"]}
    attic.write("calls.py", (HERE / "calls.py").read_bytes())
    job = attic.run("submit", "-d", "--network", "calls.py", "--", "net0", json.dumps(calls)).stdout.strip()
    until(lambda: "its owner lets no task reach the network" in attic.run("why", job).stdout)

    rules(attic, "[default]\nnetwork = true\n")
    assert attic.run("wait", job).returncode == 0
    assert json.loads(attic.run("logs", job).stdout) == {"the public": True, "the LAN": False}


def test_on_ones_own_machine_the_network_is_given_without_further_words(world: World) -> None:
    attic = world.attic
    attic.write("calls.py", (HERE / "calls.py").read_bytes())
    calls = json.dumps({"the public": PUBLIC["the public"]})
    ran = attic.run("submit", "--local", "--network", "calls.py", "--", "net0", calls)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(attic.run("logs", "--local", "@last").stdout) == {"the public": True}
