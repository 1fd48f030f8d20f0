"""A spare machine without a grid asks to be adopted: it is seen from another one, and joins by the code typed on it."""

import contextlib
import os
import pty
import re
import subprocess

from tests.network.hosts import Host, Network, until
from tests.network.test_membership import coordinate, invite


class Terminal:
    """`discogrid agent` on a terminal at which somebody sits."""

    def __init__(self, host: Host) -> None:
        self._keyboard, other = pty.openpty()
        self._process = subprocess.Popen(
            host.command("agent", "--slots", "1"),
            cwd=host.work,
            env=host.environment,
            stdin=other,
            stdout=other,
            stderr=other,
        )
        os.close(other)
        os.set_blocking(self._keyboard, False)
        host.processes.append(self._process)
        self._said = b""

    def says(self, what: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            self._said += os.read(self._keyboard, 65536)
        return what in self._said.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode() + b"\n")

    def close(self) -> None:
        os.close(self._keyboard)


def names(host: Host) -> list[tuple[str, str]]:
    machines = host.document("agents", "--nearby").get("machines", [])
    return [(machine["name"], machine["address"]) for machine in machines]


def test_a_machine_that_asks_to_be_adopted_is_seen_and_joins_by_the_code_that_is_typed_on_it(
    network: Network,
) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    coordinate(attic)
    assert names(attic) == []
    terminal = Terminal(cellar)
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
