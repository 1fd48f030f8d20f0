"""`discogrid why`: what a job waits for, and what made tasks fail."""

import shlex
import signal

import click

from discogrid.bundle import Job, decode_leaf
from discogrid.cli.command import Command, json_option
from discogrid.cli.connect import GridChoice, Reference, find, grid_options, on_grid
from discogrid.cli.console import Console
from discogrid.cli.look import counts_text, failed_task, plural
from discogrid.cli.output import Column
from discogrid.cli.text import printable
from discogrid.client import AsyncClient
from discogrid.documents import task_document
from discogrid.views import TaskView

FAILURES_SHOWN = 3


@click.command(cls=Command)
@click.argument("reference", metavar="JOB[-TASK]", default="@last")
@json_option
@grid_options
@click.pass_obj
def why(console: Console, choice: GridChoice, reference: str, *, as_json: bool) -> None:
    """Say why a job or task waits (a reason for each agent), or what made it fail."""

    async def look(client: AsyncClient) -> tuple[Reference, dict[str, str], list[TaskView], str]:
        found = await find(client, reference)
        if found.index is not None:
            tasks = await client.tasks(found.id, found.index, found.index + 1)
        else:
            tasks = await client.tasks(found.id)
        failures = [task for task in tasks if failed_task(task) or (task.failures and not task.state.ended)]
        waits = any(not task.state.ended for task in tasks)
        opened, leaves = await client.content(found.id)
        first = decode_leaf(leaves[failures[0].index]) if failures else None
        repeat = repeat_command(opened, first.input.name if first and first.input else None)
        return found, await client.why(found.id) if waits else {}, failures, repeat

    found, reasons, failures, repeat = on_grid(choice, look)
    if as_json:
        console.output.json(
            "why",
            {
                "job": found.id,
                "state": found.job.state.value,
                "waiting": reasons,
                "failures": [task_document(task) for task in failures],
                "repeat": repeat if failures else None,
            },
        )
        return
    line = console.output.line
    line(f"{found.id} is {console.output.style.state(found.job.state)}: {counts_text(found.job.counts)}")
    if found.job.reason:
        line(printable(found.job.reason))
    if reasons:
        line()
        console.output.table(
            (Column("AGENT"), Column("TAKES NO MORE OF IT BECAUSE IT", gives_way=True)), list(reasons.items())
        )
    for task in failures[:FAILURES_SHOWN]:
        line()
        _tell_failure(console, task)
    if len(failures) > FAILURES_SHOWN:
        console.narration.say(f"{FAILURES_SHOWN} of {plural(len(failures), 'failure')}.")
    if failures:
        line()
        line(f"to repeat the first here, in the folder of its files:\n  {printable(repeat)}")


def repeat_command(job: Job, name: str | None) -> str:
    """The command that runs the task with this input on the user's own machine."""
    manifest = job.manifest
    words = ["discogrid", "submit", "--local", manifest.script.name]
    if name is not None:
        words.append(f"./{name}" if name.startswith("-") else name)
    for constant in manifest.constants:
        words += ["-c", constant.name]
    for mount in manifest.mounts:
        words += ["--mount", f"FOLDER:{mount.target}"]
    for key, value in manifest.environment.items():
        words += ["--env", f"{key}={value}"]
    if manifest.requirements.cpus != 1:
        words += ["--cpus", str(manifest.requirements.cpus)]
    if manifest.arguments:
        words += ["--", *manifest.arguments]
    return shlex.join(words)


def exit_text(code: int | None) -> str:
    """`exit 1`, `killed by SIGKILL`, `no exit code`."""
    if code is None:
        return "no exit code"
    if code >= 0:
        return f"exit {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _tell_failure(console: Console, task: TaskView) -> None:
    line = console.output.line
    name = f" ({printable(task.input)})" if task.input else ""
    line(
        f"{task.label}{name}: {console.output.style.state(task.state)} on {task.agent or 'no agent'}, "
        f"attempt {task.attempt}, {exit_text(task.exit)}"
    )
    for said in task.reason.splitlines():
        line(f"  {printable(said)}")
    line(f"  all that it wrote: discogrid logs {task.label}")
