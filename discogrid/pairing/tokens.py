"""The token for machines without anybody in front of them: a long secret, whose grid it opens, and where."""

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

import msgpack

from discogrid.errors import UsageError, WireError
from discogrid.pairing.addresses import Address, parse_address
from discogrid.wire import unpack

PREFIX = "discogrid-token-"
VERSION = 1
SECRET_BYTES = 16
FINGERPRINT_BYTES = 32  # the SHA-256 of the owner's public key
CHECKSUM_BYTES = 4
ADDRESSES_MAX = 8
BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Token:
    """Whoever holds it may join until it has expired or was used up; `repr` does not show the secret."""

    secret: bytes = field(repr=False)
    fingerprint: bytes
    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        """One printable line."""
        where = [str(address) for address in self.addresses]
        body = bytes(msgpack.packb([VERSION, self.secret, self.fingerprint, where]))
        return PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).decode().rstrip("=")

    @property
    def nameplate(self) -> str:
        """What the inviting side finds its invitation by; it tells nothing of the secret."""
        return "t" + hashlib.sha256(b"discogrid token nameplate\0" + self.secret).hexdigest()[:12]

    @property
    def password(self) -> bytes:
        """What the key exchange is keyed with."""
        return b"token " + self.secret


def parse_token(text: str) -> Token:
    """The token in a line; UsageError when it is cut, changed or none."""
    stripped = text.strip()
    if not stripped.startswith(PREFIX) or len(stripped) > 2 * BYTES_MAX:
        raise _no_token(f"A token is one line that begins with {PREFIX}.")
    coded = stripped.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _no_token("It holds characters that no token has.") from None
    body, checksum = raw[:-CHECKSUM_BYTES], raw[-CHECKSUM_BYTES:]
    if checksum != _checksum(body):
        raise _no_token("It is cut or was changed on the way.")
    return _token(body)


def _token(body: bytes) -> Token:
    try:
        match unpack(body, limit=BYTES_MAX):
            case [
                1,
                bytes(secret),
                bytes(fingerprint),
                list(where),
            ] if len(secret) == SECRET_BYTES and len(fingerprint) == FINGERPRINT_BYTES:
                addresses = tuple(
                    parse_address(each) for each in where[:ADDRESSES_MAX] if isinstance(each, str)
                )
                return Token(secret, fingerprint, addresses)
            case _:
                raise _no_token("Another version of discogrid made it.")
    except WireError:
        raise _no_token("It is damaged.") from None


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:CHECKSUM_BYTES]


def _no_token(why: str) -> UsageError:
    return UsageError(
        "this is no token", why=why, fix="`discogrid invite --token` on the grid's side makes one."
    )
