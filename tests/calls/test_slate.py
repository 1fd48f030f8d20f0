"""What a worker had to say when it died."""

import os
from pathlib import Path

import pytest

from discogrid.calls.frames import Returned, frame
from discogrid.calls.slate import HEAD_BYTES, SLATE_BYTES, Slate, make_slate, unsent


def answer(number: int, size: int = 1) -> Returned:
    return Returned(number, 0.0, b"x" * size)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "slate"


@pytest.fixture
def kept(path: Path) -> int:
    return make_slate(path)


def test_what_was_not_sent_is_read_from_it(path: Path, kept: int) -> None:
    sent: list[bytes] = []
    slate = Slate(str(path), sent.append)
    assert not path.exists()
    for number in range(3):
        slate.put(frame(answer(number)))
    assert sent == []
    assert unsent(kept, None) == [answer(0), answer(1), answer(2)]
    slate.leave()
    assert sent == [b"".join(frame(answer(number)) for number in range(3))]
    assert unsent(kept, answer(2)) == []
    os.close(kept)


def test_what_had_come_before_it_died_is_not_read_again(path: Path, kept: int) -> None:
    slate = Slate(str(path), lambda _: None)
    for number in (7, 8, 9):
        slate.put(frame(answer(number)))
    assert unsent(kept, answer(8)) == [answer(9)]  # it had sent the first two when it was killed
    assert unsent(kept, answer(9)) == []
    assert unsent(kept, answer(3)) == [answer(7), answer(8), answer(9)]
    os.close(kept)


def test_what_does_not_fit_leaves_at_once_and_in_order(path: Path, kept: int) -> None:
    sent: list[bytes] = []
    slate = Slate(str(path), sent.append)
    small, large = frame(answer(0)), frame(answer(1, SLATE_BYTES))
    slate.put(small)
    slate.put(large)
    assert sent == [small, large]
    for number in range(2, 2000):
        slate.put(frame(answer(number, 100)))
    slate.leave()
    assert b"".join(sent[2:]) == b"".join(frame(answer(number, 100)) for number in range(2, 2000))
    os.close(kept)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xff\xff\xff" + b"x" * 100, (50).to_bytes(HEAD_BYTES, "little") + b"\x10\0\0\0nonsense" * 9],
)
def test_nonsense_on_it_says_nothing(path: Path, kept: int, content: bytes) -> None:
    os.ftruncate(kept, 0)
    os.pwrite(kept, content, 0)
    assert unsent(kept, None) == []
    os.close(kept)
