"""Removes a folder that a task has filled, whatever it left there."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path) -> None:
    """Remove `folder`, if it is there, and all in it; no link is followed.

    A folder inside is moved up to the top before it is cleared, so that no depth exhausts stack, descriptors or the
    length of a path. Call it when nothing writes there any more.
    """
    try:
        top = os.open(folder, _FOLDER)
    except FileNotFoundError:
        return
    try:
        prefix = secrets.token_hex(8)
        moved = 0
        waiting = _clear(top, top, f"{prefix}-{moved}-")
        while waiting:
            name = waiting.pop()
            inside = os.open(name, _FOLDER, dir_fd=top)
            try:
                moved += 1
                waiting += _clear(inside, top, f"{prefix}-{moved}-")
            finally:
                os.close(inside)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    folder.rmdir()


def _clear(folder: int, top: int, prefix: str) -> list[str]:
    """Empty a folder; the names under which its own folders now wait in `top`."""
    with os.scandir(folder) as entries:
        found = list(entries)
    moved: list[str] = []
    for entry in found:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=folder)
            continue
        with suppress(OSError):
            os.rmdir(entry.name, dir_fd=folder)
            continue
        os.chmod(entry.name, 0o700, dir_fd=folder)  # the task may have closed it
        name = f"{prefix}{len(moved)}"
        os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=top)
        moved.append(name)
    return moved
