"""An agent that is on its grid before it knows its box: what needs one waits, and nothing runs in less."""

import asyncio
import os
from pathlib import Path

import pytest

from discogrid.errors import SandboxError
from discogrid.types import Limits, Outcome, SandboxLevel
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.box import Box, Scene
from discogrid_agent.sandbox.late_box import LateBox
from discogrid_agent.sandbox.unboxed import Unboxed
from tests.box.bench import Bench, stdout


def scene(folder: Path) -> Scene:
    return Scene(folder, folder, (), ("/bin/true",), {}, Limits(), 1, 2)


def late_bench(folder: Path) -> tuple[Bench, LateBox]:
    box = LateBox()
    for above in (folder, *list(folder.parents)[:3]):
        above.chmod(above.stat().st_mode | 0o711)  # the user of root's tasks walks through
    return Bench(folder, Runner(folder / "agent", box, "attic")), box


async def test_nothing_starts_in_a_box_that_is_not_known(tmp_path: Path) -> None:
    box = LateBox()
    box.settle(tmp_path)
    assert box.level is SandboxLevel.NONE
    assert box.no_network
    with pytest.raises(SandboxError, match="does not know its box yet"):
        box.start(scene(tmp_path))
    box.close()


async def test_a_task_waits_for_the_box_and_runs_in_that_one(tmp_path: Path, strict: Box) -> None:
    bench, box = late_bench(tmp_path)
    running = asyncio.create_task(bench.run("import os; print(os.getcwd())"))
    await asyncio.sleep(0)
    assert not list(bench.runner.attempts.iterdir())  # not even its files are laid out

    box.become(strict)
    ended = await running

    assert box.level is SandboxLevel.STRICT
    assert ended.outcome is Outcome.SUCCEEDED, ended.reason
    assert stdout(ended) == "/local\n"
    bench.runner.close()


async def test_a_task_that_is_killed_before_the_box_is_known_never_runs(tmp_path: Path) -> None:
    bench, box = late_bench(tmp_path)
    mark = tmp_path / "ran"
    task = bench.task(f"open({str(mark)!r}, 'w')")
    running = asyncio.create_task(bench.runner.run(task))
    await asyncio.sleep(0)

    bench.runner.kill(task.attempt, "not wanted any more")
    box.become(Unboxed(adopt=False))

    assert (await running).outcome is Outcome.CANCELLED
    assert not mark.exists()
    bench.runner.close()


async def test_a_box_that_becomes_known_before_it_is_settled_is_settled_then(tmp_path: Path) -> None:
    box = LateBox()
    box.become(Unboxed(adopt=False))
    box.settle(tmp_path)
    boxed = box.start(scene(tmp_path))
    assert (await boxed.ended).exit == 0
    assert (tmp_path / "programs").is_dir()


async def test_a_worker_without_a_box_needs_no_folder_of_programs(tmp_path: Path) -> None:
    near, far = os.pipe()
    bare = Unboxed(adopt=False)
    boxed = bare.start(Scene(tmp_path, tmp_path, (), ("/bin/sh", "-c", "echo $PATH"), {}, Limits(), far, far))
    os.close(far)
    await boxed.ended
    assert "None" not in os.read(near, 4096).decode().split(":")
    os.close(near)
