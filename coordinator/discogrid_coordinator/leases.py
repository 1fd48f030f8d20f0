"""Who has not been heard of for how long: live, then silent, then lost. Pure.

When nobody at all is heard, the fault is more likely on this side: its cable, its network, its own sleep. Then whoever
falls silent is asked for nothing, and nobody is given up; and when the first one is heard again, the others have a while
to come back, as after a restart. Without that, the first one back would run once more what all the others still run.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from discogrid_coordinator import policies
from discogrid_coordinator.queues import Agent


@dataclass(slots=True, eq=False)
class Lease:
    """What is known of one agent's silence; the same object as long as the agent is here."""

    agent: Agent
    number: int  # settles which of two equal times comes first


class Found(NamedTuple):
    """What a look has found: who has fallen silent, whose tasks others may run as well, and whose lease is over."""

    fallen: list[Agent]
    doubted: list[Agent]
    lost: list[Agent]


class Leases:
    """Looks at each agent when its silence could be over, not at each of its words: those cost one assignment.

    One look is at LOOKED_AT_MAX agents at most: when there are more, the next one is due at once.
    """

    def __init__(self) -> None:
        self._looks: list[tuple[float, int, Lease]] = []  # a heap by time, at most one entry an agent
        self._leases: dict[Agent, Lease] = {}
        self._numbers = 0
        self._heard = 0.0  # the newest word of anybody
        self._deaf_s = policies.deafness(1)
        self._silent_s = policies.suspicion(1)
        self.lease_s = policies.LEASE_S
        self._fallen: dict[Agent, None] = {}  # silent, and not doubted yet
        self._over: deque[Lease] = deque()  # and nobody is given up yet
        self._patient_until: float | None = None
        self._looked = 0.0  # the newest look
        self.behind = False  # whether the last look had to leave some out

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
            lease = self._leases[agent] = Lease(agent, self._numbers)
            heapq.heappush(self._looks, (now + self._silent_s, lease.number, lease))

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
        """What has come of silence since the last look. O(agents whose look is due, up to LOOKED_AT_MAX)."""
        found = Found([], [], [])
        self._looked = now
        held_back = self._withholds(now)
        for _ in range(policies.LOOKED_AT_MAX):
            if not self._looks or self._looks[0][0] > now:
                break
            _, _, lease = heapq.heappop(self._looks)
            if self._leases.get(lease.agent) is lease:
                self._judge(lease, found, now)
        if not held_back:
            self._give_up(found, now)
            self._doubt(found)
        more = bool(self._looks) and self._looks[0][0] <= now
        self.behind = more or (not held_back and bool(self._fallen or self._over))
        return found

    def deadline(self) -> float | None:
        """When `look` is due. Not at every agent's own moment: what a large grid sees a little later it sees at once."""
        due = None
        if self._looks:
            due = max(self._looks[0][0], self._looked + self._silent_s / policies.LOOKS_A_SILENCE)
        patient = self._patient_until
        if patient is not None and (due is None or patient < due):
            due = patient
        return due

    def _judge(self, lease: Lease, found: Found, now: float) -> None:
        """Whether the agent has fallen silent, and when it is looked at again."""
        agent = lease.agent
        if not agent.silent and agent.seen + self._silent_s <= now:
            agent.silent = True
            found.fallen.append(agent)
            self._fallen[agent] = None
        due = agent.seen + (self.lease_s if agent.silent else self._silent_s)
        if due > now:
            heapq.heappush(self._looks, (due, lease.number, lease))
        else:
            self._over.append(lease)

    def _give_up(self, found: Found, now: float) -> None:
        for _ in range(min(len(self._over), policies.LOOKED_AT_MAX)):
            lease = self._over.popleft()
            if self._leases.get(lease.agent) is not lease:
                continue
            if lease.agent.seen + self.lease_s <= now:
                found.lost.append(lease.agent)
            else:
                self._judge(lease, found, now)

    def _doubt(self, found: Found) -> None:
        part = list(islice(self._fallen, policies.LOOKED_AT_MAX))
        for agent in part:
            del self._fallen[agent]
            if agent.silent and agent in self._leases:
                found.doubted.append(agent)

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
