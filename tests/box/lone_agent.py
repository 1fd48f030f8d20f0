"""A whole agent of a few lines, to be killed: runs a script in the best box, again and again.

Given: a folder, a script, the level of the box, and "guarded" or "alone". Prints its process id when it is ready.
"""

import asyncio
import os
import sys
from pathlib import Path

from discogrid.types import Attempt, JobId, Limits, SandboxLevel
from discogrid_agent.guardian import stand_guard
from discogrid_agent.runner import Runner, Task
from discogrid_agent.sandbox.probe import box_of

FOLDER, SCRIPT, LEVEL, GUARD = Path(sys.argv[1]), Path(sys.argv[2]), SandboxLevel(sys.argv[3]), sys.argv[4]


async def work(runner: Runner) -> None:
    for index in range(1_000_000):
        attempt = Attempt(JobId("k3f9"), index, 1, 7)
        await runner.run(
            Task(
                attempt,
                "k3f9-0",
                1,
                SCRIPT,
                "lone-script.py",
                None,
                None,
                (),
                (),
                (),
                {},
                1,
                Limits(seconds=300),
            )
        )
        runner.drop(attempt)


if GUARD == "guarded":
    stand_guard()
made = Runner(FOLDER, box_of(LEVEL), "attic")
made.sweep()
sys.stdout.write(f"{os.getpid()}\n")
sys.stdout.flush()
asyncio.run(work(made))
