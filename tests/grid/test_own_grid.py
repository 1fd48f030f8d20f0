"""A user who joined no grid."""

import os
import signal
import threading
from pathlib import Path

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
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLIND)
    machine.environment["PYTHONPATH"] = str(tmp_path / "site")
    machine.write("s.py", "open('run-result/r', 'w').write('made')")

    first, second = (machine.run("submit", "s.py", "-o", name) for name in ("one", "two"))

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert (machine.work / "one" / "output" / "r").read_text() == "made"
    assert "box 'none'" in first.stderr
    assert "box" not in second.stderr
    assert machine.run("submit", "s.py", "--min-sandbox", "strict", "-o", "three").returncode == 4
