"""What an agent finds out beside its work, in a process of its own; each test is a program, because it forks."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from discogrid.types import SandboxLevel
from discogrid_agent.prover import Findings, box_as_found, find_out
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.probe import try_box
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.sandbox.unboxed import Unboxed
from discogrid_agent.warm.warm_box import WarmBox
from tests.grid.machines import PATIENCE_S, until

Run = Callable[..., subprocess.CompletedProcess[str]]

BEGIN = """
import asyncio, os
from discogrid_agent import prover
from discogrid_agent.prover import Findings, Prover
from discogrid.types import SandboxLevel
"""


def program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + text], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_prover_finds_what_the_agent_itself_would(strict: Box) -> None:
    done = program(
        "print(asyncio.run(Prover.begin(None, warm=True).findings()) == prover.find_out(None, warm=True))"
    )
    assert done.stdout == "True\n", done.stderr


def test_the_box_as_found_keeps_the_promises_that_were_tried(strict: Box) -> None:
    found = find_out(None, warm=True)
    box = box_as_found(found, None)
    assert found.level is SandboxLevel.STRICT
    assert isinstance(box, WarmBox if not found.cold else StrictBox)
    assert box.no_network == found.no_network
    assert try_box(box) is None


def test_a_box_below_the_strict_one_stays_below_it() -> None:
    box = box_as_found(Findings(level=SandboxLevel.NONE, weak="nobody may make namespaces", cold="x"), None)
    assert isinstance(box, Unboxed)
    assert box.level is SandboxLevel.NONE


def test_a_prover_that_dies_is_an_error_and_no_weaker_box() -> None:
    done = program(
        "prover.find_out = lambda *_, **__: os.abort()\n"
        "try: asyncio.run(Prover.begin(None, warm=True).findings())\n"
        "except prover.SandboxError as error: print(error.what)\n"
    )
    assert "could not find out which box works here" in done.stdout, done.stderr


def test_a_prover_that_raises_says_so_in_the_log_and_does_not_go_on_as_an_agent() -> None:
    done = program(
        "def fails(*_, **__): raise ValueError('of the probe')\n"
        "prover.find_out = fails\n"
        "try: asyncio.run(Prover.begin(None, warm=True).findings())\n"
        "except prover.SandboxError: print('refused')\n"
    )
    assert done.stdout == "refused\n"
    assert "of the probe" in done.stderr


def test_a_prover_dies_with_its_agent(tmp_path: Path) -> None:
    told = tmp_path / "prover"
    agent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            BEGIN
            + f"def waits(*_, **__):\n    open({str(told)!r}, 'w').write(str(os.getpid()))\n    import signal; signal.pause()\n"
            + "prover.find_out = waits\nasyncio.run(Prover.begin(None, warm=True).findings())\n",
        ],
        stdout=subprocess.PIPE,
    )
    until(lambda: told.exists() and told.read_text())
    agent.kill()
    said, _ = agent.communicate(timeout=PATIENCE_S)  # which ends when nobody holds the other end any more
    assert said == b""
