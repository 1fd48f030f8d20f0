"""A row of calls that run for next to no time: packed, run and answered together, since each for itself would cost more than it is.

What a call returns and raises is kept apart from that of the others, and it is known here how far the row has come when its
process dies: who has made it makes the rest one by one.
"""

import pickle
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from discogrid.calls import codec, exceptions, refusals
from discogrid.calls.arguments import LARGE_KINDS, MAIN_MARK
from discogrid.calls.frames import Part
from discogrid.errors import WireError

ROW_BYTES_MAX = 256 << 10  # of the arguments of one row
TOGETHER = frozenset((int, float, str, bytes, bool, type(None)))
"""What comes back from a list as it comes back by itself."""
_JOINT, _APART = b"j", b"a"  # the first byte: one list, or each value for itself

_texts: msgspec.msgpack.Decoder[list[bytes]] = msgspec.msgpack.Decoder(list[bytes])


def pack_row(arguments: Sequence[tuple[Any, ...]]) -> bytes:
    """Pickle of the positional arguments of some calls; empty where they have to be looked at one by one."""
    if any(type(one) in LARGE_KINDS and len(one) > ROW_BYTES_MAX for one in arguments[0]):
        return b""  # without having copied all of them
    try:
        packed = pickle.dumps(arguments, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 (which of them it is, each says for itself)
        return b""
    special = MAIN_MARK in packed or refusals.MARK in packed
    return b"" if special or len(packed) > ROW_BYTES_MAX else packed


def pack_values(values: Sequence[Any]) -> bytes:
    """What some calls returned."""
    if TOGETHER.issuperset(map(type, values)):
        packed = codec.dumps(values)
        if packed[:1] == codec.PLAIN:
            return _JOINT + packed
    return _APART + msgspec.msgpack.encode([codec.dumps(value) for value in values])


def open_part(
    part: Part, *, trusted: bool, modules: Collection[str], note: Callable[[int], str]
) -> list[Any]:
    """What each call of a part returned, or an `Error` with what it raised; WireError when the part is damaged.

    `note` is added to what the call of a number raised.
    """
    kind, raw = part.values[:1], part.values[1:]
    if kind == _JOINT:
        values = codec.loads(raw, trusted=False)
    elif kind == _APART:
        values = [_opened(one, trusted=trusted, modules=modules) for one in _decoded(raw)]
    else:
        raise WireError("the answers to a row of calls are of no kind that is known")
    if not isinstance(values, list) or len(values) != part.count:
        raise WireError("a part of a row of calls has not as many answers as it says")
    for place, raised in part.raised.items():
        if not 0 <= place < len(values):
            raise WireError("a part of a row of calls has an exception in no place of it")
        number = part.number + part.offset + place
        values[place] = Error(
            exceptions.unpack(raised, trusted=trusted, modules=tuple(modules), note=note(number))
        )
    return values


class Error:
    """What a call raised, in the place of what it would have returned."""

    def __init__(self, error: BaseException) -> None:
        """This."""
        self.error = error


def _decoded(raw: bytes) -> list[bytes]:
    try:
        return _texts.decode(raw)
    except msgspec.MsgspecError as error:
        raise WireError(f"the answers to a row of calls cannot be read: {error}") from None


def _opened(raw: bytes, *, trusted: bool, modules: Collection[str]) -> Any:
    try:
        return codec.loads(raw, trusted=trusted, modules=modules)
    except Exception as error:  # noqa: BLE001 (a class of the caller's may refuse to be unpickled)
        return Error(error)
