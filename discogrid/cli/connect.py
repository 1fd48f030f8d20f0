"""From the words of a command line to a grid, a connection, a job, a task."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from discogrid.client import AsyncClient, resolve
from discogrid.errors import UsageError
from discogrid.grid import Grid, choose_grid
from discogrid.own import ensure_own_grid
from discogrid.types import JobId
from discogrid.views import JobView

LAST = "@last"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GridChoice:
    """Which grid a command was told to work on."""

    local: bool = False
    grid: str | None = None
    coordinator: str | None = None

    def open(self) -> Grid:
        """The grid; this machine's own is started when it does not run."""
        chosen = self.known()
        if chosen.own:
            ensure_own_grid()
        return chosen

    def known(self) -> Grid:
        """The grid, started or not."""
        return choose_grid(local=self.local, grid=self.grid, coordinator=self.coordinator)


def grid_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --local, --grid and --coordinator; the command gets them as `choice`."""

    @functools.wraps(command)
    def with_choice(
        *arguments: Any, local: bool, grid: str | None, coordinator: str | None, **options: Any
    ) -> Any:
        context = click.get_current_context()
        if local:  # settings name the grid for commands that say nothing; a flag that contradicts is an error
            grid = grid if _typed(context, "grid") else None
            coordinator = coordinator if _typed(context, "coordinator") else None
        return command(*arguments, choice=GridChoice(local, grid, coordinator), **options)

    for option in (
        click.option("--coordinator", metavar="HOST:PORT", help="Where the coordinator answers."),
        click.option("--grid", metavar="NAME", help="Work on this grid."),
        click.option("--local", is_flag=True, help="Work on this machine's own grid, whatever was joined."),
    ):
        with_choice = option(with_choice)
    return with_choice


@asynccontextmanager
async def connected(choice: GridChoice) -> AsyncIterator[AsyncClient]:
    """A client of the chosen grid."""
    async with AsyncClient(choice.open()) as client:
        yield client


def on_grid(choice: GridChoice, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]) -> T:
    """Connect, do the work, disconnect."""

    async def connect_and_work() -> T:
        async with connected(choice) as client:
            return await work(client)

    return asyncio.run(connect_and_work())


@dataclass(frozen=True, slots=True)
class Reference:
    """The job and perhaps the task that a user named."""

    job: JobView
    index: int | None = None

    @property
    def id(self) -> JobId:
        """The job's id."""
        return self.job.id


async def find(client: AsyncClient, text: str) -> Reference:
    """The job or task meant by `k3f9`, `k3f9-12`, `@last`, `@last-3`, a prefix or a unique name; UsageError if none is."""
    return refer(text, await client.jobs())


async def find_job(client: AsyncClient, text: str) -> JobView:
    """The job meant; UsageError when a task is."""
    reference = await find(client, text)
    if reference.index is not None:
        raise UsageError(f"{text!r} is a task; this command takes a whole job", fix=f"Write {reference.id}.")
    return reference.job


def refer(text: str, jobs: list[JobView]) -> Reference:
    """Like `find`, among these jobs."""
    if text == LAST and not jobs:
        raise UsageError("there is no job yet", fix="`discogrid submit SCRIPT INPUT…` makes one.")
    by_id = {job.id: job for job in jobs}
    above, dash, number = text.rpartition("-")
    try:
        return Reference(by_id[resolve(text, jobs)])
    except UsageError:
        if not (dash and number.isdecimal()):
            raise
    job = by_id[resolve(above, jobs)]
    if int(number) >= job.counts.total:
        raise UsageError(
            f"job {job.id} has no task {int(number)}",
            why=f"Its {job.counts.total} tasks are numbered from 0.",
            fix=f"`discogrid tasks {job.id}` lists them.",
        )
    return Reference(job, int(number))


def _typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE
