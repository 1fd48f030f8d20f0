"""A folder of blobs: bounded in bytes, least recently used first to go, what a job needs pinned.

What is said to be `passing` lies in memory as long as there is room, and becomes a file when somebody wants one.

A blob appears whole or not at all, by a rename. That does not survive a power cut unless `sync` waited for the disk:
what is found after another boot is proven again at its first use. Pins live in memory: after a restart they are set
again before anything is written.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from discogrid.blobs.digests import READ_BYTES, digest_of, is_digest, short, tagged
from discogrid.blobs.disk import sync_files, sync_folder
from discogrid.blobs.incoming import Incoming, PartFile, abandoned
from discogrid.blobs.passing import PASSING_BYTES_MAX, Gathered, Passing
from discogrid.errors import BlobError, IntegrityError
from discogrid.pieces import Pieces
from discogrid.types import GIB, MIB, Digest

CAPACITY_BYTES = 64 * GIB
FREE_FLOOR_BYTES = 256 * MIB  # what the store leaves of the disk
INCOMING = "incoming"  # the sub-folder of blobs that are not whole yet
BOOT = "boot"  # the file that names the boot in which the store was last opened


class BlobStore:
    """A folder of blobs of one process; its methods may be called from several threads."""

    def __init__(
        self,
        folder: Path,
        capacity_bytes: int = CAPACITY_BYTES,
        *,
        free_floor_bytes: int = FREE_FLOOR_BYTES,
        passing_bytes: int = PASSING_BYTES_MAX,
    ) -> None:
        """Open or make the folder (only its user may enter) and sweep what a crash left half-written.

        At most `passing_bytes` lie in memory.
        """
        self.folder = folder
        self._root = os.fspath(folder)
        self.capacity_bytes = capacity_bytes
        self._free_floor_bytes = free_floor_bytes
        self._lock = threading.RLock()
        self._reserved = 0  # bytes promised to blobs that are coming in
        self._pins: dict[Digest, str | set[str]] = {}  # of a million blobs, nearly each has one owner
        self._owned: dict[str, list[Digest]] = {}
        self._synced: set[Digest] = set()  # known to be on the disk
        self._passing = Passing(passing_bytes)
        (folder / INCOMING).mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for left in (folder / INCOMING).iterdir():
            if abandoned(left):
                left.unlink(missing_ok=True)
        self._sizes = _scan(folder)  # oldest use first
        self._used = sum(self._sizes.values())
        self._unproven = set() if _same_boot(folder / BOOT) else set(self._sizes)

    @property
    def used_bytes(self) -> int:
        """Bytes of all blobs that are here as files."""
        return self._used

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here."""
        return self.size(digest) is not None

    def size(self, digest: Digest) -> int | None:
        """The blob's size in bytes, None when it is not here."""
        if (pieces := self._passing.get(digest)) is not None:
            return pieces.size
        self._prove(digest)
        try:
            size = os.stat(self._place(digest)).st_size
        except (FileNotFoundError, BlobError):
            self._forget(digest)
            return None
        self._note(digest, size)
        return size

    def path(self, digest: Digest) -> Path:
        """Where the blob lies, to be read only; BlobError when it is not here. Counts as a use."""
        self._to_disk(digest)
        self._prove(digest)
        path = Path(self._place(digest))
        try:
            os.utime(path)
        except FileNotFoundError:
            raise self._missing(digest) from None
        size = path.stat().st_size
        with self._lock:
            self._used += size - self._sizes.pop(digest, 0)
            self._sizes[digest] = size  # at the end: the last to be evicted
        return path

    def use(self, digest: Digest) -> None:
        """It is used: among the files that need not stay it will be one of the last to go. BlobError when it is not here."""
        if self._passing.get(digest) is None:
            self.path(digest)

    def source(self, digest: Digest) -> Path | Pieces:
        """The blob where it lies: its file, to be read only, or its bytes. BlobError when it is not here."""
        return self._passing.get(digest) or self.path(digest)

    def read(self, digest: Digest, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on; BlobError when the blob is not here."""
        if (pieces := self._passing.get(digest)) is not None:
            return pieces.read(offset, length)
        try:
            with open(self._place(digest), "rb", buffering=0) as file:
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError:
            raise self._missing(digest) from None

    def verify(self, digest: Digest) -> Path:
        """Where the blob lies, its content proven again; a damaged one is removed and IntegrityError raised."""
        self._to_disk(digest)
        path = Path(self._place(digest))
        try:
            sound = digest_of(path) == digest
        except FileNotFoundError:
            raise self._missing(digest) from None
        self._unproven.discard(digest)
        if not sound:
            path.unlink(missing_ok=True)
            self._forget(digest)
            raise IntegrityError(
                f"the blob {short(digest)} was damaged on disk and has been removed",
                why="The disk, or somebody who may write to it, changed the file.",
                fix="It is fetched again when it is needed.",
            )
        return self.path(digest)

    def put_bytes(self, content: bytes, digest: Digest | None = None, *, passing: bool = False) -> Digest:
        """Keep bytes; BlobError when they are not what `digest` says or do not fit."""
        found = digest_of(content)
        if digest is not None and digest != found:
            raise BlobError(f"the bytes of {short(digest)} are others than promised")
        self.keep(content, found, passing=passing)
        return found

    def keep(self, content: bytes, digest: Digest, *, passing: bool = False) -> None:
        """Keep bytes whose digest this process has made and is believed; BlobError when they do not fit."""
        if not self.has(digest):
            with self.begin(digest, len(content), believed=True, passing=passing) as incoming:
                incoming.append(content)
                incoming.finish()

    def put_file(self, path: Path, digest: Digest | None = None, *, move: bool = False) -> Digest:
        """Keep a copy of a file, or the file itself (`move`), whose `digest`, if given, is then believed: it is our own.

        BlobError when a copy is not what `digest` says, or when it does not fit.
        """
        if move:
            return self._take(path, digest or digest_of(path))
        expected = digest or digest_of(path)
        if self.has(expected):
            return expected
        with (
            open(path, "rb", buffering=0) as source,
            self.begin(expected, os.fstat(source.fileno()).st_size) as incoming,
        ):
            while chunk := source.read(READ_BYTES):
                incoming.append(chunk)
            incoming.finish()
        return expected

    def begin(self, digest: Digest, size: int, *, believed: bool = False, passing: bool = False) -> Incoming:
        """Receive a blob piece by piece; BlobError when `size` bytes do not fit beside what is pinned.

        `believed`: it comes from this very process, which has made its digest. `passing`: it is needed once, and soon.
        """
        place = Path(self._place(digest))
        if size < 0:
            raise BlobError(f"a blob of {size} bytes cannot be")
        self._reserve(size)
        try:
            if passing and self._reserve_memory(size):
                gathered = Gathered()
                settled = partial(self._settled, digest, size, gathered)
                self._release(size)  # there is room on the disk, should it have to become a file
                return Incoming(gathered, digest, size, settled, believed=believed)
            bed = PartFile(self.folder / INCOMING, place)
            return Incoming(bed, digest, size, partial(self._ended, digest, size), believed=believed)
        except BaseException:
            self._release(size)
            raise

    def pin(self, digest: Digest, owner: str) -> None:
        """Keep the blob, here already or not, until `owner` lets go of it."""
        with self._lock:
            match self._pins.get(digest):
                case None:
                    self._pins[digest] = owner
                case set() as owners if owner not in owners:
                    owners.add(owner)
                case str() as other if owner != other:
                    self._pins[digest] = {other, owner}
                case _:
                    return  # it has done so before
            self._owned.setdefault(owner, []).append(digest)

    def unpin(self, owner: str, *, remove: bool = False) -> None:
        """The owner needs none of its blobs any more.

        `remove` deletes at once those that nobody else pins; of those that lie in memory none stays.
        """
        with self._lock:
            for digest in self._owned.pop(owner, ()):
                owners = self._pins[digest]
                if isinstance(owners, set):
                    owners.discard(owner)
                    if owners:
                        continue
                del self._pins[digest]
                if remove:
                    self.remove(digest)
                else:
                    self._passing.drop(digest)

    def pinned_by(self, digest: Digest) -> frozenset[str]:
        """Who needs the blob."""
        with self._lock:
            owners = self._pins.get(digest, ())
            return frozenset((owners,) if isinstance(owners, str) else owners)

    def pinned(self, digest: Digest) -> bool:
        """Whether anybody needs the blob."""
        return digest in self._pins

    def remove(self, digest: Digest) -> bool:
        """Delete a blob; False when it is pinned, and stays."""
        with self._lock:
            if digest in self._pins:
                return False
            self._passing.drop(digest)
            Path(self._place(digest)).unlink(missing_ok=True)
            self._forget(digest)
            return True

    def sync(self, digests: Iterable[Digest]) -> None:
        """Wait until the disk has these blobs, each once; BlobError when one is not here, OSError of the disk."""
        digests = list(digests)
        for digest in digests:
            self._to_disk(digest)
        with self._lock:
            wanted = {digest: Path(self._place(digest)) for digest in digests if digest not in self._synced}
        if not wanted:
            return
        try:
            sync_files(wanted.values())
            sync_folder(self.folder)
        except FileNotFoundError:
            lost = next((digest for digest, path in wanted.items() if not path.exists()), None)
            if lost is None:
                raise
            raise self._missing(lost) from None
        with self._lock:
            self._synced |= wanted.keys() & self._sizes.keys()

    # -- bookkeeping

    def _prove(self, digest: Digest) -> None:
        """Once after another boot: what was not synced then may be empty now, and is gone if so."""
        if digest in self._unproven:
            with contextlib.suppress(IntegrityError, BlobError):
                self.verify(digest)

    def _place(self, digest: Digest) -> str:
        """Two levels, so that no folder grows long. A string: a job of 100,000 inputs asks as often."""
        if not is_digest(digest):
            raise BlobError(f"{digest!r:.80} is no digest")
        name = digest.removeprefix("blake3:")
        return f"{self._root}/{name[:2]}/{name[2:]}"

    def _take(self, path: Path, digest: Digest) -> Digest:
        if self.has(digest):
            path.unlink()
            return digest
        place = Path(self._place(digest))
        size = path.stat().st_size
        self._reserve(size)
        try:
            path.chmod(0o600)
            place.parent.mkdir(mode=0o700, exist_ok=True)
            path.replace(place)
        except BaseException:
            self._release(size)
            raise
        self._ended(digest, size, True)
        return digest

    def _to_disk(self, digest: Digest) -> None:
        """What lies in memory becomes a file; BlobError when there is no room for it."""
        if self._passing.get(digest) is None:
            return
        with self._lock:
            if (pieces := self._passing.get(digest)) is None:
                return
            if digest in self._sizes:  # it came as a file meanwhile, which may be on the disk already
                self._passing.drop(digest)
                return
            with self.begin(digest, pieces.size, believed=True) as incoming:
                for piece in pieces.pieces():
                    incoming.append(piece)
                incoming.finish()
            self._passing.drop(digest)

    def _reserve_memory(self, size: int) -> bool:
        """Whether there is room in memory; what nobody needs there makes some, oldest first, and becomes files."""
        with self._lock:
            if self._passing.reserve(size):
                return True
            if size > self._passing.bytes_max:
                return False
            for digest in self._passing:
                if digest not in self._pins:
                    self._to_disk(digest)
                    if self._passing.reserve(size):
                        return True
            return False

    def _settled(self, digest: Digest, size: int, gathered: Gathered, arrived: bool) -> None:
        """What was reserved in memory is the blob's own, or free again."""
        with self._lock:
            if arrived:
                self._passing.add(digest, gathered.pieces)
            else:
                self._passing.release(size)

    def _reserve(self, size: int) -> None:
        with self._lock:
            over = self._used + self._reserved + size - self.capacity_bytes
            free = shutil.disk_usage(self.folder).free - self._reserved - size
            self._evict(max(over, self._free_floor_bytes - free))
            self._reserved += size

    def _evict(self, needed: int) -> None:
        """Delete unpinned blobs, longest unused first, until `needed` bytes are free; BlobError when there are too few."""
        if needed <= 0:
            return
        victims: list[Digest] = []
        for digest, size in self._sizes.items():
            if digest not in self._pins:
                victims.append(digest)
                needed -= size
                if needed <= 0:
                    break
        if needed > 0:
            raise BlobError(
                f"there is no room for another blob in {self.folder}",
                why=f"{needed} bytes are lacking, and what is there is needed by jobs that have not ended.",
                fix="Free some of the disk, raise the store's capacity, or wait until a job has ended.",
            )
        for digest in victims:
            self.remove(digest)

    def _ended(self, digest: Digest, size: int, arrived: bool) -> None:
        """What was reserved for an incoming blob is now its own, or free again."""
        self._release(size)
        if arrived:
            self._synced.discard(digest)  # of this file nobody knows
            self._note(digest, size)

    def _release(self, size: int) -> None:
        with self._lock:
            self._reserved -= size

    def _note(self, digest: Digest, size: int) -> None:
        with self._lock:
            if digest not in self._sizes:
                self._sizes[digest] = size
                self._used += size

    def _forget(self, digest: Digest) -> None:
        with self._lock:
            self._used -= self._sizes.pop(digest, 0)
            self._synced.discard(digest)

    def _missing(self, digest: Digest) -> BlobError:
        self._forget(digest)
        return BlobError(f"the blob {short(digest)} is not here")


def _scan(folder: Path) -> dict[Digest, int]:
    """Sizes of the blobs in a store's folder, longest unused first."""
    found: list[tuple[float, Digest, int]] = []
    for above in os.scandir(folder):
        if len(above.name) != 2 or not above.is_dir(follow_symlinks=False):
            continue
        for entry in os.scandir(above):
            digest = tagged(above.name + entry.name)
            if is_digest(digest) and entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_mtime, digest, status.st_size))
    return {digest: size for _, digest, size in sorted(found)}


def _same_boot(note: Path) -> bool:
    """Whether the machine has been up since the store was last opened; from now on this boot is noted."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        if note.exists() and note.read_text() == boot:
            return True
        note.write_text(boot)
    except OSError:
        pass  # a platform that does not tell: everything is proven again
    return False
