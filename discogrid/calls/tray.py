"""Where large arguments and results lie between two processes of one machine: a file that has no name once both hold it.

One side writes, the other reads; where something lies is said on their line. It is written and read by the kernel, once
each, past Python's lock, and its pages are used again. It ends with the last process that holds it, however that ends.
Who reads does not trust who writes: nothing of it is mapped, and what is not there is an error.
"""

import os
from collections import deque
from collections.abc import Sequence

from discogrid.calls.parts import Buffer, Come, pieces_of, size_of
from discogrid.errors import WireError

TRAY_BYTES_MAX = 128 << 20  # that lie on one; a larger thing lies there alone
LAID_BYTES_MIN = 64 << 10  # what is smaller goes by the line
PIECES_MAX = 512  # of one system call


def make_tray() -> int | None:
    """An empty one in memory, by its descriptor; None where this system has none."""
    if not hasattr(os, "memfd_create"):
        return None
    return os.memfd_create("discogrid-tray", os.MFD_CLOEXEC)


def open_tray(path: str) -> int:
    """One that somebody else has made there. It loses its name: calls find an empty folder."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    os.unlink(path)
    return descriptor


class Tray:
    """The side that writes. Things are taken away in the order in which they came."""

    def __init__(self, descriptor: int) -> None:
        """An empty one."""
        self._descriptor = descriptor
        self._lying: deque[tuple[int, int]] = deque()  # from, to
        self._bytes = 0  # of the file

    def put(self, packed: Come) -> tuple[int, int] | None:
        """Where it lies, and of how many bytes it is; None when there is no room for it now."""
        size = size_of(packed)
        start = self._room(size)
        if start is None:
            return None
        try:
            self._write(pieces_of(packed), start)
        except OSError:  # no memory, or a limit on files
            return None
        self._lying.append((start, start + size))
        self._bytes = max(self._bytes, start + size)
        return start, size

    def taken(self) -> None:
        """The oldest thing on it is not needed any more."""
        if self._lying:
            self._lying.popleft()
        if not self._lying and self._bytes > TRAY_BYTES_MAX:
            os.ftruncate(self._descriptor, 0)
            self._bytes = 0

    def _room(self, size: int) -> int | None:
        """The first gap that is wide enough, so that few pages are used, and those again."""
        start = 0
        for begin, end in sorted(self._lying):
            if begin - start >= size:
                return start
            start = end
        return start if not start or start + size <= TRAY_BYTES_MAX else None

    def _write(self, pieces: Sequence[Buffer], start: int) -> None:
        for at in range(0, len(pieces), PIECES_MAX):
            left = [memoryview(piece) for piece in pieces[at : at + PIECES_MAX]]
            while left:
                written = os.pwritev(self._descriptor, left, start)
                start += written
                while left and written >= len(left[0]):
                    written -= len(left[0])
                    del left[0]
                if written:
                    left[0] = left[0][written:]


class Lying:
    """What lies on a tray, for the side that reads. See Content."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        """So many bytes, from there on."""
        self._descriptor = descriptor
        self._start = start
        self.size = size

    def read(self, start: int, size: int) -> bytes:
        """See Content."""
        try:
            found = os.pread(self._descriptor, size, self._start + start)
        except OSError as error:
            raise WireError(f"what lies on a tray cannot be read: {error}") from None
        if len(found) < size:
            if not found:
                raise WireError("something is said to lie on a tray where nothing does")
            found += self.read(start + len(found), size - len(found))
        return found

    def fill(self, start: int, target: bytearray) -> None:
        """See Content."""
        left = memoryview(target)
        at = self._start + start
        while left:
            filled = os.preadv(self._descriptor, [left], at)
            if not filled:
                raise WireError("something is said to lie on a tray where nothing does")
            at += filled
            left = left[filled:]
