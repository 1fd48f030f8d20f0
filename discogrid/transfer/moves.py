"""One blob on its way, seen from the side that dialled: what to send next, and what an answer means.

A move never waits: the client asks it for its next message when the window has room, and starts it again when the
other side has been silent.
"""

import asyncio
import os
from collections import deque
from pathlib import Path
from typing import assert_never

from discogrid.blobs import BlobStore, Incoming
from discogrid.errors import BlobError
from discogrid.messages import BlobChunk, GetBlob, Message, OfferBlob, WantChunks
from discogrid.pieces import Pieces
from discogrid.transfer.chunks import CHUNK_BYTES, CREDIT_CHUNKS, chunk_length
from discogrid.types import Digest


class Get:
    """A blob that comes in."""

    def __init__(self, digest: Digest, size: int, store: BlobStore, *, passing: bool = False) -> None:
        """Nothing is asked for yet. `passing` is for the store."""
        self.digest = digest
        self.size = size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._passing = passing
        self._store = store
        self._incoming: Incoming | None = None
        self._asked: set[int] = set()  # offsets of chunks that are on their way
        self._next = 0

    @property
    def in_flight(self) -> int:
        """Chunks that are on their way."""
        return len(self._asked)

    @property
    def received(self) -> int:
        """Bytes that have come."""
        return self._incoming.received if self._incoming else 0

    @property
    def ready(self) -> bool:
        """Whether there is a chunk to ask for."""
        return (
            not self.done.done()
            and len(self._asked) < CREDIT_CHUNKS
            and chunk_length(self.size, self._next) >= 0
        )

    def message(self) -> tuple[Message, list[bytes]]:
        """What to send next."""
        return GetBlob(digest=self.digest, offset=self._next, count=1), []

    def sent(self) -> None:
        """`message` has left."""
        self._asked.add(self._next)
        self._next += CHUNK_BYTES

    def take(self, chunk: BlobChunk, payload: list[bytes]) -> bool:
        """Take a chunk in; False when it is late or double. BlobError when the blob is another than promised."""
        content = payload[0] if payload else b""
        self._asked.discard(chunk.offset)
        if self.done.done() or chunk.offset != self.received:
            return False
        if chunk.size != self.size or len(content) != chunk_length(self.size, chunk.offset):
            raise BlobError(
                f"{chunk.size} bytes are offered for a blob of {self.size}",
                why="The other side has another file, or does not speak this protocol.",
            )
        if self._incoming is None:
            self._incoming = self._store.begin(self.digest, self.size, passing=self._passing)
        self._incoming.append(content)
        if self._incoming.received == self.size:
            self._incoming.finish()
            self.done.set_result(None)
        self._next = max(self._next, self._incoming.received)  # answers from before a restart count too
        return True

    def restart(self) -> None:
        """Ask again for what has not come."""
        self._asked.clear()
        self._next = self.received

    def end(self) -> None:
        """Keep nothing of what is not whole."""
        if self._incoming is not None:
            self._incoming.discard()


class Put:
    """A blob that goes out. One that fits into a chunk travels with its offer."""

    def __init__(
        self, source: Path | bytes | Pieces, digest: Digest, size: int, *, passing: bool = False
    ) -> None:
        """Open the source; InputError, OSError or BlobError when it is not `size` bytes that can be read.

        `passing` is for the store on the other side.
        """
        self.digest = digest
        self.size = size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._passing = passing
        self._source = _opened(source)
        self._offered = False
        self._granted: deque[int] = deque()  # offsets that may be sent
        self._furthest = 0  # the highest offset the other side has spoken of
        self.in_flight: int = 0
        if self._source.size != size:
            self.end()
            raise self._changed()

    @property
    def ready(self) -> bool:
        """Whether something may be sent."""
        return not self.done.done() and (not self._offered or bool(self._granted))

    def message(self) -> tuple[Message, list[bytes]]:
        """What to send next; BlobError when the source has changed."""
        if not self._offered:
            inline = [self._read(0, self.size)] if self.size <= CHUNK_BYTES else []
            return OfferBlob(digest=self.digest, size=self.size, passing=self._passing), inline
        offset = self._granted[0]
        chunk = self._read(offset, chunk_length(self.size, offset))
        return BlobChunk(digest=self.digest, offset=offset, size=self.size), [chunk]

    def sent(self) -> None:
        """`message` has left."""
        if self._offered:
            self._granted.popleft()
        self._offered = True
        self.in_flight += 1

    def take(self, want: WantChunks) -> bool:
        """The other side has room; False when it only says that it lives."""
        self.in_flight = max(self.in_flight - 1, 0)
        offsets = [want.offset + number * CHUNK_BYTES for number in range(min(want.count, CREDIT_CHUNKS))]
        self._granted.extend(offset for offset in offsets if chunk_length(self.size, offset) > 0)
        further = want.offset > self._furthest
        self._furthest = max(want.offset, self._furthest)
        return further or bool(offsets)

    def restart(self) -> None:
        """Offer it again: the answer says where to go on."""
        self._offered = False
        self._granted.clear()
        self.in_flight = 0

    def end(self) -> None:
        """Close the source."""
        if isinstance(self._source, _File):
            self._source.close()

    def _read(self, offset: int, length: int) -> bytes:
        content = self._source.read(offset, length)
        if len(content) != length:
            raise self._changed()
        return content

    def _changed(self) -> BlobError:
        return BlobError(
            f"the file of the blob {self.digest.removeprefix('blake3:')[:12]} is not the {self.size} bytes it was",
            why="It was changed after it was read first.",
            fix="Submit again when nothing writes to it any more.",
        )


class _File:
    """Bytes of a file."""

    def __init__(self, path: Path) -> None:
        """Open it; OSError."""
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self.size = self._file.seek(0, os.SEEK_END)

    def read(self, start: int, size: int) -> bytes:
        """As many of them as are there."""
        self._file.seek(start)
        return self._file.read(size)

    def close(self) -> None:
        """It is read no more."""
        self._file.close()


def _opened(source: Path | bytes | Pieces) -> _File | Pieces:
    match source:
        case Path():
            return _File(source)
        case bytes():
            return Pieces(source)
        case Pieces():
            return source
        case _:
            assert_never(source)
