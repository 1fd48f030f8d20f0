"""Commands that show jobs, tasks, agents and the grid as they are now."""

import asyncio
import time
from collections.abc import Sequence

import click

from discogrid.cli.command import Command, CommandGroup, json_option
from discogrid.cli.connect import GridChoice, find, find_job, grid_options, on_grid
from discogrid.cli.console import Console
from discogrid.cli.output import Column
from discogrid.cli.text import printable
from discogrid.client import AsyncClient
from discogrid.documents import agent_document, job_document, task_document
from discogrid.errors import ExitCode
from discogrid.quantities import duration_text, iso_text
from discogrid.types import Counts, JobState, TaskState
from discogrid.views import AgentView, JobView, TaskView

JOBS_SHOWN = 30  # by `ls` without --all
FAILURES_SHOWN = 10  # by `show`

JOB_COLUMNS = (
    Column("JOB"),
    Column("NAME", gives_way=True),
    Column("STATE", state=True),
    Column("TASKS", right=True),
    Column("AGE", right=True),
    Column("TOOK", right=True),
    Column("NOTE", gives_way=True),
)
TASK_COLUMNS = (
    Column("TASK"),
    Column("STATE", state=True),
    Column("INPUT", gives_way=True),
    Column("AGENT"),
    Column("TRY", right=True),
    Column("TOOK", right=True),
    Column("EXIT", right=True),
    Column("NOTE", gives_way=True),
)
AGENT_COLUMNS = (
    Column("AGENT", gives_way=True),
    Column("STATE", state=True),
    Column("BUSY", right=True),
    Column("QUEUED", right=True),
    Column("DONE", right=True),
    Column("BOX"),
    Column("PLATFORM", gives_way=True),
    Column("PYTHON"),
    Column("SEEN", right=True),
)


@click.command(cls=Command)
@click.option("-a", "--all", "show_all", is_flag=True, help=f"All jobs, not only the newest {JOBS_SHOWN}.")
@json_option
@grid_options
@click.pass_obj
def ls(console: Console, choice: GridChoice, *, show_all: bool, as_json: bool) -> None:
    """List the jobs, newest first."""
    jobs = list(reversed(on_grid(choice, lambda client: client.jobs())))
    shown = jobs if show_all or as_json else jobs[:JOBS_SHOWN]
    if as_json:
        console.output.json("jobs", {"jobs": [job_document(job) for job in shown]})
        return
    if not jobs:
        console.narration.say("There is no job yet. `discogrid submit SCRIPT INPUT…` makes one.")
        return
    console.output.table(JOB_COLUMNS, [job_row(job) for job in shown])
    if len(shown) < len(jobs):
        console.narration.say(f"{len(shown)} of {len(jobs)} jobs; --all shows the rest.")


@click.command(cls=Command)
@click.argument("reference", metavar="JOB[-TASK]")
@json_option
@grid_options
@click.pass_obj
def show(console: Console, choice: GridChoice, reference: str, *, as_json: bool) -> None:
    """Show a job, or one of its tasks (k3f9-12)."""

    async def look(client: AsyncClient) -> tuple[JobView, TaskView | None, list[TaskView]]:
        found = await find(client, reference)
        if found.index is not None:
            return found.job, (await client.tasks(found.id, found.index, found.index + 1))[0], []
        failed = found.job.counts.failed or found.job.counts.quarantined
        tasks = await client.tasks(found.id) if failed else []
        return found.job, None, [task for task in tasks if failed_task(task)]

    job, task, failures = on_grid(choice, look)
    if as_json and task is not None:
        console.output.json("task-view", {"job": job.id, **task_document(task)})
    elif as_json:
        console.output.json("job", job_document(job))
    elif task is not None:
        _show_task(console, task)
    else:
        tell_job(console, job, failures)


@click.command(cls=Command)
@click.argument("job", metavar="JOB")
@click.option(
    "--state", type=click.Choice([state.value for state in TaskState]), help="Only tasks in this state."
)
@json_option
@grid_options
@click.pass_obj
def tasks(console: Console, choice: GridChoice, job: str, *, state: str | None, as_json: bool) -> None:
    """List the tasks of a job in the order of its inputs."""

    async def look(client: AsyncClient) -> tuple[JobView, list[TaskView]]:
        found = await find_job(client, job)
        return found, await client.tasks(found.id)

    view, found = on_grid(choice, look)
    shown = [task for task in found if state is None or task.state == state]
    if as_json:
        console.output.json("tasks", {"job": view.id, "tasks": [task_document(task) for task in shown]})
        return
    if not shown:
        console.narration.say(f"No task of {view.id} is {state}.")
        return
    console.output.table(TASK_COLUMNS, [_task_row(task) for task in shown])
    if len(shown) < len(found):
        console.narration.say(f"{len(shown)} of {len(found)} tasks.")


@click.group(cls=CommandGroup, invoke_without_command=True)
@click.option("--nearby", is_flag=True, help="Machines on this network that ask to be adopted.")
@json_option
@grid_options
@click.pass_context
def agents(context: click.Context, choice: GridChoice, *, nearby: bool, as_json: bool) -> None:
    """List the machines that work on the grid."""
    if context.invoked_subcommand is not None:
        return
    if nearby:
        _list_nearby(context.ensure_object(Console), as_json=as_json)
    else:
        _list_agents(context.ensure_object(Console), choice, as_json=as_json)


@agents.command("ban", cls=Command)
@click.argument("name", metavar="NAME")
@click.option(
    "--before",
    metavar="TIME",
    help="Its results from then on count no more: 2h (ago) or 2026-11-25T10:00. [default: now]",
)
@grid_options
@click.pass_obj
def ban(console: Console, choice: GridChoice, name: str, *, before: str | None) -> ExitCode:
    """Put a machine out of the grid, at once: its tasks go to others. The same as `trust rm`."""
    from discogrid.cli.trust import put_out

    return put_out(console, choice.known(), name, before)


def _list_nearby(console: Console, *, as_json: bool) -> None:
    from discogrid.pairing.nearby import asking

    found = asyncio.run(asking())
    if as_json:
        console.output.json("nearby", {"machines": [{"name": name, "address": at} for name, at in found]})
    elif not found:
        console.narration.say("No machine on this network asks to be adopted: `discogrid agent` on it does.")
    else:
        console.output.table([Column("NAME", gives_way=True), Column("ADDRESS")], found)
        console.narration.say("Run `discogrid invite` and type the code on the machine that is to join.")


def _list_agents(console: Console, choice: GridChoice, *, as_json: bool) -> None:
    found = on_grid(choice, lambda client: client.agents())
    if as_json:
        console.output.json("agents", {"agents": [agent_document(agent) for agent in found]})
    elif not found:
        console.narration.say("No agent has been seen yet. `discogrid agent` lends this machine.")
    else:
        console.output.table(AGENT_COLUMNS, [_agent_row(agent) for agent in found])


@click.command(cls=Command)
@json_option
@grid_options
@click.pass_obj
def status(console: Console, choice: GridChoice, *, as_json: bool) -> None:
    """Show the grid on one screen, with one word for it: idle, working or starved.

    Starved means that tasks wait and no agent runs any.
    """

    async def look(client: AsyncClient) -> tuple[str, list[JobView], list[AgentView]]:
        return client.grid.name, await client.jobs(), await client.agents()

    name, jobs, found = on_grid(choice, look)
    word = grid_word(jobs)
    open_jobs = [job for job in reversed(jobs) if not job.state.ended]
    live = [agent for agent in found if agent.state == "live"]
    slots, busy = sum(agent.slots for agent in live), sum(agent.busy for agent in live)
    if as_json:
        console.output.json(
            "status",
            {
                "grid": name,
                "status": word,
                "agents": {"live": len(live), "lost": len(found) - len(live), "slots": slots, "busy": busy},
                "jobs": [job_document(job) for job in open_jobs],
            },
        )
        return
    style = console.output.style
    lost = f", {len(found) - len(live)} lost" if len(live) < len(found) else ""
    console.output.line(
        f"grid {style.bold(printable(name))}: {style.state(word)}    "
        f"{plural(len(live), 'agent')}{lost}, {busy} of {plural(slots, 'slot')} busy"
    )
    if open_jobs:
        console.output.line()
        console.output.table(JOB_COLUMNS, [job_row(job) for job in open_jobs[:JOBS_SHOWN]])
        if len(open_jobs) > JOBS_SHOWN:
            console.narration.say(f"{JOBS_SHOWN} of {len(open_jobs)} open jobs.")
    if found:
        console.output.line()
        console.output.table(AGENT_COLUMNS, [_agent_row(agent) for agent in found])


def grid_word(jobs: list[JobView]) -> str:
    """One word for a grid: idle, working, or starved (tasks wait and none runs)."""
    running = sum(job.counts.running + job.counts.assigned for job in jobs)
    waiting = sum(job.counts.queued for job in jobs if job.state is not JobState.HELD)
    return "working" if running else "starved" if waiting else "idle"


def exit_code_of(job: JobView) -> ExitCode:
    """What a command that waited for the job ends with."""
    match job.state:
        case JobState.FAILED:
            return ExitCode.TASK_FAILED
        case JobState.CANCELLED:
            return ExitCode.CANCELLED
        case _:
            return ExitCode.SUCCEEDED


def failed_task(task: TaskView) -> bool:
    """Whether the task ended without a result."""
    return task.state in (TaskState.FAILED, TaskState.QUARANTINED)


def plural(number: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def last_line(reason: str) -> str:
    """What a table shows of a reason: its last line, where an exception says its name."""
    return reason.strip().rpartition("\n")[2].strip()


def counts_text(counts: Counts) -> str:
    """`12 of 20 done, 1 failed, 2 running`: what there is none of is left out."""
    rest = {
        "failed": counts.failed + counts.quarantined,
        "cancelled": counts.cancelled,
        "running": counts.running + counts.assigned,
        "queued": counts.queued,
    }
    words = [f"{number} {word}" for word, number in rest.items() if number]
    return ", ".join([f"{counts.done} of {plural(counts.total, 'task')} done", *words])


def tell_job(console: Console, job: JobView, failures: Sequence[TaskView] = ()) -> None:
    """A job in a few lines, with the tasks of it that failed."""
    line = console.output.line
    line(f"job      {console.output.style.bold(job.id)}  {printable(job.name)}")
    line(
        f"state    {console.output.style.state(job.state)}"
        + (f"  ({printable(job.reason)})" if job.reason else "")
    )
    line(f"tasks    {counts_text(job.counts)}")
    line(f"script   {printable(job.script)}")
    line(f"created  {iso_text(job.created)}")
    if job.started is not None:
        end = job.ended if job.ended is not None else time.time()
        line(f"took     {duration_text(end - job.started)}" + ("" if job.ended else " so far"))
    if failures:
        line()
        console.output.table(TASK_COLUMNS, [_task_row(task) for task in failures[:FAILURES_SHOWN]])
        if len(failures) > FAILURES_SHOWN:
            console.narration.say(f"{FAILURES_SHOWN} of {len(failures)} failed tasks.")
        console.narration.say(f"`discogrid logs {failures[0].label}` prints what the first of them wrote.")


def _show_task(console: Console, task: TaskView) -> None:
    shown = {
        "task": task.label,
        "state": task.state.value,
        "input": task.input,
        "agent": task.agent,
        "attempt": f"{task.attempt} ({plural(task.failures, 'failure')})",
        "started": iso_text(task.started),
        "took": None if task.seconds is None else duration_text(task.seconds),
        "exit": None if task.exit is None else str(task.exit),
        "reason": task.reason or None,
    }
    for key, value in shown.items():
        if value is not None:
            lines = "\n         ".join(map(printable, value.splitlines()))
            console.output.line(f"{key:<8} {console.output.style.state(lines)}")


def job_row(job: JobView) -> list[str]:
    """A job as a row of JOB_COLUMNS."""
    counts, now = job.counts, time.time()
    took = "" if job.started is None else duration_text((job.ended or now) - job.started)
    done = f"{counts.ended}/{counts.total}"
    age = duration_text(now - job.created)
    return [job.id, job.name, job.state.value, done, age, took, last_line(job.reason)]


def _task_row(task: TaskView) -> list[str]:
    return [
        task.label,
        task.state.value,
        task.input or "",
        task.agent or "",
        str(task.attempt) if task.attempt else "",
        "" if task.seconds is None else duration_text(task.seconds),
        "" if task.exit is None else str(task.exit),
        last_line(task.reason),
    ]


def _agent_row(agent: AgentView) -> list[str]:
    return [
        agent.id,
        agent.state,
        f"{agent.busy}/{agent.slots}",
        str(agent.queued),
        str(agent.done),
        "being tried" if agent.proving else agent.sandbox,
        agent.platform,
        agent.python,
        duration_text(time.time() - agent.seen),
    ]
