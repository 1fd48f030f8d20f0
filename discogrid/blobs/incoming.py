"""A blob on its way in: not to be found before its digest is proven."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from blake3 import blake3

from discogrid.blobs.digests import short, tagged
from discogrid.errors import BlobError
from discogrid.types import Digest

_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Bed(Protocol):
    """Where the bytes lie meanwhile."""

    def append(self, chunk: bytes) -> None:
        """The next ones; OSError when there is no room."""

    def settle(self) -> None:
        """They are proven: to their place."""

    def clear(self) -> None:
        """Leave nothing behind."""


class Incoming:
    """A blob on its way in: appended to in order, verified at the end; as a context manager it leaves nothing behind."""

    def __init__(
        self, bed: Bed, digest: Digest, size: int, on_end: Callable[[bool], None], *, believed: bool = False
    ) -> None:
        """Use `BlobStore.begin`; `on_end` is told once whether the blob got to its place."""
        self.digest = digest
        self.size = size
        self.received: int = 0
        self._bed = bed
        self._on_end = on_end
        self._hasher = None if believed else blake3()
        self._open = True

    def append(self, chunk: bytes) -> None:
        """The next bytes; BlobError, and all is discarded, when they are more than promised or the disk is full."""
        assert self._open, "appended to after its end"
        if self.received + len(chunk) > self.size:
            self.discard()
            raise BlobError(f"the blob {short(self.digest)} is larger than its {self.size} bytes")
        try:
            self._bed.append(chunk)
        except OSError as error:
            self.discard()
            raise BlobError(
                f"the blob {short(self.digest)} cannot be written",
                why=str(error),
                fix="Free some of the disk.",
            ) from None
        if self._hasher is not None:
            self._hasher.update(chunk)
        self.received += len(chunk)

    def finish(self) -> None:
        """Verify and put in place; BlobError, and all is discarded, when it is not what its digest says."""
        assert self._open, "finished after its end"
        proven = self._hasher is None or tagged(self._hasher.hexdigest()) == self.digest
        if self.received != self.size or not proven:
            self.discard()
            raise BlobError(
                f"the blob {short(self.digest)} is not what its digest says",
                why="It was damaged on its way, or the sender has another file.",
            )
        self._bed.settle()
        self._open = False
        self._on_end(True)

    def discard(self) -> None:
        """Leave nothing behind; after `finish`, or again, it does nothing."""
        if self._open:
            self._open = False
            self._bed.clear()
            self._on_end(False)

    def __enter__(self) -> Self:
        """The incoming blob itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Discard what was not finished."""
        self.discard()


class PartFile:
    """A file under a temporary name."""

    def __init__(self, folder: Path, place: Path) -> None:
        """In this folder, until it is renamed to its place; OSError."""
        self._place = place
        self._part = folder / f"{secrets.token_hex(8)}.part"
        self._file = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
        _claim(self._file)

    def append(self, chunk: bytes) -> None:
        """See Bed."""
        with memoryview(chunk) as view:
            done = 0
            while done < len(view):
                done += os.write(self._file, view[done:])

    def settle(self) -> None:
        """See Bed."""
        self._place.parent.mkdir(mode=0o700, exist_ok=True)
        self._part.replace(self._place)
        os.close(self._file)

    def clear(self) -> None:
        """See Bed."""
        os.close(self._file)
        self._part.unlink(missing_ok=True)


if os.name == "nt":

    def _claim(descriptor: int) -> None:
        """Windows refuses to delete a file that is open: nothing to do."""

    def abandoned(part: Path) -> bool:  # noqa: ARG001
        return True

else:
    import fcntl

    def _claim(descriptor: int) -> None:
        """Mark a half-written blob as alive for as long as this process has it open."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def abandoned(part: Path) -> bool:
        """Whether whoever wrote it is gone."""
        try:
            descriptor = os.open(part, os.O_RDWR | _BINARY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True
