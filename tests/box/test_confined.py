"""What the confined box keeps a task from, and what it cannot: the level's own table, and what it does not offer."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from discogrid.types import GIB, Limits, Outcome
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.confined import ConfinedBox
from discogrid_agent.sandbox.control_groups import ControlGroups
from discogrid_agent.sandbox.probe import try_box
from discogrid_agent.verdict import Limit
from tests.box.bench import Bench, appeared, stdout
from tests.box.test_probes import NAMES, PROBES, Host, host

__all__ = ["host"]

# What only namespaces keep a task from. Sockets, files and other processes' memory are out of its reach all the same.
CONFINED_CANNOT_KEEP_FROM = {
    "have capabilities",  # in the bounding set, which no new privileges make worthless
    "see devices",  # that there are any: none but the harmless ones can be opened
    "see the agent's processes",
    "see the owner's homes",  # by name
    "share its control groups",
    "share its mounts",
    "share its shared memory",
    "share its users",
    "share the host's name",
    "share the network",  # in which it has no socket
}
CONFINED_DOES_NOT_GIVE = {
    "connect to a unix socket of the host",
    "connect to an abstract unix socket of the host",
    "make IPv6 sockets",
    "make crypto sockets",
    "make netlink sockets",
    "make raw sockets",
    "make vsock sockets",
    "read passwords",
    "see the owner's users",
    "see where the owner keeps things",
    "share its shared memory",
    "type into a terminal",
    "use a terminal",
    "write into /dev",
    "write into its Python",
    "write kernel settings",
}


async def test_a_confined_task_can_do_what_its_level_cannot_keep_it_from_and_nothing_else(
    confined_bench: Bench, host: Host
) -> None:
    arguments = (*host.arguments(), "confined")
    ended = await confined_bench.run(PROBES.read_bytes(), input_name="in.txt", arguments=arguments)
    assert ended.outcome is Outcome.SUCCEEDED, ended.reason
    answers: dict[str, list[bool]] = json.loads(stdout(ended))
    assert list(answers) == NAMES
    assert {name for name, (done, _) in answers.items() if done} == CONFINED_CANNOT_KEEP_FROM
    assert {name for name, (_, twin) in answers.items() if not twin} == CONFINED_DOES_NOT_GIVE


def test_the_agents_own_probe_passes_in_the_confined_box(confined: Box) -> None:
    assert try_box(confined) is None


async def test_a_mount_is_refused_with_the_box_that_can_show_it(confined_bench: Bench) -> None:
    ended = await confined_bench.run("pass", mounts=(("/home/codelab", confined_bench.folder),))
    assert ended.outcome is Outcome.BOX_FAILED
    assert "only a strict box can show" in ended.reason


@pytest.mark.parametrize("step", ["multiprocessing.Lock()", "open('/dev/shm/x', 'w')"])
async def test_there_is_no_shared_memory(confined_bench: Bench, step: str) -> None:
    ended = await confined_bench.run(f"import multiprocessing\n{step}")
    assert ended.outcome is Outcome.SCRIPT_FAILED
    twin = await confined_bench.run(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''], check=True)"
    )
    assert twin.outcome is Outcome.SUCCEEDED, twin.reason


def listed(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_the_kernels_limits_hold_for_a_confined_task_as_a_whole(tmp_path: Path) -> None:
    """In a folder that looks like a delegated group, whose files tell what the kernel would be told, and tells."""
    runner = Runner(tmp_path / "agent", ConfinedBox(ControlGroups(tmp_path)), "attic")
    bench = Bench(tmp_path, runner)
    name = f"whole-{os.getpid()}.py"
    task = bench.task("import time; time.sleep(60)", name=name, limits=Limits(memory_bytes=GIB))
    running = asyncio.ensure_future(runner.run(task))
    launcher, task_itself = sorted(await appeared(name, 2))
    group = next(folder for folder in listed(tmp_path) if folder.name.startswith("box-"))
    assert int((group / "memory.max").read_text()) > GIB
    assert (group / "cgroup.procs").read_text() == str(launcher)

    (group / "memory.events").write_text("oom_kill 1\n")
    for killed in (launcher, task_itself):
        os.kill(killed, signal.SIGKILL)
    ended = await running
    runner.close()
    assert (ended.outcome, ended.limit_exceeded) == (Outcome.LIMIT_EXCEEDED, Limit.MEMORY), ended.reason
