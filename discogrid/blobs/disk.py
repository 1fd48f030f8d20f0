"""Waits for the disk: what was written is then there after a power cut, too."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

SINGLY_MAX = 64  # files; for more at once, the whole disk is made to write what it still holds back

_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def sync_files(paths: Collection[Path]) -> None:
    """Wait for these files and for the folders that name them; OSError, also when one is not there."""
    if len(paths) > SINGLY_MAX and sys.platform == "linux":
        folder = next(iter(paths)).parent
        for path in paths:
            path.stat()
        _sync_disk_of(folder)
        return
    for path in paths:
        _sync(path, os.O_RDWR)
    for folder in {path.parent for path in paths}:
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Wait for the names in a folder."""
    if os.name != "nt":  # no such call there, and none is needed
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | _BINARY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_disk_of(folder: Path) -> None:
    """One call for all files: each fsync of its own takes its turn with the event loop, too."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY | _BINARY)
    try:
        if libc.syncfs(descriptor) != 0:  # in the C library since glibc 2.14 and musl 1.1
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fspath(folder))
    finally:
        os.close(descriptor)
