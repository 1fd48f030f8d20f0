"""An agent that is killed takes everything it started with it, at whatever moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from discogrid_agent.sandbox.box import Box
from tests.box.bench import appeared, gone
from tests.box.conftest import LEVELS
from tests.box.test_ends import daemons

AGENT = Path(__file__).with_name("lone_agent.py")
ROOT = Path(__file__).parents[2]
MOMENTS = 12  # at which an agent is killed while it starts boxes


class LoneAgent:
    """An agent in a process of its own; `pid` is the agent's, the process may be its guard."""

    def __init__(self, folder: Path, script: str, level: str, guard: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "script").write_text(script)
        path = os.pathsep.join(map(str, (ROOT, ROOT / "agent")))
        self.process = subprocess.Popen(
            [sys.executable, AGENT, folder / "agent", folder / "script", level, guard],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self.process.stdout is not None
        self.pid = int(self.process.stdout.readline())

    def end(self, pid: int, number: int = signal.SIGKILL) -> int:
        os.kill(pid, number)
        code = self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.mark.parametrize(
    ("level", "guard"),
    [("strict", "alone"), *((level, "guarded") for level in LEVELS)],
)
async def test_nothing_survives_a_killed_agent(tmp_path: Path, strict: Box, level: str, guard: str) -> None:
    mark = f"survivor-{os.getpid()}-{level}-{guard}"
    agent = LoneAgent(tmp_path / "a", daemons(mark, "time.sleep(300)"), level, guard)
    await appeared(mark, 4)
    agent.end(agent.pid)
    assert await gone(mark, 1)


async def test_nothing_survives_a_killed_guard(tmp_path: Path, strict: Box) -> None:
    mark = f"guardless-{os.getpid()}"
    agent = LoneAgent(tmp_path / "a", daemons(mark, "time.sleep(300)"), "strict", "guarded")
    await appeared(mark, 4)
    agent.end(agent.process.pid)
    assert await gone(mark, 1)
    assert await gone(str(tmp_path), 1)


async def test_an_agent_killed_while_it_builds_boxes_leaves_none_half_built(
    tmp_path: Path, strict: Box
) -> None:
    for moment in range(MOMENTS):
        folder = tmp_path / str(moment)
        agent = LoneAgent(folder, "pass", "strict", "guarded")
        time.sleep(0.05 + moment * 0.0013)  # noqa: ASYNC251 - any moment will do; they shall differ
        agent.end(agent.pid)
        assert await gone("lone-script.py", 1)
        assert await gone(str(folder), 1)


async def test_the_guard_ends_as_its_agent_ended(tmp_path: Path, strict: Box) -> None:
    agent = LoneAgent(tmp_path / "a", "import time; time.sleep(300)", "strict", "guarded")
    await appeared("lone-script.py")
    assert agent.end(agent.process.pid, signal.SIGTERM) == 128 + signal.SIGTERM
    assert await gone("lone-script.py", 1)


async def test_the_next_agent_sweeps_and_works(tmp_path: Path, strict: Box) -> None:
    mark = f"swept-{os.getpid()}"
    script = daemons(mark, "open('run-result/x', 'w'); time.sleep(300)")
    first = LoneAgent(tmp_path / "a", script, "strict", "guarded")
    await appeared(mark, 4)
    first.end(first.pid)
    assert await gone(mark, 1)
    second = LoneAgent(tmp_path / "a", script, "strict", "guarded")
    await appeared(mark, 4)
    assert len(list((tmp_path / "a" / "agent" / "attempts").iterdir())) == 1
    second.end(second.pid)
    assert await gone(mark, 1)
