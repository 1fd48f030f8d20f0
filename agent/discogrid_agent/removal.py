"""Removes a folder that a task has filled, whatever it left there."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


_DEPTH_MAX = 16  # folders entered inside each other; one that is deeper is moved up first


def remove_tree(folder: Path) -> None:
    """Remove `folder`, if it is there, and all in it; no link is followed.

    No depth exhausts stack, descriptors or the length of a path. Call it when nothing writes there any more.
    """
    try:
        empty_folder(folder)
    except FileNotFoundError:
        return
    os.rmdir(folder)


def empty_folder(folder: Path, keep: str | None = None) -> None:
    """Remove all that is in `folder`, but for one name; else like `remove_tree`."""
    top = os.open(folder, _FOLDER)
    try:
        removal = _Removal(top)
        removal.clear(top, 0, keep)
        while removal.moved:
            removal.remove(top, removal.moved.pop(), 0)
    finally:
        os.close(top)


class _Removal:
    """One removal below one folder."""

    def __init__(self, top: int) -> None:
        self.moved: list[str] = []  # folders that now wait in the top folder
        self._top = top
        self._prefix = ""
        self._count = 0

    def clear(self, folder: int, depth: int, keep: str | None = None) -> None:
        """Empty a folder, but for one name."""
        with os.scandir(folder) as entries:
            found = list(entries)
        for entry in found:
            if entry.name == keep:
                continue
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
            elif depth < _DEPTH_MAX:
                self.remove(folder, entry.name, depth + 1)
            else:
                self._move_up(folder, entry.name)

    def remove(self, folder: int, name: str, depth: int) -> None:
        """Remove a folder in a folder."""
        with suppress(OSError):  # it is empty more often than not
            os.rmdir(name, dir_fd=folder)
            return
        try:
            inside = os.open(name, _FOLDER, dir_fd=folder)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=folder)
            inside = os.open(name, _FOLDER, dir_fd=folder)
        try:
            if not os.fstat(inside).st_mode & stat.S_IWUSR:
                os.fchmod(inside, 0o700)
            self.clear(inside, depth)
        finally:
            os.close(inside)
        os.rmdir(name, dir_fd=folder)

    def _move_up(self, folder: int, name: str) -> None:
        os.chmod(name, 0o700, dir_fd=folder)  # moving a folder writes into it
        if not self._prefix:
            self._prefix = secrets.token_hex(8)
        self._count += 1
        moved = f"{self._prefix}-{self._count}"
        os.rename(name, moved, src_dir_fd=folder, dst_dir_fd=self._top)
        self.moved.append(moved)
