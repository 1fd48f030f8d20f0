"""What a reader is shown of jobs, tasks and agents: plain values the coordinator fills and client, CLI and TUI read."""

from dataclasses import dataclass

from discogrid.types import AgentId, Counts, Digest, JobId, JobState, NodeId, TaskState


@dataclass(frozen=True, slots=True)
class JobView:
    """One job. Times are seconds since 1970 (UTC)."""

    id: JobId
    name: str
    state: JobState
    counts: Counts
    submitter: NodeId
    script: str
    created: float
    digest: Digest
    started: float | None = None
    ended: float | None = None
    priority: int = 0
    reason: str = ""  # why it is held, failed, or waits; empty when there is nothing to say
    calls: bool = False  # Python calls of a program, and not a script


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task and its newest attempt."""

    job: JobId
    index: int
    state: TaskState
    input: str | None = None  # base name
    attempt: int = 0
    failures: int = 0
    agent: AgentId | None = None
    started: float | None = None
    ended: float | None = None
    seconds: float | None = None  # the script's own run time
    exit: int | None = None
    reason: str = ""
    archive: Digest | None = None  # of the newest result archive, failed attempts' too
    archive_bytes: int = 0

    @property
    def label(self) -> str:
        """What a user types: `k3f9-012`."""
        return task_label(self.job, self.index)


@dataclass(frozen=True, slots=True)
class AgentView:
    """One agent that has said hello since the coordinator started."""

    id: AgentId
    node: NodeId
    state: str  # live | lost
    slots: int
    busy: int  # slots taken by running tasks
    queued: int  # tasks it holds but has not started
    done: int  # tasks it has finished
    platform: str
    python: str
    software: str
    sandbox: str
    seen: float  # when its last message came
    proving: bool = False  # it is still being found out which box it has


def task_label(job: JobId, index: int) -> str:
    """`k3f9-012`: three digits or more, and `k3f9-12` is understood too."""
    return f"{job}-{index:03d}"
