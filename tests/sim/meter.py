"""What the machines themselves cost: the only real clock of a simulation, which decides nothing in it."""

from dataclasses import dataclass
from time import perf_counter_ns

from discogrid.types import Offer
from discogrid_agent import events as agent_events
from discogrid_agent.machine import Machine
from discogrid_coordinator import events
from discogrid_coordinator.scheduler import Scheduler


@dataclass
class Meter:
    """Nanoseconds spent in `handle`."""

    events: int = 0
    total_ns: int = 0
    worst_ns: int = 0
    worst: str = "nothing"  # the event that took longest

    def add(self, event: object, took_ns: int) -> None:
        self.events += 1
        self.total_ns += took_ns
        if took_ns > self.worst_ns:
            self.worst_ns, self.worst = took_ns, type(event).__name__

    def per(self, count: int) -> float:
        """Microseconds for each of `count`."""
        return self.total_ns / 1e3 / max(1, count)


class MeteredScheduler(Scheduler):
    """The scheduler, on the clock."""

    def __init__(self, lease: int, meter: Meter) -> None:
        super().__init__(lease)
        self._meter = meter

    def handle(self, event: events.Event, now: float) -> list[events.Action]:
        begun = perf_counter_ns()
        actions = super().handle(event, now)
        self._meter.add(event, perf_counter_ns() - begun)
        return actions


class MeteredMachine(Machine):
    """The agent's machine, on the clock."""

    def __init__(self, offer: Offer, meter: Meter) -> None:
        super().__init__(offer)
        self._meter = meter

    def handle(self, event: agent_events.Event, now: float) -> list[agent_events.Action]:
        begun = perf_counter_ns()
        actions = super().handle(event, now)
        self._meter.add(event, perf_counter_ns() - begun)
        return actions
