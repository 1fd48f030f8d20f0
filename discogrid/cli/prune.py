"""The command `discogrid prune`: drops ended jobs with the results that the grid keeps of them."""

import time
from collections.abc import Sequence

import click

from discogrid.cli.command import Command, as_duration, json_option
from discogrid.cli.connect import GridChoice, find_job, grid_options, on_grid
from discogrid.cli.console import Console
from discogrid.cli.look import counts_text, plural
from discogrid.cli.output import Column
from discogrid.cli.text import printable
from discogrid.client import AsyncClient
from discogrid.documents import job_document
from discogrid.errors import UsageError
from discogrid.quantities import duration_text
from discogrid.types import NodeId
from discogrid.views import JobView

OLDER_THAN_S = 7 * 86400.0


@click.command(cls=Command)
@click.argument("jobs", metavar="[JOB…]", nargs=-1)
@click.option(
    "--older-than",
    metavar="DURATION",
    callback=as_duration,
    help="Jobs that ended so long ago. [default: 7d, unless jobs are named]",
)
@click.option("--all", "everybody", is_flag=True, help="Those of other submitters, too; for admins.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and drop nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@grid_options
@click.pass_obj
def prune(
    console: Console,
    choice: GridChoice,
    jobs: tuple[str, ...],
    older_than: float | None,
    *,
    everybody: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Drop ended jobs: the grid forgets them, and what it keeps of their results. Downloads stay.

    Without a JOB all of yours that ended more than 7 days ago. What has not ended is never dropped.
    """
    of = None if everybody else choice.known().identity.id

    async def look(client: AsyncClient) -> list[JobView]:
        if jobs:
            return ended_ones([await find_job(client, text) for text in jobs], older_than)
        return old_ones(await client.jobs(), older_than or OLDER_THAN_S, time.time(), of)

    found = on_grid(choice, look)
    if found and not dry_run:
        if not yes:
            _ask(console, found, quietly=as_json)

        async def drop(client: AsyncClient) -> None:
            for job in found:
                await client.prune(job.id)

        on_grid(choice, drop)
    if as_json:
        console.output.json("jobs", {"jobs": [job_document(job) for job in found], "dropped": not dry_run})
    elif dry_run:
        _show(console, found)
    if not as_json:
        console.narration.say(f"{plural(len(found), 'job')} {'would be ' if dry_run else ''}dropped")


def old_ones(jobs: Sequence[JobView], age_s: float, now: float, of: NodeId | None) -> list[JobView]:
    """Those that ended at least `age_s` seconds before `now`, of one submitter or (None) of all."""
    return [
        job
        for job in jobs
        if job.ended is not None and now - job.ended >= age_s and of in (None, job.submitter)
    ]


def ended_ones(jobs: Sequence[JobView], older_than: float | None) -> list[JobView]:
    """The named jobs; UsageError when one has not ended, or an age is asked for as well."""
    if older_than is not None:
        raise UsageError("--older-than chooses among all jobs", fix="Name jobs, or an age, but not both.")
    for job in jobs:
        if not job.state.ended:
            raise UsageError(
                f"job {job.id} has not ended: {job.state}", fix=f"Stop it first: discogrid cancel {job.id}"
            )
    return list({job.id: job for job in jobs}.values())


def _show(console: Console, jobs: Sequence[JobView]) -> None:
    rows = [
        (job.id, printable(job.name), counts_text(job.counts), duration_text(time.time() - (job.ended or 0)))
        for job in jobs
    ]
    columns = (Column("JOB"), Column("NAME", gives_way=True), Column("TASKS"), Column("ENDED AGO"))
    console.output.table(columns, rows)


def _ask(console: Console, jobs: Sequence[JobView], *, quietly: bool) -> None:
    if quietly or not console.narration.terminal:
        raise UsageError(
            f"{plural(len(jobs), 'job')} would be dropped, and nobody is here to be asked",
            fix="Say so with -y.",
        )
    _show(console, jobs)
    click.confirm(f"Drop {plural(len(jobs), 'job')} with their results?", abort=True, err=True)
