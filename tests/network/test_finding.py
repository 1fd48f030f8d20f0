"""Agents find their coordinator on real networks, whoever else is on them; who listens there learns nothing."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.network.hosts import Host, Network, until

SAY_TAG = "from discogrid.grid import open_grid; from discogrid.discovery import presence_tag; print(presence_tag(open_grid('home').roster.grid))"
FIRST_HEARD = """
import asyncio
from discogrid.discovery import services
async def first():
    async for service in services(20.0):
        return service.endpoints
print(*asyncio.run(first()))
"""
SAY_ADDRESSES = "from discogrid.discovery import own_addresses; print(*sorted(own_addresses()))"


def coordinate(host: Host, *options: str) -> None:
    """A coordinator that is announced, and dialled at its default port."""
    host.start("coordinator", *options)
    until(host.address.exists)


def share(source: Host, *others: Host) -> None:
    """The same user's keys on other hosts, none of which knows an address."""
    for other in others:
        shutil.copytree(source.home, other.home, ignore=shutil.ignore_patterns("address.json", "coordinator"))


def said(host: Host, script: str) -> str:
    done = host.run_python(script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def said_tag(host: Host) -> str:
    """What the members of the host's own grid recognise it by."""
    return said(host, SAY_TAG)


def remembered(host: Host) -> str:
    return str(json.loads(host.address.read_text())["endpoint"]) if host.address.exists() else ""


def test_an_agent_on_another_host_is_found_work_and_its_result_comes_back(network: Network) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    coordinate(attic)
    share(attic, cellar)
    cellar.start("agent", "--slots", "1")
    until(attic.live_agents)
    attic.write("where.py", "import socket; open('run-result/where', 'w').write('made')")

    done = attic.run("submit", "where.py", "-o", "made")

    assert done.returncode == 0, done.stderr
    assert attic.live_agents() == ["cellar"]
    assert remembered(cellar) == f"tcp://{attic.ip()}:7717"
    assert (attic.work / "made" / "output" / "where").read_text() == "made"


@pytest.mark.parametrize("how", ["answering", "silent"])
def test_liars_on_the_network_do_not_keep_an_agent_from_its_coordinator(network: Network, how: str) -> None:
    attic, cellar, mallory = (network.host(name) for name in ("attic", "cellar", "mallory"))
    coordinate(attic)
    share(attic, cellar)
    # The tag can be heard by everybody on the network.
    liar = mallory.begin(sys.executable, "-m", "tests.network.liar", said(attic, SAY_TAG), how)
    assert liar.stdout is not None
    assert liar.stdout.readline() == b"lying\n"
    attic.cut()
    cellar.start("agent", "--slots", "1")
    if (
        how == "silent"
    ):  # the answering one is heard of first as well, but learns no key: there is no handshake
        assert liar.stdout.readline() == b"dialled\n"

    attic.heal()

    assert until(attic.live_agents) == ["cellar"]
    assert remembered(cellar) == f"tcp://{attic.ip()}:7717"


def test_somebody_else_at_the_remembered_address_is_not_taken_for_the_coordinator(network: Network) -> None:
    attic, cellar, mallory = (network.host(name) for name in ("attic", "cellar", "mallory"))
    coordinate(attic)
    share(attic, cellar)
    coordinate(mallory)
    cellar.address.write_text(
        json.dumps({"schema": "discogrid.address/1", "endpoint": f"tcp://{mallory.ip()}:7717"})
    )

    cellar.start("agent", "--slots", "1")

    assert until(attic.live_agents) == ["cellar"]
    assert not mallory.live_agents()
    assert remembered(cellar) == f"tcp://{attic.ip()}:7717"


def test_a_client_finds_a_coordinator_that_has_moved_while_nobody_looked(network: Network) -> None:
    attic, laptop = network.host("attic"), network.host("laptop")
    coordinate(attic)
    share(attic, laptop)
    laptop.address.write_text(
        json.dumps({"schema": "discogrid.address/1", "endpoint": "tcp://10.77.0.200:7717"})
    )

    done = laptop.run("ls")

    assert done.returncode == 0, done.stderr
    assert remembered(laptop) == f"tcp://{attic.ip()}:7717"


def test_of_several_networks_the_one_that_both_are_on_is_used(network: Network) -> None:
    attic, cellar = network.host("attic", "lan", "annex"), network.host("cellar", "annex", "garden")
    coordinate(attic)
    share(attic, cellar)

    cellar.start("agent", "--slots", "1")

    assert until(attic.live_agents) == ["cellar"]
    assert remembered(cellar) == f"tcp://{attic.ip('annex')}:7717"
    assert said(attic, SAY_ADDRESSES) == f"{attic.ip('lan')} {attic.ip('annex')}"


def test_a_network_that_comes_up_late_is_announced_too(network: Network) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    attic.leave_network()
    assert said(attic, SAY_ADDRESSES) == "127.0.0.1"
    coordinate(attic)

    attic.join_network(attic.place())

    assert said(cellar, FIRST_HEARD) == f"tcp://{attic.ip()}:7717"


def test_where_multicast_does_not_pass_an_address_is_enough(network: Network) -> None:
    attic, cellar = network.host("attic", "lan"), network.host("cellar", "annex")
    router = network.host("router", "lan", "annex")
    router.forward()
    attic.route_by(router)
    cellar.route_by(router)
    coordinate(attic)
    share(attic, cellar)

    lost = cellar.run("agent", "--slots", "1")
    cellar.start("agent", "--slots", "1", "--coordinator", attic.ip())

    assert lost.returncode == 3
    assert "--coordinator" in lost.stderr
    assert until(attic.live_agents) == ["cellar"]


def test_who_listens_on_the_network_learns_neither_names_nor_work(network: Network) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    with network.captured() as frames:
        coordinate(attic)
        share(attic, cellar)
        cellar.start("agent", "--slots", "1", "--name", "bluebeard")
        until(attic.live_agents)
        attic.write("wedding.py", "print('a private matter')")
        done = attic.run("submit", "wedding.py", "-n", "honeymoon")
        tag = said(attic, SAY_TAG)
    heard = Path(frames).read_bytes().lower()
    identity = json.loads((attic.home / "identity.json").read_text())

    assert done.returncode == 0, done.stderr
    assert tag.encode() in heard  # so that a deaf ear cannot pass
    assert b"_discogrid" in heard
    for private in (
        "attic",
        "cellar",
        "bluebeard",
        "wedding",
        "honeymoon",
        "private matter",
        "root",
        "nobody",
    ):
        assert private.encode() not in heard
    for value in identity.values():
        assert not isinstance(value, str) or len(value) < 8 or value.lower().encode() not in heard
