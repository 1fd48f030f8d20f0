"""Bytes in pieces read like the same bytes in one."""

from hypothesis import given
from hypothesis import strategies as st

from discogrid.pieces import Pieces


@given(st.lists(st.binary(max_size=5), max_size=6), st.integers(0, 35), st.integers(0, 35))
def test_what_is_read_and_filled_in_is_what_lies_there(pieces: list[bytes], start: int, size: int) -> None:
    whole = b"".join(pieces)
    all_of_them = Pieces(*pieces[:3])
    for piece in pieces[3:]:
        all_of_them.append(piece)
    assert all_of_them.size == len(whole)
    assert all_of_them.read(start, size) == whole[start : start + size]
    there = whole[start : start + size]
    target = bytearray(b"." * size)
    all_of_them.fill(start, target)
    assert target == there + b"." * (size - len(there))


def test_what_is_exactly_a_piece_is_not_copied() -> None:
    one, other = b"one", b"other"
    assert Pieces(one, other).read(3, 5) is other
    assert Pieces(one, other).read(3, 50) is other
    assert list(Pieces(one, other).pieces()) == [one, other]
