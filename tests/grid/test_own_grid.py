"""A user who joined no grid."""

import os
import signal
import threading
from pathlib import Path

import pytest

from discogrid.types import SandboxLevel
from discogrid_agent.sandbox.probe import best_box
from tests.grid.machines import Machine, until


def test_this_machines_own_grid_comes_on_demand_and_leaves_when_idle(machine: Machine) -> None:
    machine.environment["DISCOGRID_IDLE_EXIT"] = "1s"
    machine.write("s.py", "open('run-result/r', 'w').write('made')")

    done = machine.run("submit", "s.py", "-o", "first")
    until(lambda: not list(machine.children()))
    listed = machine.document("ls")

    assert done.returncode == 0, done.stderr
    assert (machine.work / "first" / "output" / "r").read_text() == "made"
    assert [job["state"] for job in listed["jobs"]] == ["succeeded"]


def test_two_commands_at_once_start_one_grid(machine: Machine) -> None:
    machine.write("s.py", "")
    results: list[int] = []
    threads = [
        threading.Thread(
            target=lambda n=n: results.append(machine.run("submit", "s.py", "-o", f"o{n}").returncode)
        )
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [0, 0, 0]
    assert len(machine.document("agents")["agents"]) == 1


def test_the_own_grid_leaves_no_agent_behind_when_it_is_killed(machine: Machine) -> None:
    assert machine.run("ls").returncode == 0
    until(machine.live_agents)
    supervisors = [pid for pid in machine.children() if b"up" in _words(pid)]

    for pid in supervisors:
        os.kill(pid, signal.SIGKILL)

    until(lambda: not list(machine.children()))


def _words(pid: int) -> list[bytes]:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().split(b"\0")


BLIND = """
import importlib.abc, sys

class Blind(importlib.abc.MetaPathFinder):
    \"\"\"Before the agent's command is imported: this machine lets nobody make namespaces.\"\"\"

    def find_spec(self, name, path, target=None):
        if name == "discogrid_agent.command":
            sys.meta_path.remove(self)
            from discogrid_agent.sandbox import probe
            probe.ways = list

sys.meta_path.insert(0, Blind())
"""


def test_a_machine_without_a_strict_box_works_for_its_own_user_and_says_so_once(
    machine: Machine, tmp_path: Path
) -> None:
    in_every_process(machine, tmp_path, BLIND)
    machine.write("s.py", "open('run-result/r', 'w').write('made')")

    first, second = (machine.run("submit", "s.py", "-o", name) for name in ("one", "two"))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert (machine.work / "one" / "output" / "r").read_text() == "made"
    assert "box 'none'" in first.stderr
    assert "box" not in second.stderr
    assert machine.run("submit", "s.py", "--min-sandbox", "strict", "-o", "three").returncode == 4


def test_a_job_that_demands_a_box_no_machine_has_is_given_up_on_a_grid_that_has_just_begun(
    machine: Machine, tmp_path: Path
) -> None:
    in_every_process(machine, tmp_path, BLIND)
    machine.write("s.py", "")

    done = machine.run("submit", "s.py", "--min-sandbox", "strict", "-o", "out")

    assert done.returncode == 4, done.stderr
    assert "box level none, job demands strict" in done.stderr


SLOW = """
import importlib.abc, os, sys, time

class Slow(importlib.abc.MetaPathFinder):
    \"\"\"Before the agent's command is imported: it takes a while to find out which box there is.\"\"\"

    def find_spec(self, name, path, target=None):
        if name == "discogrid_agent.command":
            sys.meta_path.remove(self)
            from discogrid_agent import prover
            prover.find_out = wait(prover.find_out)

def wait(find_out):
    def found(*arguments, **options):
        while not os.path.exists({gate!r}):
            time.sleep(0.02)
        return find_out(*arguments, **options)
    return found

sys.meta_path.insert(0, Slow())
"""


def test_what_demands_a_box_waits_until_the_agent_has_found_out_which_one_it_has(
    machine: Machine, tmp_path: Path
) -> None:
    probed = best_box()
    if probed.box.level is not SandboxLevel.STRICT:
        pytest.skip(f"the strict box does not work here: {probed.reason} {probed.fix}")
    gate = tmp_path / "gate"
    in_every_process(machine, tmp_path, SLOW.format(gate=str(gate)))
    machine.write("s.py", "import os; print(os.getcwd())")

    demanding = machine.run("submit", "s.py", "-d", "--min-sandbox", "strict").stdout.strip()
    content = machine.run("submit", "s.py", "-d").stdout.strip()
    until(machine.live_agents)
    until(lambda: machine.document("ls")["jobs"][0]["counts"]["running"])
    why = machine.run("why", demanding).stdout
    listed = machine.run("agents").stdout
    gate.touch()
    done = [machine.run("attach", job, "-o", job) for job in (demanding, content)]

    assert "is still finding out what it can offer (until then: box level none, job demands strict)" in why
    assert "being tried" in listed
    assert [each.returncode for each in done] == [0, 0], done
    for job in (demanding, content):
        assert "/local" in machine.run("logs", job).stdout  # where a strict box shows its folder


def in_every_process(machine: Machine, folder: Path, code: str) -> None:
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(code)
    machine.environment["PYTHONPATH"] = str(folder / "site")
