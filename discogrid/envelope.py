"""Signed envelopes: DSSE over verbatim msgpack bytes, so that nothing is ever canonicalised.

An envelope is msgpack of `[payload_type, payload, [[key_id, signature], …]]`; the signature covers DSSE's
pre-authentication encoding of type and payload (github.com/secure-systems-lab/dsse, protocol.md), so that a signature
for one type of payload is worth nothing for another.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgpack
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from discogrid.errors import SignatureRefused
from discogrid.types import NodeId

ENVELOPE_BYTES_MAX = 1 << 20
SIGNATURES_MAX = 4
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Opened:
    """A payload whose signature held, and who signed it."""

    payload: bytes
    signer: NodeId


def seal(payload_type: str, payload: bytes, key: SigningKey, key_id: NodeId) -> bytes:
    """Sign `payload` as a `payload_type`: 20 µs."""
    signature = key.sign(_encoding(payload_type, payload)).signature
    return bytes(msgpack.packb([payload_type, payload, [[key_id, signature]]]))


def unseal(raw: bytes, payload_type: str, key_of: Callable[[NodeId], VerifyKey | None]) -> Opened:
    """The payload of an envelope that a known key signed as `payload_type`; SignatureRefused otherwise. About 50 µs."""
    payload, signatures = _parts_of(raw, payload_type)
    for signer, signature in signatures:
        if (key := key_of(signer)) is None:
            continue
        try:
            key.verify(_encoding(payload_type, payload), signature)
        except BadSignatureError:
            raise SignatureRefused(
                f"the signature of node {signer[:8]} does not fit what it is said to have signed",
                why="The bytes were changed on the way, or another key signed them.",
            ) from None
        return Opened(payload, signer)
    raise SignatureRefused("nobody this grid knows has signed this")


def unproven(raw: bytes, payload_type: str) -> bytes:
    """The payload of an envelope nobody vouches for yet: only to find out by which key `unseal` is to prove it."""
    return _parts_of(raw, payload_type)[0]


def _parts_of(raw: bytes, payload_type: str) -> tuple[bytes, list[tuple[NodeId, bytes]]]:
    found_type, payload, signatures = _parts(raw)
    if found_type != payload_type:
        raise SignatureRefused(f"a {found_type!r} was signed where a {payload_type!r} is needed")
    return payload, signatures


def _parts(raw: bytes) -> tuple[str, bytes, list[tuple[NodeId, bytes]]]:
    if len(raw) > ENVELOPE_BYTES_MAX:
        raise SignatureRefused(f"an envelope of {len(raw)} bytes is over {ENVELOPE_BYTES_MAX}")
    try:
        kind, payload, signatures = msgpack.unpackb(
            raw, raw=False, max_array_len=SIGNATURES_MAX, max_map_len=0, max_ext_len=0, max_str_len=256
        )
        pairs = [(NodeId(signer), signature) for signer, signature in signatures]
    except (ValueError, TypeError, msgpack.UnpackException):
        raise SignatureRefused("this is no envelope") from None
    well_formed = (
        isinstance(kind, str)
        and isinstance(payload, bytes)
        and all(isinstance(signer, str) and isinstance(signature, bytes) for signer, signature in pairs)
        and all(len(signature) == SIGNATURE_BYTES for _, signature in pairs)
    )
    if not well_formed:
        raise SignatureRefused("this is no envelope")
    return kind, payload, pairs


def _encoding(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
