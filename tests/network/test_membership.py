"""Two machines on a network: joined by a code over multicast, at work, put out, cut off, and back."""

import sys
import time
from typing import Any

from discogrid.silence import SILENCE_S_MAX
from tests.network.hosts import Host, Network, until

PROMISED_S = 15.0  # a host without power is noticed within
REFUSED_S = 1.0  # a revoked agent's next message
SLOW = """
import pathlib, time
deadline = time.monotonic() + {seconds}
while time.monotonic() < deadline and not pathlib.Path("/nonexistent").exists():
    time.sleep(0.05)
open("run-result/host", "w").write("done")
"""


def invite(host: Host) -> str:
    """The code that a terminal of this host shows, without any address."""
    invitation = host.begin(sys.executable, "-m", "discogrid", "invite")
    assert invitation.stdout is not None
    return invitation.stdout.readline().decode().strip()


def coordinate(host: Host) -> Any:
    process = host.start("coordinator")
    until(host.address.exists)
    return process


def lend(host: Host, code: str = "") -> Any:
    return host.start("agent", "--slots", "1", *(["--join", code] if code else []))


def counts(host: Host, job: str) -> dict[str, Any]:
    return dict(host.document("show", job).get("counts", {}))


def test_a_machine_joins_by_a_code_works_is_put_out_at_once_and_its_task_runs_elsewhere(
    network: Network,
) -> None:
    attic, cellar, loft = (network.host(name) for name in ("attic", "cellar", "loft"))
    coordinate(attic)
    banned = lend(cellar, invite(attic))
    until(lambda: attic.live_agents() == ["cellar"])
    attic.write("first.py", "open('run-result/made', 'w').write('made')")
    assert attic.run("submit", "first.py", "-o", "first").returncode == 0

    attic.write(
        "slow.py", "import os, time; time.sleep(600 if os.environ['DISCOGRID_ATTEMPT'] == '1' else 0)"
    )
    job = attic.run("submit", "-d", "slow.py").stdout.strip()
    until(lambda: counts(attic, job).get("running"))
    done = attic.run("agents", "ban", "cellar")  # which returns when the coordinator goes by it
    in_force = time.monotonic()
    assert done.returncode == 0, done.stderr
    banned.wait(PROMISED_S)
    took_s = time.monotonic() - in_force

    said = (cellar.work.parent / "agent.log").read_text()
    assert "put out of the grid" in said
    assert took_s < REFUSED_S + 1.0  # in which it also kills its task and ends
    lend(loft, invite(attic))
    assert attic.run("wait", job).returncode == 0
    assert attic.document("trust", "ls")["revoked"][0]["name"] == "cellar"


def test_a_cut_link_heals_and_the_task_that_ran_through_it_counts(network: Network) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    coordinate(attic)
    lend(cellar, invite(attic))
    until(attic.live_agents)
    attic.write("slow.py", SLOW.format(seconds=6))
    job = attic.run("submit", "-d", "slow.py").stdout.strip()
    until(lambda: counts(attic, job).get("running"))
    cellar.cut()
    time.sleep(3.0)  # shorter than anybody's patience: the network itself has to mend it
    cellar.heal()
    assert attic.run("wait", job).returncode == 0
    attempts = attic.document("tasks", job)["tasks"][0]["attempt"]
    assert attempts == 1


def test_a_coordinator_whose_host_is_gone_is_noticed_and_everything_resumes_when_it_is_back(
    network: Network,
) -> None:
    attic, cellar = network.host("attic"), network.host("cellar")
    coordinate(attic)
    lend(cellar, invite(attic))
    until(attic.live_agents)
    attic.write("slow.py", SLOW.format(seconds=1))
    for number in range(3):
        attic.write(f"in{number}.txt", str(number))
    job = attic.run("submit", "-d", "slow.py", "in*.txt").stdout.strip()
    until(lambda: counts(attic, job).get("running"))
    log = cellar.work.parent / "agent.log"

    attic.power_off()
    gone = time.monotonic()
    until(lambda: "the coordinator is silent" in log.read_text())
    noticed_s = time.monotonic() - gone
    attic.boot()
    attic.address.unlink()
    coordinate(attic)

    assert noticed_s <= PROMISED_S
    assert noticed_s >= SILENCE_S_MAX - 5.0  # and not because somebody was impatient
    assert until(attic.live_agents) == ["cellar"]
    assert attic.run("wait", job).returncode == 0
    assert attic.run("get", job, "-o", "kept").returncode == 0
    assert len(list((attic.work / "kept" / "results").glob("*.zip"))) == 3
