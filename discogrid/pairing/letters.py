"""What two machines tell each other once each has proved that it knows the code."""

from dataclasses import dataclass

import msgspec

from discogrid.errors import WireError
from discogrid.pairing.sealing import LETTER_BYTES_MAX
from discogrid.types import Role
from discogrid.wire import pack_parts, unpack, unpack_parts

INTRODUCTION_BYTES_MAX = 8 * 1024
ENDPOINTS_MAX = 8
ENDPOINT_BYTES_MAX = 300


class Introduction(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that joins: its own signed statement of its keys (see keys.py), its name, what it wants to do."""

    statement: bytes
    name: str
    roles: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """The grid's answer: the roster that names the joiner (an envelope), and where the coordinator may be dialled."""

    roster: bytes
    endpoints: tuple[str, ...]


def encode_introduction(introduction: Introduction) -> bytes:
    """Its bytes."""
    return msgspec.msgpack.encode(introduction)


def decode_introduction(raw: bytes) -> Introduction:
    """WireError when it is none."""
    try:
        return msgspec.convert(unpack(raw, limit=INTRODUCTION_BYTES_MAX), Introduction)
    except msgspec.ValidationError as error:
        raise WireError(f"not an introduction: {error}") from None


def encode_grant(grant: Grant) -> bytes:
    """Its bytes: the roster, then the endpoints."""
    return pack_parts([grant.roster, *(endpoint.encode() for endpoint in grant.endpoints[:ENDPOINTS_MAX])])


def decode_grant(raw: bytes) -> Grant:
    """WireError when it is none."""
    parts = unpack_parts(raw, part_bytes_max=LETTER_BYTES_MAX, parts_max=1 + ENDPOINTS_MAX)
    if not parts or any(len(part) > ENDPOINT_BYTES_MAX for part in parts[1:]):
        raise WireError("not a grant")
    roster, *endpoints = parts
    return Grant(roster, tuple(endpoint.decode(errors="replace") for endpoint in endpoints))
