"""Who belongs to a grid: the roster, signed by the grid's owner and kept by every node."""

import os
import socket
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from discogrid.envelope import unseal
from discogrid.errors import SignatureRefused, WireError
from discogrid.keys import Identity, load_or_create, node_id, public_key
from discogrid.types import NodeId, Role
from discogrid.wire import unpack

ROSTER_TYPE = "discogrid/roster/1"
ROSTER_BYTES_MAX = 1 << 20
ROSTER_S = 10 * 365 * 86400.0  # of this user's own grid, whose owner is always in reach


class Member(msgspec.Struct, frozen=True):
    """One node of a grid: its signing key (32 bytes), CURVE key (Z85) and what it may do."""

    id: NodeId
    name: str
    signing: bytes
    curve: bytes
    roles: tuple[Role, ...]


class RosterBody(msgspec.Struct, frozen=True):
    """What the owner signs. Times are seconds since 1970."""

    version: int
    grid: NodeId
    issued: float
    expires: float
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Roster:
    """A roster whose signature held, with the envelope that proves it."""

    body: RosterBody
    envelope: bytes

    @property
    def grid(self) -> NodeId:
        """The grid's id: the node id of its owner's key."""
        return self.body.grid

    @cached_property
    def _members(self) -> dict[NodeId, Member]:
        return {member.id: member for member in self.body.members}

    @cached_property
    def _by_curve(self) -> dict[bytes, Member]:
        return {member.curve: member for member in self.body.members}

    def member(self, node: NodeId) -> Member | None:
        """The member with this id."""
        return self._members.get(node)

    def admitted(self, curve: bytes) -> NodeId | None:
        """The member that owns this CURVE key (Z85)."""
        member = self._by_curve.get(curve)
        return member.id if member else None

    def may(self, node: NodeId, role: Role) -> bool:
        """Whether the node is a member with this role."""
        member = self._members.get(node)
        return member is not None and role in member.roles

    def signing_key(self, node: NodeId, role: Role) -> Ed25519PublicKey | None:
        """The key of a member with this role."""
        member = self._members.get(node)
        return public_key(member.signing) if member and role in member.roles else None

    def coordinator(self) -> Member:
        """The member that coordinates; SignatureRefused when the roster names none."""
        for member in self.body.members:
            if Role.COORDINATOR in member.roles:
                return member
        raise SignatureRefused("this grid's roster names no coordinator")


def open_roster(envelope: bytes, owner: bytes, now: float) -> Roster:
    """The roster in an envelope that the owner (public key, 32 bytes) signed and that has not expired."""
    grid = node_id(owner)
    opened = unseal(envelope, ROSTER_TYPE, lambda signer: public_key(owner) if signer == grid else None)
    try:
        body = msgspec.convert(unpack(opened.payload, limit=ROSTER_BYTES_MAX), RosterBody)
    except (msgspec.ValidationError, WireError) as error:
        raise SignatureRefused(f"the roster cannot be read: {error}") from None
    if body.grid != grid or any(node_id(member.signing) != member.id for member in body.members):
        raise SignatureRefused("the roster contradicts itself: an id does not belong to its key")
    curves = {member.curve for member in body.members}
    if not len(body.members) == len(curves) == len({member.id for member in body.members}):
        raise SignatureRefused("the roster contradicts itself: two members share an id or a key")
    if not now <= body.expires:
        raise SignatureRefused("the roster has expired", fix="Ask the grid's owner to renew it.")
    return Roster(body, envelope)


def own_roster(folder: Path, identity: Identity) -> Roster:
    """The roster of a grid whose owner key lies in `folder`, made on first use: one member with every role."""
    owner = load_or_create(folder / "owner.json")
    kept = folder / "roster"
    version = 0
    try:
        roster = open_roster(kept.read_bytes(), owner.public, time.time())
    except FileNotFoundError:
        pass
    except SignatureRefused as error:
        raise SignatureRefused(
            f"the roster {kept} cannot be used: {error.what}",
            fix="Put back a copy of it, or move it away to begin with a new one.",
        ) from None
    else:
        if roster.member(identity.id) is not None:
            return roster
        version = roster.body.version
    body = RosterBody(
        version=version + 1,
        grid=owner.id,
        issued=time.time(),
        expires=time.time() + ROSTER_S,
        members=(
            Member(identity.id, socket.gethostname(), identity.public, identity.curve_public, tuple(Role)),
        ),
    )
    envelope = owner.seal(ROSTER_TYPE, msgspec.msgpack.encode(body))
    draft = kept.with_name(
        f".roster.{os.getpid()}"
    )  # processes may race on first use; what they say is equal
    draft.write_bytes(envelope)
    draft.replace(kept)
    return open_roster(envelope, owner.public, time.time())
