"""The scheduler under a virtual clock, with everything that goes wrong on a grid."""

import os
import subprocess
import sys

import pytest

from discogrid.types import JobState
from tests.pure.simulation import Simulation


@pytest.mark.parametrize("seed", range(12))
def test_a_grid_in_trouble_ends_every_task_once(seed: int) -> None:
    grid = Simulation(seed, agents=20, jobs=4, tasks=120)
    grid.run()
    assert len(grid.referee.ended_jobs) == 4
    assert set(grid.referee.ended_jobs.values()) <= {JobState.SUCCEEDED, JobState.FAILED}


def test_the_same_seed_gives_the_same_actions_whatever_the_hash_seed() -> None:
    program = (
        "from tests.pure.simulation import Simulation\n"
        "grid = Simulation(5, agents=30, jobs=3, tasks=100)\n"
        "grid.run()\n"
        "print(grid.digest.hexdigest())\n"
    )
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
    grids = [Simulation(seed, agents=5, jobs=1, tasks=20) for seed in (1, 2)]
    for grid in grids:
        grid.run()
    assert grids[0].digest.hexdigest() != grids[1].digest.hexdigest()
