"""Archives as users meet them: every file comes back, the bytes are always the same, nothing is half there."""

import errno
import os
import shutil
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discogrid.archive import ArchiveLimits, ArchiveWriter, NameBook, open_archive, reader, records, writer
from discogrid.blobs import digest_of
from discogrid.errors import InputError, IntegrityError
from discogrid.types import MIB

TEXT = b"".join(b"a line of text, number %d\n" % number for number in range(60_000))


class Usage(NamedTuple):
    free: int


def members_of(path: Path) -> dict[str, bytes]:
    with open_archive(path) as archive:
        return {name: archive.read(name, 1 << 30) for name in archive.names()}


def test_small_and_large_files_from_bytes_path_and_descriptor_come_back(tmp_path: Path) -> None:
    noise = os.urandom(3 * MIB + 1)
    (tmp_path / "noise").write_bytes(noise)
    (tmp_path / "text").write_bytes(TEXT)
    descriptor = os.open(tmp_path / "text", os.O_RDONLY)
    os.lseek(descriptor, 100, os.SEEK_SET)
    with ArchiveWriter(tmp_path / "a.zip") as out:
        assert out.add_bytes("empty", b"").size == 0
        assert out.add_bytes("ö/small.json", b"{}", executable=True).digest == digest_of(b"{}")
        reference = out.add_file("noise.bin", tmp_path / "noise")
        out.add_file("movie.mp4", tmp_path / "noise", limit=len(noise))
        out.add_file("text.txt", descriptor)
    sealed = out.close()
    os.close(descriptor)
    assert (reference.name, reference.digest, reference.size) == ("noise.bin", digest_of(noise), len(noise))
    assert sealed == (digest_of(tmp_path / "a.zip"), (tmp_path / "a.zip").stat().st_size)
    expected = {"empty": b"", "ö/small.json": b"{}", "noise.bin": noise, "movie.mp4": noise, "text.txt": TEXT}
    assert members_of(tmp_path / "a.zip") == expected
    with zipfile.ZipFile(tmp_path / "a.zip") as standard:
        assert standard.testzip() is None
        assert {name: standard.read(name) for name in standard.namelist()} == expected
    with open_archive(tmp_path / "a.zip") as archive:
        packed = {member.name: member for member in archive.members()}
        assert "empty" in archive
        assert "ö" not in archive
        assert archive.size("text.txt") == len(TEXT)
    assert packed["text.txt"].packed < len(TEXT) / 2
    assert packed["noise.bin"].method == packed["movie.mp4"].method == records.STORED
    assert packed["ö/small.json"].executable
    assert not packed["text.txt"].executable


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_reads_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(TEXT)
    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("ö.txt", b"x")
        out.add_file("text.txt", tmp_path / "text")
    subprocess.run(["unzip", "-t", tmp_path / "a.zip"], check=True, capture_output=True, timeout=60)


def test_an_archive_that_zipfile_made_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as standard:
        standard.writestr("a.txt", TEXT)
        standard.writestr("ü/b.txt", b"x", compress_type=zipfile.ZIP_STORED)
        standard.mkdir("folder")
        with standard.open("streamed.txt", "w", force_zip64=True) as member:
            member.write(b"some bytes")
    members = members_of(tmp_path / "a.zip")
    assert members == {"a.txt": TEXT, "ü/b.txt": b"x", "streamed.txt": b"some bytes"}


def test_a_long_run_is_unpacked_piece_by_piece(tmp_path: Path) -> None:
    """A few packed bytes hold megabytes: no piece is larger than a chunk, and none is lost at the end."""
    for tail in (0, 1, MIB, 3 * MIB + 5):
        content = os.urandom(20_000) + bytes(tail)
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as standard:
            standard.writestr("x", content)
        with open_archive(tmp_path / "a.zip") as archive:
            pieces = list(archive.chunks("x"))
        assert b"".join(pieces) == content
        assert max(map(len, pieces)) <= MIB


def test_what_the_inflater_still_holds_at_the_end_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as standard:
        standard.writestr("x", b"ab" * 11)  # its last packed byte holds eighteen more, and the end
    monkeypatch.setattr(reader, "CHUNK_BYTES", 1)
    assert members_of(tmp_path / "a.zip") == {"x": b"ab" * 11}


def test_an_archive_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("x", os.urandom(5000))
    with open_archive(tmp_path / "a.zip") as archive:
        os.truncate(tmp_path / "a.zip", 1000)
        with pytest.raises(IntegrityError, match="less than the 5000 bytes"):
            archive.read("x", 5000)


def test_the_same_content_is_the_same_bytes_at_any_time(tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        (tmp_path / "text").write_bytes(TEXT)
        os.utime(tmp_path / "text", (number * 10**9, number * 10**9))
        with ArchiveWriter(tmp_path / f"{number}.zip") as out:
            out.add_bytes("a", b"x" * 10_000)
            out.add_file("text", tmp_path / "text")
        digests.add(out.close())
    assert len(digests) == 1


def test_an_archive_is_not_there_before_it_is_complete(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(2 * MIB))
    (tmp_path / "out").mkdir()
    out = ArchiveWriter(tmp_path / "out" / "a.zip")
    out.add_file("noise", tmp_path / "noise")
    assert not (tmp_path / "out" / "a.zip").exists()
    out.close()
    assert os.listdir(tmp_path / "out") == ["a.zip"]


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(2 * MIB))
    (tmp_path / "out").mkdir()

    def write(fail: BaseException) -> None:
        with ArchiveWriter(tmp_path / "out" / "a.zip") as out:
            out.add_file("noise", tmp_path / "noise")
            raise fail

    with pytest.raises(KeyboardInterrupt):
        write(KeyboardInterrupt())
    assert os.listdir(tmp_path / "out") == []


def test_a_disk_that_is_full_at_the_end_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ArchiveWriter(tmp_path / "a.zip")
    out.add_bytes("a", b"x")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "_write", full)
    with pytest.raises(OSError, match="No space"):
        out.close()
    assert os.listdir(tmp_path) == []


def test_a_durable_archive_is_synced_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    ArchiveWriter(tmp_path / "a.zip").close()
    assert synced == []
    ArchiveWriter(tmp_path / "b.zip", durable=True).close()
    assert [Path(path).suffix for path in synced] == [".part", ""]


def test_a_name_no_reader_would_accept_is_refused_and_the_archive_goes_on(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("a.txt", b"x")
        for name in ("../x", "A.TXT", "a.txt/x", "", "nul", "x\n"):
            assert out.refusal(name) is not None
            with pytest.raises(InputError, match="cannot stand in an archive"):
                out.add_bytes(name, b"y")
        assert out.refusal("b.txt") is None
        out.add_bytes("b.txt", b"z")
    assert members_of(tmp_path / "a.zip") == {"a.txt": b"x", "b.txt": b"z"}


def test_what_exceeds_a_limit_is_refused_and_the_archive_goes_on(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(2 * MIB))
    limits = ArchiveLimits(members=2, member_bytes=2 * MIB, total_bytes=2 * MIB + 4)
    with ArchiveWriter(tmp_path / "a.zip", limits=limits) as out:
        with pytest.raises(InputError, match="at most 99 are allowed"):
            out.add_file("big", tmp_path / "big", limit=99)
        with pytest.raises(InputError, match="limits"):
            out.add_bytes("huge", bytes(2 * MIB + 1))
        out.add_file("big", tmp_path / "big", limit=2 * MIB)
        with pytest.raises(InputError, match="limits"):
            out.add_bytes("five", b"12345")
        out.add_bytes("four", b"1234")
        with pytest.raises(InputError, match="cannot stand") as caught:
            out.add_bytes("third", b"")
        assert "2 files already" in str(caught.value)
    assert set(members_of(tmp_path / "a.zip")) == {"big", "four"}


def test_special_files_are_refused_and_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "target").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "folder").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with ArchiveWriter(tmp_path / "a.zip") as out:
        for name in ("pipe", "link", "folder", "missing"):
            with pytest.raises(InputError):
                out.add_file("x", tmp_path / name)
    assert members_of(tmp_path / "a.zip") == {}
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [10, 3 * MIB])
@pytest.mark.parametrize("change", [-5, 5])
def test_a_file_that_changes_while_it_is_read_is_left_out(
    size: int, change: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size that was believed is another than the one that is found."""
    (tmp_path / "x").write_bytes(os.urandom(size))
    real = os.fstat

    def wrong(descriptor: int) -> os.stat_result:
        status = list(real(descriptor))
        status[6] += change
        return os.stat_result(status)

    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("before", b"1")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", wrong)
            with pytest.raises(InputError, match="changed while it was read"):
                out.add_file("x", tmp_path / "x")
        out.add_bytes("after", b"2")
        out.add_file("x", tmp_path / "x")
    assert members_of(tmp_path / "a.zip") == {
        "before": b"1",
        "after": b"2",
        "x": (tmp_path / "x").read_bytes(),
    }


def test_what_would_look_like_a_bomb_is_stored(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(5 * MIB))
    (tmp_path / "late zeros").write_bytes(TEXT[:MIB] + bytes(150 * MIB))
    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("small", bytes(100_000))
        out.add_file("large", tmp_path / "zeros")
        out.add_file("late", tmp_path / "late zeros")
        out.add_bytes("tiny", bytes(5000))
    with open_archive(tmp_path / "a.zip") as archive:
        methods = {member.name: member.method for member in archive.members()}
        assert archive.read("large", 5 * MIB) == bytes(5 * MIB)
        crc = 0
        for chunk in archive.chunks("late"):
            crc = zlib.crc32(chunk, crc)
    assert methods == {"small": 0, "large": 0, "late": 0, "tiny": 8}
    assert crc == zlib.crc32(bytes(150 * MIB), zlib.crc32(TEXT[:MIB]))


@pytest.fixture
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs 64 bits from 4 GiB on needs it from 1,000 bytes on; 65,535 members are 4."""
    for module in (records, writer):
        monkeypatch.setattr(module, "MAX32", 1000, raising=False)
    monkeypatch.setattr(records, "MAX16", 4)
    monkeypatch.setattr(writer, "WIDE_BYTES", 900)
    monkeypatch.setattr(writer, "CHUNK_BYTES", 100)


def wide_archive(folder: Path, numbers: int) -> Path:
    """Members on both sides of the limit, enough of them, and a directory behind it."""
    (folder / "large").write_bytes(os.urandom(1500))
    (folder / "medium").write_bytes(os.urandom(950))
    with ArchiveWriter(folder / "wide.zip") as out:
        out.add_file("medium", folder / "medium")
        out.add_file("large", folder / "large")
        for number in range(numbers):
            out.add_bytes(f"{number}", b"%d" % number)
    return folder / "wide.zip"


@pytest.mark.usefixtures("small_numbers")
def test_64_bit_records_are_written_where_a_number_needs_them(tmp_path: Path) -> None:
    raw = wide_archive(tmp_path, 5).read_bytes()
    assert b"PK\x06\x06" in raw
    assert b"PK\x06\x07" in raw


@pytest.mark.parametrize("numbers", [0, 1, 5])
def test_64_bit_records_are_read_with_small_numbers_as_with_large_ones(
    numbers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer is made to believe in small limits, but puts the sentinels that the standard demands."""
    monkeypatch.setattr(writer, "WIDE_BYTES", 900)
    monkeypatch.setattr(writer, "CHUNK_BYTES", 100)
    real_central, real_end = records.central_record, records.end_records

    def central(member: records.Member) -> bytes:
        plain = real_central(member)
        wide = struct.pack("<HH3Q", 1, 24, member.size, member.packed, member.offset)
        fields = list(records.CENTRAL.unpack_from(plain))
        fields[8] = fields[9] = fields[16] = 0xFFFFFFFF
        fields[11] = len(wide)
        return bytes(records.CENTRAL.pack(*fields)) + plain[records.CENTRAL.size :] + wide

    def end(count: int, directory_bytes: int, directory_offset: int) -> bytes:
        with monkeypatch.context() as patch:
            patch.setattr(records, "MAX16", 0)
            patch.setattr(records, "MAX32", 0)
            wide = real_end(count, directory_bytes, directory_offset)[: -records.END.size]
        narrow = records.END.pack(b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        return wide + narrow

    monkeypatch.setattr(writer, "central_record", central)
    monkeypatch.setattr(writer, "end_records", end)
    path = wide_archive(tmp_path, numbers)
    members = members_of(path)
    assert members["large"] == (tmp_path / "large").read_bytes()
    assert members["medium"] == (tmp_path / "medium").read_bytes()
    assert len(members) == numbers + 2
    with zipfile.ZipFile(path) as standard:
        assert standard.testzip() is None
        assert standard.read("large") == members["large"]


@pytest.mark.slow
def test_more_members_than_16_bits_count(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "a.zip") as out:
        for number in range(65_536):
            out.add_bytes(f"{number}", b"")
    with open_archive(tmp_path / "a.zip") as archive:
        assert len(archive.names()) == 65_536
    with zipfile.ZipFile(tmp_path / "a.zip") as standard:
        assert len(standard.namelist()) == 65_536


def test_unpacking_overwrites_nothing_and_writes_nothing_when_something_is_in_the_way(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("first", b"1")
        out.add_bytes("sub/second", b"2")
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "second").write_text("mine")
    with open_archive(tmp_path / "a.zip") as archive:
        with pytest.raises(InputError, match="second"):
            archive.unpack(folder)
        assert not (folder / "first").exists()
        assert archive.unpack(folder, overwrite=True) == ["first", "sub/second"]
    assert (folder / "sub" / "second").read_text() == "2"


def test_unpacking_flat_under_other_names(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("result.txt", b"1", executable=True)
        out.add_bytes("DiscoTask.json", b"{}")
        out.add_folder("empty/")
    folder = tmp_path / "out"
    folder.mkdir()
    names = {"result.txt": "result-000.txt"}
    descriptor = os.open(folder, os.O_RDONLY)
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.unpack(descriptor, rename=names.get) == ["result-000.txt"]
        assert os.listdir(folder) == ["result-000.txt"]
        assert (folder / "result-000.txt").stat().st_mode & 0o100
        with pytest.raises(InputError, match=r"\.\./x"):
            archive.unpack(folder, rename=lambda _: "../x")
        with pytest.raises(InputError, match="same"):
            archive.unpack(folder, rename=lambda _: "same")
    os.close(descriptor)
    assert os.listdir(folder) == ["result-000.txt"]


def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("x", b"1")
    folder = tmp_path / "out"
    folder.mkdir()
    real = os.link

    def late(*args: object, **named: object) -> None:
        (folder / "x").write_text("mine")
        real(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", late)
    with open_archive(tmp_path / "a.zip") as archive, pytest.raises(InputError, match="exists already"):
        archive.unpack(folder)
    assert (folder / "x").read_text() == "mine"
    assert os.listdir(folder) == ["x"]


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("x", b"1")

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "out").mkdir()
    with open_archive(tmp_path / "a.zip") as archive:
        archive.unpack(tmp_path / "out")
    assert (tmp_path / "out" / "x").read_text() == "1"


def test_a_disk_that_fails_while_a_file_is_placed_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("x", b"1")

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", broken)
    (tmp_path / "out").mkdir()
    with open_archive(tmp_path / "a.zip") as archive, pytest.raises(OSError, match="Input/output"):
        archive.unpack(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_a_disk_without_room_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ArchiveWriter(tmp_path / "a.zip") as out:
        out.add_bytes("x", b"1")
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10))
    with open_archive(tmp_path / "a.zip") as archive, pytest.raises(InputError, match="not enough room"):
        archive.unpack(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_unpacking_into_what_is_no_folder_is_an_error(tmp_path: Path) -> None:
    ArchiveWriter(tmp_path / "a.zip").close()
    with open_archive(tmp_path / "a.zip") as archive, pytest.raises(InputError, match="cannot be used"):
        archive.unpack(tmp_path / "missing")


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(files=st.dictionaries(names, st.binary(max_size=9000), max_size=12))
def test_whatever_is_accepted_comes_back(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    kept = {}
    with ArchiveWriter(folder / "a.zip") as out:
        for name, content in files.items():
            if out.refusal(name) is None and not name.endswith("/"):
                out.add_bytes(name, content)
                kept[name] = content
    (folder / "out").mkdir()
    with open_archive(folder / "a.zip") as archive:
        archive.unpack(folder / "out")
    assert members_of(folder / "a.zip") == kept
    assert {name: (folder / "out" / name).read_bytes() for name in kept} == kept


def test_a_book_of_names_takes_folders_of_the_same_name_twice() -> None:
    book = NameBook()
    book.add("a/")
    assert book.refusal("A/x") is None
    assert book.refusal("a") is not None
    assert book.refusal("a/") is None
