"""What an agent and a worker say to each other over a pipe: frames of msgpack, each after its length.

The agent's side does not trust the other: whatever runs there may write to the pipe. It gets plain values of bounded size.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from discogrid.calls.parts import Parts, joined
from discogrid.errors import WireError
from discogrid.pieces import Pieces
from discogrid.types import Digest

FRAME_BYTES_MAX = 512 << 20  # of what a worker is told, whose arguments are the caller's own
ANSWER_BYTES_MAX = 64 << 20  # of what it says: more is not for a message
LENGTH_BYTES = 4
PLACE_MAX = 1 << 40  # bytes of a tray
Place = Annotated[int, msgspec.Meta(ge=0, le=PLACE_MAX)]
READ_BYTES = 1 << 18


class Start(msgspec.Struct, frozen=True, array_like=True, tag="start"):
    """To a worker, once and first: what is to be called before everything else; empty: nothing."""

    initializer: bytes = b""


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """To a worker: a function, as `functions` packs it, and the number by which calls name it. It is opened at its first call."""

    function: int
    content: bytes


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call: its number in the job, that of its function, and pickle of its positional and keyword arguments.

    Or a row of `count` of them, of following numbers, which run for next to no time: the pickle is then a list of their
    positional arguments. They stand and fall together; who has made them makes them one by one where they fall.
    """

    number: int
    function: int
    arguments: bytes
    count: int = 0


class LargeCall(Call, frozen=True, kw_only=True):
    """One whose arguments are `parts` instead, and do not travel like that. See `whole`."""

    parts: Parts | Pieces


class LaidCall(msgspec.Struct, frozen=True, array_like=True, tag="laid call"):
    """To a worker on one machine with its caller: a call whose arguments lie on their tray."""

    number: int
    function: int
    start: Place
    size: Place  # bytes


class Taken(msgspec.Struct, frozen=True, array_like=True, tag="taken"):
    """To a worker on one machine with its caller: so many more results have been taken from their tray."""

    count: int


class Calls(msgspec.Struct, frozen=True, array_like=True, tag="calls"):
    """To a worker: these, in this order."""

    calls: tuple[Call, ...]


class Started(msgspec.Struct, frozen=True, array_like=True, tag="started"):
    """From a worker: it is ready for calls; or it is not, and ends: `raised` says why, as `exceptions` packs it."""

    raised: bytes = b""


class Returned(msgspec.Struct, frozen=True, array_like=True, tag="returned"):
    """From a worker: what a call returned, as the codec has it, after so many seconds."""

    number: int
    seconds: float
    value: bytes


class Raised(msgspec.Struct, frozen=True, array_like=True, tag="raised"):
    """From a worker: what a call raised, as `exceptions` packs it, after so many seconds."""

    number: int
    seconds: float
    error: bytes


class Laid(msgspec.Struct, frozen=True, array_like=True, tag="laid"):
    """From a worker on one machine with its caller: what a call returned, after so many seconds, lies on their tray."""

    number: int
    seconds: float
    start: Place
    size: Place  # bytes


class Part(msgspec.Struct, frozen=True, array_like=True, tag="part"):
    """From a worker: what calls of a row returned or raised, from the `offset`-th on, after so many seconds together.

    `values` are as `rows` packs them, with nothing in the places of `raised`, where it is as `exceptions` packs it. On its
    way from an agent, values that are too large for a message are a blob of this digest and size.
    """

    number: int  # of the row
    offset: int
    count: int
    seconds: float
    last: bool  # no more parts of this row come
    values: bytes
    raised: dict[int, bytes] = {}  # by place in the part
    stored: Digest | None = None
    size: int = 0  # bytes


class Stored(msgspec.Struct, frozen=True, array_like=True, tag="stored"):
    """From an agent: what a call returned after so many seconds is too large for a message, and a blob."""

    number: int
    seconds: float
    digest: Digest
    size: int  # bytes


ToWorker = Start | Open | Calls | LaidCall | Taken
FromWorker = Started | Returned | Raised | Part | Laid

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def frame(said: ToWorker | FromWorker) -> bytes:
    """The bytes of one frame; WireError when it is too long."""
    body = _encoder.encode(said)
    if len(body) > FRAME_BYTES_MAX:
        raise WireError(f"a frame of {len(body)} bytes is over {FRAME_BYTES_MAX}")
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


def whole(call: Call) -> Call:
    """The same as it travels."""
    if isinstance(call, LargeCall):
        return Call(call.number, call.function, joined(call.parts), call.count)
    return call


@dataclass(slots=True)
class Reader:
    """Puts frames together from the pieces that a pipe gives; none is longer than `most` bytes."""

    most: int = FRAME_BYTES_MAX
    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The bodies that are whole now; WireError when one says that it will be too long."""
        rest = self._rest
        rest += piece
        start = 0
        while len(rest) - start >= LENGTH_BYTES:
            length = int.from_bytes(rest[start : start + LENGTH_BYTES], "little")
            if length > self.most:
                raise WireError(f"a frame of {length} bytes is over {self.most}")
            end = start + LENGTH_BYTES + length
            if len(rest) < end:
                break
            yield bytes(rest[start + LENGTH_BYTES : end])
            start = end
        del rest[:start]


def from_worker(body: bytes) -> FromWorker:
    """What a worker says; WireError when it is nothing that a worker says."""
    try:
        return _from_worker.decode(body)
    except msgspec.MsgspecError as error:
        raise WireError(f"a worker says nothing that can be read: {error}") from None


def to_worker(body: bytes) -> ToWorker:
    """What the agent says; WireError when it is nothing that an agent says."""
    try:
        return _to_worker.decode(body)
    except msgspec.MsgspecError as error:
        raise WireError(f"an agent says nothing that can be read: {error}") from None


def read_all(inbox: int) -> Iterator[bytes]:
    """Every frame of a pipe, waiting for each, to its end."""
    reader = Reader()
    while piece := os.read(inbox, READ_BYTES):
        yield from reader.feed(piece)


def write_all(outbox: int, content: bytes | bytearray) -> None:
    """All of it, waiting as long as the pipe is full."""
    view = memoryview(content)
    while view:
        view = view[os.write(outbox, view) :]
