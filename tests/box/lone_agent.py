"""A whole agent of a few lines, to be killed: runs a script in the best box, again and again.

Given: a folder, a script, the level of the box (or how it starts), and "guarded" or "alone". Prints its process id when
it is ready.
"""

import asyncio
import os
import sys
from pathlib import Path

from discogrid.types import Attempt, JobId, Limits, SandboxLevel
from discogrid_agent.guardian import stand_guard
from discogrid_agent.runner import Runner, Task
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.bubblewrap import Bubblewrap, find_bubblewrap
from discogrid_agent.sandbox.probe import box_of
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.uplink.proof import prove_network
from tests.box.warm_first import WarmFirst

FOLDER, SCRIPT, LEVEL, GUARD = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]


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
                network=LEVEL == "online",
                submitter="me",
            )
        )
        runner.drop(attempt)


if GUARD == "guarded":
    stand_guard()
box: Box
if LEVEL in {"warm", "online"}:
    box = box_of(SandboxLevel.STRICT)
    assert isinstance(box, StrictBox)
    if LEVEL == "warm":
        box = WarmFirst(box)
    else:
        assert not prove_network(box).reason
elif LEVEL == "bwrap":
    box = StrictBox(Bubblewrap(find_bubblewrap()[0]))
else:
    box = box_of(SandboxLevel(LEVEL))
made = Runner(FOLDER, box, "attic")
made.sweep()
sys.stdout.write(f"{os.getpid()}\n")
sys.stdout.flush()
asyncio.run(work(made))
