"""Bytes to messages and back: msgpack with bounds on everything, then typed validation; raises only WireError.

Two steps on purpose: msgpack alone can refuse a length before it allocates (16 MiB of empty maps cost 1.2 GB without
bounds), msgspec alone turns plain values into structs in one pass. See docs/adr/0003.
"""

from collections.abc import Iterable, Sequence

import msgpack
import msgspec

from discogrid.errors import WireError
from discogrid.messages import AnyMessage, Message

HEADER_BYTES_MAX = 64 * 1024
FRAMES_MAX = 4  # header and payload, routing id not counted
ITEMS_MAX = 4096  # of any array or map in a header
TEXT_BYTES_MAX = 16 * 1024  # of any string in a header
PACKED_ITEMS_MAX = 100_000  # byte strings in one packed payload
PACKED_BYTES_MAX = 40 * 1024 * 1024  # 100,000 tasks whose inputs have names of 255 bytes

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(
    AnyMessage
)  # to convert costs 36 µs more


def encode(message: Message) -> bytes:
    """The header frame of a message; WireError when it would be refused by every receiver."""
    try:
        header = _encoder.encode(message)
    except (UnicodeEncodeError, OverflowError) as error:
        raise WireError(f"a {type(message).__name__} cannot be sent: {error}") from None
    if len(header) > HEADER_BYTES_MAX:
        raise WireError(f"a {type(message).__name__} of {len(header)} bytes is over {HEADER_BYTES_MAX}")
    return header


def decode(header: bytes) -> AnyMessage:
    """The message in a header frame."""
    unpack(header, limit=HEADER_BYTES_MAX)  # what is within bounds may be made
    try:
        return _decoder.decode(header)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
        raise WireError(f"not a message of this protocol: {error}") from None


def unpack(raw: bytes, *, limit: int) -> object:
    """Plain values from at most `limit` bytes of msgpack, each array, map and string bounded."""
    if len(raw) > limit:
        raise WireError(f"{len(raw)} bytes where at most {limit} are allowed")
    try:
        return msgpack.unpackb(
            raw,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_array_len=ITEMS_MAX,
            max_map_len=ITEMS_MAX,
            max_str_len=TEXT_BYTES_MAX,
            max_bin_len=TEXT_BYTES_MAX,
            max_ext_len=0,
            ext_hook=_no_extension,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"not msgpack within bounds: {error}") from None


def pack_parts(parts: Iterable[bytes]) -> bytes:
    """Many byte strings as one payload frame."""
    return b"".join(map(msgpack.packb, parts))


def unpack_parts(frame: bytes, *, part_bytes_max: int, parts_max: int = PACKED_ITEMS_MAX) -> list[bytes]:
    """The byte strings of a payload frame made by `pack_parts`, bounded in number and size."""
    unpacker = msgpack.Unpacker(
        raw=False,
        max_buffer_size=max(len(frame), 1),
        max_bin_len=part_bytes_max,
        max_str_len=0,
        max_array_len=0,
        max_map_len=0,
        max_ext_len=0,
        ext_hook=_no_extension,
    )
    unpacker.feed(frame)
    parts: list[bytes] = []
    try:
        for part in unpacker:
            if not isinstance(part, bytes) or len(parts) >= parts_max:
                raise WireError("a payload holds something else than the promised byte strings")
            parts.append(part)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise WireError(f"not a packed payload: {error}") from None
    # The unpacker's own position counts a part that was cut off as read.
    if sum(map(packed_bytes, parts)) != len(frame):
        raise WireError("a packed payload ends in the middle of a part")
    return parts


def check_frames(frames: Sequence[bytes]) -> None:
    """Refuse a message of no frame or of more than FRAMES_MAX."""
    if not 1 <= len(frames) <= FRAMES_MAX:
        raise WireError(f"a message of {len(frames)} frames; 1 to {FRAMES_MAX} are allowed")


def packed_bytes(part: bytes) -> int:
    """What a part takes in a payload frame."""
    size = len(part)
    return size + (2 if size < 1 << 8 else 3 if size < 1 << 16 else 5)


def _no_extension(code: int, raw: bytes) -> object:
    # An empty extension passes max_ext_len=0.
    raise ValueError(f"an extension of type {code} and {len(raw)} bytes")
