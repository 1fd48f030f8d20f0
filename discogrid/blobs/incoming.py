"""A blob on its way in: under a temporary name until its digest is proven."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Self

from blake3 import blake3

from discogrid.blobs.digests import short, tagged
from discogrid.errors import BlobError
from discogrid.types import Digest

_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Incoming:
    """A blob on its way in: appended to in order, verified at the end; as a context manager it leaves nothing behind."""

    def __init__(
        self,
        folder: Path,
        place: Path,
        digest: Digest,
        size: int,
        on_end: Callable[[bool], None],
        *,
        believed: bool = False,
    ) -> None:
        """Use `BlobStore.begin`; `on_end` is told once whether the blob got to its place."""
        self.digest = digest
        self.size = size
        self.received: int = 0
        self._on_end = on_end
        self._place = place
        self._part = folder / f"{secrets.token_hex(8)}.part"
        self._hasher = None if believed else blake3()
        self._file = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
        self._open = True
        _claim(self._file)

    def append(self, chunk: bytes) -> None:
        """The next bytes; BlobError, and all is discarded, when they are more than promised or the disk is full."""
        assert self._open, "appended to after its end"
        if self.received + len(chunk) > self.size:
            self.discard()
            raise BlobError(f"the blob {short(self.digest)} is larger than its {self.size} bytes")
        try:
            with memoryview(chunk) as view:
                done = 0
                while done < len(view):
                    done += os.write(self._file, view[done:])
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

    def finish(self) -> Path:
        """Verify and put in place; BlobError, and all is discarded, when it is not what its digest says."""
        assert self._open, "finished after its end"
        proven = self._hasher is None or tagged(self._hasher.hexdigest()) == self.digest
        if self.received != self.size or not proven:
            self.discard()
            raise BlobError(
                f"the blob {short(self.digest)} is not what its digest says",
                why="It was damaged on its way, or the sender has another file.",
            )
        self._place.parent.mkdir(mode=0o700, exist_ok=True)
        self._part.replace(self._place)
        os.close(self._file)
        self._open = False
        self._on_end(True)
        return self._place

    def discard(self) -> None:
        """Leave nothing behind; after `finish`, or again, it does nothing."""
        if self._open:
            self._open = False
            os.close(self._file)
            self._part.unlink(missing_ok=True)
            self._on_end(False)

    def __enter__(self) -> Self:
        """The incoming blob itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Discard what was not finished."""
        self.discard()


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
