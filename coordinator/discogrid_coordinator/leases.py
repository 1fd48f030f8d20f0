"""Who has not been heard of for how long: live, then silent, then lost. Pure."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

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


class Leases:
    """Looks at each agent when its silence could be over, not at each of its words: those cost one assignment."""

    def __init__(self) -> None:
        self._looks: list[Lease] = []  # a heap, one entry an agent
        self._leases: dict[Agent, Lease] = {}
        self._numbers = 0
        self._silent_s = policies.suspicion(1)
        self.lease_s = policies.LEASE_S

    def __iter__(self) -> Iterator[Agent]:
        """All agents that have one."""
        yield from self._leases

    def grow(self, agents: int) -> None:
        """So many agents share the line. Never shorter: an agent keeps the rhythm it was welcomed with."""
        self.lease_s = max(self.lease_s, policies.lease(agents))
        self._silent_s = max(self._silent_s, policies.suspicion(agents))

    def begin(self, agent: Agent, now: float) -> None:
        """The agent has come, for the first time or again."""
        agent.seen = now
        agent.silent = False
        if agent not in self._leases:
            self._numbers += 1
            lease = self._leases[agent] = Lease(agent, now + self._silent_s, self._numbers)
            heapq.heappush(self._looks, lease)

    def end(self, agent: Agent) -> None:
        """The agent is gone."""
        self._leases.pop(agent, None)

    def look(self, now: float) -> tuple[list[Agent], list[Agent]]:
        """Who has fallen silent since the last look, and whose lease is over. O(agents whose look is due)."""
        fallen: list[Agent] = []
        lost: list[Agent] = []
        while self._looks and self._looks[0].due <= now:
            lease = heapq.heappop(self._looks)
            agent = lease.agent
            if self._leases.get(agent) is not lease:
                continue
            if not agent.silent and agent.seen + self._silent_s <= now:
                agent.silent = True
                fallen.append(agent)
            if agent.seen + self.lease_s <= now:
                lost.append(agent)
            lease.due = agent.seen + (self.lease_s if agent.silent else self._silent_s)
            if lease.due > now:
                heapq.heappush(self._looks, lease)
        return fallen, lost

    def deadline(self) -> float | None:
        """When `look` is due."""
        return self._looks[0].due if self._looks else None
