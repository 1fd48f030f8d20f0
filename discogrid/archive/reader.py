"""Reads an archive that somebody else wrote: checked as a whole before the first byte is unpacked."""

import contextlib
import errno
import io
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from discogrid.archive.directory import hostile, read_directory
from discogrid.archive.limits import DEFAULT_LIMITS, ArchiveLimits
from discogrid.archive.names import NameBook
from discogrid.archive.records import DEFLATED, Member
from discogrid.errors import InputError, IntegrityError
from discogrid.types import MIB

CHUNK_BYTES = MIB  # unpacked at once
FREE_FLOOR_BYTES = 64 * MIB  # what unpacking leaves of a disk

_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)


def open_archive(source: Path | int, limits: ArchiveLimits = DEFAULT_LIMITS) -> "Archive":
    """Open and check an archive by path or descriptor (which stays open and is not to be used meanwhile).

    HostileArchive unless every record in it is sound; InputError when it cannot be read.
    """
    try:
        if isinstance(source, int):
            file = io.FileIO(source, "r", closefd=False)
        else:
            file = io.FileIO(os.open(source, os.O_RDONLY | _NONBLOCK | _CLOEXEC | _BINARY), "r")
    except OSError as error:
        raise InputError(f"The archive {source} cannot be opened", why=str(error)) from None
    try:
        return Archive(file, read_directory(file, limits))
    except BaseException:
        file.close()
        raise


class Archive:
    """A checked archive, open for reading; not to be shared between threads."""

    def __init__(self, file: io.FileIO, found: dict[str, tuple[Member, int]]) -> None:
        """Use `open_archive`."""
        self._file = file
        self._found = found

    def names(self) -> list[str]:
        """The names of the files, in the order they were added."""
        return [name for name in self._found if not name.endswith("/")]

    def members(self) -> list[Member]:
        """Files and folders, in the order they were added."""
        return [member for member, _ in self._found.values()]

    def __contains__(self, name: object) -> bool:
        """Whether a file of this name is there."""
        return name in self._found

    def size(self, name: str) -> int:
        """Bytes of a file, unpacked; KeyError when it is not there."""
        return self._found[name][0].size

    def read(self, name: str, limit: int) -> bytes:
        """A whole file of at most `limit` bytes; KeyError when it is not there, IntegrityError when it is too large or damaged."""
        if (size := self.size(name)) > limit:
            raise IntegrityError(f"{name!r} in the archive has {size} bytes; at most {limit} were expected")
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file piece by piece (at most CHUNK_BYTES each); IntegrityError at the end when its checksum differs."""
        member, offset = self._found[name]
        crc, left = 0, member.size
        for chunk in (
            self._inflated(member, offset) if member.method == DEFLATED else self._stored(member, offset)
        ):
            left -= len(chunk)
            if left < 0:
                raise hostile(f"{name!r:.80} unpacks to more than the {member.size} bytes it declares")
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if left:
            raise hostile(f"{name!r:.80} unpacks to less than the {member.size} bytes it declares")
        if crc != member.crc:
            raise IntegrityError(f"{name!r} in the archive is damaged: its checksum differs")

    def unpack(
        self,
        folder: Path | int,
        *,
        rename: Callable[[str], str | None] | None = None,
        overwrite: bool = False,
    ) -> list[str]:
        """Unpack into an existing folder and tell the names written; each file appears complete or not at all.

        `rename` gives a file another name below the folder, or None to leave it out. Nothing existing is overwritten
        unless asked (InputError names it), no symlink below the folder is followed.
        """
        plan = self._plan(rename)
        root = _open_folder(folder) if isinstance(folder, Path) else os.dup(folder)
        try:
            self._check_room(folder)
            if not overwrite:
                _refuse_existing(root, [target for target, _ in plan])
            for target, source in plan:
                self._unpack_one(root, target, source, overwrite)
        finally:
            os.close(root)
        return [target for target, _ in plan if not target.endswith("/")]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """The archive itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _stored(self, member: Member, offset: int) -> Iterator[bytes]:
        left = member.packed
        while left:
            self._file.seek(offset)  # each time: the caller may read another member between two chunks
            chunk = self._file.read(min(left, CHUNK_BYTES))
            if not chunk:
                return
            offset += len(chunk)
            left -= len(chunk)
            yield chunk

    def _inflated(self, member: Member, offset: int) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for packed in self._stored(member, offset):
                pending = packed
                while pending:
                    # Bounded: a packed chunk of 1 MiB may hold 1 GiB, of which one piece is taken at a time.
                    if chunk := inflater.decompress(pending, CHUNK_BYTES):
                        yield chunk
                    pending = inflater.unconsumed_tail
                    if inflater.eof:
                        break
                if inflater.eof:
                    break
            while not inflater.eof and (chunk := inflater.decompress(b"", CHUNK_BYTES)):
                yield chunk
        except zlib.error as error:
            raise IntegrityError(f"{member.name!r} in the archive is damaged", why=str(error)) from None

    def _plan(self, rename: Callable[[str], str | None] | None) -> list[tuple[str, str]]:
        """What is written, as (target, member), each target as checked as the member's own name was."""
        plan: list[tuple[str, str]] = []
        book = NameBook()
        for name in self._found:
            target = rename(name) if rename else name
            if target is None:
                continue
            if rename:
                if reason := book.refusal(target):
                    raise InputError(f"{name!r} cannot be unpacked as {target!r}", why=reason)
                book.add(target)
            plan.append((target, name))
        return plan

    def _check_room(self, folder: Path | int) -> None:
        needed = sum(member.size for member, _ in self._found.values())
        free = shutil.disk_usage(folder).free
        if needed + FREE_FLOOR_BYTES > free:
            raise InputError(
                "There is not enough room to unpack the archive",
                why=f"it needs {needed} bytes and the disk has {free}",
                fix="Free some space or choose another folder.",
            )

    def _unpack_one(self, root: int, target: str, source: str, overwrite: bool) -> None:
        above, _, last = target.rpartition("/") if not target.endswith("/") else (target[:-1], "", "")
        folder = _make_folders(root, above)
        try:
            if last:
                self._write_file(folder, last, source, overwrite)
        finally:
            os.close(folder)

    def _write_file(self, folder: int, last: str, source: str, overwrite: bool) -> None:
        member, _ = self._found[source]
        part = f".{secrets.token_hex(8)}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC | _BINARY
        out = io.FileIO(os.open(part, flags, 0o777 if member.executable else 0o666, dir_fd=folder), "w")
        try:
            with out:
                for chunk in self.chunks(source):
                    _write(out, chunk)
            _place(folder, part, last, overwrite=overwrite)
        except BaseException:
            os.unlink(part, dir_fd=folder)
            raise


def _open_folder(folder: Path) -> int:
    try:
        return os.open(folder, os.O_RDONLY | _DIRECTORY | _CLOEXEC)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be used", why=str(error)) from None


def _refuse_existing(root: int, targets: list[str]) -> None:
    """Tell about the first file in the way before anything is written."""
    for target in targets:
        if target.endswith("/"):
            continue
        try:
            os.stat(target, dir_fd=root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            continue
        raise _exists(target)


def _exists(name: str) -> InputError:
    return InputError(
        f"{name!r} exists already and was not overwritten", fix="Choose another folder or use --force."
    )


def _make_folders(root: int, above: str) -> int:
    """A descriptor of the folder `above` below `root`, made where it lacks, with no symlink on the way."""
    folder = os.dup(root)
    for part in above.split("/") if above else ():
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o777, dir_fd=folder)
            deeper = os.open(part, os.O_RDONLY | _DIRECTORY | _NOFOLLOW | _CLOEXEC, dir_fd=folder)
        except OSError as error:
            raise InputError(f"The folder {above!r} cannot be made", why=str(error)) from None
        finally:
            os.close(folder)
        folder = deeper
    return folder


def _place(folder: int, part: str, last: str, *, overwrite: bool) -> None:
    """Give a finished file its name; a link refuses to replace what appeared meanwhile, a rename would not."""
    if overwrite:
        os.replace(part, last, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        os.link(part, last, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        raise _exists(last) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        os.rename(part, last, src_dir_fd=folder, dst_dir_fd=folder)  # a file system without hard links
        return
    os.unlink(part, dir_fd=folder)


def _write(file: io.FileIO, content: bytes) -> None:
    """All of it: a raw write may take a part."""
    with memoryview(content) as view:
        done = 0
        while done < len(view):
            done += file.write(view[done:])
