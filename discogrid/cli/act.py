"""Commands that wait for, fetch, stop and release jobs."""

import asyncio
from pathlib import Path

import click

from discogrid.cli.command import Command, as_duration, json_option
from discogrid.cli.connect import LAST, GridChoice, find, find_job, grid_options, on_grid
from discogrid.cli.console import Console
from discogrid.cli.downloading import download_options, tell_folder
from discogrid.cli.follow import Outcome, Stay, follow
from discogrid.cli.look import counts_text
from discogrid.client import AsyncClient
from discogrid.documents import job_document
from discogrid.download import Download, Wish
from discogrid.errors import ExitCode, UsageError, WaitTimeout
from discogrid.quantities import duration_text
from discogrid.views import JobView


@click.command(cls=Command)
@click.argument("job", metavar="JOB", default=LAST)
@click.option(
    "--timeout", metavar="DURATION", callback=as_duration, help="Give up after this time with exit code 5."
)
@json_option
@grid_options
@click.pass_obj
def wait(console: Console, choice: GridChoice, job: str, timeout: float | None, *, as_json: bool) -> int:
    """Wait until a job has ended; the exit code says how."""

    async def stay(client: AsyncClient) -> Outcome:
        found = await find_job(client, job)
        try:
            async with asyncio.timeout(timeout):
                return await follow(console, client, found.id, Stay())
        except TimeoutError:
            view = await client.job(found.id)
            raise WaitTimeout(
                f"job {found.id} did not end within {duration_text(timeout or 0)}: {counts_text(view.counts)}",
                fix=f"It goes on: `discogrid wait {found.id}` waits again, `discogrid cancel {found.id}` stops it.",
            ) from None

    ended = on_grid(choice, stay)
    if as_json:
        console.output.json("job", job_document(ended.job))
    return ended.code


@click.command(cls=Command)
@click.argument("job", metavar="JOB", default=LAST)
@download_options
@json_option
@grid_options
@click.pass_obj
def attach(console: Console, choice: GridChoice, job: str, wish: Wish, *, as_json: bool) -> int:
    """Go on watching and downloading a job, as `submit` would have done."""

    async def stay(client: AsyncClient) -> Outcome:
        return await follow(console, client, (await find_job(client, job)).id, Stay(wish))

    ended = on_grid(choice, stay)
    return tell_folder(console, ended, as_json=as_json)


@click.command(cls=Command)
@click.argument("job", metavar="JOB", default=LAST)
@download_options
@json_option
@grid_options
@click.pass_obj
def get(console: Console, choice: GridChoice, job: str, wish: Wish, *, as_json: bool) -> int:
    """Download the results that a job has so far.

    Those of a job that has not ended stay packed; `discogrid attach` waits for the rest.
    """
    view, folder = fetch_results(choice, job, wish)
    if not view.state.ended:
        console.narration.say(f"{counts_text(view.counts)}; `discogrid attach {view.id}` waits for the rest.")
    return tell_folder(console, Outcome(view, folder, ExitCode.SUCCEEDED), as_json=as_json)


@click.command(cls=Command)
@click.argument("jobs", metavar="JOB…", nargs=-1)
@click.option(
    "--job", "named", metavar="JOB", multiple=True, help="The job, as the code lab's command had it."
)
@grid_options
@click.pass_obj
def cancel(console: Console, choice: GridChoice, jobs: tuple[str, ...], named: tuple[str, ...]) -> None:
    """Stop jobs: what runs is killed, what waits is dropped, results that are there stay."""
    wanted = [*jobs, *named]
    if not wanted:
        raise UsageError("which job?", fix="Name one, such as `discogrid cancel @last`.")

    async def stop(client: AsyncClient) -> list[tuple[JobView, JobView]]:
        found = [await find_job(client, text) for text in wanted]
        for job in found:
            if not job.state.ended:
                await client.cancel(job.id)
        return [(before, await client.job(before.id)) for before in found]

    for before, after in on_grid(choice, stop):
        if before.state.ended:
            console.narration.say(f"{before.id} had {before.state} already")
        else:
            console.narration.say(f"{after.id} cancelled: {counts_text(after.counts)}")


@click.command(cls=Command)
@click.argument("jobs", metavar="JOB…", nargs=-1, required=True)
@grid_options
@click.pass_obj
def release(console: Console, choice: GridChoice, jobs: tuple[str, ...]) -> None:
    """Let jobs run that were submitted with --hold."""
    release_jobs(console, choice, jobs)


def release_jobs(console: Console, choice: GridChoice, jobs: tuple[str, ...]) -> None:
    """Let held jobs run; others are left as they are."""

    async def let_go(client: AsyncClient) -> list[JobView]:
        found = [await find_job(client, text) for text in jobs]
        for job in found:
            await client.release(job.id)
        return found

    for job in on_grid(choice, let_go):
        console.narration.say(
            f"{job.id} released" if job.state == "held" else f"{job.id} was not held: {job.state}"
        )


def fetch_results(choice: GridChoice, job: str, wish: Wish) -> tuple[JobView, Path]:
    """Download what the job has so far."""

    async def fetch(client: AsyncClient) -> tuple[JobView, Path]:
        view = (await find(client, job)).job
        download = await Download.begin(client, view, wish)
        try:
            download.add(await client.tasks(view.id))
            return view, await download.finish(view)
        finally:
            await download.close()

    return on_grid(choice, fetch)
