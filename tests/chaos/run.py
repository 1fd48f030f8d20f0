"""One run: a grid of real processes, a job, its troubles, and the books at the end."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos import books
from tests.chaos.faults import Faults
from tests.chaos.grid import HUB, Grid
from tests.chaos.plan import Plan
from tests.network.hosts import Network, until

END_S = 120.0  # after the last trouble, at most
Tell = Callable[[str], None]


def play(plan: Plan, folder: Path, tell: Tell = lambda _: None) -> float:
    """AssertionError says what is wrong in the end; the seconds from the first task to the last result."""
    small = {fault.where or HUB for fault in plan.faults if fault.what.startswith("fill disk")}
    with Network(folder) as network:
        grid = Grid(network, small)
        return asyncio.run(_run(plan, grid, folder.name, tell))


async def _run(plan: Plan, grid: Grid, mark: str, tell: Tell) -> float:
    work = grid.hub.host.work
    script = f"chaos-{os.getpid()}-{mark}.py"
    grid.hub.host.write(script, books.SCRIPT)
    asset = random.Random(plan.seed).randbytes(books.ASSET_BYTES)
    (work / "assets").mkdir()
    (work / "assets" / "asset").write_bytes(asset)
    inputs = [f"{seconds} {plan.seed} {index}".encode() for index, seconds in enumerate(plan.tasks)]
    for index, content in enumerate(inputs):
        grid.hub.host.write(books.name_of(index), content)
    names = [books.name_of(index) for index in range(len(inputs))]
    mount = f"{work / 'assets'}:/assets"
    submit = ("submit", script, *names, "--mount", mount, "--retries", "5", "-o", "got")
    client = grid.hub.start(*submit)
    job = await asyncio.to_thread(until, lambda: _job(grid))
    began = time.monotonic()
    faults = Faults(grid)

    async def strike() -> None:
        striking: list[asyncio.Task[None]] = []
        for fault in plan.faults:
            await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
            tell(f"    {fault}")
            striking.append(asyncio.create_task(faults.strike(fault)))
        await asyncio.gather(*striking)

    await strike()
    await asyncio.to_thread(grid.mend)
    wanted = books.expected(inputs, asset)
    if await asyncio.to_thread(client.wait, END_S) != 0 or not (work / "got" / "job.json").exists():
        done = await asyncio.to_thread(lambda: grid.hub.run("attach", job, "-o", "got", patience_s=END_S))
        assert done.returncode == 0, done.stderr
    took = time.monotonic() - began
    books.check_results(work / "got", wanted)
    books.check_tasks(grid.hub.host.document("tasks", job).get("tasks", []), len(inputs))
    await asyncio.to_thread(until, lambda: not books.leftovers(grid, files=True))
    await asyncio.to_thread(grid.stop)
    books.check_journal(grid.hub, len(inputs))
    books.check_leftovers(grid, script)
    return took


def _job(grid: Grid) -> str:
    jobs = grid.hub.host.document("ls").get("jobs", [])
    return str(jobs[0]["id"]) if jobs else ""
