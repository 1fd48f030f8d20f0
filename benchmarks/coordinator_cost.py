"""What a task costs the scheduler in a large grid, and the longest single event.

    python benchmarks/coordinator_cost.py [AGENTS] [TASKS]

10,000 agents of 1 to 8 slots, 30 % of which vanish at some time, work off 200,000 tasks of log-normal length in jobs of
5,000, under a virtual clock. Printed: events, CPU microseconds a task, the longest `handle` in milliseconds. The bars
are 25 us and 20 ms. What reading the clock takes is measured first, and not counted. The clock is the wall's, which
needs no system call (one before each event costs what is measured 6 %), and counts what other programs take, too: it
says too much where the machine is not quiet, never too little.

Then, on such a grid at full load, what concerns everybody at once: the first job with new requirements, a job that is
held after its first failures, one that an agent refuses, one that is cancelled, half of the agents that fall silent and
are lost. The longest `handle` of each has the same bar.
"""

import gc
import heapq
import sys
import time
from random import Random

from discogrid.types import GIB, AgentId, Attempt, JobId, Offer, Outcome, Requirements, Run, SandboxLevel
from discogrid_coordinator import events, policies
from discogrid_coordinator.scheduler import Scheduler

AGENTS, TASKS, JOB_TASKS = 10_000, 200_000, 5_000
CHURN = 0.3
US_MAX, MS_MAX = 25.0, 20.0
CLOCK_READINGS = 200_000


class Grid:
    """Agents that start what they get, in order, and answer."""

    def __init__(self, agents: int, tasks: int, seed: int = 7) -> None:
        self.random = Random(seed)
        self.scheduler = Scheduler(1)
        self.agenda: list[tuple[float, int, str, object]] = []
        self.entries = 0
        self.slots: dict[AgentId, int] = {}
        self.queues: dict[AgentId, list[Attempt]] = {}
        self.running: dict[AgentId, set[Attempt]] = {}
        self.spent_ns = self.worst_ns = self.events = self.done = 0
        self.worst = ""
        beat = policies.heartbeat_interval(agents)
        for number in range(agents):
            name = AgentId(f"agent-{number}")
            self.slots[name] = self.random.choice([1, 2, 4, 8])
            self.plan(self.random.uniform(0, 5), "join", name)
            self.plan(self.random.uniform(5, 5 + beat), "beat", name)
            if self.random.random() < CHURN:
                self.plan(self.random.uniform(20, 120), "leave", name)
        for job in range(max(1, tasks // JOB_TASKS)):
            self.plan(5 + self.random.uniform(0, 5), "submit", JobId(f"job-{job}"))
        self.beat_s = beat

    def plan(self, at: float, what: str, who: object) -> None:
        self.entries += 1
        heapq.heappush(self.agenda, (at, self.entries, what, who))

    def run(self, tasks: int) -> None:
        while self.done < tasks:
            due = self.scheduler.deadline()
            if due is not None and due <= self.agenda[0][0]:
                self.tell(events.TimePassed(), due)
                continue
            now, _, what, who = heapq.heappop(self.agenda)
            self.act(what, who, now)

    def act(self, what: str, who: object, now: float) -> None:
        match what, who:
            case "submit", str():
                self.tell(events.JobSubmitted(JobId(who), JOB_TASKS, Requirements()), now)
            case "join", str():
                name = AgentId(who)
                self.queues[name], self.running[name] = [], set()
                self.tell(
                    events.AgentJoined(name, Offer(self.slots[name], 64 * GIB, SandboxLevel.STRICT)), now
                )
            case "beat", str():
                name = AgentId(who)
                if name in self.queues:
                    holds = tuple(map(Run.of, (*self.running[name], *self.queues[name])))
                    self.tell(events.AgentBeat(name, holds), now)
                    self.plan(now + self.beat_s, "beat", name)
            case "leave", str():
                name = AgentId(who)
                del self.queues[name], self.running[name]
                self.tell(events.AgentLeft(name, "gone"), now)
            case "end", (name, attempt) if name in self.running and attempt in self.running[name]:
                self.running[name].discard(attempt)
                self.tell(events.TaskSucceeded(name, attempt, self.random.lognormvariate(3, 1)), now)
                self.begin(name, now)
            case _:
                pass

    def begin(self, name: AgentId, now: float) -> None:
        started: list[Attempt] = []
        queue, running = self.queues[name], self.running[name]
        while queue and len(running) < self.slots[name]:
            attempt = queue.pop(0)
            running.add(attempt)
            started.append(attempt)
            self.plan(now + self.random.lognormvariate(3, 1), "end", (name, attempt))
        if started:
            self.tell(events.TasksStarted(name, tuple(map(Run.of, started))), now)

    def tell(self, event: events.Event, now: float) -> None:
        start = time.perf_counter_ns()
        actions = self.scheduler.handle(event, now)
        spent = time.perf_counter_ns() - start
        self.spent_ns += spent
        self.events += 1
        if spent > self.worst_ns:
            self.worst_ns, self.worst = spent, type(event).__name__
        woken: dict[AgentId, None] = {}
        for action in actions:
            match action:
                case events.Assign(name, run) if name in self.queues:
                    self.queues[name] += run.attempts()
                    woken[name] = None
                case events.Cancel(name, runs) if name in self.queues:
                    over = {one for run in runs for one in run.attempts()}
                    self.running[name] -= over
                    self.queues[name] = [one for one in self.queues[name] if one not in over]
                    woken[name] = None
                case events.Recall(name, runs, nonce):
                    self.recall(name, {one for run in runs for one in run.attempts()}, nonce, now)
                case events.EndTasks(_, start_, stop):
                    self.done += stop - start_
                case _:
                    pass
        for name in woken:
            self.begin(name, now)

    def recall(self, name: AgentId, wanted: set[Attempt], nonce: int, now: float) -> None:
        back = [one for one in self.queues.get(name, []) if one in wanted]
        if name in self.queues:
            self.queues[name] = [one for one in self.queues[name] if one not in wanted]
            self.tell(events.TasksReturned(name, tuple(map(Run.of, back)), nonce=nonce), now)


class Crowd:
    """A grid at full load to which something happens that concerns everybody."""

    def __init__(self, agents: int) -> None:
        self.scheduler = Scheduler(1)
        self.worst_ms: dict[str, float] = {}
        self.names = [AgentId(f"agent-{number}") for number in range(agents)]
        random = Random(7)
        for name in self.names:
            offer = Offer(random.choice([1, 2, 4, 8]), 64 * GIB, SandboxLevel.STRICT)
            self.tell("agents join", events.AgentJoined(name, offer), 0.0)

    def tell(self, what: str, event: events.Event, now: float) -> list[events.Action]:
        """The actions of the event, and of all that is due by then."""
        found: list[events.Action] = []
        while True:
            start = time.perf_counter_ns()
            actions = self.scheduler.handle(event, now)
            spent_ms = (time.perf_counter_ns() - start) / 1e6
            self.worst_ms[what] = max(spent_ms, self.worst_ms.get(what, 0.0))
            found += actions
            due = self.scheduler.deadline()
            if due is None or due > now:
                return found
            event = events.TimePassed()

    def submit(
        self, what: str, job: str, requirements: Requirements, now: float
    ) -> list[tuple[AgentId, Attempt]]:
        """A job that everybody gets some of, and the first task of each run that was assigned."""
        tasks = 20 * len(self.names)
        actions = self.tell(what, events.JobSubmitted(JobId(job), tasks, requirements), now)
        return [
            (action.agent, action.run.attempts()[0])
            for action in actions
            if isinstance(action, events.Assign)
        ]

    def play(self) -> None:
        """One thing after the other."""
        given = self.submit("a job with new requirements", "large", Requirements(memory_bytes=GIB), 1.0)
        for name, attempt in given:
            self.tell("tasks start", events.TasksStarted(name, (Run.of(attempt),)), 2.0)
        for name, attempt in given[:3]:
            failed = events.TaskFailed(name, attempt, Outcome.SCRIPT_FAILED, "NameError: x", retryable=False)
            self.tell("a job that fails alike", failed, 3.0)
        self.tell("a release", events.JobReleased(JobId("large")), 3.0)
        self.tell("recalls without an answer", events.TimePassed(), 10.0)
        name, attempt = given[10]
        self.tell("a refusal", events.TaskFailed(name, attempt, Outcome.REFUSED, "no"), 10.0)
        self.tell("a cancellation", events.JobCancelled(JobId("large")), 11.0)
        for number in range(8):
            self.submit("more jobs", f"job-{number}", Requirements(cpus=1 + number % 2), 12.0)
        half = len(self.names) // 2
        now, lost = 12.0, 12.0 + policies.lease(len(self.names))
        while now < lost:
            now += policies.heartbeat_interval(len(self.names))
            for name in self.names[:half]:
                self.tell("half of them fall silent and are lost", events.AgentBeat(name), now)
            self.tell("half of them fall silent and are lost", events.TimePassed(), now)
        assert len(self.scheduler.floor.agents) == half


def clock_ns() -> float:
    """What one reading of the clock takes."""
    start = time.perf_counter_ns()
    for _ in range(CLOCK_READINGS):
        time.perf_counter_ns()
    return (time.perf_counter_ns() - start) / CLOCK_READINGS


def main() -> int:
    """Print what it took; 1 when that is too much."""
    agents, tasks = (int(word) for word in (*sys.argv[1:], *("0", "0"))[:2])
    agents, tasks = agents or AGENTS, tasks or TASKS
    grid = Grid(agents, tasks)
    reading_ns = clock_ns()
    gc.collect()
    gc.freeze()
    gc.disable()
    grid.run(tasks)
    spent_us = (grid.spent_ns - reading_ns * grid.events) / 1000
    a_task_us, worst_ms = spent_us / tasks, grid.worst_ns / 1e6
    print(f"{agents:,} agents, {tasks:,} tasks, {grid.events:,} events")
    print(f"{a_task_us:.1f} us a task (at most {US_MAX:g}), {spent_us / grid.events:.1f} us an event")
    print(f"longest event {worst_ms:.1f} ms, a {grid.worst} (at most {MS_MAX:g})")
    crowd = Crowd(agents)
    crowd.play()
    for what, spent_ms in crowd.worst_ms.items():
        print(f"{spent_ms:8.2f} ms  {what}")
    return int(a_task_us > US_MAX or max(worst_ms, *crowd.worst_ms.values()) > MS_MAX)


if __name__ == "__main__":
    sys.exit(main())
