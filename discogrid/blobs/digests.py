"""The name of content: `blake3:` and 64 hexadecimal digits."""

import os
import re
import stat
from pathlib import Path

from blake3 import blake3

from discogrid.errors import InputError
from discogrid.types import MIB, Digest

READ_BYTES = MIB  # hashed at once

_DIGEST = re.compile(r"blake3:[0-9a-f]{64}")
# A FIFO without a writer must not hang the reader, hence O_NONBLOCK.
_READ_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)


def digest_of(source: Path | bytes | int) -> Digest:
    """The digest of bytes, of a regular file by path, or of one by descriptor from its start.

    In one thread: hashing outruns the disks, and the other processors are lent to tasks. OSError when it cannot be
    read, InputError when it is no regular file.
    """
    if isinstance(source, bytes):
        return tagged(blake3(source).hexdigest())
    if isinstance(source, int):
        return _hash(source)
    descriptor = os.open(source, _READ_FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{source} is not a regular file")
        return _hash(descriptor)
    finally:
        os.close(descriptor)


def tagged(hexadecimal: str) -> Digest:
    """The digest of a finished hash."""
    return Digest(f"blake3:{hexadecimal}")


def short(digest: str) -> str:
    """Enough of a digest for a message."""
    return digest.removeprefix("blake3:")[:12]


def is_digest(text: str) -> bool:
    """Whether `text` is a digest of the kind used here; anything else must never become part of a path."""
    return _DIGEST.fullmatch(text) is not None


def _hash(descriptor: int) -> Digest:
    hasher = blake3()
    os.lseek(descriptor, 0, os.SEEK_SET)
    while chunk := os.read(descriptor, READ_BYTES):
        hasher.update(chunk)
    return tagged(hasher.hexdigest())
