"""A spare machine without a grid asks to be adopted: it is seen from another one, and joins by the code typed on it."""

import re

from tests.network.hosts import Host, Network, until
from tests.network.terminal import Terminal
from tests.network.test_membership import coordinate, invite


def names(host: Host) -> list[tuple[str, str]]:
    machines = host.document("agents", "--nearby").get("machines", [])
    return [(machine["name"], machine["address"]) for machine in machines]


def test_a_machine_that_asks_to_be_adopted_is_seen_and_joins_by_the_code_that_is_typed_on_it(
    network: Network,
) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    coordinate(attic)
    assert names(attic) == []
    terminal = Terminal(cellar, "agent", "--slots", "1")
    until(lambda: terminal.says("Code"))
    assert until(lambda: names(attic)) == [("cellar", cellar.ip())]
    shown = attic.run("agents", "--nearby")
    assert re.search(rf"cellar +{re.escape(cellar.ip())}", shown.stdout)

    terminal.type(invite(attic))
    assert until(attic.live_agents) == ["cellar"]
    assert names(attic) == []  # who has a grid says nothing of itself
    terminal.close()


def test_who_invites_knows_the_nameplates_that_others_show(network: Network) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    coordinate(attic)
    code = invite(attic)
    seen = cellar.run_python(
        "import asyncio; from discogrid.pairing.nearby import nameplates; print(*asyncio.run(nameplates()))"
    )
    assert seen.stdout.split() == [code.partition("-")[0]]
