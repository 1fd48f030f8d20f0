"""SPAKE2 of the PyPI package `spake2`, with types, and with entropy as a value."""

from enum import Enum, auto

from spake2 import SPAKE2_A, SPAKE2_B
from spake2.ed25519_basic import NotOnCurve
from spake2.spake2 import SPAKEError

ENTROPY_BYTES = 64
SHARE_BYTES = 33


class Side(Enum):
    """Who plays which part; the two parts cannot be swapped, so a reflected message is refused."""

    JOINER = auto()
    INVITER = auto()


_PARTS = {Side.JOINER: SPAKE2_A, Side.INVITER: SPAKE2_B}


class ShareRefused(Exception):
    """The other side's share is no element of the group, or comes from our own side."""


class Exchange:
    """One run of SPAKE2: `share` is for the other side, `key(theirs)` is 32 bytes that both have if the passwords agree."""

    def __init__(self, side: Side, password: bytes, entropy: bytes) -> None:
        """`entropy` is ENTROPY_BYTES random bytes that are used nowhere else."""
        assert len(entropy) == ENTROPY_BYTES
        self._exchange = _PARTS[side](password, entropy_f=lambda size: entropy[:size])
        self.share: bytes = bytes(self._exchange.start())

    def key(self, share: bytes) -> bytes:
        """The key; may be asked for once. ShareRefused when the share is not one of the other side."""
        if len(share) != SHARE_BYTES:
            raise ShareRefused
        try:
            return bytes(self._exchange.finish(share))
        except (SPAKEError, NotOnCurve, ValueError):
            raise ShareRefused from None
