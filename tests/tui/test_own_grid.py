"""The dashboard over a real grid: coordinator, agent and box of this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.test_terminal import ROOT, terminal

SCRIPT = """
import sys
if sys.argv[1] == "in1.txt":
    sys.exit("no glasses in here")
open("run-result/seen-" + sys.argv[1], "w").write("x")
"""
COMMAND_S_MAX = 60


def discogrid(*words: str, environment: dict[str, str], cwd: Path) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "discogrid", *words],
        env=os.environ | environment, cwd=cwd, capture_output=True, text=True, timeout=COMMAND_S_MAX, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """This machine's own grid in a home of its own; it leaves after a few idle seconds."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return {"DISCOGRID_HOME": str(home), "DISCOGRID_IDLE_EXIT": "2s", "PYTHONPATH": str(ROOT)}


def test_a_real_job_is_seen_with_its_tasks_and_its_agent(own: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "look.py").write_text(SCRIPT)
    for number in range(3):
        (tmp_path / f"in{number}.txt").write_text("x")
    job = discogrid("submit", "-d", "--retries", "0", "look.py", "in*.txt", environment=own, cwd=tmp_path)
    with terminal("discogrid", "tui", size=(110, 30), **own) as screen:
        screen.until("3/3 ✗1")
        screen.press("\r")
        screen.until("3 of 3 tasks")
        screen.press("/state:failed\r")
        screen.until("1 of 3 tasks")
        screen.press("i")
        screen.until(f"discogrid logs {job}-001")
        screen.press("q3")
        screen.until("1 of 1 agent")
        screen.press("q")
        assert screen.ended() == 0
