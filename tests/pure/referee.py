"""Watches a scheduler from outside and asserts what must hold whatever happens: the rules of architecture.md §6."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from discogrid.types import (
    GIB,
    AgentId,
    Attempt,
    Counts,
    Digest,
    JobId,
    JobState,
    NodeId,
    Offer,
    Requirements,
    Run,
    SandboxLevel,
    TaskState,
)
from discogrid.views import JobView
from discogrid_coordinator import events, policies
from discogrid_coordinator.books import AgentNoted, Books, Changes, ResultNoted
from discogrid_coordinator.events import Action, Event
from discogrid_coordinator.policies import RUNNERS_MAX
from discogrid_coordinator.scheduler import Scheduler

LEASE = 7
UNDER_WAY = (TaskState.ASSIGNED, TaskState.RUNNING)


def offer(slots: int = 2, **fields: object) -> Offer:
    plain: dict[str, object] = {"memory_bytes": 8 * GIB, "sandbox": SandboxLevel.STRICT}
    return Offer(slots, **{**plain, **fields})  # type: ignore[arg-type]


def run(job: str, start: int, stop: int, number: int = 1, lease: int = LEASE) -> Run:
    return Run(JobId(job), start, stop, number, lease)


def attempt(job: str, index: int, number: int = 1, lease: int = LEASE) -> Attempt:
    return Attempt(JobId(job), index, number, lease)


class NoneKept:
    """Where no job is ever closed."""

    def inputs(self, job: JobId, start: int, stop: int) -> Sequence[str | None]:
        raise AssertionError(f"{job} {start} {stop} are still in memory")

    def results(self, job: JobId, start: int, stop: int) -> Iterable[ResultNoted]:
        raise AssertionError(f"{job} {start} {stop} are still in memory")


@dataclass
class Referee:
    """A scheduler whose every step is checked, with books kept beside it."""

    scheduler: Scheduler = field(default_factory=lambda: Scheduler(LEASE))
    books: Books = field(default_factory=lambda: Books(NoneKept()))
    thorough: bool = True  # check all invariants after each event: O(everything)
    now: float = 0.0
    live: dict[AgentId, set[Attempt]] = field(
        default_factory=dict
    )  # what each agent was given and may answer
    holders: dict[tuple[JobId, int], dict[AgentId, Attempt]] = field(
        default_factory=dict
    )  # the same, by task
    jobs: dict[JobId, events.JobSubmitted] = field(default_factory=dict)
    ends: Counter[tuple[JobId, int]] = field(default_factory=Counter)
    ended_jobs: dict[JobId, JobState] = field(default_factory=dict)
    numbers: dict[tuple[JobId, int], int] = field(default_factory=dict)
    leaving: set[AgentId] = field(default_factory=set)
    _due_before: int = 0

    def tell(self, event: Event, now: float | None = None) -> list[Action]:
        if now is not None:
            assert now >= self.now
            self.now = now
        self._before(event)
        actions = self.scheduler.handle(event, self.now)
        self.books.apply(event, self.now)
        for action in actions:
            self._after(action)
            self.books.apply(action, self.now)
        self._answered(event, actions)
        if self.thorough:
            self.check()
        return actions

    def _before(self, event: Event) -> None:
        match event:
            case events.TimePassed():
                self._due_before = self._due_now()
            case events.AgentJoined(agent):
                self.live.setdefault(agent, set())
                self.leaving.discard(agent)
                node = NodeId(f"node-{agent}")
                self.books.note_agent(AgentNoted(agent, node, "linux", "3.11", "0.1.0"))
            case events.JobSubmitted(job, tasks) if job not in self.jobs:
                self.jobs[job] = event
                for start, stop in event.done + event.failed:
                    self.ends.update((job, index) for index in range(start, stop))
                state = JobState.HELD if event.held else JobState.QUEUED
                view = JobView(job, "name", state, Counts(), NodeId("me"), "script.py", self.now, Digest("d"))
                self.books.note_job(view, [f"{index}.mp4" for index in range(tasks)], event.requirements.cpus)
                for spans, end in ((event.done, TaskState.DONE), (event.failed, TaskState.FAILED)):
                    for start, stop in spans:
                        self.books.apply(events.EndTasks(job, start, stop, end), self.now)
            case events.TasksAdded(job, tasks) if self._takes_more(job):
                self.jobs[job] = msgspec.structs.replace(self.jobs[job], tasks=self.jobs[job].tasks + tasks)
            case events.JobClosed(job) if self._takes_more(job):
                self.jobs[job] = msgspec.structs.replace(self.jobs[job], open=False)
            case events.TasksReturned(agent, _, leaving) if leaving and agent in self.live:
                self.leaving.add(agent)

    def _after(self, action: Action) -> None:
        match action:
            case events.Assign(agent, assigned):
                assert agent in self.live, "work for an agent that is not there"
                assert agent not in self.leaving, "work for an agent that is leaving"
                assert assigned.job not in self.ended_jobs, "work of a job that has ended"
                for one in assigned.attempts():
                    key = (one.job, one.index)
                    assert one.number == self.numbers.get(key, 0) + 1, "a number is skipped or used twice"
                    assert not self.ends[key], "a task runs after its end"
                    holders = self.holders.get(key, {})
                    assert agent not in holders, "an agent is given a task twice"
                    assert len(holders) < (RUNNERS_MAX if self.jobs[one.job].repeatable else 1), (
                        "too many run it"
                    )
                    self.numbers[key] = one.number
                    self._give(agent, one)
            case events.Adopt(agent, adopted):
                for one in adopted.attempts():
                    assert not self.holders.get((one.job, one.index)), (
                        "a task is adopted that another agent holds"
                    )
                    self.numbers[one.job, one.index] = max(
                        one.number, self.numbers.get((one.job, one.index), 0)
                    )
                    self._give(agent, one)
            case events.Cancel(agent, runs):
                for cancelled in runs:
                    for one in cancelled.attempts():
                        if one in self.live.get(agent, ()):
                            self._take(agent, one)
            case events.Requeue(over):
                for holder, held in list(self.holders.get((over.job, over.index), {}).items()):
                    if held == over:
                        self._take(holder, over)
            case events.EndTasks(job, start, stop):
                for index in range(start, stop):
                    self.ends[job, index] += 1
                    assert self.ends[job, index] == 1, "a task ends twice"
                    for holder, held in list(self.holders.get((job, index), {}).items()):
                        self._take(holder, held)
            case events.EndJob(job, state):
                assert job not in self.ended_jobs, "a job ends twice"
                self.ended_jobs[job] = state
                assert not self.jobs[job].open or state is JobState.CANCELLED, "an open job ends by itself"
                for index in range(self.jobs[job].tasks):
                    assert self.ends[job, index] == 1, "a job ends before its tasks"
            case events.LoseAgent(agent):
                assert not self.live.pop(agent), "a lost agent still holds tasks"
                self.leaving.discard(agent)
            case _:
                pass

    def _answered(self, event: Event, actions: list[Action]) -> None:
        adopted = {(a.run.job, a.run.start) for a in actions if isinstance(a, events.Adopt)}
        queued = {(a.attempt.job, a.attempt.index) for a in actions if isinstance(a, events.Requeue)}
        assert not adopted & queued, "a task is taken up and lost again"
        answers = [action for action in actions if isinstance(action, events.Commit | events.Discard)]
        if isinstance(event, events.TaskSucceeded | events.TaskFailed):
            assert len(answers) == 1, "a result is answered once"
            assert (answers[0].agent, answers[0].attempt) == (event.agent, event.attempt)
        else:
            assert not answers
        due = self.scheduler.deadline()
        if isinstance(event, events.TimePassed):
            in_parts = self.scheduler.behind or self._due_before > policies.LOOKED_AT_MAX
            assert due is None or due > self.now or in_parts, "what was due is not done"
            assert self._due_now() <= max(0, self._due_before - policies.LOOKED_AT_MAX)

    def _takes_more(self, job: JobId) -> bool:
        return job in self.jobs and self.jobs[job].open and job not in self.ended_jobs

    def _due_now(self) -> int:
        """How much of the longest list of what waits for a time has come due."""
        scheduler = self.scheduler
        heaps: list[list[Any]] = [scheduler._backoff, scheduler._pardons, scheduler._pauses]
        return max(len([entry for entry in heap if entry[0] <= self.now]) for heap in heaps)

    def _give(self, agent: AgentId, one: Attempt) -> None:
        self.live[agent].add(one)
        self.holders.setdefault((one.job, one.index), {})[agent] = one

    def _take(self, agent: AgentId, one: Attempt) -> None:
        self.live[agent].discard(one)
        holders = self.holders[one.job, one.index]
        holders.pop(agent, None)
        if not holders:
            del self.holders[one.job, one.index]

    def check(self) -> None:
        self.scheduler.check()
        for view in self.books.jobs():
            assert view.counts.total == self.jobs[view.id].tasks, "the books lose a task"
            assert view.counts.ended == sum(self.ends[view.id, index] for index in range(view.counts.total))
            assert view.state.ended == (view.id in self.ended_jobs)
        for agent_view in self.books.agents():
            given = self.live.get(agent_view.id, set())
            assert agent_view.busy + agent_view.queued >= len(given), "the books lose an attempt"
            assert given or agent_view.busy == agent_view.queued == 0, "the books invent an attempt"
            assert (agent_view.state != "lost") == (agent_view.id in self.live)
        tasks = [task for view in self.books.jobs() for task in self.books.tasks(view.id)]
        held = {(one.job, one.index) for given in self.live.values() for one in given}
        under_way = {(task.job, task.index) for task in tasks if task.state in UNDER_WAY}
        assert under_way == held, "the books and the scheduler disagree"

    def drain(self) -> Changes:
        return self.books.drain()

    def submit(
        self, job: str, tasks: int, requirements: Requirements | None = None, **fields: object
    ) -> list[Action]:
        needs = requirements or Requirements()
        return self.tell(events.JobSubmitted(JobId(job), tasks, needs, **fields))  # type: ignore[arg-type]

    def join(self, agent: str, slots: int = 2, holds: tuple[Run, ...] = (), **fields: object) -> list[Action]:
        return self.tell(events.AgentJoined(AgentId(agent), offer(slots, **fields), holds))
