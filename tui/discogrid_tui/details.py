"""Everything that is known of one task or agent, as labelled lines: pure."""

from datetime import UTC, datetime
from typing import assert_never

from discogrid.views import AgentView, JobView, TaskView
from discogrid_tui.cells import NOTHING, SIGNS, UNKNOWN
from discogrid_tui.text import duration, printable, size

Line = tuple[str, str]


def details(row: JobView | TaskView | AgentView, now: float, flags: str = "") -> list[Line]:
    """Label and value, a line each; `flags` make the commands mean the same grid."""
    match row:
        case JobView():
            return _job(row, now)
        case TaskView():
            return _task(row, now, flags)
        case AgentView():
            return _agent(row, now)
        case _:
            assert_never(row)


def moment(seconds: float | None) -> str:
    """`2026-11-23 04:05:06 UTC`."""
    return (
        NOTHING if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def _job(job: JobView, now: float) -> list[Line]:
    return [
        ("state", _state(job.state)),
        ("name", printable(job.name)),
        ("script", printable(job.script)),
        ("tasks", f"{job.counts.ended} of {job.counts.total} ended, {job.counts.failed} failed"),
        ("note", printable(job.reason) or NOTHING),
        ("created", moment(job.created)),
        ("took", _took(job.started, job.ended, now)),
        ("priority", str(job.priority)),
        ("submitter", job.submitter),
        ("digest", job.digest),
    ]


def _task(task: TaskView, now: float, flags: str) -> list[Line]:
    ending = f" {flags}" if flags else ""
    return [
        ("state", _state(task.state)),
        ("input", printable(task.input or NOTHING)),
        ("agent", printable(task.agent or NOTHING)),
        (
            "attempt",
            f"{task.attempt}, {task.failures} failed before"
            if task.failures
            else str(task.attempt or NOTHING),
        ),
        ("exit", NOTHING if task.exit is None else str(task.exit)),
        ("note", printable(task.reason) or NOTHING),
        ("started", moment(task.started)),
        ("took", _took(task.started, task.ended, now)),
        ("script", NOTHING if task.seconds is None else duration(task.seconds)),
        ("result", size(task.archive_bytes) if task.archive else NOTHING),
        ("output", f"discogrid logs {task.label}{ending}"),
        ("files", f"discogrid get {task.job}{ending}"),
    ]


def _agent(agent: AgentView, now: float) -> list[Line]:
    return [
        ("state", _state(agent.state)),
        ("slots", f"{agent.busy} of {agent.slots} busy, {agent.queued} more tasks held"),
        ("done", str(agent.done)),
        ("seen", f"{duration(now - agent.seen)} ago"),
        ("box", printable(agent.sandbox)),
        ("platform", printable(agent.platform)),
        ("python", printable(agent.python)),
        ("version", printable(agent.software)),
        ("node", agent.node),
    ]


def _state(word: str) -> str:
    return f"{SIGNS.get(word, UNKNOWN)[0]} {word}"


def _took(started: float | None, ended: float | None, now: float) -> str:
    if started is None:
        return NOTHING
    return duration(ended - started) if ended is not None else f"{duration(now - started)} so far"
