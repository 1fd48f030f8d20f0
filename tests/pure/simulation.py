"""A whole grid under a virtual clock: uneven agents that vanish, return, stumble and repeat themselves. A seed is a bug report."""

import hashlib
import heapq
from dataclasses import dataclass, field
from random import Random

from discogrid.types import AgentId, Attempt, JobId, Outcome, Requirements, Run
from discogrid_coordinator import events
from discogrid_coordinator.events import Action, Event
from tests.pure.referee import Referee, offer

BEAT_S = 2.0
STEPS_MAX = 2_000_000


@dataclass
class Node:
    """One simulated agent; `epoch` tells the wake-ups of an earlier life from those of this one."""

    name: AgentId
    slots: int
    speed: float
    up: bool = False
    paused: bool = False
    epoch: int = 0
    queue: list[Attempt] = field(default_factory=list)
    running: dict[Attempt, None] = field(default_factory=dict)
    unacknowledged: dict[Attempt, Event] = field(default_factory=dict)

    def holds(self) -> tuple[Run, ...]:
        return tuple(Run.of(one) for one in (*self.queue, *self.running, *self.unacknowledged))


class Simulation:
    """`agents` agents, `jobs` jobs of `tasks` tasks each. `churn`: the share of agents that vanishes now and then."""

    def __init__(
        self, seed: int, agents: int, jobs: int, tasks: int, churn: float = 0.3, check_each: int = 50
    ) -> None:
        self.random = Random(seed)
        self.referee = Referee(thorough=False)
        self.digest = hashlib.blake2b()
        self.now = 0.0
        self.steps = 0
        self.churn = churn
        self.check_each = check_each
        self.agenda: list[tuple[float, int, str, str, int, object]] = []
        self.entries = 0
        self.nodes: dict[AgentId, Node] = {}
        for number in range(agents):
            name = AgentId(f"agent-{number}")
            self.nodes[name] = Node(
                name, self.random.choice([1, 2, 4, 8]), self.random.choice([0.2, 1, 1, 2])
            )
            self.plan(self.random.uniform(0, 20), "join", name, 0)
        for number in range(jobs):
            self.plan(self.random.uniform(0, 60), "submit", f"job-{number}", tasks)

    def plan(self, delay: float, what: str, who: str, epoch: int, more: object = None) -> None:
        self.entries += 1
        heapq.heappush(self.agenda, (self.now + delay, self.entries, what, who, epoch, more))

    def run(self) -> None:
        """Until every job has ended."""
        jobs = sum(entry[2] == "submit" for entry in self.agenda)
        while len(self.referee.ended_jobs) < jobs:
            self.steps += 1
            assert self.steps < STEPS_MAX, "the grid does not come to an end"
            due = self.referee.scheduler.deadline()
            if due is not None and due <= self.agenda[0][0]:
                self.now = max(self.now, due)
                self.tell(events.TimePassed())
            else:
                self.now, _, what, who, epoch, more = heapq.heappop(self.agenda)
                self.act(what, who, epoch, more)
            if self.steps % self.check_each == 0:
                self.referee.check()
        self.referee.check()

    def act(self, what: str, who: str, epoch: int, more: object) -> None:
        if what == "submit":
            cpus = self.random.choice([1, 1, 1, 2])
            priority = self.random.choice([0, 0, 5])
            self.tell(events.JobSubmitted(JobId(who), epoch, Requirements(cpus=cpus), priority=priority))
            return
        node = self.nodes[AgentId(who)]
        if what == "join":
            self.join(node)
        elif not node.up or node.epoch != epoch:
            return
        elif what == "beat":
            self.tell(events.AgentBeat(node.name, node.holds()))
            for answer in list(node.unacknowledged.values()):
                self.tell(answer)
            self.plan(BEAT_S, "beat", who, epoch)
        elif what == "vanish":
            self.vanish(node)
        elif what == "pause":
            self.pause(node)
        elif what == "resume":
            node.paused = False
            self.tell(events.AgentPaused(node.name, paused=False))
            self.begin(node)
        elif what == "recall" and isinstance(more, tuple):
            self.give_back(node, *more)
        elif node.paused and isinstance(more, Attempt):
            self.plan(1.0, what, who, epoch, more)
        elif isinstance(more, Attempt) and more in node.running:
            del node.running[more]
            self.end(node, more)
            self.begin(node)

    def join(self, node: Node) -> None:
        node.up = True
        node.paused = False
        node.epoch += 1
        self.tell(events.AgentJoined(node.name, offer(node.slots), node.holds()))
        for one in list(node.running):
            self.plan(self.random.uniform(0, 30), "end", node.name, node.epoch, one)
        self.plan(BEAT_S, "beat", node.name, node.epoch)
        if self.random.random() < self.churn:
            self.plan(self.random.expovariate(1 / 40), "vanish", node.name, node.epoch)
        if self.random.random() < self.churn:
            self.plan(self.random.expovariate(1 / 40), "pause", node.name, node.epoch)
        self.begin(node)

    def pause(self, node: Node) -> None:
        """Its owner is back: nothing more starts there for a while, and what runs stands still."""
        node.paused = True
        self.tell(events.AgentPaused(node.name))
        back, node.queue = node.queue, []
        if back:
            self.tell(events.TasksReturned(node.name, tuple(map(Run.of, back))))
        self.plan(self.random.uniform(1, 60), "resume", node.name, node.epoch)

    def give_back(self, node: Node, runs: tuple[Run, ...], nonce: int) -> None:
        wanted = {one for run in runs for one in run.attempts()}
        back = [one for one in node.queue if one in wanted]
        node.queue = [one for one in node.queue if one not in wanted]
        if self.random.random() < 0.95:
            self.tell(events.TasksReturned(node.name, tuple(map(Run.of, back)), nonce=nonce))

    def vanish(self, node: Node) -> None:
        node.up = False
        how = self.random.random()
        if how < 0.3:
            self.tell(events.AgentLeft(node.name, "goodbye", goodbye=True))
        if how < 0.7:  # the process is gone, and with it all it had; otherwise only the line is
            node.queue.clear()
            node.running.clear()
            node.unacknowledged.clear()
        self.plan(self.random.uniform(1, 60), "join", node.name, 0)

    def begin(self, node: Node) -> None:
        started: list[Attempt] = []
        while node.queue and not node.paused and len(node.running) < node.slots:
            one = node.queue.pop(0)
            node.running[one] = None
            started.append(one)
            self.plan(self.random.lognormvariate(3, 1) / node.speed, "end", node.name, node.epoch, one)
        if started:
            self.tell(events.TasksStarted(node.name, tuple(Run.of(one) for one in started)))

    def end(self, node: Node, one: Attempt) -> None:
        answer: Event
        luck = self.random.random()
        if luck < 0.92:
            answer = events.TaskSucceeded(node.name, one, self.random.uniform(1, 20))
        else:
            outcome = self.random.choice(
                [Outcome.SCRIPT_FAILED, Outcome.BOX_FAILED, Outcome.TRANSFER_FAILED, Outcome.CANCELLED]
            )
            answer = events.TaskFailed(node.name, one, outcome, "bad luck", retryable=luck < 0.99)
        node.unacknowledged[one] = answer
        if self.random.random() < 0.95:  # else the message is lost, and repeated with the next beat
            self.tell(answer)
            if self.random.random() < 0.05:
                self.tell(answer)

    def tell(self, event: Event) -> None:
        actions = self.referee.tell(event, self.now)
        self.digest.update(repr(actions).encode())
        for action in actions:
            self.deliver(action)

    def deliver(self, action: Action) -> None:
        match action:
            case events.Assign(agent, run):
                node = self.nodes[agent]
                if node.up and self.random.random() < 0.99:
                    node.queue += run.attempts()
                    self.begin(node)
            case events.Recall(agent, runs, nonce):
                self.plan(self.random.uniform(0, 2), "recall", agent, self.nodes[agent].epoch, (runs, nonce))
            case events.Cancel(agent, runs):
                node = self.nodes[agent]
                for one in [one for run in runs for one in run.attempts()]:
                    if node.up and one in node.queue:
                        node.queue.remove(one)
                    elif node.up:
                        node.running.pop(one, None)
                self.begin(node)
            case events.Commit(agent, attempt) | events.Discard(agent, attempt):
                if self.nodes[agent].up:
                    self.nodes[agent].unacknowledged.pop(attempt, None)
            case events.Resync(agent):
                if self.nodes[agent].up:
                    self.tell(
                        events.AgentJoined(agent, offer(self.nodes[agent].slots), self.nodes[agent].holds())
                    )
            case _:
                pass
