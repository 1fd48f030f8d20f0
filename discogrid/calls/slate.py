"""Where a worker writes its answers before they leave together: what it has not sent when it dies is still there to be read.

A file that both sides map. It begins with how many bytes follow that have not been sent; whoever reads it does not trust it.
"""

import mmap
import os
from collections.abc import Callable
from pathlib import Path

from discogrid.calls.frames import FromWorker, Reader, from_worker
from discogrid.errors import WireError
from discogrid.private_files import new_file

SLATE_BYTES = 64 << 10
HEAD_BYTES = 4


def make_slate(path: Path, owner: tuple[int, int] | None = None) -> int:
    """An empty one, at a path where nothing is; for another user if `owner` says so. Its descriptor, for `unsent`."""
    descriptor = new_file(path, owner)
    os.ftruncate(descriptor, SLATE_BYTES)
    return descriptor


class Slate:
    """The worker's side. For one thread at a time."""

    def __init__(self, path: str, send: Callable[[bytes], None]) -> None:
        """`send` lets bytes leave, and returns when they have. The file loses its name: calls find an empty folder."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, SLATE_BYTES)
        finally:
            os.close(descriptor)
        os.unlink(path)
        self._send = send
        self._used = 0

    def put(self, answer: bytes) -> None:
        """Keep an answer, a frame, until `leave`."""
        if HEAD_BYTES + self._used + len(answer) > SLATE_BYTES:
            self.leave()
        if HEAD_BYTES + len(answer) > SLATE_BYTES:
            self._send(answer)
            return
        start = HEAD_BYTES + self._used
        self._map[start : start + len(answer)] = answer
        self._used += len(answer)
        self._map[:HEAD_BYTES] = self._used.to_bytes(HEAD_BYTES, "little")

    def leave(self) -> None:
        """Let all that it holds leave."""
        if self._used:
            self._send(self._map[HEAD_BYTES : HEAD_BYTES + self._used])
            self._used = 0
            self._map[:HEAD_BYTES] = bytes(HEAD_BYTES)


def unsent(slate: int, last: FromWorker | None) -> list[FromWorker]:
    """What a dead worker had not sent, or not to the end, after this that had come; nothing where it cannot be read."""
    try:
        content = os.pread(slate, SLATE_BYTES, 0)
        used = int.from_bytes(content[:HEAD_BYTES], "little")
        said = [
            from_worker(body) for body in Reader(SLATE_BYTES).feed(content[HEAD_BYTES : HEAD_BYTES + used])
        ]
    except (OSError, WireError):
        return []
    for place, answer in enumerate(said):
        if answer == last:
            return said[place + 1 :]
    return said
