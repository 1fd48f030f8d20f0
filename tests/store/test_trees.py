"""A folder for --mount: packed the same everywhere, unpacked readable and whole."""

import os
import stat
from pathlib import Path

import pytest

from discogrid.archive import ArchiveLimits, ArchiveWriter, pack_tree, unpack_tree
from discogrid.errors import HostileArchive, InputError, IntegrityError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "models" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "models" / "deep" / "weights.dat").write_bytes(b"w" * 10_000)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o750)
    (root / "private").write_text("p")
    (root / "private").chmod(0o600)
    (root / "latest").symlink_to("models/deep")
    (root / "weights").symlink_to(root / "models" / "deep" / "weights.dat")
    return root


def listing(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat(follow_symlinks=False).st_mode)
        for path in folder.rglob("*")
    }


def test_a_tree_comes_back_with_its_programs_and_empty_folders(tree: Path, tmp_path: Path) -> None:
    sealed = pack_tree(tree, tmp_path / "tree.zip")
    assert sealed.size == (tmp_path / "tree.zip").stat().st_size
    old = os.umask(0o077)
    try:
        unpack_tree(tmp_path / "tree.zip", tmp_path / "out")
    finally:
        os.umask(old)
    assert listing(tmp_path / "out") == {
        "empty": 0o755,
        "latest": 0o755,
        "latest/weights.dat": 0o644,
        "models": 0o755,
        "models/deep": 0o755,
        "models/deep/weights.dat": 0o644,
        "private": 0o644,
        "run.sh": 0o755,
        "weights": 0o644,
    }
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]
    assert (tmp_path / "out" / "weights").read_bytes() == b"w" * 10_000


def test_the_same_tree_has_the_same_digest_wherever_and_whenever(tree: Path, tmp_path: Path) -> None:
    first = pack_tree(tree, tmp_path / "1.zip")
    for path in (tree / "run.sh", tree / "private"):
        os.utime(path, (1, 1))
    tree.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "weights").unlink()
    (tmp_path / "elsewhere" / "weights").symlink_to("models/deep/weights.dat")
    assert pack_tree(tmp_path / "elsewhere", tmp_path / "2.zip") == first
    (tmp_path / "elsewhere" / "private").chmod(0o700)
    assert pack_tree(tmp_path / "elsewhere", tmp_path / "3.zip") != first


def test_a_tree_behind_a_symlink_is_packed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    assert pack_tree(tmp_path / "link", tmp_path / "1.zip") == pack_tree(tree, tmp_path / "2.zip")


def test_an_empty_tree_is_a_tree(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    pack_tree(tmp_path / "tree", tmp_path / "tree.zip")
    unpack_tree(tmp_path / "tree.zip", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def spoil(tree: Path, how: str) -> None:
    match how:
        case "out":
            (tree / "bad").symlink_to("/etc/passwd")
        case "out by dots":
            (tree / "bad").symlink_to("../outside")
            (tree.parent / "outside").write_text("secret")
        case "nowhere":
            (tree / "bad").symlink_to("nothing")
        case "itself":
            (tree / "bad").symlink_to("bad")
        case "circle":
            (tree / "models" / "bad").symlink_to("..")
        case "fifo":
            os.mkfifo(tree / "bad")
        case "name":
            (tree / "bad\n").write_text("x")
        case "case":
            (tree / "bad").write_text("x")
            (tree / "BAD").write_text("x")
        case "not UTF-8":
            (tree / os.fsdecode(b"bad\xff")).write_text("x")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("out", "leads out of the tree"),
        ("out by dots", "leads out of the tree"),
        ("nowhere", "leads nowhere"),
        ("itself", "leads nowhere|out of the tree"),
        ("circle", "circle"),
        ("fifo", "neither a file nor a folder"),
        ("name", "cannot stand"),
        ("case", "cannot stand"),
        ("not UTF-8", "cannot stand"),
    ],
)
def test_what_no_agent_could_have_is_named_and_nothing_is_left(
    how: str, reason: str, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "packed").mkdir()
    spoil(tree, how)
    with pytest.raises(InputError, match=reason) as caught:
        pack_tree(tree, tmp_path / "packed" / "tree.zip")
    assert "bad" in str(caught.value).lower()
    assert os.listdir(tmp_path / "packed") == []


def test_a_file_is_no_tree(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        pack_tree(tree / "run.sh", tmp_path / "tree.zip")


def test_a_tree_over_the_limits_is_refused_on_both_sides(tree: Path, tmp_path: Path) -> None:
    limits = ArchiveLimits(members=3)
    with pytest.raises(InputError, match="cannot stand"):
        pack_tree(tree, tmp_path / "tree.zip", limits=limits)
    pack_tree(tree, tmp_path / "tree.zip")
    with pytest.raises(HostileArchive, match="members"):
        unpack_tree(tmp_path / "tree.zip", tmp_path / "out", limits=limits)


def test_a_damaged_tree_does_not_appear(tree: Path, tmp_path: Path) -> None:
    pack_tree(tree, tmp_path / "tree.zip")
    raw = (tmp_path / "tree.zip").read_bytes()
    (tmp_path / "tree.zip").write_bytes(raw.replace(b"#!/bin/sh", b"#!/bin/xx"))
    with pytest.raises(IntegrityError, match=r"run\.sh"):
        unpack_tree(tmp_path / "tree.zip", tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["tree", "tree.zip"]


def test_a_tree_does_not_replace_what_is_there(tmp_path: Path) -> None:
    ArchiveWriter(tmp_path / "tree.zip").close()
    (tmp_path / "out").symlink_to("nowhere")
    with pytest.raises(InputError, match="exists already"):
        unpack_tree(tmp_path / "tree.zip", tmp_path / "out")
    (tmp_path / "full" / "mine").mkdir(parents=True)
    with pytest.raises(InputError, match="exists already"):
        unpack_tree(tmp_path / "tree.zip", tmp_path / "full")
    (tmp_path / "empty").mkdir()
    unpack_tree(tmp_path / "tree.zip", tmp_path / "empty")
