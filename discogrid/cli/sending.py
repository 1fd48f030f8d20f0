"""Sends a submission to a grid and stays with it: read and sign, upload, watch, download."""

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from discogrid import places
from discogrid.cli.connect import GridChoice
from discogrid.cli.console import Console
from discogrid.cli.follow import Follower, Outcome, Stay
from discogrid.cli.interrupts import Interrupts, ended_first
from discogrid.cli.look import plural
from discogrid.cli.text import printable
from discogrid.client import AsyncClient
from discogrid.documents import job_document
from discogrid.errors import DiscogridError, ExitCode
from discogrid.grid import Grid
from discogrid.own import begin_own_grid, ensure_own_grid
from discogrid.quantities import size_text
from discogrid.submission import Prepared, Submission, prepare
from discogrid.types import JobId, SandboxLevel
from discogrid.views import JobView


class Interrupted(DiscogridError):
    """The command was interrupted."""

    exit_code = ExitCode.INTERRUPTED


def with_own_box(submission: Submission, choice: GridChoice) -> Submission:
    """The submission, content with the best box this machine has when its own grid runs it: same user, own key."""
    if not choice.known().own:
        return submission
    return replace(submission, requirements=replace(submission.requirements, sandbox=SandboxLevel.NONE))


def run(
    console: Console, choice: GridChoice, submission: Submission, stay: Stay | None, *, hold: bool = False
) -> Outcome:
    """Submit, and stay until the job has ended; without `stay`, leave when the grid keeps it."""
    if stay is not None and stay.wish is not None:
        stay.wish.check()
    grid = choice.known()
    if grid.own:
        begin_own_grid()  # beside the reading
    with tempfile.TemporaryDirectory(prefix="discogrid-") as scratch:
        prepared = sign(console, grid, submission, Path(scratch))
        return asyncio.run(_send_and_stay(console, grid, prepared, stay, hold=hold))


def sign(console: Console, grid: Grid, submission: Submission, scratch: Path) -> Prepared:
    """Read, digest and sign, with progress."""
    total = 1 + len(submission.constants) + len(submission.inputs)
    with console.narration.progress(total) as bar:
        read = 0

        def on_file(path: Path) -> None:
            nonlocal read
            bar.update(read, f"reading {read + 1} of {total}: {printable(path.name)}")
            read += 1

        return prepare(submission, grid, scratch, time.time(), on_file)


def tell_id(console: Console, job: JobView, *, as_json: bool) -> None:
    """The id of a job that goes on without us, on stdout; how to go on, on stderr."""
    if job.state == "held":
        console.narration.say(
            f"{job.id} ({printable(job.name)}) is held: `discogrid release {job.id}` lets it run"
        )
    else:
        console.narration.say(
            f"{job.id} ({printable(job.name)}) goes on: `discogrid attach {job.id}` watches it"
        )
    if as_json:
        console.output.json("job", job_document(job))
    else:
        console.output.line(job.id)


async def _send_and_stay(
    console: Console, grid: Grid, prepared: Prepared, stay: Stay | None, *, hold: bool
) -> Outcome:
    narration = console.narration
    if grid.own and ensure_own_grid():
        narration.detail("started this machine's own grid; it leaves after ten idle minutes")
    async with AsyncClient(grid) as client:
        # From here to the end, so that no moment is left in which Ctrl-C would drop a job unnamed.
        with Interrupts() as interrupts:
            sending = asyncio.create_task(_send(console, client, prepared, hold=hold))
            if not await ended_first(sending, interrupts):
                sending.cancel()
                await asyncio.wait({sending})
                raise Interrupted(
                    "interrupted before the grid answered", fix="`discogrid ls` shows whether it has the job."
                )
            job = await client.job(sending.result())
            if stay is None:
                return Outcome(job, None, ExitCode.SUCCEEDED)
            where = "this machine" if grid.own else f"grid {printable(grid.name)}"
            narration.say(f"{job.id} ({printable(job.name)}): {plural(job.counts.total, 'task')} on {where}")
            outcome = await Follower(console, client, job, stay).run(interrupts)
        if grid.own:
            await tell_weak_box(console, client)
        return outcome


async def tell_weak_box(console: Console, client: AsyncClient) -> None:
    """Say once, until the next start of this machine, that its tasks run in less than the strict box."""
    told = places.runtime_folder() / "weak-box.told"
    if told.exists():
        return
    agents = await client.agents()
    levels = {agent.sandbox for agent in agents if agent.state == "live" and not agent.proving}
    if levels and SandboxLevel.STRICT not in levels:
        console.narration.warn(
            f"tasks run on this machine in the box {min(levels)!r}: they can read and change what you can;"
            " `discogrid doctor` says what fixes that"
        )
        told.touch()


async def _send(console: Console, client: AsyncClient, prepared: Prepared, *, hold: bool) -> JobId:
    with console.narration.progress(prepared.bytes) as bar:
        sent = 0

        def on_uploaded(size: int) -> None:
            nonlocal sent
            sent += size
            bar.update(sent, f"sent {size_text(sent)} of {size_text(prepared.bytes)}")

        return await client.submit(prepared, hold=hold, on_uploaded=on_uploaded)
