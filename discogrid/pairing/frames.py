"""What the two sides of a pairing send each other: five small frames, bounded before they are looked at."""

from enum import StrEnum
from typing import Annotated

import msgspec

from discogrid.errors import WireError
from discogrid.wire import unpack

VERSION = 1
FRAME_BYTES_MAX = 64 * 1024
PART_BYTES_MAX = 15 * 1024  # of a letter, in one sealed frame: below what `wire` allows a string
BOX_BYTES_MAX = PART_BYTES_MAX + 1 + 16  # with the flag and the tag

Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Share = Annotated[bytes, msgspec.Meta(min_length=33, max_length=33)]


class Reason(StrEnum):
    """Why the inviting side does not go on."""

    VERSION = "version"  # it speaks another version of this protocol
    UNKNOWN = "unknown"  # it has no invitation of this nameplate
    EXPIRED = "expired"
    USED = "used"
    BURNT = "burnt"  # somebody guessed wrong
    BUSY = "busy"
    FAILED = "failed"  # it could not take the machine in; its own terminal says why


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every frame is."""


class Opening(Frame, frozen=True, kw_only=True, tag="opening"):
    """The joining side begins: which invitation, a pledge of its identity, its share of the key exchange."""

    version: int
    nameplate: Annotated[str, msgspec.Meta(max_length=16)]
    pledge: Hash
    share: Share


class Reply(Frame, frozen=True, kw_only=True, tag="reply"):
    """The inviting side's pledge and share."""

    pledge: Hash
    share: Share


class Confirm(Frame, frozen=True, kw_only=True, tag="confirm"):
    """The proof that the sender has the same key: the joining side gives it first."""

    mac: Hash


class Sealed(Frame, frozen=True, kw_only=True, tag="sealed"):
    """A part of a letter, readable for the other side only."""

    box: Annotated[bytes, msgspec.Meta(max_length=BOX_BYTES_MAX)]


class Refusal(Frame, frozen=True, kw_only=True, tag="refusal"):
    """The sender does not go on. It is not sealed: whoever reads it believes that something went wrong, no more."""

    reason: Reason


AnyFrame = Opening | Reply | Confirm | Sealed | Refusal


def encode(frame: Frame) -> bytes:
    """A frame's bytes."""
    return msgspec.msgpack.encode(frame)


def decode(raw: bytes) -> AnyFrame:
    """The frame in these bytes; WireError when they are none."""
    try:
        return msgspec.convert(unpack(raw, limit=FRAME_BYTES_MAX), AnyFrame)  # type: ignore[no-any-return]
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
        raise WireError(f"not a frame of a pairing: {error}") from None
