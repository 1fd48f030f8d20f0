"""A spare machine without a grid asks to be adopted: it is seen from another one, and joins by the code typed on it."""

import re
from pathlib import Path

from discogrid.discovery import GRID, PAIRING
from tests.network.announcements import said
from tests.network.hosts import Host, Network, until
from tests.network.terminal import Terminal
from tests.network.test_finding import said_tag
from tests.network.test_membership import coordinate, invite, lend

KINDS = "|".join(map(re.escape, (GRID, PAIRING, "local.")))
OURS = re.compile(rf"((agent|coordinator|asks|invite)-[0-9a-f]{{8}}\.)?({KINDS})")

Service = tuple[str, str, int, list[str], dict[str, str]]


def announced(label: str, kind: str, port: int, host: Host, text: dict[str, str]) -> Service:
    """All that is said of a service."""
    return f"{label}-*.{kind}", f"{label}-*.local.", port, [host.ip()], text


def members_of(tag: str, coordinator: Host, agent: Host) -> list[Service]:
    """All that is said of the two, whatever they do."""
    return [
        announced("agent", GRID, 0, agent, {"v": "1", "grid": tag, "role": "agent"}),
        announced("coordinator", GRID, 7717, coordinator, {"v": "1", "grid": tag, "role": "coordinator"}),
    ]


def assert_nothing_else(frames: Path, coordinator: Host, *secret: str) -> None:
    """Beside the services nothing was said over multicast, and nothing secret anywhere."""
    heard = said(frames)
    assert not heard.others
    for name in heard.names:
        assert OURS.fullmatch(name)
    everything = frames.read_bytes().lower()
    assert said_tag(coordinator).encode() in everything  # so that a deaf ear cannot pass
    for word in (*secret, coordinator.name):
        assert word.encode() not in everything


def names(host: Host) -> list[tuple[str, str]]:
    machines = host.document("agents", "--nearby").get("machines", [])
    return [(machine["name"], machine["address"]) for machine in machines]


def test_a_machine_that_asks_to_be_adopted_is_seen_and_joins_by_the_code_that_is_typed_on_it(
    network: Network,
) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    with network.captured() as frames:
        coordinate(attic)
        assert names(attic) == []
        terminal = Terminal(cellar, "agent", "--slots", "1")
        until(lambda: terminal.says("Code"))
        assert until(lambda: names(attic)) == [("cellar", cellar.ip())]
        shown = attic.run("agents", "--nearby")
        assert re.search(rf"cellar +{re.escape(cellar.ip())}", shown.stdout)

        code = invite(attic)
        terminal.type(code)
        assert until(attic.live_agents) == ["cellar"]
        assert names(attic) == []  # who has a grid says nothing of itself
    terminal.close()
    plate, *words = code.split("-")
    expected = [
        *members_of(said_tag(attic), attic, cellar),
        announced("asks", PAIRING, 7718, cellar, {"v": "1", "asks": "to be adopted", "name": "cellar"}),
        announced("invite", PAIRING, 7718, attic, {"v": "1", "plate": plate}),
    ]
    assert said(frames).services() == sorted(expected, key=str)
    assert_nothing_else(frames, attic, *words)


def test_a_machine_that_joins_by_a_code_and_is_idle_says_no_name_to_the_network(network: Network) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    with network.captured() as frames:
        coordinate(attic)
        code = invite(attic)
        lend(cellar, code)
        assert until(attic.live_agents) == ["cellar"]
        attic.run(
            "agents", "--nearby"
        )  # for as long as a search takes, so that whoever is asked has answered
    plate, *words = code.split("-")
    expected = [
        *members_of(said_tag(attic), attic, cellar),
        announced("invite", PAIRING, 7718, attic, {"v": "1", "plate": plate}),
    ]
    assert said(frames).services() == sorted(expected, key=str)
    assert_nothing_else(frames, attic, *words, "cellar")


def test_who_invites_knows_the_nameplates_that_others_show(network: Network) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    coordinate(attic)
    code = invite(attic)
    seen = cellar.run_python(
        "import asyncio; from discogrid.pairing.nearby import nameplates; print(*asyncio.run(nameplates()))"
    )
    assert seen.stdout.split() == [code.partition("-")[0]]
