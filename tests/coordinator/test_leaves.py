"""A job's tasks, read where they lie."""

import pytest

from discogrid.bundle import LEAF_BYTES_MAX, Leaf, encode_leaf
from discogrid.errors import WireError
from discogrid.wire import pack_parts
from discogrid_coordinator.leaves import Leaves, Names
from tests.trust.forge import ref


def leaf(index: int, name: str | None) -> bytes:
    return encode_leaf(Leaf(index, ref(name, b"content") if name else None))


PARTS = [leaf(0, "a.txt"), leaf(1, None), leaf(2, "ä" * 100), leaf(3, "b" * 255)]


def test_every_leaf_is_found_whatever_its_size() -> None:
    sizes = [*PARTS, b"x" * 255, b"y" * 256, b"", b"z" * LEAF_BYTES_MAX]
    leaves = Leaves(pack_parts(sizes))
    assert (len(leaves), list(leaves), leaves[1:3], leaves.packed) == (
        8,
        sizes,
        sizes[1:3],
        pack_parts(sizes),
    )
    with pytest.raises(IndexError):
        leaves[8]


def test_inputs_and_their_names_are_read_from_the_leaves() -> None:
    leaves = Leaves(pack_parts(PARTS))
    names = ["a.txt", None, "ä" * 100, "b" * 255]
    assert leaves.input(3) == ref("b" * 255, b"content")
    assert [file and file.name for file in leaves.inputs()] == names
    assert [file and file.name for file in leaves.inputs(1, 3)] == names[1:3]
    assert (list(Names(leaves)), Names(leaves)[1:], len(Names(leaves))) == (names, names[1:], 4)


def test_what_is_too_long_for_a_leaf_is_refused() -> None:
    with pytest.raises(WireError):
        Leaves(pack_parts([b"x" * (LEAF_BYTES_MAX + 1)]))
