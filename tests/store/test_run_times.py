"""What a user knows of how long tasks take: read from a file, and carried to the coordinator."""

import struct
from pathlib import Path

import pytest

from discogrid.errors import InputError, WireError
from discogrid.run_times import RUN_TIME_S_MAX, pack_run_times, read_run_times, run_times_of, unpack_run_times
from discogrid.wire import pack_parts


def test_a_line_is_a_name_and_a_duration(tmp_path: Path) -> None:
    file = tmp_path / "durations.txt"
    file.write_text("# from ffprobe\n\nsplit 1.mp4 12.5\nb/split2.mp4,1m30s\nsplit3.mp4\t90s\n")
    assert read_run_times(file) == {"split 1.mp4": 12.5, "b/split2.mp4": 90.0, "split3.mp4": 90.0}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("split1.mp4", "line 1 .* no input with its duration"),
        ("12.5", "line 1 .* names no input"),
        (" 12.5", "line 1 .* names no input"),
        (", 12.5", "line 1 .* names no input"),
        ("split1.mp4 soon", "'soon' is no duration"),
        ("split1.mp4 0", "'0' is no duration"),
        ("split1.mp4 nan", "'nan' is no duration"),
        ("split1.mp4 999d", "more than a year"),
    ],
)
def test_what_is_no_such_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "durations.txt"
    file.write_text(line + "\n")
    with pytest.raises(InputError, match=said):
        read_run_times(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        read_run_times(tmp_path / "nowhere")


def test_a_path_says_more_than_a_name_and_unknown_inputs_have_none() -> None:
    inputs = [Path("a/x.mp4"), Path("b/x.mp4"), Path("c.mp4")]
    assert run_times_of(inputs, {"x.mp4": 1.0, "./b/x.mp4": 2.0}) == [1.0, 2.0, 0.0]
    assert run_times_of(inputs, {}) == [0.0, 0.0, 0.0]


def test_durations_of_other_files_are_a_mistake() -> None:
    with pytest.raises(InputError, match="none of the inputs"):
        run_times_of([Path("c.mp4")], {"d.mp4": 1.0})


def test_what_is_packed_is_unpacked() -> None:
    known = {"blake3:" + "0" * 64: 1.5, "7": 1000.0}
    assert unpack_run_times(*pack_run_times(known)) == known
    assert unpack_run_times(*pack_run_times({})) == {}


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 2 * RUN_TIME_S_MAX])
def test_what_is_no_duration_is_refused(value: float) -> None:
    with pytest.raises(WireError, match="no duration"):
        unpack_run_times(pack_parts([b"0"]), struct.pack("<f", value))


@pytest.mark.parametrize(
    ("tasks", "seconds"),
    [
        (pack_parts([b"0", b"1"]), b"\0" * 4),
        (pack_parts([b"0"]), b""),
        (pack_parts([b"\xff"]), struct.pack("<f", 1)),
        (pack_parts([b"0" * 129]), struct.pack("<f", 1)),
        (b"\xc1", b""),
    ],
)
def test_what_is_not_packed_so_is_refused(tasks: bytes, seconds: bytes) -> None:
    with pytest.raises(WireError):
        unpack_run_times(tasks, seconds)
