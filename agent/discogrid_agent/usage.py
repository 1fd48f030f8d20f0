"""Measures what a running attempt uses: memory, processes and disk."""

import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discogrid_agent.sandbox.box import Boxed

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_BLOCK: Final = 512  # bytes in one st_blocks
DEPTH_MAX: Final = 100  # folders inside each other that a walk enters; each costs a descriptor
_WALK_SHARE: Final = 20  # a walk over many files is repeated after this many times its own duration
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Usage:
    """What an attempt used at one moment."""

    memory_bytes: int
    processes: int  # and threads
    disk_bytes: int


class Meter:
    """Measures one attempt again and again, cheaply while it is far from its limits."""

    def __init__(self, boxed: Boxed, folders: tuple[Path, ...]) -> None:
        """`folders` are where the attempt writes to disk."""
        self._boxed = boxed
        self._folders = folders
        self._device = os.stat(folders[0]).st_dev
        self._disk = 0
        self._walk_after = 0.0

    def measure(self, memory_limit: int, disk_limit: int) -> Usage:
        """Look once; called in a thread of its own."""
        processes = self._boxed.processes()
        threads, resident = _threads_and_resident(processes)
        nameless = _nameless_files(processes)
        shared = self._boxed.shared_bytes() + nameless.get(_MEMORY, 0)
        memory = resident + shared
        if (
            memory > memory_limit
        ):  # pages that processes share are counted once only now: that is a slow question
            memory = _proportional(processes, shared)
        now = time.monotonic()
        if now >= self._walk_after:
            self._disk = disk_usage(self._folders, disk_limit)
            took = time.monotonic() - now
            self._walk_after = now + took * _WALK_SHARE
        return Usage(memory, threads, self._disk + nameless.get(self._device, 0))


def disk_usage(folders: Iterable[Path], enough: int) -> int:
    """Bytes on disk below `folders`, hard links once; stops counting above `enough`.

    By descriptors: the task is alive and may put a link where a folder was.
    """
    walk = _Walk(enough)
    for folder in folders:
        with suppress(OSError):
            walk.add(os.open(folder, _FOLDER), DEPTH_MAX)
    return walk.total


class _Walk:
    """One walk over the folders of a task that may write meanwhile."""

    def __init__(self, enough: int) -> None:
        self.total = 0
        self._enough = enough
        self._linked: set[int] = set()

    def add(self, folder: int, depth: int) -> None:
        """Count what is in `folder`, whose descriptor is closed then."""
        inner: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    with suppress(OSError):
                        self._count(entry, inner)
            for name in inner:
                if depth and self.total <= self._enough:
                    with suppress(OSError):
                        self.add(_enter(folder, name), depth - 1)
        finally:
            os.close(folder)

    def _count(self, entry: os.DirEntry[str], inner: list[str]) -> None:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            inner.append(entry.name)
        elif status.st_nlink > 1:
            if status.st_ino in self._linked:
                return
            self._linked.add(status.st_ino)
        self.total += status.st_blocks * _BLOCK


def _enter(folder: int, name: str) -> int:
    """Open a folder in a folder, even one that the task closed to hide what lies in it."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except PermissionError:
        closed = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.chmod(f"/proc/self/fd/{closed}", 0o700)
        finally:
            os.close(closed)
        return os.open(name, _FOLDER, dir_fd=folder)


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _threads_and_resident(processes: Iterable[int]) -> tuple[int, int]:
    threads = resident = 0
    for process in processes:
        with suppress(OSError, IndexError, ValueError), open(f"/proc/{process}/stat", "rb") as told:
            fields = told.read().rpartition(b")")[2].split()  # after the name, which may hold anything
            threads += int(fields[17])
            resident += int(fields[21]) * PAGE
    return threads, resident


def _nameless_files(processes: Iterable[int]) -> dict[int, int]:
    """Bytes by device of files that are open but in no folder: deleted ones, and those that are memory (memfd)."""
    seen: set[tuple[int, int]] = set()
    found: dict[int, int] = {}
    for process in processes:
        with suppress(OSError):
            for name in os.listdir(f"/proc/{process}/fd"):
                with suppress(OSError):
                    status = os.stat(f"/proc/{process}/fd/{name}")
                    file = (status.st_dev, status.st_ino)
                    if status.st_nlink == 0 and stat.S_ISREG(status.st_mode) and file not in seen:
                        seen.add(file)
                        found[status.st_dev] = found.get(status.st_dev, 0) + status.st_blocks * _BLOCK
    return found


def _memory_device() -> int:
    """The device that the kernel keeps memory files on."""
    descriptor = os.memfd_create("discogrid")
    try:
        return os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)


_MEMORY: Final = _memory_device()


def _proportional(processes: Iterable[int], shared: int) -> int:
    """Proportional set size of all; what lies in shared memory counts even when nobody maps it."""
    private = mapped = 0
    for process in processes:
        try:
            with open(f"/proc/{process}/smaps_rollup", "rb") as rollup:
                sizes = {line.split(b":")[0]: line.split()[1] for line in rollup.read().splitlines()[1:]}
            mapped += int(sizes.get(b"Pss_Shmem", 0)) * 1024
            private += (int(sizes[b"Pss"]) - int(sizes.get(b"Pss_Shmem", 0))) * 1024
        except (
            OSError,
            KeyError,
            ValueError,
            IndexError,
        ):  # may not look, or it ended: what statm tells everybody
            private += _threads_and_resident([process])[1]
    return private + max(mapped, shared)
