"""Hostile archives are refused before anything is unpacked; each has a harmless twin that is not."""

import contextlib
import io
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discogrid.archive import ArchiveLimits, ArchiveWriter, check_name, open_archive
from discogrid.errors import DiscogridError, HostileArchive, InputError, IntegrityError
from tests.store.zips import REGULAR, Entry, Zip, zip_of

MIB = 1 << 20


def extra(kind: int, content: bytes) -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


def deflated(content: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflater.compress(content) + deflater.flush()


def entry(**fields: object) -> bytes:
    made = Entry(b"a.txt", b"hello")
    for key, value in fields.items():
        setattr(made, key, value)
    return Zip([made]).build()


def unpacked(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def overlapping() -> bytes:
    """Many names for the bytes of one local header, as in a zip bomb without recursion."""
    first = Entry(b"a", b"a" * 100)
    return Zip([first, Entry(b"a", b"a" * 100, offset=0)]).build()


def nested() -> bytes:
    """The second member lies inside the bytes of the first."""
    inner = Zip([Entry(b"b", b"inner")]).build()[: 30 + 1 + 5]
    outer = Entry(b"a", inner + b"....")
    return Zip([outer, Entry(b"b", b"inner", offset=31, local_sign=b"PK\x03\x04")]).build()


# Each hostile archive, the reason it must be refused for, and its harmless twin.
CASES: dict[str, tuple[bytes, str, bytes]] = {
    "traversal": (zip_of("../evil"), "leads out", zip_of("..evil")),
    "traversal inside": (zip_of("a/../../evil"), "leads out", zip_of("a/.../evil".replace("...", "x"))),
    "absolute": (zip_of("/etc/evil"), "absolute", zip_of("etc/evil")),
    "backslash": (zip_of("..\\evil"), "backslash", zip_of("..-evil")),
    "drive": (zip_of("C:evil"), "drive", zip_of("CC:evil")),
    "empty part": (zip_of("a//b"), "empty part", zip_of("a/b")),
    "dot part": (zip_of("a/./b"), "empty part", zip_of("a/.b")),
    "empty name": (zip_of(""), "empty part", zip_of("-")),
    "nul": (zip_of("a\x00b"), "control", zip_of("a b")),
    "newline": (zip_of("a\nb"), "control", zip_of("a b")),
    "escape": (zip_of("\x1b[2Jb"), "control", zip_of("[2Jb")),
    "bidi": (zip_of("\u202egpj.exe"), "reorders", zip_of("👩\u200d🚀.jpg")),
    "reserved": (zip_of("NUL.txt"), "device", zip_of("NULL.txt")),
    "reserved folder": (zip_of("com1/x"), "device", zip_of("com10/x")),
    "reserved with a space": (zip_of("aux .txt"), "device", zip_of("aux-.txt")),
    "trailing dot": (zip_of("a./x"), "dot or a space", zip_of(".a/x")),
    "trailing space": (zip_of("a "), "dot or a space", zip_of(" a")),
    "long part": (zip_of("ä" * 101), "longer than 200", zip_of("ä" * 100)),
    "long name": (zip_of("/".join(["b" * 150] * 7)), "longer than 1024", zip_of("/".join(["b" * 150] * 6))),
    "deep": (zip_of("d/" * 33 + "x"), "32 folders deep", zip_of("d/" * 32 + "x")),
    "duplicate": (zip_of("a", "a"), "same name", zip_of("a", "b")),
    "case": (zip_of("CaSe", "case"), "same name", zip_of("CaSe", "case2")),
    "case of a folder": (zip_of("A/x", "a/X"), "same name", zip_of("A/x", "a/y")),
    "normal form": (zip_of("caf\u00e9", "cafe\u0301"), "same name", zip_of("cafe\u0301")),
    "file and folder": (zip_of("a", "A/b"), "folder above", zip_of("a", "b/a")),
    "folder and file": (zip_of("A/b", "a"), "folder has the same", zip_of("b/a", "a")),
    "folder entry and file": (zip_of("a", "A/", mode=0, content=b""), "file has the same", zip_of("a", "b")),
    "symlink": (entry(mode=stat.S_IFLNK | 0o777), "neither a regular", entry(mode=REGULAR)),
    "fifo": (entry(mode=stat.S_IFIFO | 0o644), "neither a regular", entry(mode=0)),
    "device": (entry(mode=stat.S_IFBLK | 0o644), "neither a regular", entry(mode=0o755)),
    "folder mode without slash": (
        entry(mode=stat.S_IFDIR | 0o755),
        "neither a regular",
        entry(mode=stat.S_IFDIR | 0o755, name=b"a/", content=b""),
    ),
    "file mode with slash": (
        entry(name=b"a/", content=b""),
        "neither a regular",
        entry(name=b"a/", content=b"", mode=0),
    ),
    "folder with a content": (
        entry(name=b"a/", mode=0),
        "has a content",
        entry(name=b"a/", mode=0, content=b""),
    ),
    "set-uid": (entry(mode=REGULAR | 0o4000), "set-uid", entry(mode=REGULAR | 0o111)),
    "set-gid": (entry(mode=REGULAR | 0o2000), "set-uid", entry(mode=REGULAR | 0o755)),
    "encrypted": (entry(flags=0x801), "encrypted", entry(flags=0x802)),
    "encrypted locally": (entry(local_flags=0x801), "differs", entry(local_flags=0x800)),
    "strange flag": (entry(flags=0x820), "flags", entry(flags=0x808)),
    "method": (entry(method=12), "unknown method", entry(method=8)),
    "stored in another size": (entry(size=4), "instead of 4", entry(size=5)),
    "local name": (entry(local_name=b"b.txt"), "differs", entry(local_name=b"a.txt")),
    "local name longer": (entry(local_name=b"a.txtx"), "differs", entry(local_extra=extra(0x5455, b"12345"))),
    "local method": (entry(local_method=8), "differs", entry(local_method=0)),
    "local signature": (entry(local_sign=b"PK\x03\x05"), "differs", entry(local_sign=b"PK\x03\x04")),
    "central signature": (entry(central_sign=b"PK\x01\x03"), "damaged", entry(central_sign=b"PK\x01\x02")),
    "offset outside": (entry(offset=40), "inside the archive", entry(offset=0)),
    "offset far outside": (entry(offset=1 << 30), "inside the archive", entry(offset=0)),
    "body over the end": (entry(size=500, packed=500), "overlap", entry()),
    "overlap": (overlapping(), "same name", zip_of("a", "b")),
    "overlap by other names": (nested(), "overlap", zip_of("a", "b")),
    "name not UTF-8": (entry(name=b"\xff\xfe"), "not valid UTF-8", entry(name="ÿ".encode())),
    "name without encoding": (entry(name="ü".encode(), flags=0), "how it is encoded", entry(flags=0)),
    "surrogate": (entry(name=b"\xed\xa0\x80"), "not valid UTF-8", entry(name=b"\xed\x9f\xbf")),
    "second name": (
        entry(extra=extra(0x7075, b"\x01....../evil")),
        "second name",
        entry(extra=extra(0x5455, b"\x01....")),
    ),
    "broken extra": (
        entry(extra=b"\x55\x54\xff\x00abc"),
        "damaged extra",
        entry(extra=extra(0x5455, b"abc")),
    ),
    "64-bit size lacking": (
        entry(size=0xFFFFFFFF, extra=extra(1, b"1234")),
        "lacks its 64-bit",
        entry(size=0xFFFFFFFF, extra=extra(1, struct.pack("<Q", 5))),
    ),
    "of several parts": (Zip([Entry(b"a")], disk=1).build(), "one part", Zip([Entry(b"a")], disk=0).build()),
    "counts differ": (Zip([Entry(b"a")], count_here=2).build(), "one part", zip_of("a")),
    "member on another disk": (entry(disk=3), "damaged", entry(disk=0)),
    "more than counted": (Zip([Entry(b"a"), Entry(b"b")], count=1).build(), "it counts", zip_of("a", "b")),
    "less than counted": (Zip([Entry(b"a")], count=2).build(), "it counts", zip_of("a")),
    "gap before the end": (Zip([Entry(b"a")], between=b"gap").build(), "where it says", zip_of("a")),
    "directory elsewhere": (Zip([Entry(b"a")], directory_offset=3).build(), "where it says", zip_of("a")),
    "directory too long": (Zip([Entry(b"a")], directory_bytes=1 << 30).build(), "where it says", zip_of("a")),
    "directory cut": (
        Zip([Entry(b"a")], between=b"PK", directory_bytes=49, count=2).build(),
        "it counts",
        zip_of("a"),
    ),
    "comment": (Zip([Entry(b"a")], comment=b"PK").build(), "does not end", zip_of("a")),
    "bytes behind": (Zip([Entry(b"a")], tail=b"x").build(), "does not end", zip_of("a")),
    "wide record elsewhere": (
        Zip([Entry(b"a")], wide={"where": 7}).build(),
        "where it says",
        Zip([], wide={}).build(),
    ),
    "wide record longer": (
        Zip([Entry(b"a")], wide={"rest": 50}).build(),
        "where it says",
        Zip([Entry(b"a")], wide={}).build(),
    ),
    "end records disagree": (
        Zip([Entry(b"a")], wide={}, count=5).build(),
        "disagree",
        Zip([Entry(b"a")], wide={}, count=0xFFFF).build(),
    ),
    "too short": (b"PK\x05\x06" + bytes(17), "too short", b"PK\x05\x06" + bytes(18)),
    "no archive": (b"MZ" * 100, "does not end", zip_of()),
    "bomb by ratio": (
        entry(method=8, content=bytes(MIB)),
        "bomb",
        entry(method=8, content=bytes(64 * 1024)),
    ),
    "bomb that hides its size": (
        entry(method=8, body=deflated(bytes(MIB)), size=10, content=bytes(MIB)),
        "more than the 10 bytes",
        entry(method=8, content=os.urandom(MIB)),
    ),
    "shorter than it says": (
        entry(method=8, body=deflated(b"hell"), size=5),
        "less than the 5 bytes",
        entry(method=8, body=deflated(b"hello"), size=5),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_archive_is_refused_and_its_harmless_twin_unpacked(case: str, tmp_path: Path) -> None:
    hostile, reason, harmless = CASES[case]
    (tmp_path / "hostile.zip").write_bytes(hostile)
    (tmp_path / "harmless.zip").write_bytes(harmless)
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(HostileArchive, match=f"(?i){reason}"),
        open_archive(tmp_path / "hostile.zip") as archive,
    ):
        archive.unpack(tmp_path / "folder")
    assert unpacked(tmp_path / "folder") == []
    with open_archive(tmp_path / "harmless.zip") as archive:
        assert archive.unpack(tmp_path / "folder") == archive.names()
        assert {str(name).rstrip("/") for name in archive.names()} <= set(unpacked(tmp_path / "folder"))
    assert sorted(os.listdir(tmp_path)) == ["folder", "harmless.zip", "hostile.zip"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ArchiveLimits(members=1), "2 members"),
        (ArchiveLimits(member_bytes=9), "would unpack to 10 bytes"),
        (ArchiveLimits(total_bytes=19), "unpack to 20 bytes"),
    ],
)
def test_limits_are_kept_to_the_byte(limits: ArchiveLimits, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of("a", "b", content=b"0123456789"))
    with pytest.raises(HostileArchive, match=reason):
        open_archive(path, limits)
    open_archive(path, ArchiveLimits(members=2, member_bytes=10, total_bytes=20)).close()


def test_members_are_counted_before_they_are_parsed(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    path.write_bytes(Zip([Entry(b"a")], count=0xFFFF, wide={"count": 1 << 40}).build())
    with pytest.raises(HostileArchive, match="1099511627776 members"):
        open_archive(path)


def test_a_directory_that_does_not_fit_into_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "wide.zip"
    length = 40 * MIB
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, length, 0, 0)
    with path.open("wb") as file:
        file.truncate(length)
        file.seek(length)
        file.write(end)
    with pytest.raises(HostileArchive, match="directory has"):
        open_archive(path)


def test_a_flipped_byte_in_a_body_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for method in (0, 8):
        sound = bytearray(entry(method=method, content=b"hello " * 50))
        sound[30 + 5 + 2] ^= 1
        path.write_bytes(sound)
        with open_archive(path) as archive, pytest.raises(IntegrityError):
            archive.read("a.txt", 1000)


def test_a_file_that_would_not_be_expected_so_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(entry())
    with open_archive(path) as archive:
        assert archive.read("a.txt", 5) == b"hello"
        with pytest.raises(IntegrityError, match="at most 4"):
            archive.read("a.txt", 4)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_no_archive_and_does_not_hang(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "a.zip")
    with pytest.raises((HostileArchive, InputError)):
        open_archive(tmp_path / "a.zip")


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.zip"):
        open_archive(tmp_path / "nothing.zip")


def test_a_symlink_that_waits_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of("sub/evil", "plain"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "sub").symlink_to(tmp_path / "outside")
    with open_archive(tmp_path / "a.zip") as archive, pytest.raises(InputError, match="cannot be made"):
        archive.unpack(tmp_path / "folder", overwrite=True)
    assert unpacked(tmp_path / "outside") == []


def test_a_symlink_in_the_place_of_a_file_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of("plain"))
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "plain").symlink_to(tmp_path / "victim")
    with open_archive(tmp_path / "a.zip") as archive:
        with pytest.raises(InputError, match="exists already"):
            archive.unpack(tmp_path / "folder")
        archive.unpack(tmp_path / "folder", overwrite=True)
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "folder" / "plain").read_text() == "x"


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a/b",
        "ä ö.txt",
        "-rf",
        ".hidden",
        "12:30?.txt",
        "日本語.mp4",
        "a" * 200,
        "x~1",
        "con1",
        "a/",
        "_.-",
        "1 2",
    ],
)
def test_an_ordinary_name_is_allowed(name: str) -> None:
    assert check_name(name) is None


@given(st.text(max_size=30))
def test_a_name_that_is_allowed_survives_the_way_through_an_archive(name: str) -> None:
    if check_name(name) is not None or name.endswith("/"):
        return
    assert ".." not in name.split("/")
    assert not name.startswith("/")
    raw = zip_of(name)
    with tempfile.TemporaryFile() as file:
        file.write(raw)
        file.flush()
        with open_archive(file.fileno()) as archive:
            assert archive.names() == [name]
    assert zipfile.ZipFile(io.BytesIO(raw)).namelist() == [name]


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("genuine") / "a.zip"
    with ArchiveWriter(path) as writer:
        writer.add_bytes("DiscoTask.json", b"{}" * 10)
        writer.add_bytes("sub/ö.txt", b"some text " * 1000)
        writer.add_folder("empty/")
    return path.read_bytes()


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_spoiled_archive_is_refused_or_gives_what_it_says_and_never_anything_else(
    genuine: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(genuine)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    folder = tmp_path_factory.getbasetemp() / "spoiled"
    target = folder / "out"
    target.mkdir(parents=True, exist_ok=True)
    (folder / "a.zip").write_bytes(raw)
    with contextlib.suppress(DiscogridError), open_archive(folder / "a.zip") as archive:
        archive.unpack(target, overwrite=True)
    assert sorted(os.listdir(folder)) == ["a.zip", "out"]
    assert not list(target.rglob("*.part"))
