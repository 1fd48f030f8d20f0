"""Large values go beside what holds them, come back as they were, and are refused when they are damaged."""

import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discogrid.calls import codec, parts
from discogrid.calls.arguments import pack_arguments, unpack_arguments
from discogrid.calls.parts import BODIES_MAX, BODY_BYTES_MIN, Aside, InFile, Parts, joined, opened
from discogrid.errors import UntrustedResult, WireError

LARGE = os.urandom(BODY_BYTES_MIN + 1)
NUMBERS = np.arange(30_000, dtype=">i4").reshape(100, 300)
RECORDS = np.zeros(20_000, dtype=[("name", "U3"), ("size", "<f8")])


class Holder:
    """Of a library's own, so that only pickle can say it."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Holder) and bool((self.array == other.array).all())

    __hash__ = None  # type: ignore[assignment]


def same(found: Any, value: Any) -> bool:
    if type(found) is not type(value):
        return False
    if isinstance(value, np.ndarray):
        like = (found.dtype, found.shape, found.flags.f_contiguous) == (
            value.dtype,
            value.shape,
            value.flags.f_contiguous,
        )
        return like and bool((found == value).all())
    if isinstance(value, list | tuple):
        return len(found) == len(value) and all(map(same, found, value))
    return bool(found == value)


VALUES = [
    LARGE,
    [LARGE, 1, b"small", LARGE],
    (LARGE, {"x": None}),
    {"a": LARGE, 2: [LARGE]},
    bytearray(LARGE),
    NUMBERS,
    np.asfortranarray(NUMBERS),
    RECORDS,
    np.arange(40_000).astype("M8[s]"),
    [NUMBERS, (LARGE, NUMBERS[:, :0])],
    [LARGE[: BODY_BYTES_MIN + place] for place in range(70)],
    Counter({"a": 1}),
    b"",
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_large_result_comes_back_equal_and_of_the_same_type_without_pickle(value: Any) -> None:
    found = codec.loads(joined(codec.pack(value)), trusted=False)
    assert same(found, value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_large_arguments_come_as_they_were(value: Any) -> None:
    (first,), keywords = unpack_arguments(joined(pack_arguments((value,), {"named": value})))
    assert same(first, value)
    assert same(keywords["named"], value)


def test_large_bytes_are_not_copied_and_what_may_change_is() -> None:
    changing = bytearray(LARGE)
    array = NUMBERS.copy()
    packed = pack_arguments((LARGE, changing, array), {})
    assert isinstance(packed, Parts)
    first, _ = packed.bodies[0]
    assert isinstance(first, memoryview)
    assert first.obj is LARGE
    changing[:] = bytes(len(changing))
    array[:] = 0
    (_, before, numbers), _ = unpack_arguments(joined(packed))
    assert (bytes(before), numbers.sum()) == (LARGE, NUMBERS.sum())
    before += b"longer"  # it is the call's own
    numbers += 1


def test_arrays_that_were_not_to_be_written_to_stay_so() -> None:
    array = NUMBERS.copy()
    array.flags.writeable = False
    (found,), _ = unpack_arguments(joined(pack_arguments((array,), {})))
    assert not found.flags.writeable


def test_arrays_in_what_only_pickle_can_say_go_beside_it_and_are_for_the_trusted() -> None:
    packed = codec.pack(Holder(NUMBERS))
    assert isinstance(packed, Parts)
    assert len(packed.head) < BODY_BYTES_MIN
    assert codec.loads(joined(packed), trusted=True) == Holder(NUMBERS)
    with pytest.raises(UntrustedResult):
        codec.loads(joined(packed), trusted=False)


def test_more_bodies_than_there_can_be_stay_in_the_head() -> None:
    arrays = [np.full(BODY_BYTES_MIN, at % 256, np.uint8) for at in range(BODIES_MAX + 2)]
    results, arguments = codec.pack(arrays), pack_arguments((arrays,), {})
    for packed in (results, arguments):
        assert isinstance(packed, Parts)
        assert len(packed.bodies) == BODIES_MAX
    assert same(codec.loads(joined(results), trusted=False), arrays)
    assert same(unpack_arguments(joined(arguments))[0][0], arrays)


def test_what_does_not_lie_in_one_row_stays_in_the_head() -> None:
    assert Aside().take(pickle.PickleBuffer(memoryview(LARGE)[::2]))


def test_content_of_a_file_is_read_without_being_read_whole(tmp_path: Path) -> None:
    packed = codec.pack([LARGE, NUMBERS])
    (tmp_path / "content").write_bytes(joined(packed))
    file = InFile(tmp_path / "content")
    assert file.size == parts.size_of(packed)
    assert same(codec.loads(file, trusted=False), [LARGE, NUMBERS])
    (tmp_path / "content").write_bytes(joined(packed)[:-1])
    for value in (LARGE, NUMBERS):
        (tmp_path / "content").write_bytes(joined(codec.pack(value)))
        cut = InFile(tmp_path / "content")
        os.truncate(tmp_path / "content", cut.size - 1)
        with pytest.raises(WireError, match="shorter"):
            codec.loads(cut, trusted=False)
        cut.close()
    file.close()


SOUND = joined(codec.pack([LARGE, LARGE]))


@pytest.mark.parametrize(
    "content",
    [
        SOUND[:1],
        SOUND[:8],
        SOUND[:-1],
        SOUND + b"x",
        SOUND[:5] + (BODIES_MAX + 1).to_bytes(4, "little") + SOUND[9:],
        SOUND[:5] + (1).to_bytes(4, "little") + SOUND[9:],
        SOUND[:1] + b"\xff\xff\xff\xff" + SOUND[5:],
        joined(Parts(codec.PLAIN + b"\x01", [(LARGE, False)])),  # of which nothing is said
        joined(Parts(codec.pack([LARGE, LARGE]).head, [(LARGE, False)])),  # type: ignore[union-attr]  # said of twice
    ],
)
def test_large_values_that_are_damaged_are_refused(content: bytes) -> None:
    with pytest.raises(WireError):
        codec.loads(content, trusted=False)
    with pytest.raises((WireError, pickle.UnpicklingError)):
        unpack_arguments(content)


def test_one_large_value_does_not_become_many() -> None:
    """A head that names the same body again and again is no way to fill somebody's memory."""
    head = codec.pack([LARGE] * 5)
    assert isinstance(head, Parts)
    with pytest.raises(WireError, match="does not have"):
        codec.loads(joined(Parts(head.head, [(LARGE, False)])), trusted=False)


def test_flat_content_is_as_it_was() -> None:
    assert opened(b"m\x01") == (b"m\x01", [])
