"""Which files a user means."""

import os
from pathlib import Path

import pytest

from discogrid.errors import ExitCode, InputError
from discogrid.inputs import expand, natural_key
from tests.cli.ordinary import as_an_ordinary_user


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(*arguments: str) -> list[str]:
    return [str(path) for path in expand(arguments)]


def test_a_pattern_is_expanded_in_natural_order() -> None:
    make("split10.mp4", "split2.mp4", "split1.mp4", "other.txt")
    assert names("split*mp4") == ["split1.mp4", "split2.mp4", "split10.mp4"]


def test_arguments_keep_their_order_and_each_file_comes_once() -> None:
    make("b1.mp4", "b2.mp4", "a1.mp4")
    assert names("b2.mp4", "b*.mp4", "./b1.mp4", "a*.mp4") == ["b2.mp4", "b1.mp4", "a1.mp4"]


def test_a_file_whose_name_looks_like_a_pattern_wins_over_the_pattern() -> None:
    make("clip[1].mp4", "clip1.mp4")
    assert names("clip[1].mp4") == ["clip[1].mp4"]


def test_a_class_of_characters_matches_one_of_them() -> None:
    make("a1", "a2", "a3")
    assert names("a[12]") == ["a1", "a2"]


def test_two_stars_reach_every_folder_below() -> None:
    make("x/1.jpg", "x/y/2.jpg", "3.jpg", "x/.hidden/4.jpg")
    assert names("**/*.jpg") == ["3.jpg", "x/1.jpg", "x/y/2.jpg"]
    assert names("x/**") == ["x/1.jpg", "x/y/2.jpg"]


def test_two_stars_do_not_walk_in_a_circle_of_symlinks() -> None:
    make("x/1.jpg")
    os.symlink("..", "x/up")
    assert names("**/*.jpg") == ["x/1.jpg"]


def test_hidden_files_need_a_pattern_with_a_dot() -> None:
    make(".hidden", "seen")
    assert names("*") == ["seen"]
    assert names(".h*") == [".hidden"]


def test_a_pattern_passes_folders_over() -> None:
    make("a/inside", "afile")
    assert names("a*") == ["afile"]


@pytest.mark.parametrize(
    "name", ["with space.mp4", "ünïcødé 顔.mp4", "new\nline.mp4", "-dash.mp4", "quote'\".mp4", "a,b.mp4"]
)
def test_a_strange_name_is_found_by_itself_and_by_a_pattern(name: str) -> None:
    make(name)
    assert names(f"./{name}") == [name]
    assert names("*.mp4") == [name]


def test_a_name_that_is_not_utf8_is_found_by_a_pattern() -> None:
    raw = b"caf\xe9.mp4"
    try:
        Path(os.fsdecode(raw)).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert [os.fsencode(path) for path in expand(["*.mp4"])] == [raw]


def test_an_absolute_pattern_is_expanded(tmp_path: Path) -> None:
    make("a1", "a2")
    assert names(f"{tmp_path}/a*") == [f"{tmp_path}/a1", f"{tmp_path}/a2"]


def test_no_match_names_the_nearest_files() -> None:
    make("split000.mp4")
    with pytest.raises(InputError) as caught:
        expand(["spilt*.mp4"])
    assert "nothing was submitted" in caught.value.what
    assert "split000.mp4" in caught.value.why
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(InputError, match="nowhere"):
        expand(["nowhere/a.mp4"])


def test_a_pattern_that_matches_folders_only_says_so() -> None:
    make("clips/1.mp4")
    with pytest.raises(InputError, match="folders only"):
        expand(["cl*"])


def test_an_empty_argument_is_an_unset_variable() -> None:
    with pytest.raises(InputError, match="empty"):
        expand([""])


def test_a_broken_symlink_is_left_to_whoever_reads_it() -> None:
    os.symlink("nowhere", "link")
    assert names("link") == ["link"]


def test_a_folder_that_cannot_be_read_holds_nothing() -> None:
    make("locked/1.mp4")
    Path("locked").chmod(0)
    with as_an_ordinary_user(), pytest.raises(InputError):
        expand(["locked/*.mp4"])
    Path("locked").chmod(0o700)


def test_natural_order_ignores_case_and_counts_every_number() -> None:
    found = ["B2", "a10b2", "a10b1", "a9", "b1"]
    assert sorted(found, key=natural_key) == ["a9", "a10b1", "a10b2", "b1", "B2"]
