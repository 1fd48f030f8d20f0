"""Writes one archive: deterministic bytes, its digest, complete or not at all."""

import io
import os
import secrets
import stat
import zlib
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from blake3 import blake3

from discogrid.archive.limits import DEFAULT_LIMITS, RATIO_FREE_BYTES, RATIO_MAX, ArchiveLimits
from discogrid.archive.names import NameBook
from discogrid.archive.records import (
    DEFLATED,
    MAX32,
    STORED,
    Member,
    central_record,
    end_records,
    local_record,
)
from discogrid.errors import InputError
from discogrid.types import MIB, Digest, FileRef

CHUNK_BYTES = MIB  # read and compressed at once; what is smaller is written from memory
TINY_BYTES = 4096  # not worth compressing: it takes one disk block either way
DEFLATE_LEVEL = 1  # the network is faster than a higher level
WORTHWHILE = 0.9  # deflated is kept when it is this much smaller, or smaller still
WIDE_BYTES = MAX32 - MIB  # a file this large gets 64-bit sizes; deflate may add a little to it

STORED_SUFFIXES = frozenset(
    {
        ".7z",
        ".bz2",
        ".docx",
        ".gz",
        ".jar",
        ".lz4",
        ".npz",
        ".parquet",
        ".pdf",
        ".pptx",
        ".whl",
        ".xlsx",
        ".xz",
        ".zip",
    }
    | {
        ".3gp",
        ".avi",
        ".h264",
        ".h265",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogv",
        ".ts",
        ".webm",
    }
    | {".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wmv", ".zst"}
    | {".avif", ".gif", ".heic", ".jpeg", ".jpg", ".jxl", ".png", ".webp"}
)


class Sealed(NamedTuple):
    """A finished archive: its digest and its size in bytes."""

    digest: Digest
    size: int


class ArchiveWriter:
    """Writes an archive to `path`, which appears when `close` succeeds and never holds a part of one.

    Not to be shared between threads. As a context manager it closes at the end and discards on an exception.
    """

    def __init__(
        self,
        path: Path,
        *,
        limits: ArchiveLimits = DEFAULT_LIMITS,
        deflate: bool = True,
        durable: bool = False,
        memory_bytes: int = 0,
    ) -> None:
        """Begin an archive; `deflate=False` stores everything, `durable` waits at `close` until the disk has it.

        An archive of at most `memory_bytes` is not written at all: `content` holds it after `close`.
        """
        self._path = path
        self._part = path.with_name(f".{secrets.token_hex(8)}.part")
        self._limits = limits
        self._deflate = deflate
        self._durable = durable
        self._memory_bytes = memory_bytes
        self.content: bytes | None = None
        self._file: io.FileIO | None = (
            None  # opened when the buffer is full: most archives are written in one call
        )
        self._buffer = bytearray()
        self._written = 0  # bytes that left the buffer
        self._total = 0  # unpacked bytes
        self._names = NameBook()
        self._members: list[Member] = []
        self._sealed: Sealed | None = None

    def refusal(self, name: str) -> str | None:
        """Why a member of this name cannot be added, None when it can."""
        if len(self._members) >= self._limits.members:
            return f"the archive holds {self._limits.members} files already"
        return self._names.refusal(name)

    def add_bytes(self, name: str, content: bytes, *, executable: bool = False) -> FileRef:
        """Add a file from memory; InputError for a name or size that no reader would accept."""
        self._check(name, len(content))
        crc = zlib.crc32(content)
        method, packed = STORED, content
        if len(content) > TINY_BYTES and self._deflates(name):
            method, packed = _deflated(content)
        self._record(Member(name, len(content), len(packed), crc, method, executable, self._offset), packed)
        return FileRef(name, Digest(f"blake3:{blake3(content).hexdigest()}"), len(content))

    def add_folder(self, name: str) -> None:
        """Add an empty folder; `name` ends in `/`."""
        self._check(name, 0)
        self._record(Member(name, offset=self._offset), b"")

    def add_file(
        self, name: str, source: int | Path, *, limit: int | None = None, executable: bool = False
    ) -> FileRef:
        """Add a regular file from its start, by descriptor (kept open) or path (never through a symlink).

        InputError when it is no regular file, larger than `limit` bytes or changes meanwhile; the archive then goes
        on without it.
        """
        with _opened(name, source) as file:
            size = os.fstat(file.fileno()).st_size
            if limit is not None and size > limit:
                raise InputError(f"{name!r} has {size} bytes; at most {limit} are allowed")
            if size <= CHUNK_BYTES:
                content = file.read(size + 1)
                if len(content) != size:
                    raise _changed(name)
                return self.add_bytes(name, content, executable=executable)
            self._check(name, size)
            return self._stream(name, file, size, executable)

    def close(self) -> Sealed:
        """Write the directory, put the archive in its place and tell its digest; again: the same answer."""
        if self._sealed is None:
            self._finish()
        assert self._sealed is not None
        return self._sealed

    def discard(self) -> None:
        """Leave nothing behind, unless the archive is closed already."""
        if self._file is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)
        self._file = None
        self._buffer.clear()

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, or discard after an exception."""
        if kind is None:
            self.close()
        else:
            self.discard()

    @property
    def _offset(self) -> int:
        return self._written + len(self._buffer)

    def _deflates(self, name: str) -> bool:
        """Whether compressing is worth a try: media and archives are packed already."""
        return self._deflate and os.path.splitext(name)[1].lower() not in STORED_SUFFIXES

    def _check(self, name: str, size: int) -> None:
        if reason := self.refusal(name):
            raise InputError(f"{name!r} cannot stand in an archive", why=reason)
        if size > self._limits.member_bytes or self._total + size > self._limits.total_bytes:
            raise InputError(f"{name!r} of {size} bytes does not fit into the archive's limits")

    def _record(self, member: Member, packed: bytes) -> None:
        """A member whose bytes are all in memory."""
        self._buffer += local_record(member, wide=False)
        self._buffer += packed
        self._note(member)
        if len(self._buffer) > CHUNK_BYTES:
            self._flush()

    def _note(self, member: Member) -> None:
        self._names.add(member.name)
        self._members.append(member)
        self._total += member.size

    def _flush(self) -> io.FileIO:
        """Empty the buffer into the file."""
        if self._file is None:
            descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | _CLOEXEC | _BINARY, 0o600)
            self._file = io.FileIO(descriptor, "r+")
        _write(self._file, self._buffer)
        self._written += len(self._buffer)
        self._buffer.clear()
        return self._file

    def _stream(self, name: str, file: io.FileIO, size: int, executable: bool) -> FileRef:
        """A member that does not fit into memory: its header is written again when its sums are known."""
        out = self._flush()
        start, wide = self._written, size >= WIDE_BYTES
        method = _deflated(file.read(CHUNK_BYTES))[0] if self._deflates(name) else STORED
        body = start + len(local_record(Member(name, size), wide=wide))
        try:
            packed, crc, digest = _copy(name, file, out, size, method=method, at=body)
            if method == DEFLATED and not _worthwhile(size, packed):
                method = STORED
                packed, crc, digest = _copy(name, file, out, size, method=method, at=body)
            member = Member(name, size, packed, crc, method, executable, start)
            out.seek(start)
            _write(out, local_record(member, wide=wide))
        except BaseException:
            out.truncate(start)
            out.seek(start)
            raise
        self._written = body + packed
        out.seek(self._written)
        self._note(member)
        return FileRef(name, digest, size)

    def _finish(self) -> None:
        offset = self._offset
        directory = b"".join(map(central_record, self._members))
        self._buffer += directory
        self._buffer += end_records(len(self._members), len(directory), offset)
        size = self._offset
        if not self._written and size <= self._memory_bytes:
            self.content = bytes(self._buffer)
            self._sealed = Sealed(Digest(f"blake3:{blake3(self.content).hexdigest()}"), size)
            return
        try:
            if self._written:
                file = self._flush()
                digest = _digest(file)
            else:
                digest = Digest(f"blake3:{blake3(self._buffer).hexdigest()}")
                file = self._flush()
            if self._durable:
                os.fsync(file.fileno())
            file.close()
            self._part.replace(self._path)
            if self._durable:
                _sync_folder(self._path.parent)
        except BaseException:
            self.discard()
            raise
        self._file = None
        self._sealed = Sealed(digest, size)


_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)
# A FIFO without a writer must not hang the reader, hence O_NONBLOCK.
_READ_FLAGS = os.O_RDONLY | _CLOEXEC | _BINARY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def _opened(name: str, source: int | Path) -> io.FileIO:
    owned = not isinstance(source, int)
    try:
        descriptor = os.open(source, _READ_FLAGS) if isinstance(source, Path) else source
    except OSError as error:
        raise InputError(f"{name!r} cannot be read", why=str(error)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        if owned:
            os.close(descriptor)
        raise InputError(f"{name!r} is not a regular file")
    file = io.FileIO(descriptor, "r", closefd=owned)
    file.seek(0)
    return file


def _worthwhile(size: int, packed: int) -> bool:
    """Whether deflated bytes are worth keeping: clearly smaller, but nowhere near what looks like a bomb."""
    return packed <= size * WORTHWHILE and size <= max(packed * RATIO_MAX // 2, RATIO_FREE_BYTES)


def _deflated(content: bytes) -> tuple[int, bytes]:
    deflater = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflater.compress(content) + deflater.flush()
    return (DEFLATED, packed) if _worthwhile(len(content), len(packed)) else (STORED, content)


def _copy(
    name: str, source: io.FileIO, out: io.FileIO, size: int, *, method: int, at: int
) -> tuple[int, int, Digest]:
    """Bytes packed, crc and digest of the `size` bytes of `source`, written to `out` from `at` on."""
    source.seek(0)
    out.truncate(at)
    out.seek(at)
    deflater = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS) if method == DEFLATED else None
    hasher, crc, left, packed = blake3(), 0, size, 0
    while chunk := source.read(min(CHUNK_BYTES, left + 1)):
        left -= len(chunk)  # below zero, and the end of the loop, when the file has grown
        crc = zlib.crc32(chunk, crc)
        hasher.update(chunk)
        piece = deflater.compress(chunk) if deflater else chunk
        _write(out, piece)
        packed += len(piece)
    if left:
        raise _changed(name)
    if deflater:
        piece = deflater.flush()
        _write(out, piece)
        packed += len(piece)
    return packed, crc, Digest(f"blake3:{hasher.hexdigest()}")


def _changed(name: str) -> InputError:
    return InputError(
        f"{name!r} changed while it was read", fix="Try again when nothing writes to it any more."
    )


def _write(file: io.FileIO, content: bytes | bytearray) -> None:
    """All of it: a raw write may take a part."""
    with memoryview(content) as view:
        done = 0
        while done < len(view):
            done += file.write(view[done:])


def _digest(file: io.FileIO) -> Digest:
    hasher = blake3()
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        hasher.update(chunk)
    return Digest(f"blake3:{hasher.hexdigest()}")


def _sync_folder(folder: Path) -> None:
    """A rename is durable once its folder is; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
