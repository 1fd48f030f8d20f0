"""What one event costs the scheduler, by the number of agents: it must not grow with the grid.

    python benchmarks/scheduler_scaling.py

A grid of n agents of 4 slots each works off 20 tasks an agent; agents beat, start and finish tasks in random order,
with the deadline asked for after each event.
Printed is the CPU time of one event in microseconds, the median of several runs, and the ratio to the smallest grid.
"""

import gc
import statistics
import sys
import time
from random import Random

from discogrid.types import GIB, AgentId, Attempt, JobId, Offer, Requirements, Run, SandboxLevel
from discogrid_coordinator import events
from discogrid_coordinator.scheduler import Scheduler

AGENTS = (100, 1_000, 10_000)
SLOTS = 4
TASKS_PER_AGENT = 20
EVENTS = 80_000
BATCH = ("beat", "started", "succeeded", "time passed")
BEAT_S = 2.0
ROUNDS = 7
RATIO_MAX = 1.5


def grid(agents: int) -> tuple[Scheduler, dict[AgentId, list[Attempt]]]:
    """A grid at work: every agent has joined, and a job large enough for EVENTS is under way."""
    scheduler = Scheduler(1)
    held: dict[AgentId, list[Attempt]] = {}
    for number in range(agents):
        name = AgentId(f"agent-{number}")
        held[name] = []
        scheduler.handle(events.AgentJoined(name, Offer(SLOTS, 8 * GIB, SandboxLevel.STRICT)), 0.0)
    tasks = TASKS_PER_AGENT * agents + EVENTS
    take(scheduler.handle(events.JobSubmitted(JobId("job"), tasks, Requirements()), 0.0), held)
    while scheduler.behind:
        take(scheduler.handle(events.TimePassed(), 0.0), held)
    return scheduler, held


def take(actions: list[events.Action], held: dict[AgentId, list[Attempt]]) -> None:
    """Agents get what was assigned."""
    for action in actions:
        if isinstance(action, events.Assign):
            held[action.agent] += action.run.attempts()


def one_round(agents: int) -> float:
    """Microseconds of CPU time for one event."""
    scheduler, held = grid(agents)
    random = Random(agents)
    names = list(held)
    gc.collect()
    gc.freeze()
    gc.disable()
    spent = 0
    count = 0
    now = 0.0
    while count < EVENTS:
        if not count % (len(BATCH) * agents):
            random.shuffle(names)  # each in its turn, so that no lease ends, but never in the order of memory
        name = names[count // len(BATCH) % agents]
        now += BEAT_S / agents
        first = held[name].pop(0)
        batch: list[events.Event] = [
            events.AgentBeat(name, (Run.of(first), *map(Run.of, held[name]))),
            events.TasksStarted(name, (Run.of(first),)),
            events.TaskSucceeded(name, first, 10.0),
            events.TimePassed(),
        ]
        start = time.process_time_ns()
        answers = [(scheduler.handle(event, now), scheduler.deadline()) for event in batch]
        spent += time.process_time_ns() - start
        for actions, _ in answers:
            take(actions, held)
        count += len(batch)
    gc.enable()
    gc.unfreeze()
    return spent / count / 1000


def main() -> int:
    """Print the table; 1 when a large grid costs too much."""
    rounds = {agents: [one_round(agents) for _ in range(ROUNDS)] for agents in AGENTS}
    costs = {agents: statistics.median(times) for agents, times in rounds.items()}
    print(f"{'agents':>8} {'us/event':>9} {'ratio':>6}")
    for agents, cost in costs.items():
        print(f"{agents:>8,} {cost:>9.2f} {cost / costs[AGENTS[0]]:>6.2f}")
    return int(costs[AGENTS[-1]] / costs[AGENTS[0]] >= RATIO_MAX)


if __name__ == "__main__":
    sys.exit(main())
