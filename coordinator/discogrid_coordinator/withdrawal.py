"""Takes the tasks of a job that is cancelled or held out of the agents' hands, part by part. Pure.

A job may have tens of thousands of them with as many agents. What it means for the job is settled in one event; who
has something of it hears that in this event and those that follow at once.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice

from discogrid_coordinator import policies
from discogrid_coordinator.events import Cancel
from discogrid_coordinator.floor import Floor
from discogrid_coordinator.helping import Helping
from discogrid_coordinator.queues import Agent, Hold, Job, runs_of


class Withdrawal:
    """Jobs of which agents still have tasks that they are to have no more."""

    def __init__(self, floor: Floor, helping: Helping) -> None:
        self._floor = floor
        self._helping = helping
        self._jobs: deque[tuple[Job, Iterator[int]]] = deque()  # and the tasks that are not looked at yet

    @property
    def busy(self) -> bool:
        """Whether there is more to do."""
        return bool(self._jobs)

    def begin(self, job: Job) -> None:
        """The job is over, or held: its tasks are to come back. O(tasks that were ever assigned), to sort them."""
        self._jobs.append((job, iter(sorted(job.known))))

    def step(self, now: float) -> None:
        """Take back the next WITHDRAWN_MAX tasks."""
        left = policies.WITHDRAWN_MAX
        while self._jobs and left > 0:
            job, indices = self._jobs[0]
            part = list(islice(indices, left))
            if len(part) < left:
                self._jobs.popleft()
            left -= len(part)
            holds = [hold for index in part if index in job.known for hold in job.known[index].holds]
            if job.over:
                self._cancel(holds)
                for index in part:
                    job.known.pop(index, None)
            elif job.held:  # and not released meanwhile
                self._ask_back(holds, now)

    def _cancel(self, holds: list[Hold]) -> None:
        for agent, its in _by_agent(holds).items():
            for hold in its:
                self._floor.drop(hold)
            self._floor.actions.append(Cancel(agent.name, tuple(runs_of(its))))

    def _ask_back(self, holds: list[Hold], now: float) -> None:
        waiting = [hold for hold in holds if hold.started is None and not hold.recalled]
        for its in _by_agent(waiting).values():
            self._helping.ask(its, None, now)


def _by_agent(holds: list[Hold]) -> dict[Agent, list[Hold]]:
    found: dict[Agent, list[Hold]] = {}
    for hold in holds:
        found.setdefault(hold.agent, []).append(hold)
    return found
