"""The roster: what a grid's owner signs of its members, and what follows from it for a node, a role, a signature."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import msgspec
from nacl.signing import VerifyKey

from discogrid.envelope import unseal
from discogrid.errors import SignatureRefused, WireError
from discogrid.keys import check_statement, node_id, public_key
from discogrid.types import NodeId, Quotas, Role
from discogrid.wire import unpack

ROSTER_TYPE = "discogrid/roster/1"
ROSTER_BYTES_MAX = 1 << 20
MEMBERS_MAX = 1500  # live ones; a roster of so many fits an envelope
REVOKED_MAX = 500
STATEMENTS_CHECKED_MAX = 4096  # remembered, so that a new roster costs only its new members
RENEW_BEFORE_S = 45 * 86400.0  # a roster this near to its end is renewed by whoever has the owner's key
WARN_BEFORE_S = 14 * 86400.0  # and this near, people are told


class Member(msgspec.Struct, frozen=True):
    """One node of a grid: its signing key (32 bytes), CURVE key (Z85) and what it may do.

    `statement` is the node's own word that both keys are its (see keys.py); rosters of protocol 1 have none.
    """

    id: NodeId
    name: str
    signing: bytes
    curve: bytes
    roles: tuple[Role, ...]
    statement: bytes = b""
    quotas: Quotas = Quotas()
    trusted: bool = False  # whether its results may be unpickled


class Revoked(msgspec.Struct, frozen=True):
    """A former member: what it signed before the time `before` (seconds since 1970) still counts, nothing later does."""

    member: Member
    before: float


class RosterBody(msgspec.Struct, frozen=True):
    """What the owner signs. Times are seconds since 1970."""

    version: int
    grid: NodeId
    issued: float
    expires: float
    members: tuple[Member, ...]
    revoked: tuple[Revoked, ...] = ()
    name: str = ""  # what the owner calls the grid


@dataclass(frozen=True)
class Roster:
    """A roster whose signature held, with the envelope that proves it and the owner's public key (32 bytes)."""

    body: RosterBody
    envelope: bytes
    owner: bytes

    @property
    def grid(self) -> NodeId:
        """The grid's id: the node id of its owner's key."""
        return self.body.grid

    @property
    def version(self) -> int:
        """Which of the owner's rosters this is: a higher one replaces a lower one, never the other way."""
        return self.body.version

    @cached_property
    def _members(self) -> dict[NodeId, Member]:
        return {member.id: member for member in self.body.members}

    @cached_property
    def _by_curve(self) -> dict[bytes, Member]:
        return {member.curve: member for member in self.body.members}

    @cached_property
    def _revoked(self) -> dict[NodeId, Revoked]:
        return {revoked.member.id: revoked for revoked in self.body.revoked}

    def member(self, node: NodeId) -> Member | None:
        """The member with this id."""
        return self._members.get(node)

    def admitted(self, curve: bytes) -> NodeId | None:
        """The member that owns this CURVE key (Z85)."""
        member = self._by_curve.get(curve)
        return member.id if member else None

    def may(self, node: NodeId, *roles: Role) -> bool:
        """Whether the node is a member with one of these roles."""
        member = self._members.get(node)
        return member is not None and any(map(member.roles.__contains__, roles))

    def signing_key(self, node: NodeId, role: Role, at: float | None = None) -> VerifyKey | None:
        """The key of a member with this role; with `at`, also of one that was revoked later than that."""
        member = self._vouched(node, role, at)
        return public_key(member.signing) if member else None

    def vouches(self, node: NodeId, role: Role, at: float) -> bool:
        """Whether what the node signed in this role at that time still counts; `at` in seconds since 1970."""
        return self._vouched(node, role, at) is not None

    def _vouched(self, node: NodeId, role: Role, at: float | None) -> Member | None:
        member = self._members.get(node)
        if member is None and at is not None and (revoked := self._revoked.get(node)) and at < revoked.before:
            member = revoked.member
        return member if member and role in member.roles else None

    def name_of(self, node: NodeId) -> str:
        """What people call a member, or the beginning of the id of somebody who is none."""
        member = self._members.get(node)
        return member.name if member else node[:8]

    def coordinator(self) -> Member:
        """The member that coordinates; SignatureRefused when the roster names none."""
        for member in self.body.members:
            if Role.COORDINATOR in member.roles:
                return member
        raise SignatureRefused("this grid's roster names no coordinator")

    def check_time(self, now: float) -> None:
        """SignatureRefused when the roster's time is over; `now` in seconds since 1970."""
        if not now <= self.body.expires:
            raise SignatureRefused(
                "the roster of this grid has expired",
                why="Nobody has used the machine with its owner's key for a long time.",
                fix="On that machine, run `discogrid trust renew`; see `discogrid trust ls`.",
            )


def open_roster(envelope: bytes, owner: bytes, now: float | None) -> Roster:
    """The roster in an envelope that the owner (public key, 32 bytes) signed; SignatureRefused otherwise.

    With `now` (seconds since 1970) an expired one is refused too. Who only looks for a newer one passes None.
    """
    grid = node_id(owner)
    opened = unseal(envelope, ROSTER_TYPE, lambda signer: public_key(owner) if signer == grid else None)
    try:
        body = msgspec.convert(unpack(opened.payload, limit=ROSTER_BYTES_MAX), RosterBody)
    except (msgspec.ValidationError, WireError) as error:
        raise SignatureRefused(f"the roster cannot be read: {error}") from None
    known = (*body.members, *(revoked.member for revoked in body.revoked))
    if body.grid != grid or any(node_id(member.signing) != member.id for member in known):
        raise SignatureRefused("the roster contradicts itself: an id does not belong to its key")
    curves = {member.curve for member in body.members}
    if not len(body.members) == len(curves) == len({member.id for member in body.members}):
        raise SignatureRefused("the roster contradicts itself: two members share an id or a key")
    if len(body.members) > MEMBERS_MAX or len(body.revoked) > REVOKED_MAX or body.version < 1:
        raise SignatureRefused("the roster is out of all bounds")
    for member in body.members:
        if member.statement and not _stated(member.statement, member.signing, member.curve):
            raise SignatureRefused(f"the keys of member {member.name!r} are not bound by its own signature")
    roster = Roster(body, envelope, owner)
    if now is not None:
        roster.check_time(now)
    return roster


@lru_cache(STATEMENTS_CHECKED_MAX)
def _stated(statement: bytes, signing: bytes, curve: bytes) -> bool:
    try:
        stated = check_statement(statement)
    except SignatureRefused:
        return False
    return (stated.signing, stated.curve) == (signing, curve)
