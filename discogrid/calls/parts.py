"""Large values beside what holds them: a head, and bodies that nothing has to go through, copy or look into.

What is packed is a flat `bytes`, `Parts`, or the `Pieces` in which it came. As bytes parts are LOOSE, the length of the head,
how many bodies there are, how long each is, the head, the bodies. No two bodies lie at one place, and no byte is of none: a
small content never becomes a large value.
"""

import os
import pickle
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from discogrid.errors import WireError
from discogrid.pieces import Pieces

BODY_BYTES_MIN = 64 << 10  # what is smaller stays in the head
BODIES_MAX = 512  # of one content
LOOSE = b"l"  # the first byte, which is that of no pickle and of no kind of the codec
_COUNTS = struct.Struct("<cII")  # LOOSE, bytes of the head, bodies
_SIZE = struct.Struct("<Q")  # of a body, twice; one more where it is to be one that can be written to

Buffer = bytes | memoryview


class Parts:
    """A head, and bodies: those of which the second is true are read as a bytearray, the others as bytes."""

    __slots__ = ("bodies", "head", "size")

    def __init__(self, head: bytes, bodies: Sequence[tuple[Buffer, bool]]) -> None:
        """A body is a row of bytes, of which nothing changes any more."""
        self.head: bytes = head
        self.bodies: Sequence[tuple[Buffer, bool]] = bodies
        sizes = sum(len(body) for body, _ in bodies)
        self.size: int = _COUNTS.size + _SIZE.size * len(bodies) + len(head) + sizes

    def pieces(self) -> list[Buffer]:
        """As bytes, one after the other."""
        table = b"".join(_SIZE.pack(2 * len(body) + writable) for body, writable in self.bodies)
        first = _COUNTS.pack(LOOSE, len(self.head), len(self.bodies)) + table + self.head
        return [first, *(body for body, _ in self.bodies)]


Packed = bytes | Parts
Come = Packed | Pieces  # packed elsewhere, maybe


def size_of(packed: Come) -> int:
    """Of its bytes."""
    return len(packed) if isinstance(packed, bytes) else packed.size


def pieces_of(packed: Come) -> Sequence[Buffer]:
    """Its bytes, one after the other."""
    return [packed] if isinstance(packed, bytes) else packed.pieces()


def joined(packed: Come) -> bytes:
    """Its bytes as one."""
    return packed if isinstance(packed, bytes) else b"".join(packed.pieces())


class Aside:
    """Takes bodies out of what is pickled: `take` is pickle's `buffer_callback`."""

    def __init__(self) -> None:
        """None yet."""
        self.bodies: list[tuple[Buffer, bool]] = []

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether it is to stay in the head. What may change until it leaves is copied."""
        try:
            raw = buffer.raw()
        except BufferError:  # it does not lie in one row
            return True
        if raw.nbytes < BODY_BYTES_MIN or len(self.bodies) >= BODIES_MAX:
            return True
        self.bodies.append((raw if type(raw.obj) is bytes else bytes(raw), not raw.readonly))
        return False

    def packed(self, head: bytes) -> Packed:
        """All of it."""
        return Parts(head, self.bodies) if self.bodies else head


class Content(Protocol):
    """Packed bytes, wherever they lie."""

    size: int

    def read(self, start: int, size: int) -> bytes:
        """Some of them; WireError when they are not there."""

    def fill(self, start: int, target: bytearray) -> None:
        """As many of them as the target has room for."""


class InFile:
    """Content of a whole file."""

    def __init__(self, path: Path) -> None:
        """Open it; OSError when it cannot be."""
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self.size: int = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, size: int) -> bytes:
        """See Content."""
        self._file.seek(start)
        found = self._file.read(size) if size else b""
        if len(found) < size:
            raise WireError("a file of large values is shorter than it was")
        return found

    def fill(self, start: int, target: bytearray) -> None:
        """See Content."""
        self._file.seek(start)
        left = memoryview(target)
        while left:
            filled = self._file.readinto(left)
            if not filled:
                raise WireError("a file of large values is shorter than it was")
            left = left[filled:]

    def close(self) -> None:
        """It is read no more."""
        self._file.close()


Body = bytes | bytearray


def opened(content: bytes | Content) -> tuple[bytes, list[Body]]:
    """The head and the bodies; WireError when it is damaged."""
    if isinstance(content, bytes):
        if content[:1] != LOOSE:
            return content, []
        content = Pieces(content)
    elif content.read(0, 1) != LOOSE:
        return content.read(0, content.size), []
    if content.size < _COUNTS.size:
        raise WireError("large values came without their sizes")
    _, head, count = _COUNTS.unpack(content.read(0, _COUNTS.size))
    start = _COUNTS.size + _SIZE.size * count
    if count > BODIES_MAX or start + head > content.size:
        raise WireError("large values are more than there can be")
    table = content.read(_COUNTS.size, _SIZE.size * count)
    sizes = [size for (size,) in _SIZE.iter_unpack(table)]
    if start + head + sum(size // 2 for size in sizes) != content.size:
        raise WireError("large values have more or fewer bytes than they say")
    return content.read(start, head), list(_bodies(content, start + head, sizes))


def _bodies(content: Content, start: int, sizes: Sequence[int]) -> Iterator[Body]:
    for said in sizes:
        size = said // 2
        if said % 2:
            target = bytearray(size)
            content.fill(start, target)
            yield target
        else:
            yield content.read(start, size)
        start += size
