"""Who has not been heard of for how long: live, then silent, then lost. Pure.

When nobody at all is heard, the fault is more likely on this side: its cable, its network, its own sleep. Then whoever
falls silent is asked for nothing, and nobody is given up; and when the first one is heard again, the others have a while
to come back, as after a restart. Without that, the first one back would run once more what all the others still run.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from discogrid_coordinator import policies
from discogrid_coordinator.queues import Agent


@dataclass(slots=True, eq=False)
class Lease:
    """When an agent is looked at next: no later than it may be found silent, or lost."""

    agent: Agent
    due: float
    number: int

    def __lt__(self, other: "Lease") -> bool:
        """Whether it is due before the other."""
        return (self.due, self.number) < (other.due, other.number)


class Found(NamedTuple):
    """What a look has found: who has fallen silent, whose tasks others may run as well, and whose lease is over."""

    fallen: list[Agent]
    doubted: list[Agent]
    lost: list[Agent]


class Leases:
    """Looks at each agent when its silence could be over, not at each of its words: those cost one assignment."""

    def __init__(self) -> None:
        self._looks: list[Lease] = []  # a heap, at most one entry an agent
        self._leases: dict[Agent, Lease] = {}
        self._numbers = 0
        self._heard = 0.0  # the newest word of anybody
        self._deaf_s = policies.deafness(1)
        self._silent_s = policies.suspicion(1)
        self.lease_s = policies.LEASE_S
        self._fallen: dict[Agent, None] = {}  # silent, and not doubted yet
        self._over: list[Lease] = []  # and nobody is given up yet
        self._patient_until: float | None = None

    def __iter__(self) -> Iterator[Agent]:
        """All agents that have one."""
        yield from self._leases

    def grow(self, agents: int) -> None:
        """So many agents share the line. Never shorter: an agent keeps the rhythm it was welcomed with."""
        self.lease_s = max(self.lease_s, policies.lease(agents))
        self._silent_s = max(self._silent_s, policies.suspicion(agents))
        self._deaf_s = max(self._deaf_s, policies.deafness(agents))

    def begin(self, agent: Agent, now: float) -> None:
        """The agent has come, for the first time or again."""
        self.hear(agent, now)
        if agent not in self._leases:
            self._numbers += 1
            lease = self._leases[agent] = Lease(agent, now + self._silent_s, self._numbers)
            heapq.heappush(self._looks, lease)

    def hear(self, agent: Agent, now: float) -> bool:
        """A word of an agent; whether it was silent until now."""
        if now - self._heard > self._deaf_s and (self._is_many or self._fallen or self._over):
            self._patient_until = now + policies.RETURN_WAIT_S
        self._heard = agent.seen = now
        silent, agent.silent = agent.silent, False
        return silent

    def end(self, agent: Agent) -> None:
        """The agent is gone."""
        self._leases.pop(agent, None)

    def look(self, now: float) -> Found:
        """What has come of silence since the last look. O(agents whose look is due)."""
        fallen: list[Agent] = []
        while self._looks and self._looks[0].due <= now:
            lease = heapq.heappop(self._looks)
            agent = lease.agent
            if self._leases.get(agent) is not lease:
                continue
            if not agent.silent and agent.seen + self._silent_s <= now:
                agent.silent = True
                fallen.append(agent)
                self._fallen[agent] = None
            self._look_again(lease, now)
        doubted: list[Agent] = []
        lost: list[Agent] = []
        if not self._withholds(now):
            doubted = [agent for agent in self._fallen if agent.silent and agent in self._leases]
            over = self._over
            self._fallen, self._over = {}, []
            for lease in over:
                if self._leases.get(lease.agent) is not lease:
                    continue
                if lease.agent.seen + self.lease_s <= now:
                    lost.append(lease.agent)
                else:
                    self._look_again(lease, now)
        return Found(fallen, doubted, lost)

    def deadline(self) -> float | None:
        """When `look` is due."""
        due = self._looks[0].due if self._looks else None
        patient = self._patient_until
        if patient is not None and (due is None or patient < due):
            due = patient
        return due

    def _look_again(self, lease: Lease, now: float) -> None:
        agent = lease.agent
        lease.due = agent.seen + (self.lease_s if agent.silent else self._silent_s)
        if lease.due > now:
            heapq.heappush(self._looks, lease)
        else:
            self._over.append(lease)

    @property
    def _is_many(self) -> bool:
        """Of one agent that is not heard, nobody can tell on whose side the fault is; and nobody else is there."""
        return len(self._leases) > 1

    def _withholds(self, now: float) -> bool:
        """Whether nobody is given up: nobody is heard, or somebody is only just heard again."""
        if self._is_many and now - self._heard > self._deaf_s:
            self._patient_until = None  # until the next word
            return True
        if self._patient_until is not None and now < self._patient_until:
            return True
        self._patient_until = None
        return False
