"""Whole grids under a virtual clock, with everything that goes wrong on one: tests/sim, a few of its seeds."""

import os
import subprocess
import sys

import pytest

from discogrid_coordinator.scheduler import Scheduler
from tests.sim.__main__ import main
from tests.sim.grid import Grid


@pytest.mark.parametrize("first", range(0, 24, 8))
def test_a_grid_in_trouble_ends_every_task_once(first: int) -> None:
    for seed in range(first, first + 8):
        summary = Grid(seed).run()
        assert sum(summary.ends.values()) == summary.tasks


def test_a_large_grid_in_trouble_ends_every_task_once() -> None:
    summary = Grid(1, agents=150, tasks=600).run()
    assert sum(summary.ends.values()) == summary.tasks
    assert summary.ends["done"] > summary.tasks / 2


def test_the_same_seed_gives_the_same_actions_whatever_the_hash_seed() -> None:
    program = "from tests.sim.grid import Grid\nprint(Grid(5, 8, 60).run().digest)"
    digests = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1] != ""


def test_another_seed_gives_other_actions() -> None:
    first, second = (Grid(seed, 3, 20).run() for seed in (1, 2))
    assert first.digest != second.digest


def test_a_seed_that_fails_is_named_with_the_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Scheduler, "_may_win", lambda *_: True)  # a result may win twice
    assert main(["--seeds", "0..1"]) == 1
    told = capsys.readouterr().out
    assert "seed 0 fails; again with: python -m tests.sim --seed 0\n" in told
    assert told.endswith("1 seeds, 1 failed; 0 tasks (), 0 events\n")
    with pytest.raises((AssertionError, KeyError)):
        main(["--seed", "0"])


def test_a_grid_is_shown_with_what_its_machines_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7", "--agents", "4", "--tasks", "20"]) == 0
    names = [line.split(" ")[0] for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert names == [
        "seed",
        "agents",
        "tasks",
        "events",
        "scheduler",
        "agents",
        "worst",
        "makespan",
        "digest",
    ]
