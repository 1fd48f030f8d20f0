"""The blob store: whole or not at all, pinned stays, the oldest goes, damage is found."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from discogrid.blobs import BlobStore, digest_of, disk, is_digest
from discogrid.blobs.passing import PASSING_BYTES_MIN
from discogrid.errors import BlobError, InputError, IntegrityError
from discogrid.pieces import Pieces
from discogrid.types import MIB, Digest

EMPTY = Digest("blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262")


class Usage(NamedTuple):
    free: int


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", capacity_bytes=1000, free_floor_bytes=0)


def parts_in(store: BlobStore) -> list[Path]:
    return list((store.folder / "incoming").iterdir())


def test_the_digest_of_bytes_path_and_descriptor_is_one(tmp_path: Path) -> None:
    content = os.urandom(3 * MIB + 17)
    path = tmp_path / "x"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, 5, os.SEEK_SET)
    assert digest_of(content) == digest_of(path) == digest_of(descriptor)
    os.close(descriptor)
    assert digest_of(b"") == EMPTY


def test_a_fifo_has_no_digest_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        digest_of(tmp_path / "pipe")


def test_a_blob_is_kept_and_read_back(store: BlobStore) -> None:
    digest = store.put_bytes(b"hello")
    assert store.has(digest)
    assert store.size(digest) == 5
    assert store.path(digest).read_bytes() == b"hello"
    assert store.read(digest, 1, 3) == b"ell"
    assert store.read(digest, 9, 3) == b""
    assert store.used_bytes == 5
    assert store.put_bytes(b"hello") == digest
    assert store.used_bytes == 5


def test_only_its_user_may_enter_the_store_or_read_a_blob(store: BlobStore) -> None:
    path = store.path(store.put_bytes(b"secret"))
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_bytes_of_our_own_are_kept_by_the_digest_that_was_made_for_them(store: BlobStore) -> None:
    content = b"own"
    for _ in range(2):
        store.keep(content, digest_of(content))
    assert store.verify(digest_of(content)).read_bytes() == content
    assert store.used_bytes == len(content)


def test_bytes_that_are_not_what_the_digest_says_are_refused(store: BlobStore) -> None:
    with pytest.raises(BlobError, match="others than promised"):
        store.put_bytes(b"evil", digest_of(b"good"))
    assert not store.has(digest_of(b"evil"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "blake3:",
        "blake3:../../etc/passwd",
        "blake3:" + "A" * 64,
        "blake3:" + "a" * 64 + "\n",
        "a" * 64,
        "sha256:" + "a" * 64,
        "blake3:" + "a" * 63,
        "blake3:" + "a" * 62 + "/.",
    ],
)
def test_what_is_no_digest_never_becomes_a_path(store: BlobStore, text: str) -> None:
    digest = Digest(text)
    assert not is_digest(text)
    assert not store.has(digest)
    for act in (
        store.path,
        store.verify,
        store.remove,
        lambda it: store.begin(it, 1),
        lambda it: store.sync([it]),
    ):
        with pytest.raises(BlobError, match="no digest"):
            act(digest)


def test_a_blob_that_is_not_here_is_named(store: BlobStore) -> None:
    missing = digest_of(b"missing")
    for act in (store.path, store.verify, lambda it: store.read(it, 0, 1), lambda it: store.sync([it])):
        with pytest.raises(BlobError, match="is not here"):
            act(missing)
    assert store.remove(missing)


def test_a_file_is_copied_and_stays(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"abc")
    digest = store.put_file(source)
    assert source.exists()
    assert store.path(digest).read_bytes() == b"abc"
    assert store.path(digest).stat().st_ino != source.stat().st_ino
    assert store.put_file(source, digest) == digest


def test_a_file_is_moved_and_becomes_private(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"abc")
    source.chmod(0o644)
    inode = source.stat().st_ino
    digest = store.put_file(source, move=True)
    assert not source.exists()
    assert store.path(digest).stat().st_ino == inode
    assert store.path(digest).stat().st_mode & 0o777 == 0o600
    source.write_bytes(b"abc")
    assert store.put_file(source, digest, move=True) == digest
    assert not source.exists()
    assert store.used_bytes == 3


def test_a_copy_that_is_not_what_its_digest_says_is_refused(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"other")
    with pytest.raises(BlobError, match="not what its digest says"):
        store.put_file(source, digest_of(b"abcde"))
    assert parts_in(store) == []


def test_a_blob_arrives_in_pieces_and_is_not_there_before_its_end(store: BlobStore) -> None:
    digest = digest_of(b"abcdef")
    with store.begin(digest, 6) as incoming:
        incoming.append(b"abc")
        assert incoming.received == 3
        assert not store.has(digest)
        incoming.append(b"def")
        assert not store.has(digest)
        incoming.finish()
    assert store.has(digest)
    assert store.path(digest).read_bytes() == b"abcdef"
    assert parts_in(store) == []


def test_a_blob_of_less_than_nothing_is_refused(store: BlobStore) -> None:
    with pytest.raises(BlobError, match="cannot be"):
        store.begin(EMPTY, -1)


def test_an_empty_blob_arrives(store: BlobStore) -> None:
    with store.begin(EMPTY, 0) as incoming:
        incoming.finish()
    assert store.size(EMPTY) == 0
    assert store.path(EMPTY).read_bytes() == b""
    assert store.used_bytes == 0


@pytest.mark.parametrize("sent", [b"abcdeX", b"abcde", b""])
def test_damaged_or_short_blobs_are_discarded(store: BlobStore, sent: bytes) -> None:
    digest = digest_of(b"abcdef")
    incoming = store.begin(digest, 6)
    incoming.append(sent)
    with pytest.raises(BlobError, match="not what its digest says"):
        incoming.finish()
    assert not store.has(digest)
    assert parts_in(store) == []
    store.begin(digest_of(b"x" * 1000), 1000).discard()  # nothing is reserved any more


def test_a_blob_longer_than_promised_is_cut_off_at_once(store: BlobStore) -> None:
    incoming = store.begin(digest_of(b"abc"), 3)
    incoming.append(b"ab")
    with pytest.raises(BlobError, match="larger than its 3 bytes"):
        incoming.append(b"cd")
    assert parts_in(store) == []


def test_a_blob_given_up_leaves_nothing(store: BlobStore) -> None:
    with store.begin(digest_of(b"abc"), 3) as incoming:
        incoming.append(b"ab")
    assert parts_in(store) == []
    assert store.used_bytes == 0


def test_the_longest_unused_goes_first(store: BlobStore) -> None:
    first, second, third = (store.put_bytes(bytes([number]) * 300) for number in range(3))
    store.path(first)
    fourth = store.put_bytes(b"4" * 300)
    assert [store.has(digest) for digest in (first, second, third, fourth)] == [True, False, True, True]
    assert store.used_bytes == 900


def test_the_order_of_use_survives_a_restart(store: BlobStore) -> None:
    first, second, third = (store.put_bytes(bytes([number]) * 300) for number in range(3))
    for age, digest in enumerate((first, second, third)):
        os.utime(store.path(digest), (1000 + age, 1000 + age))
    os.utime(store.path(first), (2000, 2000))
    os.utime(store.path(second), (1001, 1001))
    os.utime(store.path(third), (1002, 1002))
    again = BlobStore(store.folder, capacity_bytes=1000, free_floor_bytes=0)
    assert again.used_bytes == 900
    again.put_bytes(b"4" * 300)
    assert [again.has(digest) for digest in (first, second, third)] == [True, False, True]


def test_what_a_job_needs_is_never_evicted(store: BlobStore) -> None:
    needed = store.put_bytes(b"n" * 600)
    store.pin(needed, "job")
    with pytest.raises(BlobError, match="no room") as caught:
        store.put_bytes(b"x" * 500)
    assert "100 bytes are lacking" in str(caught.value)
    assert store.has(needed)
    store.unpin("job")
    store.put_bytes(b"x" * 500)
    assert not store.has(needed)


def test_nothing_is_evicted_for_a_blob_that_cannot_fit_anyway(store: BlobStore) -> None:
    free, needed = store.put_bytes(b"f" * 300), store.put_bytes(b"n" * 600)
    store.pin(needed, "job")
    with pytest.raises(BlobError, match="no room"):
        store.put_bytes(b"x" * 500)
    assert store.has(free)


def test_a_blob_two_jobs_need_stays_until_both_let_go(store: BlobStore) -> None:
    digest = store.put_bytes(b"shared")
    store.pin(digest, "one")
    store.pin(digest, "two")
    store.unpin("one", remove=True)
    assert store.has(digest)
    assert store.pinned(digest)
    assert not store.remove(digest)
    store.unpin("two", remove=True)
    assert not store.has(digest)
    assert not store.pinned(digest)
    store.unpin("nobody")


def test_a_pin_set_before_the_blob_arrives_holds_it(store: BlobStore) -> None:
    digest = digest_of(b"n" * 600)
    store.pin(digest, "job")
    store.put_bytes(b"n" * 600)
    with pytest.raises(BlobError, match="no room"):
        store.put_bytes(b"x" * 500)


def test_room_promised_to_incoming_blobs_is_not_given_twice(store: BlobStore) -> None:
    with store.begin(digest_of(b"a" * 600), 600), pytest.raises(BlobError, match="no room"):
        store.begin(digest_of(b"b" * 600), 600)
    store.begin(digest_of(b"b" * 600), 600).discard()


def test_the_disk_keeps_its_free_floor(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store.put_bytes(b"k" * 100)
    store._free_floor_bytes = 500
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(560))
    store.put_bytes(b"x" * 60)
    assert store.has(kept)
    store.put_bytes(b"y" * 61)
    assert not store.has(kept)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0))
    with pytest.raises(BlobError, match="no room"):
        store.put_bytes(b"z")


def test_a_full_disk_is_an_error_that_says_so(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = store.begin(digest_of(b"abc"), 3)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(BlobError, match="No space left"):
        incoming.append(b"abc")
    monkeypatch.undo()
    assert parts_in(store) == []


def test_leftovers_of_a_crash_are_swept_and_a_living_writer_is_not(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    alive = store.begin(digest_of(b"alive"), 5)
    alive.append(b"al")
    script = (
        "import os, sys; from pathlib import Path; from discogrid.blobs import BlobStore, digest_of\n"
        "it = BlobStore(Path(sys.argv[1])).begin(digest_of(b'dead'), 4); it.append(b'de'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, store.folder], check=False, timeout=60)
    assert len(parts_in(store)) == 2
    again = BlobStore(store.folder)
    assert len(parts_in(again)) == 1
    assert again.used_bytes == 0
    alive.append(b"ive")
    alive.finish()
    assert again.has(digest_of(b"alive"))


def test_a_blob_damaged_on_disk_is_found_and_removed(store: BlobStore) -> None:
    digest = store.put_bytes(b"precious")
    assert store.verify(digest) == store.path(digest)
    store.path(digest).write_bytes(b"Precious")
    store.pin(digest, "job")
    with pytest.raises(IntegrityError, match="damaged on disk"):
        store.verify(digest)
    assert not store.has(digest)
    assert store.used_bytes == 0


def test_after_another_boot_what_a_power_cut_emptied_is_not_there(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, emptied = store.put_bytes(b"sound"), store.put_bytes(b"emptied")
    store.path(emptied).write_bytes(b"")
    assert BlobStore(store.folder).has(emptied)  # the same boot: what a process wrote is there
    (store.folder / "boot").write_text("another")
    again = BlobStore(store.folder)
    assert not again.has(emptied)
    assert again.has(sound)
    with pytest.raises(BlobError, match="is not here"):
        again.path(emptied)


def test_a_blob_deleted_behind_the_store_is_noticed(store: BlobStore) -> None:
    digest = store.put_bytes(b"x" * 400)
    store.path(digest).unlink()
    assert not store.has(digest)
    assert store.used_bytes == 0


def test_syncing_many_blobs_reaches_each_file_and_folder_once(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [store.put_bytes(b"%d" % number) for number in range(5)]
    synced: list[str] = []
    real = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    store.sync(digests)
    paths = {str(store.path(digest)) for digest in digests}
    assert sorted(synced) == sorted(paths | {os.path.dirname(path) for path in paths} | {str(store.folder)})


def test_many_threads_keep_the_books_right(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs", capacity_bytes=20_000, free_floor_bytes=0)

    def work(seed: int) -> None:
        for number in range(100):
            store.put_bytes(b"%d %d" % (seed % 2, number) * 40)
            store.has(digest_of(b"%d %d" % (seed, number // 2) * 40))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    on_disk = [path for path in store.folder.glob("??/*") if path.is_file()]
    assert store.used_bytes == sum(path.stat().st_size for path in on_disk) <= 20_000
    assert store._reserved == 0


def test_a_strange_file_in_the_folder_is_left_alone(store: BlobStore) -> None:
    (store.folder / "ab").mkdir(exist_ok=True)
    (store.folder / "ab" / "notes.txt").write_text("mine")
    (store.folder / "README").write_text("mine")
    again = BlobStore(store.folder)
    assert again.used_bytes == 0
    assert (store.folder / "README").exists()


def test_what_is_on_the_disk_is_not_synced_again_unless_it_went_and_came_back(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.put_bytes(b"content")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    path = str(store.path(digest))
    store.sync([digest])
    store.sync([digest, digest])
    assert synced.count(path) == 1
    store.remove(digest)
    store.put_bytes(b"content")
    store.sync([digest])
    assert synced.count(path) == 2


def test_a_blob_whose_sync_failed_is_synced_again(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.put_bytes(b"content")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", broken)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output"):
                store.sync([digest])
    store.sync([digest])


def test_very_many_blobs_are_synced_by_one_call_and_a_missing_one_is_named(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [store.put_bytes(b"%d" % number) for number in range(disk.SINGLY_MAX + 1)]
    folders: list[Path] = []
    real = disk._sync_disk_of

    def watched(folder: Path) -> None:
        real(folder)
        folders.append(folder)

    monkeypatch.setattr(disk, "_sync_disk_of", watched)
    store.sync(digests)
    assert len(folders) == 1
    more = [store.put_bytes(b"more %d" % number) for number in range(disk.SINGLY_MAX)]
    with pytest.raises(BlobError, match="is not here"):
        store.sync([*more, digest_of(b"missing")])
    assert len(folders) == 1


def test_a_disk_that_cannot_be_synced_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk._sync_disk_of(tmp_path / "nowhere")


# What passes.

ROOM = PASSING_BYTES_MIN  # of the least blob


@pytest.fixture
def hall(tmp_path: Path) -> BlobStore:
    return BlobStore(
        tmp_path / "blobs", capacity_bytes=1000 * ROOM, free_floor_bytes=0, passing_bytes=100 * ROOM
    )


def lies_in_memory(store: BlobStore, digest: Digest) -> bool:
    """Whether it does and there is no file of it."""
    lies = isinstance(store.source(digest), Pieces)
    assert lies != (store.folder / digest[7:9] / digest[9:]).exists()
    return lies


def pass_by(store: BlobStore, content: bytes) -> Digest:
    digest = digest_of(content)
    with store.begin(digest, len(content), passing=True) as incoming:
        for at in range(0, len(content), 7 * ROOM + 5):
            incoming.append(content[at : at + 7 * ROOM + 5])
        assert not store.has(digest)
        incoming.finish()
    return digest


def test_what_passes_lies_in_memory_and_is_a_blob_like_any_other(hall: BlobStore) -> None:
    digest = pass_by(hall, b"only passing")
    assert lies_in_memory(hall, digest)
    assert parts_in(hall) == []
    assert (hall.size(digest), hall.used_bytes) == (12, 0)
    assert hall.read(digest, 5, 4) == b"pass"
    assert hall.read(digest, 5, 40) == b"passing"
    hall.use(digest)
    assert lies_in_memory(hall, digest)
    own = hall.put_bytes(b"of our own", passing=True)
    assert lies_in_memory(hall, own)
    hall.pin(own, "somebody")
    assert not hall.remove(own)
    hall.unpin("somebody", remove=True)
    assert hall.remove(digest)
    assert not hall.has(digest)
    assert not hall.has(own)
    with pytest.raises(BlobError, match="not here"):
        hall.use(digest)


def test_what_passes_becomes_a_file_when_somebody_wants_one(hall: BlobStore) -> None:
    wanted, synced = pass_by(hall, b"a" * 40 * ROOM), pass_by(hall, b"b" * 40 * ROOM)
    assert hall.path(wanted).read_bytes() == b"a" * 40 * ROOM
    hall.sync([synced])
    assert not lies_in_memory(hall, wanted)
    assert not lies_in_memory(hall, synced)
    assert hall.used_bytes == 80 * ROOM
    assert lies_in_memory(hall, pass_by(hall, b"c" * 100 * ROOM))  # they have left all of their room
    assert hall.verify(digest_of(b"c" * 100 * ROOM)).exists()


def test_damaged_passing_blobs_are_discarded_and_leave_their_room(hall: BlobStore) -> None:
    for sent in (b"x" * 100 * ROOM, b"x"):
        incoming = hall.begin(digest_of(b"y" * 100 * ROOM), 100 * ROOM, passing=True)
        incoming.append(sent)
        with pytest.raises(BlobError, match="not what its digest says"):
            incoming.finish()
    with pytest.raises(BlobError, match="larger than"):
        hall.begin(digest_of(b"y"), 1, passing=True).append(b"yy")
    assert lies_in_memory(hall, pass_by(hall, b"y" * 100 * ROOM))


def test_where_there_is_no_room_for_what_passes_it_is_a_file(hall: BlobStore) -> None:
    needed = pass_by(hall, b"a" * 40 * ROOM)
    hall.pin(needed, "somebody")
    old, young = pass_by(hall, b"b" * 30 * ROOM), pass_by(hall, b"c" * 30 * ROOM)
    assert not lies_in_memory(hall, pass_by(hall, b"d" * 101 * ROOM))  # which no room would do for
    assert lies_in_memory(hall, old)
    assert lies_in_memory(hall, pass_by(hall, b"e" * 20 * ROOM))
    assert [lies_in_memory(hall, one) for one in (needed, old, young)] == [True, False, True]
    assert not lies_in_memory(hall, pass_by(hall, b"f" * 80 * ROOM))
    assert [lies_in_memory(hall, one) for one in (needed, old, young)] == [True, False, False]
    assert hall.path(needed).read_bytes() == b"a" * 40 * ROOM


def test_what_passes_is_refused_where_the_disk_has_no_room_for_it_either(hall: BlobStore) -> None:
    full = hall.put_bytes(b"a" * 990 * ROOM)
    hall.pin(full, "somebody")
    with pytest.raises(BlobError, match="no room"):
        hall.begin(digest_of(b"b"), 20 * ROOM, passing=True)
    assert lies_in_memory(hall, pass_by(hall, b"c" * 10 * ROOM))


def test_what_passes_and_is_let_go_of_is_gone(hall: BlobStore) -> None:
    digest = pass_by(hall, b"a" * 90 * ROOM)
    hall.pin(digest, "one")
    hall.pin(digest, "another")
    hall.unpin("one")
    assert lies_in_memory(hall, digest)
    hall.unpin("another")
    assert not hall.has(digest)
    assert lies_in_memory(hall, pass_by(hall, b"b" * 90 * ROOM))


def test_what_comes_twice_at_a_time_takes_room_once(hall: BlobStore) -> None:
    content = b"a" * 40 * ROOM
    first, second = (hall.begin(digest_of(content), len(content), passing=True) for _ in range(2))
    for incoming in (first, second):
        incoming.append(content)
        incoming.finish()
    assert lies_in_memory(hall, pass_by(hall, b"b" * 60 * ROOM))


def test_what_passes_does_not_take_the_place_of_the_same_blob_on_the_disk(hall: BlobStore) -> None:
    content = b"a" * 40 * ROOM
    incoming = hall.begin(digest_of(content), len(content), passing=True)
    incoming.append(content)
    synced = hall.put_bytes(content)
    hall.sync([synced])
    file = (hall.folder / synced[7:9] / synced[9:]).stat().st_ino
    incoming.finish()
    assert hall.path(synced).stat().st_ino == file
    assert lies_in_memory(hall, pass_by(hall, b"b" * 100 * ROOM))


def test_however_small_not_too_many_blobs_lie_in_memory(hall: BlobStore) -> None:
    passed = [pass_by(hall, bytes([number])) for number in range(101)]
    assert [lies_in_memory(hall, digest) for digest in passed] == [False] + [True] * 100
