"""Stays with a job until it has ended: progress, results as they come, Ctrl-C, and what is said at the end."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discogrid import places
from discogrid.cli.absence import Absence
from discogrid.cli.console import Console
from discogrid.cli.interrupts import Interrupts, ended_first
from discogrid.cli.look import counts_text, exit_code_of, failed_task, plural
from discogrid.cli.narration import Progress
from discogrid.cli.text import printable
from discogrid.client import AsyncClient
from discogrid.download import Download, Wish
from discogrid.errors import BlobError, DiscogridError, ExitCode, GridError, NoAgentFits
from discogrid.own import is_running
from discogrid.quantities import duration_text, size_text
from discogrid.types import JobId, JobState
from discogrid.views import JobView, TaskView

TICK_S = 0.5  # the clock in the bar
DETACH_S = 2.0  # in which a second Ctrl-C cancels
EXPLAIN_S = 5.0  # after so long without any work being done, say why
NEVER_S = 2.0  # after so long an idle machine of our own has had its chance
NO_QUEUE_S = 1.0
FAILURES_TOLD = 3


@dataclass(frozen=True, slots=True)
class Stay:
    """How to stay with a job."""

    wish: Wish | None = None  # None: nothing is downloaded
    cancel_on_interrupt: bool = False
    no_queue: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, or that its user left."""

    job: JobView
    folder: Path | None
    code: ExitCode


class Follower:
    """Stays with one job."""

    def __init__(self, console: Console, client: AsyncClient, job: JobView, stay: Stay) -> None:
        """`job` as it was a moment ago."""
        self._narration = console.narration
        self._client = client
        self._stay = stay
        self._job = job
        self._tasks: dict[int, TaskView] = {}
        self._download: Download | None = None
        self._since = time.monotonic()
        self._first_ended = job.counts.ended
        self._explained = False
        self._absence = Absence(
            console.narration,
            client.grid,
            "Ctrl-C: detach",
            f"The job goes on without us: `discogrid attach {job.id}` when the grid is in reach again.",
        )

    async def run(self, interrupts: Interrupts) -> Outcome:
        """Until the job has ended or its user leaves; says how it went."""
        following = asyncio.create_task(self._to_the_end())
        try:
            while not await ended_first(following, interrupts):
                if (left := await self._interrupted(following, interrupts)) is not None:
                    return left
            folder = following.result()
        finally:
            await _stop(following)
            if self._download is not None:
                await self._download.close()
        self._tell_end(folder)
        return Outcome(self._job, folder, exit_code_of(self._job))

    # -- the way to the end

    async def _to_the_end(self) -> Path | None:
        """Watch and download, over interruptions of the connection."""
        while True:
            try:
                if self._download is None and self._stay.wish is not None:
                    self._download = await Download.begin(self._client, self._job, self._stay.wish)
                await self._watch()
                return await self._download.finish(self._job) if self._download is not None else None
            except (GridError, BlobError) as error:
                await self._absence.bear(error)

    async def _watch(self) -> None:
        """Until the job has ended, all of its tasks are known, and what they left is here."""
        over = asyncio.Event()
        with self._narration.progress(max(self._job.counts.total, 1)) as bar:
            all_of_it = [
                asyncio.create_task(each)
                for each in (self._changes(bar, over), self._tick(bar), self._rest(over))
            ]
            try:
                done, _ = await asyncio.wait(all_of_it, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in all_of_it:
                    task.cancel()
                await asyncio.wait(all_of_it)

    async def _rest(self, over: asyncio.Event) -> None:
        """What is still to come when the job is over."""
        await over.wait()
        if sum(task.state.ended for task in self._tasks.values()) < self._job.counts.total:
            self._note(await self._client.tasks(self._job.id))
        if self._download is not None:
            await self._download.settle()

    async def _changes(self, bar: Progress, over: asyncio.Event) -> None:
        async with self._client.watch(self._job.id) as changes:
            async for changed in changes:
                self._absence.end()
                for view in changed.jobs:
                    self._job = view
                self._note(list(changed.tasks))
                self._show(bar)
                if self._job.state is JobState.HELD and self._job.counts.ended:
                    raise _held(self._job, list(self._tasks.values()))
                if self._job.state.ended:
                    over.set()  # and listen on: until all is here, the coordinator may yet be gone

    def _note(self, tasks: list[TaskView]) -> None:
        self._tasks.update({task.index: task for task in tasks})
        if self._download is not None:
            self._download.add(tasks)

    async def _tick(self, bar: Progress) -> None:
        """Move the bar's clock, and say why when nothing happens."""
        while True:
            await asyncio.sleep(TICK_S)
            self._show(bar)
            if self._client.grid.own and not is_running():
                raise GridError("this machine's own grid has ended")  # known at once, not after a silence
            counts = self._job.counts
            if counts.running or counts.ended or self._job.state is JobState.HELD:
                continue
            await self._explain(time.monotonic() - self._since)

    async def _explain(self, waited: float) -> None:
        """Nothing of the job runs: say why once, and give up where it can never run or must not wait."""
        if waited < NO_QUEUE_S:
            return
        live = [agent for agent in await self._client.agents() if agent.state == "live"]
        gives_up = self._stay.no_queue or (self._client.grid.own and waited >= NEVER_S and live)
        if gives_up and not await self._client.placeable(self._job.id):
            here = "this machine" if self._client.grid.own else "no agent of the grid"
            raise await self._unplaced(f"{here} can {'never' if self._client.grid.own else 'ever'} run it")
        if self._stay.no_queue and not any(agent.busy < agent.slots for agent in live):
            raise await self._unplaced("nothing is free for it now, and --no-queue was given")
        if waited < EXPLAIN_S or self._explained:
            return
        self._explained = True
        reasons = await self._client.why(self._job.id)
        for agent, reason in list(reasons.items())[:FAILURES_TOLD]:
            self._narration.say(f"waiting: {printable(agent)} {printable(reason)}")
        if not live:
            self._narration.say(f"waiting: {self._agentless()}")

    def _agentless(self) -> str:
        if self._client.grid.own:
            return (
                f"this machine's agent has not come up; its log is {printable(str(places.log_file('own')))}"
            )
        return "the grid has no agent yet; `discogrid agent` on any of your machines adds one"

    async def _unplaced(self, what: str) -> NoAgentFits:
        reasons = await self._client.why(self._job.id)
        await self._client.cancel(self._job.id)
        return NoAgentFits(
            f"job {self._job.id} was cancelled: {what}",
            why="\n".join(f"{agent}: {reason}" for agent, reason in reasons.items()),
            fix="Ask for less (--cpus, --memory, --needs, --min-sandbox), or use a grid with machines that fit.",
        )

    def _show(self, bar: Progress) -> None:
        counts, spent = self._job.counts, time.monotonic() - self._since
        words = [counts_text(counts), duration_text(spent)]
        fresh = counts.ended - self._first_ended
        if fresh and counts.ended < counts.total:
            words.append(f"about {duration_text(spent / fresh * (counts.total - counts.ended))} left")
        bar.update(counts.ended, " · ".join(words))

    # -- Ctrl-C

    async def _interrupted(
        self, following: "asyncio.Task[Path | None]", interrupts: Interrupts
    ) -> Outcome | None:
        """Detach after the first Ctrl-C, cancel after a second or when told so; None: go on to the cancelled end."""
        job = self._job.id
        if not self._stay.cancel_on_interrupt:
            self._narration.say(
                f"Detaching: job {job} goes on. Press Ctrl-C again to cancel it.\n"
                f"  discogrid attach {job}    goes on watching and downloading\n"
                f"  discogrid cancel {job}    stops it"
            )
            try:
                async with asyncio.timeout(DETACH_S):
                    if await ended_first(following, interrupts):
                        return None
            except TimeoutError:
                return Outcome(self._job, None, ExitCode.INTERRUPTED)
        self._narration.say(f"Cancelling job {job}…")
        await self._client.cancel(job)
        if await ended_first(following, interrupts):
            return None
        return Outcome(self._job, None, ExitCode.INTERRUPTED)

    # -- the end

    def _tell_end(self, folder: Path | None) -> None:
        job, counts = self._job, self._job.counts
        end = job.ended if job.ended is not None else time.time()
        took = duration_text(end - (job.started if job.started is not None else job.created))
        size = size_text(sum(task.archive_bytes for task in self._tasks.values()))
        if job.state is JobState.SUCCEEDED:
            kept = f", {size} of results" if folder is not None else ""
            self._narration.say(f"{job.id}: {plural(counts.total, 'task')} done in {took}{kept}")
        elif job.state is JobState.CANCELLED:
            self._narration.say(f"{job.id}: cancelled after {took}; {counts_text(counts)}")
        else:
            self._narration.error(failure_of(job, list(self._tasks.values())))


async def follow(console: Console, client: AsyncClient, job: JobId, stay: Stay) -> Outcome:
    """Stay with the job."""
    with Interrupts() as interrupts:
        return await Follower(console, client, await client.job(job), stay).run(interrupts)


def failure_of(job: JobView, tasks: list[TaskView]) -> DiscogridError:
    """The failed tasks of a job in words: which, where, why, and the command that tells more."""
    failed = sorted((task for task in tasks if failed_task(task)), key=lambda task: task.index)
    told = []
    for task in failed[:FAILURES_TOLD]:
        what = f" ({printable(task.input)})" if task.input else ""
        where = f" on {task.agent}" if task.agent else ""
        told.append(f"{task.label}{what}{where}: {task.reason or f'exit {task.exit}'}")
    if len(failed) > FAILURES_TOLD:
        told.append(f"… and {len(failed) - FAILURES_TOLD} more: discogrid tasks {job.id} --state failed")
    first = failed[0].label if failed else job.id
    return DiscogridError(
        f"{len(failed)} of {plural(job.counts.total, 'task')} of {job.id} failed",
        why="\n".join(told) or job.reason,
        fix=f"`discogrid logs {first}` prints all that it wrote.",
    )


def _held(job: JobView, tasks: list[TaskView]) -> DiscogridError:
    """The grid has stopped a job whose first tasks failed alike."""
    failed = next((task.label for task in tasks if failed_task(task)), job.id)
    left = job.counts.total - job.counts.ended
    return DiscogridError(
        f"job {job.id} is held, with {plural(left, 'task')} left: {printable(job.reason)}",
        why=f"`discogrid logs {failed}` prints all that such a task wrote.",
        fix=f"`discogrid release {job.id}` runs the rest all the same, `discogrid cancel {job.id}` gives it up.",
    )


async def _stop(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait({task})
