"""From whom an agent gets a blob: another agent that the coordinator names, or the coordinator. Pure: told the time.

Other agents save the coordinator's line and are never needed: each wait is bounded, and every search ends at the
coordinator at the latest.
"""

from dataclasses import dataclass

from discogrid.types import AgentId, Digest, NodeId

ANSWER_S = 2.0
"""A coordinator that does not say in so long where a blob is has the blob itself."""
AGAIN_S = 2.0
"""Who was told to wait asks again after so long: the word that ends the wait may be lost."""
WAIT_S_MAX = 300.0
"""Waiting for others to get a blob, all in all."""
PEERS_TRIED_MAX = 3
"""Agents tried in vain for one blob."""
PEER_S = 10.0
"""What an agent has to deliver a blob, beside what PEER_BYTES_S_MIN allows for its size."""
PEER_BYTES_S_MIN = 512 << 10
PAUSE_S = 2.0
"""The longest pause after the first failure of a pair; doubles with each further one, up to PAUSE_S_MAX."""
PAUSE_S_MAX = 60.0
PAIRS_MAX = 256
"""Pairs whose failures are remembered."""
FAILURES_MAX = 16
"""Counted of one pair: its pauses are at their longest long before."""
READERS_MAX = 1024
"""Blobs that may be read here, counted once for each reader."""
READ_S = 120.0
"""How long after the coordinator's word, or the last chunk that was asked for, a reader may read on."""


@dataclass(frozen=True, slots=True)
class Named:
    """An agent that the coordinator has named for a blob."""

    agent: AgentId
    node: NodeId
    endpoint: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the coordinator where the blob is, and wait for its word until then."""

    until: float
    failed: AgentId | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody is getting the blob: wait for the coordinator's next word until then."""

    until: float


@dataclass(frozen=True, slots=True)
class FromPeer:
    """Get it there, within so many seconds."""

    peer: Named
    within_s: float


@dataclass(frozen=True, slots=True)
class FromCoordinator:
    """Get it from the coordinator."""


Step = Ask | Wait | FromPeer | FromCoordinator


class Search:
    """One blob's way here: each answer is what to do next."""

    def __init__(self, size: int, now: float) -> None:
        """`size` in bytes."""
        self._size = size
        self._patient_until = now + WAIT_S_MAX
        self._waiting = False
        self.failed: list[AgentId] = []

    def begin(self, now: float) -> Step:
        """The first step."""
        return Ask(now + ANSWER_S)

    def told(self, named: Named | None, now: float, *, wait: bool = False) -> Step:
        """The coordinator's word: an agent, to wait, or neither, which means itself."""
        if wait:
            self._waiting = True
            return Wait(now + AGAIN_S) if now < self._patient_until else FromCoordinator()
        if named is None or named.agent in self.failed:
            return FromCoordinator()
        return FromPeer(named, PEER_S + self._size / PEER_BYTES_S_MIN)

    def heard_nothing(self, now: float) -> Step:
        """No word came in time."""
        if not self._waiting:
            return FromCoordinator()
        self._waiting = False
        return Ask(now + ANSWER_S)

    def peer_failed(self, agent: AgentId, now: float) -> Step:
        """The agent did not deliver."""
        self.failed.append(agent)
        self._waiting = False
        return FromCoordinator() if len(self.failed) >= PEERS_TRIED_MAX else Ask(now + ANSWER_S, agent)


@dataclass(slots=True)
class _Pair:
    failures: int = 0
    until: float = 0.0


class Pairs:
    """How this agent gets on with each other one, whatever the blob: who fails is left alone for a while, ever longer."""

    def __init__(self) -> None:
        """Nobody has failed."""
        self._pairs: dict[AgentId, _Pair] = {}

    def failed(self, agent: AgentId, now: float, chance: float) -> None:
        """It did not deliver; `chance` in [0, 1) spreads those who try again, so that they do not come together."""
        pair = self._pairs.pop(agent, None) or _Pair()
        if len(self._pairs) >= PAIRS_MAX:
            del self._pairs[next(iter(self._pairs))]
        self._pairs[agent] = pair  # at the end: the last to be forgotten
        pair.until = now + chance * min(PAUSE_S * 2.0**pair.failures, PAUSE_S_MAX)
        pair.failures = min(pair.failures + 1, FAILURES_MAX)

    def worked(self, agent: AgentId) -> None:
        """It delivered."""
        self._pairs.pop(agent, None)

    def resting(self, now: float) -> tuple[AgentId, ...]:
        """Who is to be left alone now."""
        return tuple(agent for agent, pair in self._pairs.items() if now < pair.until)


class Readers:
    """Who may read which blob here, by the coordinator's word."""

    def __init__(self) -> None:
        """Nobody may read anything."""
        self._until: dict[tuple[str, Digest], float] = {}

    def allow(self, reader: str, digest: Digest, now: float) -> None:
        """The coordinator has named this agent to the reader."""
        self._until.pop((reader, digest), None)
        if len(self._until) >= READERS_MAX:
            del self._until[next(iter(self._until))]
        self._until[reader, digest] = now + READ_S

    def may(self, reader: str, digest: Digest, now: float) -> bool:
        """Whether it may read on; who does so is allowed for longer."""
        until = self._until.get((reader, digest))
        if until is None or now > until:
            return False
        self.allow(reader, digest, now)
        return True
