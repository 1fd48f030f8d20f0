"""What the owner of a lent machine forbids does not run there, and who asks is told why."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from tests.grid.machines import Machine, until

INPUT_BYTES = 1_234_567  # of which no other file is


def rules(machine: Machine, text: str) -> None:
    folder = machine.home / "agent" / "home"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.parent.chmod(0o700)
    (folder / "rules.toml").write_text(text)


def counts(machine: Machine, job: str) -> dict[str, Any]:
    return dict(machine.document("show", job).get("counts", {}))


def test_a_submitter_the_owner_shuts_out_is_told_why_and_let_in_when_the_owner_changes_it(
    machine: Machine,
) -> None:
    machine.coordinate()
    rules(machine, "[default]\nallow = false\n")
    machine.lend()
    machine.write("hello.py", "print('hello')")
    job = machine.run("submit", "-d", "hello.py").stdout.strip()
    until(lambda: "its owner lets no task of" in machine.run("why", job).stdout)
    assert counts(machine, job)["done"] == 0

    rules(machine, "[default]\nallow = true\n")
    assert machine.run("wait", job).returncode == 0


def test_an_owner_who_allows_the_network_is_not_blamed_for_an_agent_that_cannot_give_it(
    machine: Machine,
) -> None:
    machine.coordinate()
    rules(machine, "[default]\nnetwork = true\n")
    machine.start("agent", "--name", "attic", "--sandbox", "none")
    until(machine.live_agents)
    machine.write("hello.py", "print('hello')")
    job = machine.run("submit", "-d", "--network", "--min-sandbox", "none", "hello.py").stdout.strip()
    until(lambda: "cannot give tasks a network of their own" in machine.run("why", job).stdout)
    assert "its owner" not in machine.run("why", job).stdout


def test_rules_that_change_end_what_runs(machine: Machine) -> None:
    machine.coordinate()
    machine.lend()
    machine.write("wait.py", "import time; time.sleep(600)")
    job = machine.run("submit", "-d", "wait.py").stdout.strip()
    until(lambda: counts(machine, job).get("running"))
    rules(machine, "[default]\nallow = false\n")
    until(lambda: not counts(machine, job).get("running", 1))
    assert "its owner lets no task of" in machine.run("why", job).stdout


def test_cpu_minutes_that_are_used_up_stay_used_up_through_a_restart(machine: Machine) -> None:
    machine.coordinate()
    rules(machine, "[default]\ncpu-minutes-per-day = 0.005\n")
    agent = machine.lend(1)
    machine.write("nap.py", "import time; time.sleep(0.5)")
    assert machine.run("submit", "nap.py").returncode == 0
    agent.send_signal(signal.SIGTERM)
    agent.wait()
    machine.lend(1)
    job = machine.run("submit", "-d", "nap.py").stdout.strip()
    until(lambda: "CPU minutes" in machine.run("why", job).stdout)
    assert counts(machine, job)["done"] == 0


def test_an_agent_under_broken_rules_does_not_start_and_names_the_line(machine: Machine) -> None:
    machine.coordinate()
    rules(machine, "[default]\nallow = perhaps\n")
    done = machine.run("agent", "--name", "attic")
    assert done.returncode == 2
    assert "line 2" in done.stderr
    assert "rules.toml" in done.stderr


def test_no_blob_stays_with_an_agent_whose_job_has_ended_or_that_was_killed(machine: Machine) -> None:
    machine.coordinate()
    agent = machine.lend(1)
    machine.write("in.bin", b"s" * INPUT_BYTES)
    machine.write("wait.py", "import sys, time; time.sleep(600 if 'stay' in sys.argv else 0)")
    assert machine.run("submit", "wait.py", "in.bin").returncode == 0
    until(lambda: not blobs(machine))

    job = machine.run("submit", "-d", "wait.py", "in.bin", "--", "stay").stdout.strip()
    until(lambda: blobs(machine) and counts(machine, job).get("running"))
    agent.kill()
    agent.wait()
    assert blobs(machine)  # a killed one cleans up nothing
    machine.run("cancel", job)
    machine.lend(1)
    until(lambda: not blobs(machine))


def blobs(machine: Machine) -> list[Path]:
    """Copies of the input below the agent's folder."""
    found = []
    for folder, _, names in os.walk(machine.home / "agent" / "home" / "attic"):
        for file in (Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):  # it is being removed
                if file.lstat().st_size == INPUT_BYTES:
                    found.append(file)
    return found
