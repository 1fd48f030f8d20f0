"""What the world outside may rely on, whatever coordinator it spoke to: kept from what was durable when it was told."""

from collections import Counter

from discogrid.types import Attempt, JobId, JobState, Outcome, TaskState
from discogrid_coordinator import events
from discogrid_coordinator.journal import Journal
from tests.sim.jobs import Manifest


class Books:
    """Accepted jobs, the ends of their tasks and what agents were told of their results, over all restarts."""

    def __init__(self) -> None:
        self.accepted: dict[JobId, Manifest] = {}
        self.ends: dict[JobId, dict[int, TaskState]] = {}
        self.winners: dict[tuple[JobId, int], Attempt] = {}
        self.job_ends: dict[JobId, JobState] = {}
        self._committed: set[Attempt] = set()

    def on_accepted(self, manifest: Manifest) -> None:
        """The submitter has heard that its job will be done."""
        self.accepted[manifest.id] = manifest
        self.ends.setdefault(manifest.id, {})

    def on_durable(self, actions: list[events.Action], outcomes: dict[Attempt, Outcome]) -> None:
        """The journal has what these stand for."""
        for action in actions:
            match action:
                case events.Commit(_, attempt):
                    self._committed.add(attempt)
                    if outcomes[attempt] is Outcome.SUCCEEDED:
                        key = attempt.job, attempt.index
                        assert key not in self.winners, "two results of a task are accepted"
                        self.winners[key] = attempt
                case events.EndTasks(job, start, stop, state):
                    ends = self.ends.setdefault(job, {})
                    for index in range(start, stop):
                        assert index not in ends, "a task ends twice"
                        assert (state is TaskState.DONE) == ((job, index) in self.winners)
                        ends[index] = state
                case events.EndJob(job, state):
                    assert job not in self.job_ends, "a job ends twice"
                    self.job_ends[job] = state
                case _:
                    pass

    def on_restart(self, journal: Journal) -> None:
        """Nothing that anybody was told is missing in what a new coordinator finds."""
        found = {record.id: record for record in journal.jobs()}
        assert found.keys() >= self.accepted.keys(), "an accepted job is lost"
        for job, record in found.items():
            results = {result.attempt.index: result for result in journal.results(job)}
            kept = {index: result.state for index, result in results.items() if result.state is not None}
            ends = self.ends.get(job, {})
            told = {index: state for index, state in ends.items() if state is not TaskState.CANCELLED}
            assert kept == told, "the end of a task is lost"
            assert record.state.ended == (job in self.job_ends), "the end of a job is lost"
            for index, state in told.items():
                if state is TaskState.DONE:
                    assert results[index].attempt == self.winners[job, index], "a result was replaced"

    def on_acknowledged(self, attempt: Attempt) -> None:
        """An agent lets go of a result that it was told is kept."""
        assert attempt in self._committed, "a result is acknowledged that is not durable"

    def on_discarded(self, attempt: Attempt) -> None:
        """An agent lets go of a good result that it was told nobody needs."""
        assert attempt.index in self.ends.get(attempt.job, {}), "a result is thrown away that is needed"

    def check_end(self) -> None:
        """All is over: every accepted task has ended once, and each job as its tasks did."""
        for job, manifest in self.accepted.items():
            ends = self.ends[job]
            assert sorted(ends) == list(range(manifest.tasks)), "a task is lost"
            states = set(ends.values())
            if self.job_ends[job] is JobState.SUCCEEDED:
                assert states == {TaskState.DONE}
            elif self.job_ends[job] is JobState.FAILED:
                assert states & {TaskState.FAILED, TaskState.QUARANTINED}
                assert TaskState.CANCELLED not in states
            else:
                assert TaskState.CANCELLED in states
            assert not [index for index in manifest.doomed if ends[index] is TaskState.DONE]

    def counts(self) -> Counter[str]:
        """How many tasks ended in which state."""
        return Counter(state.value for ends in self.ends.values() for state in ends.values())
