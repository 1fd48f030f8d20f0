"""Takes what a task left in its `run-result`: regular files only, by directory descriptors, through no link.

To be used when every process of the task is dead; until then what was checked is not what is read.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from discogrid.archive import ArchiveWriter
from discogrid.errors import InputError
from discogrid.types import FileRef, Limits

DEPTH_MAX: Final = 32  # folders inside run-result
SKIPPED_MAX: Final = 100  # skipped files told one by one
ENTRIES_MAX: Final = 200_000  # names looked at
SMALL_FILES: Final = 8
SMALL_BYTES: Final = 256 * 1024
RESERVED_PREFIX: Final = "DiscoTask."  # what the agent itself puts into the archive

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(slots=True)
class Collected:
    """What came out of `run-result`, and what did not."""

    outputs: list[FileRef] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (name, why)
    over: str | None = None  # the first limit of outputs that was hit, in words
    total: int = 0  # bytes
    unlisted: int = 0  # skipped beyond SKIPPED_MAX

    def skip(self, name: str, why: str) -> None:
        """Note that a file stays behind."""
        if len(self.skipped) < SKIPPED_MAX:
            self.skipped.append((_printable(name), why))
        else:
            self.unlisted += 1

    def told(self) -> list[tuple[str, str]]:
        """All that is known of skipped files."""
        if not self.unlisted:
            return self.skipped
        return [*self.skipped, ("…", f"and {self.unlisted:,} more")]


def collect(folder: Path, archive: ArchiveWriter, limits: Limits) -> Collected:
    """Add the files of `folder` to `archive`, in order of their names, as far as `limits` allow."""
    collected = Collected()
    try:
        top = os.open(folder, _FOLDER)
    except OSError as error:
        collected.skip(folder.name, f"the folder itself cannot be read: {error.strerror}")
        return collected
    try:
        for name, parent, leaf in _files(top, collected):
            _take(name, parent, leaf, archive, limits, collected)
    finally:
        os.close(top)
    return collected


def is_small(folder: Path) -> bool:
    """Whether so little lies there that collecting it takes about a millisecond."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count == SMALL_FILES or entry.is_dir(follow_symlinks=False):
                    return False
                total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        return True  # nothing to collect
    return total <= SMALL_BYTES


def _files(top: int, collected: Collected) -> Iterator[tuple[str, int, str]]:
    """Every name that is no folder: (name below the top, descriptor of its folder, its last part)."""
    seen = 0
    waiting = [("", 0)]
    while waiting:
        path, depth = waiting.pop()
        try:
            folder = _enter(top, path)
        except OSError as error:
            collected.skip(path, f"the folder cannot be read: {error.strerror}")
            continue
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
            inner = []
            for entry in found:
                seen += 1
                if seen > ENTRIES_MAX:
                    collected.over = collected.over or f"more than {ENTRIES_MAX:,} names in run-result"
                    return
                name = f"{path}/{entry.name}" if path else entry.name
                if not entry.is_dir(follow_symlinks=False):
                    yield name, folder, entry.name
                elif depth == DEPTH_MAX:
                    collected.skip(name, f"more than {DEPTH_MAX} folders deep")
                else:
                    inner.append((name, depth + 1))
            waiting += reversed(inner)
        finally:
            os.close(folder)


def _enter(top: int, path: str) -> int:
    """Open a folder below `top` step by step, so that no part of the way is a link."""
    here = os.dup(top)
    for part in path.split("/") if path else ():
        try:
            deeper = os.open(part, _FOLDER, dir_fd=here)
        except PermissionError:
            os.chmod(part, 0o700, dir_fd=here)  # the task closed its own folder
            deeper = os.open(part, _FOLDER, dir_fd=here)
        finally:
            os.close(here)
        here = deeper
    return here


def _take(
    name: str, folder: int, leaf: str, archive: ArchiveWriter, limits: Limits, collected: Collected
) -> None:
    status = os.stat(leaf, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        collected.skip(name, f"it is {_kind(status.st_mode)}, not a regular file")
        return
    if name.startswith(RESERVED_PREFIX):
        collected.skip(name, "the name is reserved for the agent's own record")
        return
    if reason := archive.refusal(name):
        collected.skip(name, reason)
        return
    if reason := _over(status.st_size, limits, collected):
        collected.over = collected.over or reason
        collected.skip(name, reason)
        return
    try:
        descriptor = _open_file(folder, leaf)
    except OSError as error:
        collected.skip(name, f"it cannot be read: {error.strerror}")
        return
    try:
        executable = bool(status.st_mode & stat.S_IXUSR)
        collected.outputs.append(
            archive.add_file(name, descriptor, limit=status.st_size, executable=executable)
        )
        collected.total += status.st_size
    except InputError as error:
        collected.skip(name, error.why or error.what)
    finally:
        os.close(descriptor)


def _over(size: int, limits: Limits, collected: Collected) -> str | None:
    if len(collected.outputs) >= limits.output_files:
        return f"over the limit of {limits.output_files:,} files"
    if collected.total + size > limits.output_bytes:
        return f"over the limit of {limits.output_bytes:,} bytes for all files"
    return None


def _open_file(folder: int, leaf: str) -> int:
    try:
        return os.open(leaf, _FILE, dir_fd=folder)
    except PermissionError:
        os.chmod(leaf, 0o600, dir_fd=folder)  # written without permission to read it
        return os.open(leaf, _FILE, dir_fd=folder)


def _kind(mode: int) -> str:
    for test, kind in (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    ):
        if test(mode):
            return kind
    return "something else"


def _printable(name: str) -> str:
    """What can stand in a message, whatever bytes a task chose."""
    text = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
