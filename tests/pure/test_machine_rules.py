"""Hypothesis drives the agent machine with any events in any order; half of the answers are drawn from live work."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from discogrid.types import GIB, Attempt, Digest, JobId, Limits, Outcome, Requirements, Run
from discogrid_agent import events
from tests.pure.keeper import LEASE, Keeper, file, received

JOBS = [JobId(f"j{number}") for number in range(3)]
NEEDS = [Requirements(), Requirements(cpus=2), Requirements(memory_bytes=5 * GIB), Requirements(cpus=3)]
jobs = st.sampled_from(JOBS)
bools = st.booleans()


class MachineRules(RuleBasedStateMachine):
    """Each rule is an event; the keeper checks the answer, `check` the state."""

    def __init__(self) -> None:
        super().__init__()
        self.keeper = Keeper()
        self.verified: set[JobId] = set()
        self.keeper.tell(events.Connected())
        self.keeper.tell(events.Welcomed(LEASE, 15.0, 2.0))

    def some_attempt(self, data: Any) -> Attempt:
        live = sorted({*self.keeper.running, *self.keeper.sending, *self.keeper.archives}, key=repr)
        if live and data.draw(bools):
            return data.draw(st.sampled_from(live))  # type: ignore[no-any-return]
        lease = data.draw(st.sampled_from([LEASE, LEASE, LEASE - 1]))
        return Attempt(data.draw(jobs), data.draw(st.integers(0, 9)), data.draw(st.integers(1, 2)), lease)

    def some_digest(self, data: Any) -> Digest:
        if self.keeper.fetching and data.draw(bools):
            return data.draw(st.sampled_from(list(self.keeper.fetching)))  # type: ignore[no-any-return]
        return file(data.draw(st.sampled_from(["script", "model", "j0-1", "j1-2"]))).digest

    @rule(lease=st.sampled_from([LEASE, LEASE, LEASE + 1]))
    def welcome(self, lease: int) -> None:
        self.keeper.online = True
        self.keeper.tell(events.Welcomed(lease, 15.0, 2.0))

    @rule()
    def connect(self) -> None:
        self.keeper.tell(events.Connected())

    @rule()
    def disconnect(self) -> None:
        self.keeper.tell(events.Disconnected())

    @rule()
    def resync(self) -> None:
        self.keeper.tell(events.Resynced())

    @rule(job=jobs, data=st.data())
    def verify(self, job: JobId, data: Any) -> None:
        shared = data.draw(st.sampled_from([(), ("script",), ("script", "model")]))
        needs = NEEDS[JOBS.index(job)] if data.draw(st.integers(0, 9)) else NEEDS[3]
        self.verified.add(job)
        self.keeper.tell(events.JobVerified(job, needs, Limits(), tuple(file(name) for name in shared)))

    @rule(
        job=jobs,
        start=st.integers(0, 6),
        count=st.integers(1, 6),
        number=st.integers(1, 2),
        inputs=bools,
        data=st.data(),
    )
    def receive(self, job: JobId, start: int, count: int, number: int, inputs: bool, data: Any) -> None:
        if job not in self.verified:
            self.verify(job, data)
        self.keeper.tell(received(Run(job, start, start + count, number, LEASE), inputs=inputs))

    @rule(data=st.data())
    def blob_ready(self, data: Any) -> None:
        self.keeper.tell(events.BlobReady(self.some_digest(data)))

    @rule(data=st.data())
    def blob_failed(self, data: Any) -> None:
        self.keeper.tell(events.BlobFailed(self.some_digest(data), "nobody has it"))

    @rule(data=st.data())
    def empty(self, data: Any) -> None:
        self.keeper.tell(events.BoxEmptied(self.some_attempt(data)))

    @rule(data=st.data(), outcome=st.sampled_from(Outcome), result=bools)
    def end(self, data: Any, outcome: Outcome, result: bool) -> None:
        one = self.some_attempt(data)
        self.keeper.tell(events.AttemptEnded(one, outcome, "", "archive" if result else None))

    @rule(data=st.data(), fine=bools)
    def send(self, data: Any, fine: bool) -> None:
        one = self.some_attempt(data)
        self.keeper.tell(events.ResultSent(one) if fine else events.SendFailed(one, "no room"))

    @rule(data=st.data(), good=bools)
    def acknowledge(self, data: Any, good: bool) -> None:
        attempts = (self.some_attempt(data),)
        # The machine may drop a result that is on its way; the shell's late answer does no harm.
        self.keeper.sending.pop(attempts[0], None)
        self.keeper.tell(events.Committed(attempts) if good else events.Discarded(attempts))

    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        one = self.some_attempt(data)
        self.keeper.tell(events.CancelReceived((Run(one.job, 0, one.index + 1, one.number, one.lease),)))

    @rule(job=jobs, sure=st.integers(0, 2))
    def end_job(self, job: JobId, sure: int) -> None:
        if not sure:
            for one in [one for one in self.keeper.sending if one.job == job]:
                del self.keeper.sending[one]
            self.verified.discard(job)
            self.keeper.tell(events.JobEnded(job))

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0, 11.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.keeper.tell(events.TimePassed(), self.keeper.now + seconds)

    @precondition(lambda self: self.keeper.now > 20)
    @rule(mode=st.sampled_from(events.StopMode), sure=st.integers(0, 3))
    def stop(self, mode: events.StopMode, sure: int) -> None:
        if not sure:
            self.keeper.tell(events.StopRequested(mode))

    def teardown(self) -> None:
        """With a line and a kind world, all work ends, nothing stays pinned, and the agent leaves when asked."""
        keeper = self.keeper
        keeper.tell(events.Connected())
        keeper.tell(events.Welcomed(LEASE, 15.0, 2.0))
        for _ in range(300):
            for digest in list(keeper.fetching):
                keeper.tell(events.BlobReady(digest))
            for one in list(keeper.running):
                keeper.tell(events.AttemptEnded(one, Outcome.SUCCEEDED, "", "archive"))
            for one in list(keeper.sending):
                keeper.tell(events.ResultSent(one))
                keeper.tell(events.Committed((one,)))
            keeper.tell(events.TimePassed(), keeper.now + 1.0)
        assert not keeper.running
        assert not keeper.archives
        if not keeper.exited:
            for job in JOBS:
                keeper.tell(events.JobEnded(job))
            assert not keeper.pinned, "a blob is kept for nobody"
            keeper.tell(events.StopRequested(events.StopMode.FINISH))
        assert keeper.exited, "the agent does not leave"
        super().teardown()


TestMachineRules = MachineRules.TestCase
TestMachineRules.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
