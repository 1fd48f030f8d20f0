"""Values shared by every part: frozen, with no behaviour beyond their own arithmetic."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

import msgspec

JobId = NewType("JobId", str)
"""Short and typeable: the shortest free prefix (>= 4) of the job digest in base32, such as `k3f9`."""
AgentId = NewType("AgentId", str)
"""An agent's name on its grid, unique there: `attic`."""
NodeId = NewType("NodeId", str)
"""Base32 of the SHA-256 of a node's public signing key."""
Digest = NewType("Digest", str)
"""`blake3:` and 64 hexadecimal digits."""

MIB = 1 << 20
GIB = 1 << 30


class JobState(StrEnum):
    """A job's life: held → queued → running → one of the ends."""

    HELD = "held"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing of the job will run any more."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class TaskState(StrEnum):
    """A task's life: queued → assigned → running → one of the ends; it may go back to queued."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"

    @property
    def ended(self) -> bool:
        """Whether the task will not run any more."""
        return self not in (TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING)


class SandboxLevel(StrEnum):
    """What a box keeps its task from, weakest first."""

    NONE = "none"
    CONFINED = "confined"
    STRICT = "strict"

    @property
    def rank(self) -> int:
        """0 for none, 2 for strict."""
        return _SANDBOX_RANKS[self]


_SANDBOX_RANKS = {level: rank for rank, level in enumerate(SandboxLevel)}


class Role(StrEnum):
    """What a member of a grid may do."""

    AGENT = "agent"
    SUBMITTER = "submitter"
    COORDINATOR = "coordinator"
    ADMIN = "admin"


class Outcome(StrEnum):
    """How one attempt ended on its agent."""

    SUCCEEDED = "succeeded"
    SCRIPT_FAILED = "script-failed"  # a non-zero exit or a signal: the script's own fault
    LIMIT_EXCEEDED = "limit-exceeded"  # stopped by a limit of the job or the owner
    BOX_FAILED = "box-failed"  # the box could not be built or died: the machine's fault
    TRANSFER_FAILED = "transfer-failed"  # an input or a result could not be moved
    REFUSED = "refused"  # the agent does not accept the task (signature, limits, owner's rules)
    CANCELLED = "cancelled"


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One try of one task. `number` starts at 1; `lease` names the coordinator incarnation that granted it."""

    job: JobId
    index: int
    number: int
    lease: int


class Run(msgspec.Struct, frozen=True, gc=False):
    """The same attempt number of the tasks `start <= index < stop` of one job: what travels instead of single attempts."""

    job: JobId
    start: int
    stop: int
    number: int
    lease: int

    def __len__(self) -> int:
        """How many tasks."""
        return self.stop - self.start

    def attempts(self) -> list[Attempt]:
        """The single attempts, in order of index."""
        return [Attempt(self.job, index, self.number, self.lease) for index in range(self.start, self.stop)]

    @classmethod
    def of(cls, attempt: Attempt) -> "Run":
        """The run of one attempt."""
        return cls(attempt.job, attempt.index, attempt.index + 1, attempt.number, attempt.lease)


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file by content: base name, digest and size in bytes."""

    name: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Mount:
    """A read-only tree shown at the absolute path `target`; `tree` is its archive."""

    target: str
    tree: FileRef


ENVIRONMENT_CAPABILITY = "discogrid:environments"
"""What an agent has among its capabilities that builds environments for jobs that bring packages."""


def python_capability(major: int, minor: int) -> str:
    """What an agent has among its capabilities whose Python is of this version, so that it can read calls of the same."""
    return f"discogrid:python{major}.{minor}"


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one submitter may have at the coordinator at a time."""

    jobs_open: int = 10_000  # that have not ended
    tasks_open: int = 1_000_000  # of those jobs
    input_bytes: int = 200 * GIB  # of the blobs of those jobs
    weight: int = 1  # its share of the grid where several submit: twice the weight, twice the slots


@dataclass(frozen=True, slots=True)
class Limits:
    """What one attempt may use; exceeding one ends it as `limit_exceeded:<name>`."""

    seconds: float = 3600.0  # wall time, frozen time excluded
    memory_bytes: int = 4 * GIB  # proportional set size over the whole process tree
    processes: int = 512  # processes and threads
    disk_bytes: int = 16 * GIB  # work folder and /tmp together
    output_bytes: int = 8 * GIB  # what is collected from run-result
    output_files: int = 4096
    log_bytes: int = 1 * MIB  # kept of each of stdout and stderr: half head, half tail

    def capped(self, owner: "Limits") -> "Limits":
        """The smaller of each: the job's wish under the owner's rule."""
        return Limits(
            seconds=min(self.seconds, owner.seconds),
            memory_bytes=min(self.memory_bytes, owner.memory_bytes),
            processes=min(self.processes, owner.processes),
            disk_bytes=min(self.disk_bytes, owner.disk_bytes),
            output_bytes=min(self.output_bytes, owner.output_bytes),
            output_files=min(self.output_files, owner.output_files),
            log_bytes=min(self.log_bytes, owner.log_bytes),
        )


@dataclass(frozen=True, slots=True)
class Requirements:
    """What an agent must have before a task of the job is placed on it."""

    cpus: int = 1  # each takes one slot
    memory_bytes: int = 0
    gpus: int = 0
    needs: tuple[str, ...] = ()  # importable modules and programs on PATH, by name
    sandbox: SandboxLevel = SandboxLevel.STRICT
    network: bool = False
    protocol: int = 1  # spoken by the agent: an older one would pass over what it does not know of the job


@dataclass(frozen=True, slots=True)
class Offer:
    """What an agent lends."""

    slots: int
    memory_bytes: int
    sandbox: SandboxLevel
    gpus: int = 0
    network: bool = False  # whether it can give tasks a network of their own, and its owner lets it
    no_network: str = ""  # why it cannot, whatever its owner says
    capabilities: frozenset[str] = field(default_factory=frozenset)
    protocol: int = 1  # that it speaks
    proving: bool = False  # its box, network and capabilities are being found out: it will offer more, or say that it cannot


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tasks of a job are in which state."""

    queued: int = 0
    assigned: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    quarantined: int = 0

    @property
    def total(self) -> int:
        """All tasks of the job."""
        return self.queued + self.running + self.assigned + self.ended

    @property
    def ended(self) -> int:
        """Tasks that will not run any more."""
        return self.done + self.failed + self.cancelled + self.quarantined
