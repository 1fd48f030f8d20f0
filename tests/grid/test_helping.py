"""Two machines, one of which has nothing to do: real agents, boxes and sockets."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.grid.machines import Machine, processes_with, until
from tests.grid.test_joining import Invitation

ONE_S = "import os, sys, time; time.sleep(float(open(sys.argv[1]).read()))\n"
WRITE = "open('run-result/' + sys.argv[1], 'w').write(os.environ['DISCOGRID_ATTEMPT'])\n"


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Machine]:
    with closing(Machine(tmp_path / "guest")) as machine:
        yield machine


def lend(machine: Machine, guest: Machine) -> None:
    """A second agent, `barn`, with one slot."""
    invitation = Invitation(machine)
    guest.start("agent", "--join", invitation.code, "--name", "barn", "--slots", "1")
    until(lambda: "barn" in machine.live_agents())
    assert invitation.ended() == 0


def tasks(machine: Machine, job: str) -> list[dict[str, object]]:
    return list(machine.document("tasks", job).get("tasks", []))


def inputs(machine: Machine, *seconds: float) -> None:
    for number, each in enumerate(seconds):
        machine.write(f"in{number}.txt", str(each))


def test_what_waits_at_a_busy_agent_is_taken_over_by_one_that_comes(machine: Machine, guest: Machine) -> None:
    machine.coordinate()
    machine.lend(1)
    machine.write("nap.py", ONE_S + WRITE)
    inputs(machine, 20.0, 0.1, 0.1)
    job = machine.run("submit", "-d", "nap.py", "in*.txt").stdout.strip()
    until(lambda: [task["state"] for task in tasks(machine, job)] == ["running", "assigned", "queued"])
    lend(machine, guest)
    until(lambda: [task["state"] for task in tasks(machine, job)] == ["running", "done", "done"], 15.0)
    assert [task["agent"] for task in tasks(machine, job)] == ["attic", "barn", "barn"]
    machine.run("cancel", job)


def test_a_straggler_runs_elsewhere_too_and_its_first_attempt_is_killed(
    machine: Machine, guest: Machine
) -> None:
    machine.coordinate()
    machine.lend(1)
    lend(machine, guest)
    mark = f"straggler-{os.getpid()}-{machine.home.parent.name}"
    slow = f"if os.environ['DISCOGRID_ATTEMPT'] == '1' and sys.argv[1] == 'in0.txt':\n    import subprocess; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', '{mark}'])\n"
    machine.write("nap.py", ONE_S + slow + WRITE)
    inputs(machine, 0.1, 0.2, 0.2, 0.2, 0.2)
    done = machine.run("submit", "nap.py", "in*.txt", "-o", "got")
    assert done.returncode == 0, done.stderr
    assert {file.name: file.read_text() for file in (machine.work / "got" / "output").iterdir()} == {
        "in0.txt": "2",
        **{f"in{number}.txt": "1" for number in range(1, 5)},
    }
    until(lambda: not processes_with(mark), 5.0)


def test_what_must_not_run_twice_does_not(machine: Machine, guest: Machine) -> None:
    machine.coordinate()
    machine.lend(1)
    lend(machine, guest)
    machine.write("nap.py", ONE_S + WRITE)
    inputs(machine, 4.0, 0.1, 0.1, 0.1, 0.1)
    done = machine.run("submit", "--not-idempotent", "nap.py", "in*.txt", "-o", "got")
    assert done.returncode == 0, done.stderr
    assert (machine.work / "got" / "output" / "in0.txt").read_text() == "1"


def test_a_coordinator_that_is_killed_leaves_to_agents_what_they_run(machine: Machine) -> None:
    coordinator = machine.coordinate()
    listen = json.loads(machine.address.read_text())["endpoint"].removeprefix("tcp://")
    machine.lend(1)
    machine.write("nap.py", ONE_S + WRITE)
    inputs(machine, 6.0, 0.1)
    job = machine.run("submit", "-d", "nap.py", "in*.txt").stdout.strip()
    until(lambda: [task["state"] for task in tasks(machine, job)] == ["running", "assigned"])
    coordinator.send_signal(signal.SIGKILL)
    coordinator.wait()
    machine.coordinate(listen)
    until(lambda: [task["state"] for task in tasks(machine, job)][:1] == ["running"])
    assert machine.run("wait", job).returncode == 0
    got = machine.run("get", job, "-o", "got")
    assert got.returncode == 0, got.stderr
    assert {file.read_text() for file in (machine.work / "got" / "output").iterdir()} == {"1"}


def test_a_job_whose_first_tasks_fail_alike_is_held_and_may_be_released(machine: Machine) -> None:
    machine.coordinate()
    machine.lend(1)
    machine.write("typo.py", "import sys\nprnit(sys.argv[1])\n")
    inputs(machine, *([0.0] * 9))
    done = machine.run("submit", "typo.py", "in*.txt", "--retries", "0")
    assert done.returncode == 1
    assert "is held, with" in done.stderr
    assert "failed alike" in done.stderr
    assert "NameError" in done.stderr
    [job] = machine.document("ls")["jobs"]
    assert job["state"] == "held"
    assert job["counts"]["failed"] < 9
    assert machine.run("release", job["id"]).returncode == 0
    assert machine.run("wait", job["id"]).returncode == 1
    assert machine.document("ls")["jobs"][0]["counts"]["failed"] == 9


def test_what_took_long_the_last_time_goes_first_the_next_time(machine: Machine) -> None:
    machine.coordinate()
    machine.lend(1)
    machine.write("nap.py", ONE_S + WRITE)
    inputs(machine, 0.1, 1.0, 0.5)
    order: list[list[object]] = []
    for _ in range(2):
        job = machine.run("submit", "-d", "nap.py", "in*.txt").stdout.strip()
        assert machine.run("wait", job).returncode == 0
        started = {str(task["started"]): task["index"] for task in tasks(machine, job)}
        order.append([started[when] for when in sorted(started)])
    assert order == [[0, 1, 2], [1, 2, 0]]


def test_what_is_said_to_take_long_goes_first_the_first_time(machine: Machine) -> None:
    machine.coordinate()
    machine.lend(1)
    machine.write("nap.py", ONE_S + WRITE)
    inputs(machine, 0.1, 0.5, 0.2)
    machine.write("durations.txt", "in0.txt 1s\nin1.txt 1m\n./in2.txt 30s\nanother.txt 1h\n")
    job = machine.run("submit", "-d", "nap.py", "./in*.txt", "--durations", "durations.txt").stdout.strip()
    assert machine.run("wait", job).returncode == 0
    started = {str(task["started"]): task["index"] for task in tasks(machine, job)}
    assert [started[when] for when in sorted(started)] == [1, 2, 0]
    machine.write("durations.txt", "movie.mp4 soon\n")
    refused = machine.run("submit", "nap.py", "in*.txt", "--durations", "durations.txt")
    assert (refused.returncode, "line 1 of durations.txt" in refused.stderr) == (2, True)
