"""The code lab's own commands, so that its shell scripts run as they are; each maps onto one of ours."""

from collections import Counter
from pathlib import Path

import click

from discogrid import __version__
from discogrid.cli.act import fetch_results, release_jobs
from discogrid.cli.command import Command, json_option
from discogrid.cli.connect import LAST, GridChoice, find_job, grid_options, on_grid
from discogrid.cli.console import Console
from discogrid.cli.downloading import tell_folder
from discogrid.cli.follow import Outcome, Stay
from discogrid.cli.look import JOB_COLUMNS, job_row, tell_job
from discogrid.cli.sending import run as run_submission
from discogrid.cli.sending import tell_id, with_own_box
from discogrid.cli.submit import submission_of
from discogrid.documents import job_document
from discogrid.download import Wish
from discogrid.errors import ExitCode, UsageError
from discogrid.grid import OWN, forget_address, joined
from discogrid.keys import shown_id
from discogrid.types import JobState

CLUSTER = click.option("--cluster", metavar="NAME", help="Work on this grid.")
JOB = click.option("--job", metavar="JOB", default=LAST, help="The job's id or name. [default: the newest]")


@click.command(cls=Command)
@click.option("--name", default="", help="The job's name.")
@click.option("--script", required=True, metavar="FILE", help="The script.")
@click.option(
    "--input", "inputs", metavar="PATTERN,…", multiple=True, help='Inputs, such as "split*.mp4,other.mp4".'
)
@click.option("--constants", metavar="FILE,…", multiple=True, help="Files beside the script in every task.")
@click.option("--run", is_flag=True, help="Run at once, not at `start`.")
@click.option("--wait", is_flag=True, help="Stay until the job has ended.")
@click.option("--download", is_flag=True, help="Stay, and download the results.")
@CLUSTER
@click.pass_obj
def add(
    console: Console,
    *,
    name: str,
    script: str,
    inputs: tuple[str, ...],
    constants: tuple[str, ...],
    run: bool,
    wait: bool,
    download: bool,
    cluster: str | None,
) -> int:
    """Submit a job: held unless --run, --wait or --download is given."""
    choice = GridChoice(grid=cluster)
    submission = submission_of(script=script, inputs=_parts(inputs), name=name, constants=_parts(constants))
    stay = Stay(Wish() if download else None) if wait or download else None
    ended = run_submission(
        console, choice, with_own_box(submission, choice), stay, hold=not (run or wait or download)
    )
    if stay is None:
        tell_id(console, ended.job, as_json=False)
        return ExitCode.SUCCEEDED
    return tell_folder(console, ended, as_json=False)


@click.command(cls=Command)
@JOB
@CLUSTER
@click.pass_obj
def start(console: Console, *, job: str, cluster: str | None) -> None:
    """Let a job run that was added without --run."""
    release_jobs(console, GridChoice(grid=cluster), (job,))


@click.command("list", cls=Command)
@json_option
@CLUSTER
@click.pass_obj
def list_jobs(console: Console, *, as_json: bool, cluster: str | None) -> None:
    """List all jobs, newest first."""
    jobs = list(reversed(on_grid(GridChoice(grid=cluster), lambda client: client.jobs())))
    if as_json:
        console.output.json("jobs", {"jobs": [job_document(job) for job in jobs]})
    else:
        console.output.table(JOB_COLUMNS, [job_row(job) for job in jobs])


@click.command("jobSummary", cls=Command)
@json_option
@CLUSTER
@click.pass_obj
def job_summary(console: Console, *, as_json: bool, cluster: str | None) -> None:
    """Count the jobs by their state."""
    counts = Counter(job.state for job in on_grid(GridChoice(grid=cluster), lambda client: client.jobs()))
    if as_json:
        console.output.json("job-summary", {"jobs": {state.value: counts[state] for state in JobState}})
        return
    for state in JobState:
        console.output.line(f"{console.output.style.state(f'{state:<10}')} {counts[state]:>5}")


@click.command(cls=Command)
@JOB
@click.option("--download", is_flag=True, help="Download the results into ./<job>-<name>.")
@json_option
@CLUSTER
@click.pass_obj
def view(console: Console, *, job: str, download: bool, as_json: bool, cluster: str | None) -> int:
    """Show a job; with --download, get its results too."""
    choice = GridChoice(grid=cluster)
    if download:
        fetched, folder = fetch_results(choice, job, Wish())
        return tell_folder(console, Outcome(fetched, folder, ExitCode.SUCCEEDED), as_json=as_json)
    found = on_grid(choice, lambda client: find_job(client, job))
    if as_json:
        console.output.json("job", job_document(found))
    else:
        tell_job(console, found)
    return ExitCode.SUCCEEDED


@click.command(cls=Command)
@json_option
@click.pass_obj
def cluster(console: Console, *, as_json: bool) -> None:
    """List the grids that this machine can work on; the first is used unless another is named."""
    names = [*joined(), OWN]
    if as_json:
        console.output.json("grids", {"grids": names})
        return
    for name in names:
        console.output.line(f"{name}  (this machine's own)" if name == OWN else name)


@click.command(cls=Command)
@grid_options
@click.pass_obj
def login(console: Console, choice: GridChoice) -> None:
    """Say which grid commands work on. There is no account: keys are made on first use."""
    grid = choice.known()
    if grid.own:
        console.output.line("this machine's own grid; it needs no login and starts when a command needs it")
    else:
        console.output.line(f"grid {grid.name} at {grid.endpoint or 'an address that is not known yet'}")
    console.output.line(f"you are node {shown_id(grid.identity.id)}")


@click.command(cls=Command)
@click.option("--cluster", "name", metavar="NAME", help="The grid to forget. [default: the joined one]")
@click.pass_obj
def logout(console: Console, *, name: str | None) -> None:
    """Forget where the joined grid is: commands work on this machine's own again. Keys stay."""
    names = joined()
    if name is None and not names:
        console.narration.say("No grid is joined; commands work on this machine's own.")
        return
    gone = name or names[0]
    if gone not in names:
        raise UsageError(
            f"no grid called {gone!r} was joined", fix=f"Joined grids: {', '.join(names) or 'none'}."
        )
    forget_address(gone)
    console.narration.say(f"Forgot the grid {gone}.")


@click.command(cls=Command)
@click.pass_obj
def version(console: Console) -> None:
    """Print the version."""
    console.output.line(f"discogrid {__version__}")


def _parts(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The lab's lists: separated by commas, unless a file has that very name."""
    return tuple(
        part for text in texts for part in ([text] if Path(text).exists() else text.split(",")) if part
    )
