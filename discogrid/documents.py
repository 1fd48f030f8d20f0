"""What programs read of jobs, tasks and agents: views as JSON objects, times as ISO-8601 UTC."""

from dataclasses import asdict

from discogrid.quantities import iso_text
from discogrid.views import AgentView, JobView, TaskView

JOB_SCHEMA = "discogrid.job/1"


def job_document(job: JobView) -> dict[str, object]:
    """One job."""
    return {
        "schema": JOB_SCHEMA,
        "id": job.id,
        "name": job.name,
        "state": job.state.value,
        "script": job.script,
        "counts": {**asdict(job.counts), "total": job.counts.total},
        "priority": job.priority,
        "reason": job.reason,
        "submitter": job.submitter,
        "digest": job.digest,
        "created": iso_text(job.created),
        "started": iso_text(job.started),
        "ended": iso_text(job.ended),
    }


def task_document(task: TaskView) -> dict[str, object]:
    """One task and its newest attempt."""
    return {
        "task": task.label,
        "index": task.index,
        "state": task.state.value,
        "input": task.input,
        "attempt": task.attempt,
        "failures": task.failures,
        "agent": task.agent,
        "started": iso_text(task.started),
        "ended": iso_text(task.ended),
        "seconds": task.seconds,
        "exit": task.exit,
        "reason": task.reason,
        "archive": task.archive,
        "archive_bytes": task.archive_bytes,
    }


def agent_document(agent: AgentView) -> dict[str, object]:
    """One agent."""
    return {**asdict(agent), "seen": iso_text(agent.seen)}
