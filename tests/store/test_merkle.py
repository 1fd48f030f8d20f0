"""Every range of every small tree proves itself and nothing else."""

from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from discogrid import merkle


def hashes_of(count: int) -> list[bytes]:
    return [merkle.leaf_hash(b"leaf %d" % index) for index in range(count)]


def reference_root(hashes: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written: split at the largest power of two below the count."""
    if not hashes:
        return blake3(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return blake3(b"\x01" + reference_root(hashes[:half]) + reference_root(hashes[half:])).digest()


@pytest.mark.parametrize("count", range(71))
def test_the_root_is_that_of_the_recursive_definition(count: int) -> None:
    assert merkle.root(hashes_of(count)) == reference_root(hashes_of(count))


def test_all_ranges_of_all_small_trees_verify_and_their_neighbours_do_not() -> None:
    for count in range(1, 71):
        hashes = hashes_of(count)
        tree = merkle.Tree(hashes)
        for start in range(count):
            for stop in range(start + 1, count + 1):
                proof = tree.prove(start, stop)
                assert len(proof) <= 2 * count.bit_length()
                assert merkle.verify(tree.root, count, start, hashes[start:stop], proof)
                if start:
                    assert not merkle.verify(tree.root, count, start - 1, hashes[start:stop], proof)
                if stop < count:
                    assert not merkle.verify(tree.root, count, start + 1, hashes[start:stop], proof)


def test_another_count_is_refused_wherever_it_changes_the_shape_above_the_range() -> None:
    hashes = hashes_of(9)
    tree = merkle.Tree(hashes)
    assert merkle.verify(tree.root, 9, 8, hashes[8:], tree.prove(8, 9))
    for count in (1, 2, 8, 10, 16, 17, 1 << 20):
        assert not merkle.verify(tree.root, count, 8, hashes[8:], tree.prove(8, 9))


@given(st.data())
def test_a_flipped_bit_anywhere_is_refused(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 70))
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    hashes = hashes_of(count)
    tree = merkle.Tree(hashes)
    parts = [tree.root, *hashes[start:stop], *tree.prove(start, stop)]
    where = data.draw(st.integers(0, len(parts) - 1))
    bit = data.draw(st.integers(0, 255))
    spoiled = bytearray(parts[where])
    spoiled[bit // 8] ^= 1 << bit % 8
    parts[where] = bytes(spoiled)
    end = 1 + stop - start
    assert not merkle.verify(parts[0], count, start, parts[1:end], parts[end:])


@given(
    st.integers(-3, 80),
    st.integers(-3, 80),
    st.lists(st.one_of(st.binary(max_size=40), st.binary(min_size=32, max_size=32)), max_size=5),
    st.lists(st.one_of(st.binary(max_size=40), st.none(), st.integers(), st.text(max_size=3)), max_size=12),
)
def test_nonsense_is_refused_and_never_raises(
    count: int, start: int, hashes: list[bytes], proof: list[Any]
) -> None:
    assert not merkle.verify(merkle.root(hashes_of(70)), count, start, hashes, proof)


def test_a_proof_that_is_too_short_or_too_long_is_refused() -> None:
    hashes = hashes_of(21)
    tree = merkle.Tree(hashes)
    proof = tree.prove(5, 8)
    assert not merkle.verify(tree.root, 21, 5, hashes[5:8], proof[:-1])
    assert not merkle.verify(tree.root, 21, 5, hashes[5:8], [*proof, proof[0]])
    assert not merkle.verify(tree.root, 21, 5, hashes[5:8], [])


def test_a_node_does_not_pass_for_a_leaf() -> None:
    first, second = b"a", b"b"
    tree = merkle.Tree([merkle.leaf_hash(first), merkle.leaf_hash(second)])
    forged = merkle.leaf_hash(merkle.leaf_hash(first) + merkle.leaf_hash(second))
    assert forged != tree.root
    assert merkle.leaf_hash(b"\x01x") != merkle._join(b"", b"x")


def test_no_leaf_and_no_range_prove_nothing() -> None:
    assert not merkle.verify(merkle.root([]), 0, 0, [], [])
    with pytest.raises(ValueError, match="no leaves"):
        merkle.Tree(hashes_of(3)).prove(1, 1)
    with pytest.raises(ValueError, match="no leaves"):
        merkle.Tree(hashes_of(3)).prove(2, 4)


def test_a_tree_as_large_as_a_proof_may_speak_of_costs_only_its_height() -> None:
    assert not merkle.verify(b"\0" * 32, merkle.LEAVES_MAX, 0, [b"\0" * 32], [b"\0" * 32] * 40)
    assert not merkle.verify(b"\0" * 32, merkle.LEAVES_MAX + 1, 0, [b"\0" * 32], [])
