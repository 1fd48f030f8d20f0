"""Small blobs ride along with the message that needs them: one frame instead of a round trip for each.

They are verified like all others: by their own digest, where they arrive. Who wants one that did not come asks for it.
"""

from collections.abc import Callable, Iterable, Mapping

from discogrid.blobs import digest_of
from discogrid.types import Digest, FileRef
from discogrid.wire import pack_parts, unpack_parts

SMALL_BYTES = 16 << 10  # a blob up to this size may ride along
RIDERS_BYTES_MAX = 4 << 20  # in one message
RIDERS_MAX = 4096


def pack_small(files: Iterable[FileRef], read: Callable[[FileRef], bytes | None]) -> bytes:
    """A payload frame with the small ones of these files, each once, as far as there is room; `read` may have none."""
    taken: dict[Digest, bytes] = {}
    room = RIDERS_BYTES_MAX
    for file in files:
        if file.size > SMALL_BYTES or file.digest in taken:
            continue
        if file.size > room or len(taken) == RIDERS_MAX:
            break
        if (content := read(file)) is not None:
            taken[file.digest] = content
            room -= len(content)
    return pack_parts(taken.values())


def unpack_small(frame: bytes, wanted: Mapping[Digest, object]) -> dict[Digest, bytes]:
    """The wanted blobs of a frame made by `pack_small`, by the digest they really have; WireError when it is none."""
    parts = unpack_parts(frame, part_bytes_max=SMALL_BYTES, parts_max=RIDERS_MAX)
    found = {digest_of(part): part for part in parts}
    return {digest: part for digest, part in found.items() if digest in wanted}
