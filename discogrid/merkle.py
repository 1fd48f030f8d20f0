"""One hash for many leaves, and short proofs that a range of them belongs to it (the tree of RFC 6962, with BLAKE3).

Leaves and nodes are hashed in domains of their own, so that no node passes for a leaf.
"""

from collections.abc import Sequence

from blake3 import blake3

HASH_BYTES = 32
LEAVES_MAX = 1 << 40  # of a tree that a proof may speak of
_LEAF, _NODE = b"\x00", b"\x01"


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of one leaf's bytes."""
    return blake3(_LEAF + leaf).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """The one hash of all leaf hashes; of none, the hash of nothing."""
    return Tree(hashes).root


class Tree:
    """A tree over leaf hashes, kept level by level, 64 bytes a leaf: a proof costs O(log leaves)."""

    __slots__ = ("_levels",)

    def __init__(self, hashes: Sequence[bytes]) -> None:
        """Hash all levels at once."""
        level = list(hashes)
        self._levels = [b"".join(level)]
        while len(level) > 1:
            above = [_join(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
            if len(level) % 2:
                above.append(level[-1])  # without a sibling it rises as it is
            level = above
            self._levels.append(b"".join(level))

    def __len__(self) -> int:
        """How many leaves."""
        return len(self._levels[0]) // HASH_BYTES

    @property
    def root(self) -> bytes:
        """What the whole tree hashes to."""
        return self._levels[-1] or blake3(b"").digest()

    def prove(self, start: int, stop: int) -> list[bytes]:
        """The hashes that lead from the leaves `start <= index < stop` to the root; ValueError for an empty or foreign range."""
        if not 0 <= start < stop <= len(self):
            raise ValueError(f"no leaves {start} to {stop} in a tree of {len(self)}")
        proof: list[bytes] = []
        for level in self._levels[:-1]:
            if start % 2:
                proof.append(_hash_at(level, start - 1))
            if stop % 2 and stop * HASH_BYTES < len(level):
                proof.append(_hash_at(level, stop))
            start, stop = start // 2, (stop + 1) // 2
        return proof


def verify(root: bytes, count: int, start: int, hashes: Sequence[bytes], proof: Sequence[bytes]) -> bool:
    """Whether `hashes` are the leaf hashes from index `start` on in the tree of `count` leaves with this root.

    Never raises on what a peer sent; costs O(hashes + log count).
    """
    stop = start + len(hashes)
    if not 0 <= start < stop <= count <= LEAVES_MAX:
        return False
    # A leaf hash of another length could hide the boundary between two children.
    if any(not isinstance(item, bytes) or len(item) != HASH_BYTES for item in (*hashes, *proof)):
        return False
    siblings = iter(proof)
    level = list(hashes)
    while count > 1:
        if start % 2:
            level.insert(0, next(siblings, b""))
        if stop % 2 and stop < count:
            level.append(next(siblings, b""))
        odd = [level.pop()] if len(level) % 2 else []
        level = [_join(level[at], level[at + 1]) for at in range(0, len(level), 2)] + odd
        start, stop, count = start // 2, (stop + 1) // 2, (count + 1) // 2
    return level == [root] and next(siblings, None) is None


def _hash_at(level: bytes, place: int) -> bytes:
    return level[place * HASH_BYTES : (place + 1) * HASH_BYTES]


def _join(left: bytes, right: bytes) -> bytes:
    return blake3(_NODE + left + right).digest()
