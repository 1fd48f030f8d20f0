"""Which agent gets a blob from whom, so that it crosses the coordinator's own line once. Pure: told the time.

The first who asks gets it from the coordinator; the others wait until an agent has said that it holds it, verified, and
are then named one each: what is held doubles from round to round. Who has a blob on its way and does not move on, or is
too slow, makes nobody wait. Agents are believed in what costs time alone: whoever is sent in vain says so, and in the
end each gets the blob from the coordinator.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from discogrid.types import AgentId, Digest

BLOB_UPLOADS_MAX = 1
"""Agents that one holder is named to for the same blob at a time: two halves arrive later than one and then the other."""
UPLOADS_MAX = 10
"""Agents that one holder is named to at a time, all blobs together."""
STALL_S = 10.0
"""A blob on its way of which nothing was heard for so long makes nobody wait: a chunk takes 8 s at 1 Mbit/s."""
COMING_S = 20.0
"""How long a blob may be on its way and make others wait, beside what RATE_BYTES_S_MIN allows for its size."""
RATE_BYTES_S_MIN = 256 << 10
HOLDERS_MAX = 64
"""Of one blob: more are not needed."""
BLOBS_AGENT_MAX = 4096
"""Blobs of which an agent's word is remembered."""
DOUBT_S = 300.0
"""How long it is remembered that an agent was named to another in vain."""
DOUBTERS_MAX = 2
"""Whom so many could not get anything from is named to nobody."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What an agent is told: whom to ask, or to wait; neither means the coordinator."""

    agent: AgentId
    digest: Digest
    holder: AgentId | None = None
    wait: bool = False


@dataclass(slots=True)
class _Coming:
    holder: AgentId | None  # None: from the coordinator
    heard: float
    until: float


@dataclass(slots=True)
class _Waiting:
    size: int
    avoid: frozenset[AgentId]
    heard: float


@dataclass(slots=True)
class _Blob:
    named: set[AgentId] = field(default_factory=set)  # who has spoken of it
    holders: dict[AgentId, None] = field(default_factory=dict)
    coming: dict[AgentId, _Coming] = field(default_factory=dict)
    waiting: dict[AgentId, _Waiting] = field(default_factory=dict)


class Tracker:
    """The word of all agents on all blobs that may go from one to another."""

    def __init__(self) -> None:
        """Nobody has anything."""
        self._blobs: dict[Digest, _Blob] = {}
        self._agents: dict[AgentId, dict[Digest, None]] = {}  # the blobs that each is named at
        self._uploads: dict[AgentId, int] = {}
        self._doubts: dict[AgentId, dict[AgentId, float]] = {}  # until when, by whom
        self._serving: set[AgentId] = set()
        self._inside: set[AgentId] = set()

    def joined(self, agent: AgentId, *, serves: bool, inside: bool = False) -> None:
        """An agent has come, or come again; `serves` says whether others may get blobs from it.

        One that runs `inside` the coordinator's own machine serves only others there: its line is the coordinator's.
        """
        for agents, belongs in ((self._serving, serves), (self._inside, inside)):
            if belongs:
                agents.add(agent)
            else:
                agents.discard(agent)

    def left(self, agent: AgentId, now: float) -> list[Advice]:
        """An agent has gone; who is told something else because of that."""
        told = [
            advice
            for digest in list(self._agents.get(agent, ()))
            for advice in self.dropped(agent, digest, now)
        ]
        self._serving.discard(agent)
        self._inside.discard(agent)
        self._doubts.pop(agent, None)
        return told

    def want(
        self,
        agent: AgentId,
        digest: Digest,
        size: int,
        now: float,
        *,
        avoid: Collection[AgentId] = (),
        failed: AgentId | None = None,
    ) -> list[Advice]:
        """An agent asks where to get a blob of `size` bytes; what it is told, and what others are told then."""
        blob = self._noted(agent, digest)
        if blob is None:
            return [Advice(agent, digest)]
        blob.holders.pop(agent, None)  # who asks for it does not hold it
        known = blob.coming.get(agent)
        if failed is not None and known is not None and known.holder == failed:
            self._doubts.setdefault(failed, {})[agent] = now + DOUBT_S
        wish = _Waiting(size, frozenset(avoid if failed is None else (*avoid, failed)), now)
        if known is not None and self._stands(blob, known, wish, now):
            # The answer to its first question was still on its way.
            return [Advice(agent, digest, known.holder)]
        self._end(blob, agent)
        first = self._advise(blob, agent, digest, wish, now)
        return [first, *self._go_on(blob, digest, now)]

    def held(self, agent: AgentId, digest: Digest, now: float) -> list[Advice]:
        """An agent has the whole blob and has verified it; who is to get it from there."""
        blob = self._noted(agent, digest)
        if blob is None:
            return []
        blob.waiting.pop(agent, None)
        if (came := blob.coming.get(agent)) is not None and came.holder is not None:
            self._doubts.pop(came.holder, None)
        self._end(blob, agent)
        if agent in self._serving and len(blob.holders) < HOLDERS_MAX:
            blob.holders[agent] = None
        return self._go_on(blob, digest, now)

    def __len__(self) -> int:
        """How many blobs anybody has spoken of."""
        return len(self._blobs)

    def holders(self, digest: Digest) -> tuple[AgentId, ...]:
        """Who is known to have the blob and serves others."""
        blob = self._blobs.get(digest)
        return tuple(blob.holders) if blob else ()

    def coming(self, agent: AgentId, digest: Digest, now: float) -> None:
        """More of the blob has come to an agent."""
        if (blob := self._blobs.get(digest)) is not None and (known := blob.coming.get(agent)) is not None:
            known.heard = now

    def dropped(self, agent: AgentId, digest: Digest, now: float) -> list[Advice]:
        """An agent does not have the blob any more, or does not want it; who is told something else because of that."""
        blob = self._blobs.get(digest)
        if blob is None or agent not in blob.named:
            return []
        blob.waiting.pop(agent, None)
        blob.holders.pop(agent, None)
        self._end(blob, agent)
        blob.named.discard(agent)
        del self._agents[agent][digest]
        if not self._agents[agent]:
            del self._agents[agent]
        if not blob.named:
            del self._blobs[digest]
        return self._go_on(blob, digest, now)

    # -- who gets it from whom

    def _go_on(self, blob: _Blob, digest: Digest, now: float) -> list[Advice]:
        """Tell those who wait and need not any more, in the order in which they came."""
        told = []
        for agent, wish in list(blob.waiting.items()):
            if now - wish.heard > STALL_S:
                del blob.waiting[agent]  # it has helped itself
                continue
            advice = self._advise(blob, agent, digest, wish, now)
            if not advice.wait:
                told.append(advice)
            elif not wish.avoid:
                break  # nobody behind it has a better choice
        return told

    def _advise(self, blob: _Blob, agent: AgentId, digest: Digest, wish: _Waiting, now: float) -> Advice:
        for other, known in list(blob.coming.items()):
            if not self._moves(known, now):
                self._end(blob, other)
        fit = [holder for holder in blob.holders if self._fit(holder, agent, wish, now)]
        busy = [known.holder for known in blob.coming.values()]
        free = [
            holder
            for holder in fit
            if busy.count(holder) < BLOB_UPLOADS_MAX and self._uploads.get(holder, 0) < UPLOADS_MAX
        ]
        if free:
            holder = min(free, key=lambda each: self._uploads.get(each, 0))
            self._begin(blob, agent, wish, holder, now)
            return Advice(agent, digest, holder)
        if fit or any(self._fit(other, agent, wish, now) for other in blob.coming):
            blob.waiting[agent] = wish  # who waits already keeps its place
            return Advice(agent, digest, wait=True)
        self._begin(blob, agent, wish, None, now)
        return Advice(agent, digest)

    def _fit(self, holder: AgentId, agent: AgentId, wish: _Waiting, now: float) -> bool:
        """Whether it can be named to the agent at all, now or when it has the blob."""
        if holder in self._inside and agent not in self._inside:
            return False
        doubters = sum(until > now for until in self._doubts.get(holder, {}).values())
        return holder in self._serving and holder not in wish.avoid and doubters < DOUBTERS_MAX

    def _stands(self, blob: _Blob, known: _Coming, wish: _Waiting, now: float) -> bool:
        """Whether what an agent was told is still right."""
        here = known.holder is None or known.holder in blob.holders
        return here and known.holder not in wish.avoid and self._moves(known, now)

    def _moves(self, known: _Coming, now: float) -> bool:
        return now - known.heard <= STALL_S and now <= known.until

    # -- bookkeeping

    def _begin(self, blob: _Blob, agent: AgentId, wish: _Waiting, holder: AgentId | None, now: float) -> None:
        blob.waiting.pop(agent, None)
        blob.coming[agent] = _Coming(holder, now, now + COMING_S + wish.size / RATE_BYTES_S_MIN)
        if holder is not None:
            self._uploads[holder] = self._uploads.get(holder, 0) + 1

    def _end(self, blob: _Blob, agent: AgentId) -> None:
        known = blob.coming.pop(agent, None)
        if known is not None and known.holder is not None:
            self._uploads[known.holder] -= 1
            if not self._uploads[known.holder]:
                del self._uploads[known.holder]

    def _noted(self, agent: AgentId, digest: Digest) -> _Blob | None:
        """The blob, with the agent named at it; None when it is named at too many."""
        digests = self._agents.setdefault(agent, {})
        if digest not in digests and len(digests) >= BLOBS_AGENT_MAX:
            return None
        digests[digest] = None
        blob = self._blobs.setdefault(digest, _Blob())
        blob.named.add(agent)
        return blob

    def check(self) -> None:
        """Every invariant, for tests."""
        uploads: dict[AgentId, int] = {}
        for blob in self._blobs.values():
            assert blob.named, "a blob is remembered for nobody"
            assert blob.named >= {*blob.holders, *blob.coming, *blob.waiting}
            assert not blob.waiting.keys() & blob.coming.keys(), "who waits has it on its way"
            assert not blob.holders.keys() & (blob.coming.keys() | blob.waiting.keys())
            of_blob = [known.holder for known in blob.coming.values() if known.holder is not None]
            assert all(of_blob.count(holder) <= BLOB_UPLOADS_MAX for holder in of_blob)
            for holder in of_blob:
                uploads[holder] = uploads.get(holder, 0) + 1
        assert uploads == self._uploads
        assert all(0 < count <= UPLOADS_MAX for count in uploads.values())
        named = {(agent, digest) for digest, blob in self._blobs.items() for agent in blob.named}
        assert named == {(agent, digest) for agent, digests in self._agents.items() for digest in digests}
        assert all(self._agents.values())
