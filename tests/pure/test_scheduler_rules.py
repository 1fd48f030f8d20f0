"""Hypothesis drives the scheduler with any events in any order; half of the answers are drawn from live work."""

from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from discogrid.types import AgentId, Attempt, JobId, Outcome, Requirements, Run, SandboxLevel
from discogrid_coordinator import events, policies
from tests.pure.referee import LEASE, Referee, offer

AGENTS = [AgentId(f"a{number}") for number in range(4)]
JOBS = [JobId(f"j{number}") for number in range(5)]
NEEDS = [
    Requirements(),
    Requirements(cpus=2),
    Requirements(memory_bytes=5 << 30),
    Requirements(gpus=1),
    Requirements(needs=("dlib",)),
]
names = st.sampled_from(AGENTS)
jobs = st.sampled_from(JOBS)
bools = st.booleans()


class SchedulerRules(RuleBasedStateMachine):
    """Each rule is an event; the referee checks the answer, `check` the state."""

    def __init__(self) -> None:
        super().__init__()
        self.referee = Referee()

    def some_attempt(self, data: Any) -> tuple[AgentId, Attempt]:
        """Half of the time one that an agent really holds."""
        live = [
            (agent, one)
            for agent, held in sorted(self.referee.live.items())
            for one in sorted(held, key=repr)
        ]
        if live and data.draw(bools):
            return data.draw(st.sampled_from(live))  # type: ignore[no-any-return]
        lease = data.draw(st.sampled_from([LEASE, LEASE, LEASE - 1]))
        index, number = data.draw(st.integers(-1, 8)), data.draw(st.integers(0, 3))
        return data.draw(names), Attempt(data.draw(jobs), index, number, lease)

    def some_runs(self, data: Any, agent: AgentId) -> tuple[Run, ...]:
        """What the agent says it holds: the truth, or less, or what it never was given."""
        held = sorted(self.referee.live.get(agent, ()), key=repr)
        told = [Run.of(one) for one in held if data.draw(st.integers(0, 3))]
        if not data.draw(st.integers(0, 2)):
            start = data.draw(st.integers(0, 8))
            told.append(
                Run(
                    data.draw(jobs),
                    start,
                    start + data.draw(st.integers(1, 5)),
                    data.draw(st.integers(1, 3)),
                    LEASE,
                )
            )
        return tuple(told)

    @rule(agent=names, slots=st.integers(1, 4), gpus=st.integers(0, 1), able=bools, data=st.data())
    def join(self, agent: AgentId, slots: int, gpus: int, able: bool, data: Any) -> None:
        level = data.draw(st.sampled_from([SandboxLevel.STRICT, SandboxLevel.STRICT, SandboxLevel.NONE]))
        lent = offer(slots, gpus=gpus, capabilities=frozenset({"dlib"} if able else ()), sandbox=level)
        self.referee.tell(events.AgentJoined(agent, lent, self.some_runs(data, agent)))

    @rule(agent=names, data=st.data())
    def beat(self, agent: AgentId, data: Any) -> None:
        self.referee.tell(events.AgentBeat(agent, self.some_runs(data, agent)))

    @rule(agent=names, goodbye=bools)
    def leave(self, agent: AgentId, goodbye: bool) -> None:
        self.referee.tell(events.AgentLeft(agent, "left", goodbye=goodbye))

    @rule(
        job=jobs,
        tasks=st.integers(0, 8),
        needs=st.sampled_from(NEEDS),
        retries=st.integers(0, 2),
        data=st.data(),
    )
    def submit(self, job: JobId, tasks: int, needs: Requirements, retries: int, data: Any) -> None:
        if job in self.referee.jobs:  # names are not used again
            return
        done = ((0, 2),) if tasks > 2 and not data.draw(st.integers(0, 3)) else ()
        failed = ((2, 3),) if done and data.draw(bools) else ()
        priority, held = data.draw(st.integers(-1, 1)), not data.draw(st.integers(0, 4))
        open_ = not data.draw(st.integers(0, 2))
        self.referee.tell(
            events.JobSubmitted(job, tasks, needs, retries, priority, held, done, failed, open=open_)
        )

    @rule(job=jobs, tasks=st.integers(0, 4))
    def add(self, job: JobId, tasks: int) -> None:
        self.referee.tell(events.TasksAdded(job, tasks))

    @rule(job=jobs)
    def close(self, job: JobId) -> None:
        self.referee.tell(events.JobClosed(job))

    @rule(job=jobs)
    def release(self, job: JobId) -> None:
        self.referee.tell(events.JobReleased(job))

    @rule(job=jobs, sure=st.integers(0, 3))
    def cancel(self, job: JobId, sure: int) -> None:
        if not sure:
            self.referee.tell(events.JobCancelled(job))

    @rule(data=st.data())
    def start(self, data: Any) -> None:
        agent, one = self.some_attempt(data)
        self.referee.tell(events.TasksStarted(agent, (Run.of(one),)))

    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.01, 1.0, 100.0]))
    def succeed(self, data: Any, seconds: float) -> None:
        agent, one = self.some_attempt(data)
        self.referee.tell(events.TaskSucceeded(agent, one, seconds))

    @rule(data=st.data(), outcome=st.sampled_from(Outcome), retryable=bools)
    def fail(self, data: Any, outcome: Outcome, retryable: bool) -> None:
        agent, one = self.some_attempt(data)
        self.referee.tell(events.TaskFailed(agent, one, outcome, "no luck", retryable))

    @rule(data=st.data(), leaving=st.integers(0, 3))
    def give_back(self, data: Any, leaving: int) -> None:
        agent, one = self.some_attempt(data)
        run = Run.of(one)
        wide = Run(run.job, max(0, run.start - 1), run.stop + 20, run.number, run.lease)
        self.referee.tell(
            events.TasksReturned(agent, (data.draw(st.sampled_from([run, wide])),), not leaving)
        )

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 11.0, 16.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.referee.tell(events.TimePassed(), self.referee.now + seconds)

    @rule(job=jobs)
    def ask(self, job: JobId) -> None:
        reasons = self.referee.scheduler.explain(job)
        assert set(reasons) in (set(), set(self.referee.live))
        assert all(reasons.values())

    @rule()
    def read(self) -> None:
        self.referee.drain()

    @precondition(lambda self: self.referee.now > 0)
    @invariant()
    def nothing_is_overdue(self) -> None:
        due = self.referee.scheduler.deadline()
        assert due is None or due > self.referee.now - 100

    def teardown(self) -> None:
        """Given an agent for everything and answers to all it is sent, every job comes to its end."""
        for job in JOBS:
            self.referee.tell(events.JobReleased(job))
            self.referee.tell(events.JobClosed(job))
        for spare in range(2):
            name = AgentId(f"able-{spare}")
            lent = offer(4, gpus=1, capabilities=frozenset({"dlib"}))
            self.referee.tell(events.AgentJoined(name, lent))
        for _ in range(200):
            for agent, held in sorted(self.referee.live.items()):
                for one in sorted(held, key=repr):
                    self.referee.tell(events.TaskSucceeded(agent, one, 1.0))
            if set(self.referee.jobs) == set(self.referee.ended_jobs):
                break
            self.referee.tell(events.TimePassed(), self.referee.now + 1.0)
        assert set(self.referee.jobs) == set(self.referee.ended_jobs), "a job never ends"
        super().teardown()


class SchedulerRulesInParts(SchedulerRules):
    """The same, where one event does the least that it may, and the rest follows in the next ones."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = patch.multiple(policies, PLACED_MAX=1, HELPED_MAX=1, WITHDRAWN_MAX=1, LOOKED_AT_MAX=1)
        self.parts.start()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.parts.stop()


RULES = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
TestSchedulerRules = SchedulerRules.TestCase
TestSchedulerRules.settings = RULES
TestSchedulerRulesInParts = SchedulerRulesInParts.TestCase
TestSchedulerRulesInParts.settings = settings(RULES, max_examples=100)
