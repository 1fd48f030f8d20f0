"""Lays out and removes the folders of one attempt.

Below the attempt's own folder:

work         the task's working directory: script, input, constants; in it
  run-result what it wants to hand back
tmp          its /tmp, on disk, so that it counts as disk and not as memory
"""

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discogrid.errors import InputError
from discogrid.types import MIB
from discogrid_agent.removal import empty_folder, remove_tree
from discogrid_agent.sandbox.box import Owner

RESULT_FOLDER: Final = "run-result"
NAME_BYTES_MAX: Final = 255  # of a file system
SMALL_BYTES: Final = 64 * 1024
FOLDER_BYTES_MAX: Final = 16 * 1024  # of a folder itself: one that held thousands of names stays slow
_COPY_BYTES: Final = 64 * MIB  # asked of the kernel at once


@dataclass(frozen=True, slots=True)
class Placed:
    """A file that every task of its kind finds in its folder: its name there and where its bytes are."""

    name: str
    source: Path | bytes  # the file, or its content
    executable: bool = False


class WorkFolder:
    """The folders of one attempt."""

    def __init__(self, path: Path, owner: Owner | None, used: Path | None = None) -> None:
        """Nothing is made before `lay_out`; `used` is what an earlier one left behind at `path`, empty, see `clear`."""
        self.path = path
        self._used = used
        self.work = path / "work"
        self.temporary = path / "tmp"
        self.result = self.work / RESULT_FOLDER
        self.removed = False
        self._owner = owner

    def lay_out(self, files: Sequence[Placed]) -> None:
        """Make the folders and a private, writable copy of every file; InputError for names that cannot be placed."""
        check_names([file.name for file in files])
        if self._used is not None:
            os.rename(self._used, self.path)
        else:
            self._make()
        for file in files:
            self._copy(file)

    def remove(self) -> None:
        """Remove everything, whatever the task left behind."""
        remove_tree(self.path)
        if self._used is not None:
            remove_tree(self._used)
        self.removed = True

    def clear(self) -> bool:
        """Empty the folders for another attempt; False, and they are removed, unless they are as they were made.

        Making and removing four folders costs a task more than all else that an agent does for it: on ext4 it waits
        for the disk and makes every later file dearer.
        """
        folders = (self.work, self.temporary, self.result)
        try:
            if all(map(self._is_as_made, folders)):
                empty_folder(self.result)
                empty_folder(self.temporary)
                empty_folder(self.work, keep=RESULT_FOLDER)
                self.removed = True
                return True
        except OSError:
            pass  # whatever it is, removing goes by another way
        self.remove()
        return False

    def _make(self) -> None:
        os.mkdir(self.path, 0o700)
        if self._owner is not None:
            os.chmod(self.path, 0o711)  # noqa: S103 - the tasks' user walks through, and lists nothing
        for folder in (self.work, self.temporary, self.result):
            os.mkdir(folder, 0o700)
            self._give(folder)

    def _is_as_made(self, folder: Path) -> bool:
        """Whether a task left nothing on the folder itself that the next one could read or trip over."""
        found = os.lstat(folder)
        owner = os.geteuid() if self._owner is None else self._owner.uid
        return (
            stat.S_ISDIR(found.st_mode)
            and stat.S_IMODE(found.st_mode) == 0o700
            and found.st_uid == owner
            and found.st_size <= FOLDER_BYTES_MAX
            and not os.listxattr(folder, follow_symlinks=False)
        )

    def _copy(self, file: Placed) -> None:
        mode = 0o700 if file.executable else 0o600
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        copy = os.open(self.work / file.name, flags, mode)
        try:
            if isinstance(file.source, bytes):
                _write(copy, file.source)
            else:
                source = os.open(file.source, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    _copy_bytes(source, copy)
                finally:
                    os.close(source)
            if self._owner is not None:
                os.fchown(copy, self._owner.uid, self._owner.gid)
        finally:
            os.close(copy)

    def _give(self, folder: Path) -> None:
        if self._owner is not None:
            os.chown(folder, self._owner.uid, self._owner.gid)


def check_names(names: Sequence[str]) -> None:
    """InputError unless these names can lie side by side in a task's folder, beside its `run-result`."""
    seen = {RESULT_FOLDER: "the folder for results"}
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > NAME_BYTES_MAX:
            raise InputError(
                f"{name!r:.80} cannot be the name of a file in a task's folder.",
                why="A name there is one plain file name of at most 255 bytes.",
                fix="Rename the file and submit again.",
            )
        if name in seen:
            raise InputError(
                f"{name!r:.80} would lie in the task's folder twice.",
                why=f"It has the same name as {seen[name]}; script, input and constants lie side by side.",
                fix="Rename one of them and submit again.",
            )
        seen[name] = "another file of the task"


def _write(target: int, content: bytes) -> None:
    done = 0
    while done < len(content):
        done += os.write(target, content[done:])


def _copy_bytes(source: int, target: int) -> None:
    """Through memory when it is little; else by the kernel, which shares blocks where the file system can."""
    size = os.fstat(source).st_size
    if size <= SMALL_BYTES:
        content = os.read(source, size + 1)
        if len(content) == size == os.write(target, content):
            return
        os.lseek(source, 0, os.SEEK_SET)
        os.lseek(target, 0, os.SEEK_SET)
    done = 0
    try:
        while done < size:
            step = os.copy_file_range(source, target, min(_COPY_BYTES, size - done))
            if step == 0:
                return
            done += step
    except OSError:  # across file systems, or one that cannot
        os.lseek(source, done, os.SEEK_SET)
        os.lseek(target, done, os.SEEK_SET)
        with open(source, "rb", closefd=False) as from_, open(target, "wb", closefd=False) as to:
            shutil.copyfileobj(from_, to, MIB)
