"""What the machines themselves cost: the only real clock of a simulation, which decides nothing in it."""

from dataclasses import dataclass, field
from time import process_time_ns

from discogrid.types import Offer
from discogrid_agent import events as agent_events
from discogrid_agent.machine import Machine
from discogrid_coordinator import events
from discogrid_coordinator.scheduler import Scheduler


@dataclass
class Kind:
    """What events of one name cost."""

    events: int = 0
    total_ns: int = 0
    worst_ns: int = 0


@dataclass
class Meter:
    """Nanoseconds spent in `handle`, by the name of the event."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    events: int = 0

    def add(self, event: object, took_ns: int) -> None:
        self.events += 1
        kind = self.kinds.setdefault(type(event).__name__, Kind())
        kind.events += 1
        kind.total_ns += took_ns
        kind.worst_ns = max(kind.worst_ns, took_ns)

    def per(self, count: int) -> float:
        """Microseconds for each of `count`."""
        return sum(kind.total_ns for kind in self.kinds.values()) / 1e3 / max(1, count)

    @property
    def worst(self) -> tuple[str, int]:
        """The event that took longest, and how long."""
        name, kind = max(self.kinds.items(), key=lambda item: item[1].worst_ns, default=("nothing", Kind()))
        return name, kind.worst_ns

    def dearest(self, most: int) -> list[tuple[str, Kind]]:
        """The names whose events took most time together."""
        return sorted(self.kinds.items(), key=lambda item: -item[1].total_ns)[:most]


class MeteredScheduler(Scheduler):
    """The scheduler, on the clock."""

    def __init__(self, lease: int, meter: Meter) -> None:
        super().__init__(lease)
        self._meter = meter

    def handle(self, event: events.Event, now: float) -> list[events.Action]:
        begun = process_time_ns()
        actions = super().handle(event, now)
        self._meter.add(event, process_time_ns() - begun)
        return actions


class MeteredMachine(Machine):
    """The agent's machine, on the clock."""

    def __init__(self, offer: Offer, meter: Meter) -> None:
        super().__init__(offer)
        self._meter = meter

    def handle(self, event: agent_events.Event, now: float) -> list[agent_events.Action]:
        begun = process_time_ns()
        actions = super().handle(event, now)
        self._meter.add(event, process_time_ns() - begun)
        return actions
