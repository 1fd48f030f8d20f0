"""From the agreed key to confirmations and sealed letters, one key a direction and purpose."""

import hashlib
import hmac
from collections.abc import Iterator
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from discogrid.pairing.frames import PART_BYTES_MAX

LETTER_BYTES_MAX = (1 << 20) + (64 << 10)  # a roster of the greatest size, and what goes with it
_MORE, _LAST = b"\x00", b"\x01"


class Direction(StrEnum):
    """Who speaks."""

    JOINER = "joiner"
    INVITER = "inviter"


class SealBroken(Exception):
    """A sealed part was changed, dropped, repeated or reordered on the way, or a letter is too long."""


class KeySchedule:
    """The keys of one exchange: they depend on the agreed key and on every byte of both first frames."""

    def __init__(self, key: bytes, opening: bytes, reply: bytes) -> None:
        """`opening` and `reply` are the frames as they travelled."""
        parts = (b"discogrid pairing 1", opening, reply)
        self._transcript = hashlib.sha256(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).digest()
        self._key = key

    def confirmation(self, speaker: Direction) -> bytes:
        """What shows that the speaker has the key."""
        return hmac.digest(self._derive(f"confirm {speaker}"), self._transcript, "sha256")

    def statement(self, speaker: Direction) -> bytes:
        """What the speaker's identity signs: this exchange, and its own part in it."""
        return self._derive(f"statement {speaker}")

    def seal(self, speaker: Direction) -> "Seal":
        """What closes or opens the speaker's letters."""
        return Seal(self._derive(f"seal {speaker}"))

    def _derive(self, purpose: str) -> bytes:
        return HKDF(SHA256(), 32, self._transcript, f"discogrid pairing {purpose}".encode()).derive(self._key)


class Seal:
    """One direction's cipher; every part has its own number, so that none can be dropped, repeated or moved."""

    def __init__(self, key: bytes) -> None:
        """A key that no other direction uses."""
        self._cipher = ChaCha20Poly1305(key)
        self._count = 0
        self._parts: list[bytes] = []

    def close(self, letter: bytes) -> Iterator[bytes]:
        """The sealed parts of a letter."""
        parts = [letter[at : at + PART_BYTES_MAX] for at in range(0, len(letter), PART_BYTES_MAX)] or [b""]
        for number, part in enumerate(parts, 1):
            flag = _LAST if number == len(parts) else _MORE
            yield self._cipher.encrypt(self._nonce(), flag + part, None)

    def open(self, box: bytes) -> bytes | None:
        """The letter when this was its last part, None when there is more to come; SealBroken."""
        try:
            plain = self._cipher.decrypt(self._nonce(), box, None)
        except InvalidTag:
            raise SealBroken from None
        self._parts.append(plain[1:])
        if sum(map(len, self._parts)) > LETTER_BYTES_MAX:
            raise SealBroken
        if plain[:1] != _LAST:
            return None
        letter = b"".join(self._parts)
        self._parts.clear()
        return letter

    def _nonce(self) -> bytes:
        self._count += 1
        return self._count.to_bytes(12, "big")


def pledge(public: bytes, salt: bytes) -> bytes:
    """Binds an identity into the exchange without showing it to whoever listens."""
    return hashlib.sha256(b"discogrid pairing pledge" + salt + public).digest()


def same(one: bytes, other: bytes) -> bool:
    """Whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one, other)
