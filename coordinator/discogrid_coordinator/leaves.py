"""A job's tasks as its submitter packed them, read where they lie: a coordinator may keep a million of them."""

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import overload

import msgspec

from discogrid.bundle import LEAF_BYTES_MAX, TASKS_MAX, Leaf
from discogrid.types import FileRef
from discogrid.wire import packed_bytes, unpack_parts

_decode = msgspec.msgpack.Decoder(Leaf).decode


def unpack_leaves(packed: bytes) -> list[bytes]:
    """Leaves as they are sent; WireError when these are no leaves of a job."""
    return unpack_parts(packed, part_bytes_max=LEAF_BYTES_MAX, parts_max=TASKS_MAX)


class Leaves(Sequence[bytes]):
    """The leaves of one job, in order of index: what was packed, and 4 bytes a task to find them in it."""

    __slots__ = ("_ends", "packed")

    def __init__(self, packed: bytes, parts: Sequence[bytes] | None = None) -> None:
        """`parts` if they are at hand already; WireError when these are no leaves of a job."""
        self.packed = packed
        self._ends = array("I", accumulate(map(packed_bytes, parts or unpack_leaves(packed)), initial=0))

    def __len__(self) -> int:
        """How many tasks."""
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[bytes]:
        """All of them."""
        return map(self._leaf, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        """One leaf, or those of a range of tasks."""
        if isinstance(index, slice):
            return [self._leaf(one) for one in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"no task {index} among {len(self)}")
        return self._leaf(index)

    def input(self, index: int) -> FileRef | None:
        """The input of one task, whose job was verified when it was taken in."""
        return _decode(self[index]).input

    def inputs(self, start: int = 0, stop: int | None = None) -> Iterator[FileRef | None]:
        """The inputs of the tasks `start <= index < stop`."""
        for index in range(*slice(start, stop).indices(len(self))):
            yield _decode(self._leaf(index)).input

    def _leaf(self, index: int) -> bytes:
        end = self._ends[index + 1]
        size = end - self._ends[index]
        return self.packed[end - size + _head_bytes(size) : end]


def _head_bytes(size: int) -> int:
    """What msgpack puts before a byte string that takes `size` bytes with it."""
    return 2 if size < (1 << 8) + 2 else 3


class Names(Sequence[str | None]):
    """The base names of a job's inputs."""

    __slots__ = ("_leaves",)

    def __init__(self, leaves: Leaves) -> None:
        """As they are in its leaves."""
        self._leaves = leaves

    def __len__(self) -> int:
        """How many tasks."""
        return len(self._leaves)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        """One name, or those of a range of tasks."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        file = self._leaves.input(index)
        return None if file is None else file.name
