"""What only the holder of a grid's owner key does: sign its rosters. Each act makes the next version."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from discogrid.errors import UsageError
from discogrid.keys import Identity, check_statement, load, load_or_create, shown_id
from discogrid.trust.keeper import RosterKeeper, begin
from discogrid.trust.roster import (
    MEMBERS_MAX,
    RENEW_BEFORE_S,
    REVOKED_MAX,
    ROSTER_BYTES_MAX,
    ROSTER_TYPE,
    Member,
    Revoked,
    Roster,
    RosterBody,
    open_roster,
)
from discogrid.types import NodeId, Role

KEY_FILE = "owner.json"
ROSTER_S = 90 * 86400.0  # a roster is good for so long; see RENEW_BEFORE_S
OWN_ROSTER_S = 10 * 365 * 86400.0  # of this user's own grid, whose owner is always in reach
NAME_CHARACTERS_MAX = 64
RESTORED_STEP = 1000  # more versions than are signed between a backup and its use


class Owner:
    """The owner of one grid, in reach. Every act returns the envelope of a new roster; the keeper takes it."""

    def __init__(self, identity: Identity, roster_s: float = ROSTER_S) -> None:
        """`identity` is the owner's own, not that of any member; `roster_s` is how long a roster is good."""
        self._identity = identity
        self._roster_s = roster_s

    @classmethod
    def of(cls, folder: Path, roster_s: float = ROSTER_S) -> "Owner | None":
        """The owner whose key lies in a grid's folder, if it does."""
        file = folder / KEY_FILE
        return cls(load(file), roster_s) if file.exists() else None

    @property
    def identity(self) -> Identity:
        """The key itself, for a backup."""
        return self._identity

    @property
    def id(self) -> NodeId:
        """The grid's id."""
        return self._identity.id

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes: what every node of the grid knows it by."""
        return self._identity.public

    def found(self, name: str, first: Member, now: float) -> Roster:
        """The first roster of a new grid."""
        return self._sign(RosterBody(1, self.id, now, now + self._roster_s, (first,), (), name))

    def admit(self, roster: Roster, member: Member, now: float) -> Roster:
        """Take a member in; one that is in keeps its name and quotas and gains the roles. A name is made unique."""
        others = [other for other in roster.body.members if other.id != member.id]
        if (known := roster.member(member.id)) is not None:
            roles = tuple(role for role in Role if role in (*known.roles, *member.roles))
            member = msgspec.structs.replace(
                known, roles=roles, curve=member.curve, statement=member.statement
            )
        if len(others) >= MEMBERS_MAX:
            raise UsageError(
                f"a grid has at most {MEMBERS_MAX} members", fix="Remove one: `discogrid trust rm NAME`."
            )
        named = msgspec.structs.replace(member, name=free_name(member.name, [other.name for other in others]))
        revoked = tuple(old for old in roster.body.revoked if old.member.id != member.id)
        return self._next(roster, now, members=(*others, named), revoked=revoked)

    def change(self, roster: Roster, member: Member, now: float) -> Roster:
        """Give a member other roles, quotas or trust; its keys and its name stay. UsageError when it is none."""
        if (known := roster.member(member.id)) is None:
            raise UsageError(f"node {shown_id(member.id)} is no member of this grid")
        if Role.COORDINATOR in known.roles and Role.COORDINATOR not in member.roles:
            raise UsageError(f"{known.name} coordinates this grid; without it there is none")
        changed = msgspec.structs.replace(
            known, roles=member.roles, quotas=member.quotas, trusted=member.trusted
        )
        members = [changed if other.id == member.id else other for other in roster.body.members]
        return self._next(roster, now, members=members, revoked=roster.body.revoked)

    def revoke(self, roster: Roster, node: NodeId, before: float, now: float) -> Roster:
        """Put a member out: what it signed from the time `before` on counts no more. UsageError when that leaves nothing."""
        gone = roster.member(node)
        if gone is None:
            raise UsageError(f"node {shown_id(node)} is no member of this grid")
        if gone.id == roster.coordinator().id:
            raise UsageError(
                f"{gone.name} coordinates this grid; without it there is none",
                fix="Start a new grid on another machine and let the others join it.",
            )
        rest = tuple(member for member in roster.body.members if member.id != node)
        revoked = (
            *(old for old in roster.body.revoked if old.member.id != node),
            _put_out(gone, min(before, now)),
        )
        return self._next(roster, now, members=rest, revoked=revoked[-REVOKED_MAX:])

    def rotate(self, roster: Roster, old: NodeId, statement: bytes, now: float) -> Roster:
        """Give a member the new keys of `statement`; what the old ones signed until now still counts."""
        known = roster.member(old)
        if known is None:
            raise UsageError(f"node {shown_id(old)} is no member of this grid")
        stated = check_statement(statement)
        member = msgspec.structs.replace(
            known, id=stated.id, signing=stated.signing, curve=stated.curve, statement=statement
        )
        others = tuple(other for other in roster.body.members if other.id != old)
        revoked = (*roster.body.revoked, _put_out(known, now))[-REVOKED_MAX:]
        return self._next(roster, now, members=(*others, member), revoked=revoked)

    def succeed(self, roster: Roster, member: Member, now: float) -> Roster:
        """Let a member coordinate in the place of the one that did; what that one signed until now still counts."""
        before = [old for old in roster.body.members if Role.COORDINATOR in old.roles and old.id != member.id]
        others = tuple(old for old in roster.body.members if old not in before and old.id != member.id)
        revoked = (*roster.body.revoked, *(_put_out(old, now) for old in before))[-REVOKED_MAX:]
        return self._next(roster, now, members=(member, *others), revoked=revoked)

    def renew(self, roster: Roster, now: float) -> Roster:
        """The same members for longer."""
        return self._next(roster, now, members=roster.body.members, revoked=roster.body.revoked)

    def restored(self, roster: Roster, now: float) -> Roster:
        """The roster of a backup, with a version beyond those that were signed after it: members refuse what is older."""
        return self._next(
            roster, now, members=roster.body.members, revoked=roster.body.revoked, step=RESTORED_STEP
        )

    def _next(
        self,
        roster: Roster,
        now: float,
        *,
        members: Sequence[Member],
        revoked: Sequence[Revoked],
        step: int = 1,
    ) -> Roster:
        body = msgspec.structs.replace(
            roster.body,
            version=roster.version + step,
            issued=now,
            expires=now + self._roster_s,
            members=tuple(members),
            revoked=tuple(revoked),
        )
        return self._sign(body)

    def _sign(self, body: RosterBody) -> Roster:
        envelope = self._identity.seal(ROSTER_TYPE, msgspec.msgpack.encode(body))
        if len(envelope) > ROSTER_BYTES_MAX:
            raise UsageError(
                f"a roster of {len(envelope)} bytes is over {ROSTER_BYTES_MAX}",
                fix="Remove members that are not needed: `discogrid trust rm NAME`.",
            )
        return open_roster(envelope, self.public, None)


def _put_out(member: Member, before: float) -> Revoked:
    """What a roster keeps of a former member: its CURVE key admits nobody any more and needs no proof."""
    return Revoked(msgspec.structs.replace(member, statement=b""), before)


def member_of(statement: bytes, name: str, roles: Sequence[Role]) -> Member:
    """The member that a node's statement makes; SignatureRefused when the node did not sign it."""
    stated = check_statement(statement)
    return Member(stated.id, printable_name(name), stated.signing, stated.curve, tuple(roles), statement)


def own_keeper(folder: Path, identity: Identity, name: str, *, roster_s: float = ROSTER_S) -> RosterKeeper:
    """The roster of a grid whose owner key lies in `folder`; key and grid are made on first use.

    This node coordinates it and has every other role, too. A roster near its end is renewed.
    """
    now = time.time()
    owner = Owner(load_or_create(folder / KEY_FILE), roster_s)
    me = member_of(identity.statement(), name, tuple(Role))
    try:
        keeper = RosterKeeper.load(folder, owner.public)
    except FileNotFoundError:
        keeper = begin(folder, owner.found(name, me, now))
    known = keeper.current.member(identity.id)
    if known is None or not known.statement:
        keeper.offer(owner.succeed(keeper.current, me, now).envelope, now)
    renew_in_time(keeper, owner, now)
    return keeper


def renew_in_time(keeper: RosterKeeper, owner: Owner, now: float) -> None:
    """Renew the roster when it is near its end."""
    if keeper.current.body.expires - now < RENEW_BEFORE_S:
        keeper.offer(owner.renew(keeper.current, now).envelope, now)


def free_name(wanted: str, taken: Sequence[str]) -> str:
    """`wanted`, with a number when another member has it."""
    names = (wanted if count == 1 else f"{wanted}-{count}" for count in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def printable_name(text: str) -> str:
    """A member's name as people can be shown it, whatever a machine calls itself."""
    kept = "".join(character for character in text if character.isprintable() and character not in "/ ")
    return kept[:NAME_CHARACTERS_MAX] or "nameless"
