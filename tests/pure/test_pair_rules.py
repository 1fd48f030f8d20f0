"""Scheduler and agent machines joined by a network that loses, doubles and cuts, driven by Hypothesis."""

from collections import deque
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from discogrid.types import GIB, AgentId, FileRef, JobId, Limits, Outcome, Requirements, SandboxLevel
from discogrid_agent import events as agent_events
from discogrid_agent.machine import Machine
from discogrid_coordinator import events
from tests.pure.keeper import Keeper, file, received
from tests.pure.referee import LEASE, Referee, offer

NAMES = [AgentId("attic"), AgentId("barn"), AgentId("cellar")]
SLOTS = 2
names = st.sampled_from(NAMES)


class PairRules(RuleBasedStateMachine):
    """One scheduler, three agents; every message waits until a rule delivers, doubles or loses it."""

    def __init__(self) -> None:
        super().__init__()
        self.referee = Referee()
        self.keepers: dict[AgentId, Keeper] = {}
        self.up: deque[events.Event] = deque()  # to the coordinator
        self.down: dict[AgentId, deque[agent_events.Event]] = {}
        self.submitted = 0
        for name in NAMES:
            self.boot(name)

    @property
    def now(self) -> float:
        return self.referee.now

    def boot(self, name: AgentId) -> None:
        """A new agent process under an old name."""
        self.keepers[name] = Keeper(Machine(offer(SLOTS)), SLOTS, self.now)
        self.down[name] = deque()
        self.tell_agent(name, agent_events.Connected())

    # The wires.

    def tell_agent(self, name: AgentId, event: agent_events.Event) -> None:
        for action in self.keepers[name].tell(event, self.now):
            if message := self.upward(name, action):
                self.up.append(message)

    def upward(self, name: AgentId, action: agent_events.Action) -> events.Event | None:
        match action:
            case agent_events.SendHello(holds):
                return events.AgentJoined(name, offer(SLOTS), holds)
            case agent_events.SendBeat(holds):
                return events.AgentBeat(name, holds)
            case agent_events.SendStarted(runs):
                return events.TasksStarted(name, runs)
            case agent_events.GiveBack(runs, leaving, nonce):
                return events.TasksReturned(name, runs, leaving, nonce)
            case agent_events.SendGoodbye():
                return events.AgentLeft(name, "goodbye", goodbye=True)
            case agent_events.SendDone(attempt, Outcome.SUCCEEDED):
                return events.TaskSucceeded(name, attempt, 1.0)
            case agent_events.SendDone(attempt, outcome, reason):
                return events.TaskFailed(name, attempt, outcome, reason)
            case _:
                return None

    def tell_coordinator(self, event: events.Event) -> None:
        for action in self.referee.tell(event):
            self.downward(action)

    def downward(self, action: events.Action) -> None:
        match action:
            case events.Welcome(name, heartbeat_s, lease_s):
                self.down[name].append(agent_events.Welcomed(LEASE, lease_s, heartbeat_s))
            case events.Resync(name):
                self.down[name].append(agent_events.Resynced())
            case events.Assign(name, run):
                shared: tuple[FileRef, ...] = (file(f"script of {run.job}"),)
                needs = self.referee.jobs[run.job].requirements
                self.down[name].append(agent_events.JobVerified(run.job, needs, Limits(), shared))
                self.down[name].append(received(run))
            case events.Recall(name, runs, nonce):
                self.down[name].append(agent_events.RecallReceived(runs, nonce))
            case events.Cancel(name, runs):
                self.down[name].append(agent_events.CancelReceived(runs))
            case events.Commit(name, attempt):
                self.down[name].append(agent_events.Committed((attempt,)))
            case events.Discard(name, attempt):
                self.down[name].append(agent_events.Discarded((attempt,)))
            case events.EndJob(job):
                for queue in self.down.values():
                    queue.append(agent_events.JobEnded(job))
            case _:
                pass

    # What may happen.

    @rule(tasks=st.integers(1, 6), cpus=st.sampled_from([1, 1, 2]), gigabytes=st.sampled_from([0, 5]))
    def submit(self, tasks: int, cpus: int, gigabytes: int) -> None:
        if self.submitted < 4:
            self.submitted += 1
            needs = Requirements(cpus=cpus, memory_bytes=gigabytes * GIB, sandbox=SandboxLevel.NONE)
            self.tell_coordinator(events.JobSubmitted(JobId(f"j{self.submitted}"), tasks, needs))

    @rule(number=st.integers(1, 4), sure=st.integers(0, 4))
    def cancel(self, number: int, sure: int) -> None:
        if not sure:
            self.tell_coordinator(events.JobCancelled(JobId(f"j{number}")))

    @rule(count=st.integers(1, 10))
    def deliver_up(self, count: int) -> None:
        for _ in range(min(count, len(self.up))):
            self.tell_coordinator(self.up.popleft())

    @rule(name=names, count=st.integers(1, 10))
    def deliver_down(self, name: AgentId, count: int) -> None:
        for _ in range(min(count, len(self.down[name]))):
            self.tell_agent(name, self.down[name].popleft())

    @rule(double=st.booleans(), data=st.data())
    def meddle_up(self, double: bool, data: Any) -> None:
        if self.up:
            at = data.draw(st.integers(0, len(self.up) - 1))
            if double:
                self.up.append(self.up[at])
            else:
                del self.up[at]

    @rule(name=names, double=st.booleans(), data=st.data())
    def meddle_down(self, name: AgentId, double: bool, data: Any) -> None:
        if self.down[name]:
            at = data.draw(st.integers(0, len(self.down[name]) - 1))
            if double:
                self.down[name].append(self.down[name][at])
            else:
                del self.down[name][at]

    @rule(name=names)
    def cut(self, name: AgentId) -> None:
        self.down[name].clear()
        self.tell_agent(name, agent_events.Disconnected())
        self.tell_agent(name, agent_events.Connected())

    @rule(name=names, sure=st.integers(0, 3))
    def crash(self, name: AgentId, sure: int) -> None:
        if not sure:
            self.boot(name)

    @rule(name=names, mode=st.sampled_from(agent_events.StopMode), sure=st.integers(0, 3))
    def stop(self, name: AgentId, mode: agent_events.StopMode, sure: int) -> None:
        if not sure:
            self.tell_agent(name, agent_events.StopRequested(mode))

    @rule(name=names, luck=st.integers(0, 9))
    def work(self, name: AgentId, luck: int) -> None:
        """Something of what the agent waits for comes to its end."""
        keeper = self.keepers[name]
        for digest in list(keeper.fetching):
            self.tell_agent(
                name, agent_events.BlobReady(digest) if luck else agent_events.BlobFailed(digest, "gone")
            )
        for one in list(keeper.sending):
            if one in keeper.sending:
                self.tell_agent(name, agent_events.ResultSent(one))
        for one in list(keeper.running)[:1]:
            outcome = Outcome.CANCELLED if one in keeper.killed else Outcome.SUCCEEDED
            if luck == 1:
                outcome = Outcome.SCRIPT_FAILED
            if luck % 2:
                self.tell_agent(name, agent_events.BoxEmptied(one))
            self.tell_agent(name, agent_events.AttemptEnded(one, outcome, "", "archive"))

    @rule(seconds=st.sampled_from([0.3, 2.0, 2.0, 11.0, 16.0]))
    def wait(self, seconds: float) -> None:
        self.referee.now += seconds
        for name in NAMES:
            self.tell_agent(name, agent_events.TimePassed())
        self.tell_coordinator(events.TimePassed())

    def settled(self) -> bool:
        ended = set(self.referee.jobs) == set(self.referee.ended_jobs)
        return ended and not any(keeper.running or keeper.archives for keeper in self.keepers.values())

    def teardown(self) -> None:
        """On a good network, with all agents back, every job ends and the agents agree that nothing is left."""
        for name in NAMES:
            if self.keepers[name].exited:
                self.boot(name)
        for _ in range(400):
            if self.settled():
                break
            while self.up or any(self.down.values()):
                self.deliver_up(10)
                for name in NAMES:
                    self.deliver_down(name, 10)
            for name in NAMES:
                if self.keepers[name].exited:
                    self.boot(name)
                self.work(name, 5)
            self.wait(1.0)
        assert set(self.referee.jobs) == set(self.referee.ended_jobs), "a job never ends"
        for keeper in self.keepers.values():
            assert not keeper.running, "an agent runs what nobody wants"
            assert not keeper.archives, "an agent keeps what nobody wants"
        assert not any(self.referee.live.values())
        super().teardown()


TestPairRules = PairRules.TestCase
TestPairRules.settings = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
