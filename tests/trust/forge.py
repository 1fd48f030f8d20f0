"""Makes grids, jobs and results, true ones and false ones."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
from blake3 import blake3

from discogrid import merkle
from discogrid.bundle import Job, Leaf, Manifest, ResultBody, encode_leaf, seal_job
from discogrid.grid import Grid
from discogrid.keys import Identity, new_identity
from discogrid.trust.keeper import RosterKeeper
from discogrid.trust.roster import ROSTER_TYPE, Member, Roster, RosterBody, open_roster
from discogrid.types import Attempt, Digest, FileRef, Outcome, Role, SandboxLevel

NOW = 1_800_000_000.0
HOUR = 3600.0


def digest_of(content: bytes) -> Digest:
    return Digest("blake3:" + blake3(content).hexdigest())


def ref(name: str, content: bytes = b"content") -> FileRef:
    return FileRef(name, digest_of(content), len(content))


def member(identity: Identity, *roles: Role, **other: Any) -> Member:
    known = Member(identity.id, "attic", identity.public, identity.curve_public, roles or tuple(Role))
    return msgspec.structs.replace(known, **other)


def roster_envelope(owner: Identity, members: Sequence[Member], **other: Any) -> bytes:
    """A roster as its owner signs it, with whatever fields are to be wrong."""
    now = time.time()
    body = RosterBody(1, owner.id, now - HOUR, max(now, NOW) + 1000 * HOUR, tuple(members))
    return owner.seal(ROSTER_TYPE, msgspec.msgpack.encode(msgspec.structs.replace(body, **other)))


def roster_of(owner: Identity, *members: Member) -> Roster:
    return open_roster(roster_envelope(owner, members), owner.public, time.time())


@dataclass(frozen=True)
class Cast:
    """The members of a small grid, each with one role."""

    owner: Identity
    coordinator: Identity
    agent: Identity
    other_agent: Identity
    submitter: Identity
    other_submitter: Identity
    roster: Roster

    @cached_property
    def keeper(self) -> RosterKeeper:
        """What every process of a test shares, so that one change of the roster reaches all of them."""
        return RosterKeeper(self.roster)

    def grid(self, identity: Identity, endpoint: str | None = None) -> Grid:
        return Grid("home", identity, self.keeper, endpoint)

    def manifest(self, leaves: Sequence[bytes], now: float = NOW, **other: Any) -> Manifest:
        manifest = Manifest(
            grid=self.roster.grid,
            audience=self.coordinator.id,
            nonce=b"n" * 16,
            issued=now,
            expires=now + HOUR,
            submitter=self.submitter.id,
            name="job",
            script=ref("script.py"),
            tasks=len(leaves),
            root=merkle.Tree([merkle.leaf_hash(leaf) for leaf in leaves]).root,
        )
        return msgspec.structs.replace(manifest, **other)

    def job(self, leaves: Sequence[bytes], now: float = NOW, **other: Any) -> Job:
        return seal_job(self.manifest(leaves, now, **other), self.submitter)


def cast(owner: Identity | None = None) -> Cast:
    owner = owner or new_identity()
    coordinator, agent, other_agent, submitter, other_submitter = (new_identity() for _ in range(5))
    roster = roster_of(
        owner,
        member(coordinator, Role.COORDINATOR),
        member(agent, Role.AGENT),
        member(other_agent, Role.AGENT),
        member(submitter, Role.SUBMITTER),
        member(other_submitter, Role.SUBMITTER),
    )
    return Cast(owner, coordinator, agent, other_agent, submitter, other_submitter, roster)


def leaves_of(*names: str) -> list[bytes]:
    return [encode_leaf(Leaf(index, ref(name, name.encode()))) for index, name in enumerate(names)]


def body_of(job: Job, attempt: Attempt, signer: Identity, archive: bytes, /, **other: Any) -> ResultBody:
    body = ResultBody(
        job=job.digest,
        index=attempt.index,
        number=attempt.number,
        lease=attempt.lease,
        agent=signer.id,
        sandbox=SandboxLevel.STRICT,
        outcome=Outcome.SUCCEEDED,
        exit=0,
        started=NOW,
        ended=NOW + 1,
        seconds=1.0,
        archive=digest_of(archive),
        archive_bytes=len(archive),
        outputs=(),
    )
    return msgspec.structs.replace(body, **other)


def renamed(file: FileRef, **other: Any) -> FileRef:
    return replace(file, **other)
