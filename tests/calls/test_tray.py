"""What lies on a tray is read as it was written, its room is used again, and nothing of it is left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from discogrid.calls.parts import BODIES_MAX, BODY_BYTES_MIN, Parts, joined
from discogrid.calls.tray import TRAY_BYTES_MAX, Lying, Tray, make_tray, open_tray
from discogrid.errors import WireError
from discogrid.private_files import new_file

MIB = 1 << 20


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = make_tray()
    assert made is not None, "Linux has them"
    yield made
    os.close(made)


def put(tray: Tray, content: bytes) -> tuple[int, int]:
    place = tray.put(content)
    assert place is not None
    return place


def test_odd_sizes_lie_beside_each_other(descriptor: int) -> None:
    tray = Tray(descriptor)
    contents = [os.urandom(size) for size in (1, 4095, 4097, MIB + 1, 3)]
    places = [put(tray, content) for content in contents]
    for content, place in zip(contents, places, strict=True):
        lying = Lying(descriptor, *place)
        assert lying.read(0, lying.size) == content
        target = bytearray(lying.size - 1)
        lying.fill(1, target)
        assert target == content[1:]


def test_parts_lie_there_as_they_travel(descriptor: int) -> None:
    parts = Parts(
        b"head", [(bytes([at % 256]) * (BODY_BYTES_MIN + at), bool(at % 2)) for at in range(BODIES_MAX)]
    )
    start, size = Tray(descriptor).put(parts) or (0, 0)
    assert Lying(descriptor, start, size).read(0, size) == joined(parts)


def test_room_is_used_again_in_whatever_is_wide_enough(descriptor: int) -> None:
    tray = Tray(descriptor)
    first, second, third = (put(tray, bytes(size)) for size in (100, 50, 100))
    assert (first[0], second[0], third[0]) == (0, 100, 150)
    tray.taken()
    assert put(tray, bytes(101))[0] == 250  # the gap at the beginning is too narrow
    assert put(tray, bytes(100))[0] == 0
    for _ in range(4):
        tray.taken()
    assert put(tray, bytes(7))[0] == 0
    assert os.fstat(descriptor).st_size == 351


def test_what_has_no_room_is_not_laid_there_and_what_is_too_large_lies_alone(descriptor: int) -> None:
    tray = Tray(descriptor)
    put(tray, b"x")
    large = bytes(TRAY_BYTES_MAX)
    assert tray.put(large) is None
    tray.taken()
    assert put(tray, large + b"x") == (0, TRAY_BYTES_MAX + 1)
    assert tray.put(b"x") is None
    tray.taken()
    assert os.fstat(descriptor).st_size == 0  # it is not kept
    tray.taken()  # of nothing
    assert put(tray, b"x") == (0, 1)


def test_where_no_memory_is_left_nothing_is_laid(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_RDWR)
    assert Tray(full).put(b"x") is None
    os.close(full)


def test_nothing_lies_where_somebody_only_says_so(descriptor: int) -> None:
    put(Tray(descriptor), b"x" * 10)
    for start, size in ((0, 11), (10, 1), (1 << 40, 1)):
        with pytest.raises(WireError, match="where nothing does"):
            Lying(descriptor, start, size).read(0, size)
        with pytest.raises(WireError, match="where nothing does"):
            Lying(descriptor, start, size).fill(0, bytearray(size))
    with pytest.raises(WireError, match="cannot be read"):
        Lying(-1, 0, 1).read(0, 1)


def test_a_tray_with_a_name_loses_it_when_it_is_opened(tmp_path: Path) -> None:
    ours = new_file(tmp_path / "tray", (os.getuid(), os.getgid()))
    with pytest.raises(FileExistsError):
        new_file(tmp_path / "tray")
    theirs = open_tray(str(tmp_path / "tray"))
    assert os.listdir(tmp_path) == []
    start, size = put(Tray(theirs), b"from there")
    assert Lying(ours, start, size).read(0, size) == b"from there"
    os.close(ours)
    os.close(theirs)


HOLDING = """
import os, sys, time
from discogrid.calls.tray import Tray, make_tray
descriptor = make_tray()
Tray(descriptor).put(bytes(64 << 20))
print(os.listdir("/dev/shm"), flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_a_process_that_was_killed() -> None:
    before = sorted(os.listdir("/dev/shm"))
    with subprocess.Popen([sys.executable, "-c", HOLDING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert sorted(eval(process.stdout.readline())) == before  # it has no name from the first
        process.send_signal(signal.SIGKILL)
    assert sorted(os.listdir("/dev/shm")) == before
