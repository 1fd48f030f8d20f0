"""Two machines on a network: joined by a code over multicast, at work, put out, cut off, and back."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from discogrid.silence import SILENCE_S_MAX
from tests.network.hosts import Host, Network, until
from tests.network.test_finding import share

PROMISED_S = 15.0  # a host without power is noticed within
REFUSED_S = 1.0  # in which a revoked agent hears that it is refused, as it does whenever it speaks again
KILLED_S = 2.0  # an agent that is put out has killed its task and ended
OF_MANY = """
import sys
from discogrid.cli.main import main
from discogrid_coordinator import policies
policies.HEARTBEAT_S = policies.heartbeat_interval(10_000)
sys.argv[1:] = ["coordinator"]
main()
"""
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


def coordinate_many(host: Host) -> None:
    """A coordinator that asks its agents to speak as rarely as if they were ten thousand."""
    host.begin(sys.executable, "-c", OF_MANY)
    until(host.address.exists)


def know(host: Host, coordinator: Host) -> None:
    """Remember where the grid's coordinator was."""
    known = {"schema": "discogrid.address/1", "endpoint": f"tcp://{coordinator.ip()}:7717"}
    host.address.write_text(json.dumps(known))


def says(log: Path, what: str) -> bool:
    return what in log.read_text()


def after(since: float, told: dict[str, tuple[Path, str]]) -> dict[str, float]:
    """How many seconds later each of these logs said what it was to say, which all of them do."""
    said_s: dict[str, float] = {}

    def all_said() -> bool:
        for name, words in told.items():
            if name not in said_s and says(*words):
                said_s[name] = time.monotonic() - since
        return len(said_s) == len(told)

    until(all_said)
    return said_s


def busy(host: Host) -> list[str]:
    """The agents that run something."""
    return [agent["id"] for agent in host.document("agents").get("agents", []) if agent["busy"]]


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
    chatter = cellar.begin(sys.executable, "-m", "tests.network.chatter", "attic")
    assert chatter.stdout is not None
    assert chatter.stdout.readline() == b"let in\n"
    done = attic.run("agents", "ban", "cellar")
    known = time.monotonic()  # by now the coordinator goes by it
    assert done.returncode == 0, done.stderr
    heard = json.loads(chatter.stdout.readline())
    banned.wait(PROMISED_S)
    ended_s = time.monotonic() - known

    # It spoke without a pause, and was refused as soon as the command had put it out.
    assert heard["refused"] - known <= REFUSED_S
    assert heard["again"] - heard["asked"] <= REFUSED_S
    assert set(heard["answers"]) <= {"Resync"}  # "I do not know you", to what it had said before it knew
    assert "put out of the grid" in cellar.log("agent").read_text()
    assert ended_s <= KILLED_S
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


def test_a_coordinator_whose_host_is_gone_is_noticed_by_all_and_everything_resumes_when_it_is_back(
    network: Network,
) -> None:
    attic, cellar, loft, laptop = (network.host(name) for name in ("attic", "cellar", "loft", "laptop"))
    coordinate_many(attic)
    cellar.start("agent", "--slots", "2", "--join", invite(attic))
    share(attic, loft, laptop)
    know(laptop, attic)
    loft.start("agent", "--slots", "1")
    until(lambda: attic.live_agents() == ["cellar", "loft"])
    for number in range(3):
        laptop.write(f"in{number}.txt", str(number))
    laptop.write("slow.py", SLOW.format(seconds=2))
    submit = laptop.start("submit", "--cpus", "2", "slow.py", "in*.txt", "-o", "kept")  # so the loft is idle
    until(lambda: busy(attic) == ["cellar"])
    told = {
        "cellar": (cellar.log("agent"), "the coordinator is silent"),
        "loft": (loft.log("agent"), "the coordinator is silent"),
        "laptop": (laptop.log("submit"), "the coordinator is gone; the job goes on"),
    }

    attic.power_off()
    gone = time.monotonic()
    noticed_s = after(gone, told)
    attic.boot()
    attic.address.unlink()
    coordinate_many(attic)

    assert max(noticed_s.values()) <= PROMISED_S, noticed_s
    assert min(noticed_s.values()) >= SILENCE_S_MAX - 5.0, noticed_s  # nobody was impatient
    assert until(lambda: len(attic.live_agents()) == 2)
    assert submit.wait(PROMISED_S) == 0
    assert says(laptop.log("submit"), "the coordinator is back")
    assert len(list((laptop.work / "kept" / "results").glob("*.zip"))) == 3
