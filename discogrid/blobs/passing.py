"""Blobs in memory: those that are needed once, and soon, and that no disk need see."""

from collections.abc import Iterator

from discogrid.pieces import Pieces
from discogrid.types import MIB, Digest

PASSING_BYTES_MAX = 128 * MIB  # of one store; what is more lies in files like any other blob
PASSING_BYTES_MIN = 64 << 10  # that a blob counts for: so there are not too many of them


class Gathered:
    """The bytes of a blob that comes in, in memory."""

    def __init__(self) -> None:
        """None yet."""
        self.pieces: Pieces = Pieces()

    def append(self, chunk: bytes) -> None:
        """See Bed."""
        self.pieces.append(chunk)

    def settle(self) -> None:
        """See Bed."""

    def clear(self) -> None:
        """See Bed."""
        self.pieces = Pieces()


class Passing:
    """What a store has in memory. For one thread at a time, but for `get`."""

    def __init__(self, bytes_max: int) -> None:
        """No more than so many bytes, with those that are still to come."""
        self.bytes_max: int = bytes_max
        self._room = bytes_max
        self._blobs: dict[Digest, Pieces] = {}

    def __iter__(self) -> Iterator[Digest]:
        """All that are here, oldest first."""
        return iter(tuple(self._blobs))

    def reserve(self, size: int) -> bool:
        """Whether there is room for a blob of `size` bytes, which is then its own."""
        if _counted(size) > self._room:
            return False
        self._room -= _counted(size)
        return True

    def release(self, size: int) -> None:
        """What was reserved is not needed."""
        self._room += _counted(size)

    def add(self, digest: Digest, pieces: Pieces) -> None:
        """A blob has come, for which there is room."""
        self.drop(digest)  # it came twice at a time
        self._blobs[digest] = pieces

    def drop(self, digest: Digest) -> None:
        """Let go of it, if it is here."""
        if (pieces := self._blobs.pop(digest, None)) is not None:
            self._room += _counted(pieces.size)

    def get(self, digest: Digest) -> Pieces | None:
        """Its bytes; None when it is not here."""
        return self._blobs.get(digest)


def _counted(size: int) -> int:
    return max(size, PASSING_BYTES_MIN)
