"""`python -m tests.tui.fake_dashboard [TASKS]`: the dashboard over a grid that is not there, in a real terminal."""

import asyncio
import random
import sys
import time

from discogrid.types import Counts, TaskState
from discogrid_tui.app import Dashboard
from discogrid_tui.model import Model
from tests.tui.fakes import NOW, FakeGrid, a_busy_grid, agent, job, task


async def live(grid: FakeGrid, tasks: int) -> None:
    """Let the tasks of one job run, a handful every tenth of a second."""
    done = 0
    while done < tasks:
        await asyncio.sleep(0.1)
        for index in random.sample(range(tasks), min(20, tasks)):
            grid.push(
                task(index, "big1", state=TaskState.DONE, attempt=1, agent="attic", seconds=1.5, exit=0)
            )
        done += min(20, tasks)
        counts = Counts(
            done=min(done, tasks), queued=max(0, tasks - done - 4), running=min(4, max(0, tasks - done))
        )
        grid.push(job("big1", name="many", counts=counts, created=NOW - 1), agent(done=done))


async def main(tasks: int) -> None:
    grid = a_busy_grid()
    if tasks:
        grid.push(job("big1", name="many", counts=Counts(queued=tasks), created=NOW - 1))
        grid.push(*(task(index, "big1") for index in range(tasks)))
    begun = time.monotonic()
    model = Model("own", NOW, own=True)
    pushing = asyncio.create_task(live(grid, tasks))
    await Dashboard(model, grid.connect, lambda: NOW + time.monotonic() - begun).run_async()
    pushing.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
