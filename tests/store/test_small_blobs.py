"""Small blobs ride along: what fits, each once, and only what was wanted and is what it says."""

import pytest

from discogrid.blobs import digest_of
from discogrid.errors import WireError
from discogrid.transfer import pack_small, unpack_small
from discogrid.transfer.small import RIDERS_BYTES_MAX, RIDERS_MAX, SMALL_BYTES
from discogrid.types import Digest, FileRef
from discogrid.wire import pack_parts


def files_of(contents: list[bytes]) -> tuple[list[FileRef], dict[Digest, bytes]]:
    by_digest = {digest_of(content): content for content in contents}
    return [FileRef("x", digest_of(content), len(content)) for content in contents], by_digest


def test_small_blobs_arrive_each_once_and_large_ones_do_not() -> None:
    contents = [b"", b"a", b"a", b"b" * SMALL_BYTES, b"c" * (SMALL_BYTES + 1)]
    files, there = files_of(contents)
    frame = pack_small(files, lambda file: there[file.digest])
    assert len(frame) < 1 + 2 + SMALL_BYTES + 16
    assert set(unpack_small(frame, there).values()) == {b"", b"a", b"b" * SMALL_BYTES}


def test_a_blob_that_is_not_there_does_not_ride() -> None:
    files, there = files_of([b"a", b"b"])
    frame = pack_small(files, lambda file: there[file.digest] if file is files[0] else None)
    assert list(unpack_small(frame, there).values()) == [b"a"]


def test_no_more_rides_than_a_message_has_room_for() -> None:
    files, there = files_of([b"%d" % number + bytes(SMALL_BYTES - 8) for number in range(400)])
    frame = pack_small(files, lambda file: there[file.digest])
    assert RIDERS_BYTES_MAX - 2 * SMALL_BYTES < len(frame) < RIDERS_BYTES_MAX + 400 * 8
    files, there = files_of([b"%d" % number for number in range(RIDERS_MAX + 5)])
    assert len(unpack_small(pack_small(files, lambda file: there[file.digest]), there)) == RIDERS_MAX


def test_what_was_not_wanted_or_is_something_else_is_left_out() -> None:
    _, wanted = files_of([b"good"])
    assert unpack_small(pack_parts([b"evil", b"good"]), wanted) == {digest_of(b"good"): b"good"}
    assert unpack_small(pack_parts([b"evil"]), wanted) == {}


@pytest.mark.parametrize(
    "frame", [b"\xff", b"\x81", pack_parts([b"x" * (SMALL_BYTES + 1)]), pack_parts([b"abc"])[:-1], b"\xa1x"]
)
def test_a_frame_of_something_else_is_refused(frame: bytes) -> None:
    with pytest.raises(WireError):
        unpack_small(frame, {})
