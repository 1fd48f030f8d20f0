"""How much each submitter has at the coordinator, and whether more is allowed. Pure: told of jobs, it counts."""

from dataclasses import dataclass, field

from discogrid.quantities import size_text
from discogrid.types import JobId, NodeId, Quotas


@dataclass(frozen=True, slots=True)
class Load:
    """What one job weighs as long as it is open."""

    tasks: int
    input_bytes: int  # of its blobs, each counted once


@dataclass(slots=True)
class Account:
    """The open jobs of one submitter, and their sum."""

    jobs: dict[JobId, Load] = field(default_factory=dict)
    tasks: int = 0
    input_bytes: int = 0


class Usage:
    """The open jobs of every submitter."""

    def __init__(self) -> None:
        """No job is open."""
        self._accounts: dict[NodeId, Account] = {}
        self._submitters: dict[JobId, NodeId] = {}

    def add(self, submitter: NodeId, job: JobId, load: Load) -> None:
        """A job is open from now on."""
        account = self._accounts.setdefault(submitter, Account())
        account.jobs[job] = load
        account.tasks += load.tasks
        account.input_bytes += load.input_bytes
        self._submitters[job] = submitter

    def end(self, job: JobId) -> None:
        """A job is not open any more; one that never was is passed over."""
        if (submitter := self._submitters.pop(job, None)) is None:
            return
        account = self._accounts[submitter]
        load = account.jobs.pop(job)
        account.tasks -= load.tasks
        account.input_bytes -= load.input_bytes
        if not account.jobs:
            del self._accounts[submitter]

    def open_jobs(self) -> dict[NodeId, tuple[JobId, ...]]:
        """The open jobs of every submitter that has any."""
        return {submitter: tuple(account.jobs) for submitter, account in self._accounts.items()}

    def excess(self, submitter: NodeId, more: Load, quotas: Quotas) -> str:
        """What would be too much with one more job, in words; empty when nothing is."""
        account = self._accounts.get(submitter) or Account()
        if len(account.jobs) >= quotas.jobs_open:
            return f"{len(account.jobs)} jobs of yours are open, as many as this grid's owner allows you"
        if (tasks := account.tasks + more.tasks) > quotas.tasks_open:
            return f"{tasks} tasks of yours would be open; this grid's owner allows you {quotas.tasks_open}"
        if (size := account.input_bytes + more.input_bytes) > quotas.input_bytes:
            allowed = size_text(quotas.input_bytes)
            return f"{size_text(size)} of your inputs would be kept; this grid's owner allows you {allowed}"
        return ""
