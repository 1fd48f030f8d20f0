"""Two machines on a network: joined by a code over multicast, at work, put out, cut off, and back."""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from discogrid.archive import open_archive
from discogrid.silence import SILENCE_S_MAX
from tests.network.hosts import Host, Network, until
from tests.network.terminal import Terminal
from tests.network.test_finding import share
from tests.network.told import SCRIPT, tell

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


def known_addresses(host: Host) -> set[str]:
    """Where the host remembers the coordinators of its grids."""
    return {json.loads(kept.read_text())["endpoint"] for kept in host.home.glob("grids/*/address.json")}


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


def follow(host: Host, *options: str, mark: str) -> dict[str, Terminal]:
    """Submit a task and stay; wait for it, attach to it, and read its log, all at once."""
    host.write("talk.py", SCRIPT)
    users = {"submit": Terminal(host, "submit", *options, "talk.py", "-o", "kept", "--", mark)}
    until(lambda: users["submit"].says("1 running"))
    job = host.document("ls")["jobs"][0]["id"]
    users["wait"] = Terminal(host, "wait", job)
    users["attach"] = Terminal(host, "attach", job, "-o", "again")
    users["logs"] = Terminal(host, "logs", "-f", f"{job}-0")
    until(lambda: users["wait"].says("1 running") and users["attach"].says("1 running"))
    until(lambda: users["logs"].says("0"))
    return users


def begin(host: Host, *options: str, mark: str) -> str:
    """Submit a task that runs until it is told to end; its job, once it runs."""
    job = host.run("submit", "-d", *options, "talk.py", "--", mark).stdout.strip()
    until(lambda: counts(host, job).get("running"))
    return job


def kept_results(host: Host) -> list[Path]:
    """What the agent of a host keeps until the coordinator has it, or does not want it."""
    return list((host.home / "agent").glob(f"*/{host.name}/work/archives/*"))


def assert_one_result(folder: Path, attempt: str) -> None:
    """A download holds one result of one task, whole, made by this attempt."""
    assert len(list((folder / "results").glob("*.zip"))) == 1
    assert sorted(file.name for file in (folder / "output").iterdir()) == ["attempt", "digest", "large"]
    large = (folder / "output" / "large").read_bytes()
    assert hashlib.sha256(large).hexdigest() == (folder / "output" / "digest").read_text()
    assert (folder / "output" / "attempt").read_text() == attempt


def assert_resumed(users: dict[str, Terminal], host: Host) -> None:
    """All that follow the task have seen its end, once: nothing of its results and log is missing or there twice."""
    for command, terminal in users.items():
        assert terminal.wait(PROMISED_S) == 0, command
        assert terminal.says("the coordinator is back"), command
    for folder in (host.work / "kept", host.work / "again"):
        assert_one_result(folder, "1")
        [kept] = (folder / "results").glob("*.zip")
        with open_archive(kept) as archive:
            written = archive.read("DiscoTask.stdout.0.txt", 1 << 20).decode().split()
        said = users["logs"].lines()
        remarks = [line for line in said if not line.isdigit()]
        assert [line for line in said if line.isdigit()] == written, remarks


def silent(host: Host) -> Callable[[], bool]:
    """Whether the agent of a host has said that it hears nothing."""
    return lambda: "the coordinator is silent" in host.log("agent").read_text()


def gone(terminal: Terminal) -> Callable[[], bool]:
    """Whether the user at a terminal was told that the coordinator is not there."""
    return lambda: terminal.says("the coordinator is gone; the job goes on")


def after(since: float, told: dict[str, Callable[[], bool]]) -> dict[str, float]:
    """How many seconds later each of these was told, as all of them are."""
    said_s: dict[str, float] = {}

    def all_said() -> bool:
        for name, was_told in told.items():
            if name not in said_s and was_told():
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


def test_a_cut_that_lasts_until_the_agent_is_given_up_leaves_one_result_of_each_task(
    network: Network,
) -> None:
    attic, cellar, loft = (network.host(name) for name in ("attic", "cellar", "loft"))
    coordinate(attic)
    cellar.start("agent", "--slots", "5", "--join", invite(attic))
    until(attic.live_agents)
    attic.write("talk.py", SCRIPT)
    late, still = (
        begin(attic, "--cpus", "2", mark=mark) for mark in ("late", "still")
    )  # too large for the loft
    elsewhere = begin(attic, mark="elsewhere")
    lend(loft, invite(attic))
    until(lambda: attic.live_agents() == ["cellar", "loft"])

    cellar.cut()
    tell("late")
    tell("elsewhere")
    until(lambda: attic.live_agents() == ["loft"])
    until(silent(cellar))
    until(lambda: counts(attic, elsewhere).get("running"))
    tell("elsewhere")
    until(lambda: counts(attic, elsewhere).get("done"))
    assert len(kept_results(cellar)) == 2  # and both are offered
    cellar.heal()
    until(lambda: counts(attic, late).get("done"))
    until(lambda: counts(attic, still).get("running"))
    tell("still")

    for job, attempt, agent in ((late, 1, "cellar"), (still, 1, "cellar"), (elsewhere, 2, "loft")):
        assert attic.run("attach", job, "-o", job).returncode == 0
        [task] = attic.document("tasks", job)["tasks"]
        assert (task["state"], task["attempt"], task["agent"]) == ("done", attempt, agent)
        assert_one_result(attic.work / job, str(attempt))
    assert until(lambda: not kept_results(cellar))  # it knows, too


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
    users = follow(laptop, "--cpus", "2", mark="of-a-long-night")  # so that the loft is idle
    until(lambda: busy(attic) == ["cellar"])

    attic.power_off()
    noticed_s = after(
        time.monotonic(),
        {
            **{host.name: silent(host) for host in (cellar, loft)},
            **{command: gone(terminal) for command, terminal in users.items()},
        },
    )
    tell("of-a-long-night")  # the result has to wait
    attic.boot()
    attic.address.unlink()
    coordinate_many(attic)

    assert max(noticed_s.values()) <= PROMISED_S, noticed_s
    assert min(noticed_s.values()) >= SILENCE_S_MAX - 5.0, noticed_s  # nobody was impatient
    assert until(lambda: len(attic.live_agents()) == 2)
    for host in (cellar, loft):
        assert "the coordinator is back" in host.log("agent").read_text()
    assert_resumed(users, laptop)


def test_all_follow_a_coordinator_that_gets_another_address_while_they_work_and_wait(
    network: Network,
) -> None:
    attic, cellar, loft, laptop = (network.host(name) for name in ("attic", "cellar", "loft", "laptop"))
    coordinate(attic)
    lend(cellar, invite(attic))
    share(attic, loft, laptop)
    know(laptop, attic)
    lend(loft)
    until(lambda: attic.live_agents() == ["cellar", "loft"])
    users = follow(laptop, mark="of-a-move")  # one task: the other agent is idle
    until(lambda: busy(attic))

    attic.leave_network()
    attic.join_network(200)
    noticed_s = after(
        time.monotonic(),
        {
            **{host.name: silent(host) for host in (cellar, loft)},
            **{command: gone(terminal) for command, terminal in users.items()},
        },
    )

    assert max(noticed_s.values()) <= PROMISED_S, noticed_s
    assert until(lambda: attic.live_agents() == ["cellar", "loft"])
    assert until(lambda: busy(attic))
    until(lambda: all(terminal.says("the coordinator is back") for terminal in users.values()))
    read = len(users["logs"].lines())
    until(lambda: len(users["logs"].lines()) > read)  # while the task runs
    tell("of-a-move")
    assert_resumed(users, laptop)
    for host in (cellar, loft, laptop):
        assert known_addresses(host) == {f"tcp://{attic.ip()}:7717"}
