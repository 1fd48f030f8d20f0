"""Envelopes: what was signed, as what and by whom; the slightest change is refused."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from discogrid.envelope import ENVELOPE_BYTES_MAX, SIGNATURES_MAX, seal, unseal
from discogrid.errors import SignatureRefused
from discogrid.keys import new_identity, public_key
from discogrid.types import NodeId

SIGNER = new_identity()
OTHER = new_identity()
KIND = "discogrid/test/1"


def key_of(node: NodeId) -> VerifyKey | None:
    keys = {SIGNER.id: SIGNER.public, OTHER.id: OTHER.public}
    return public_key(keys[node]) if node in keys else None


def test_what_was_signed_comes_back_with_its_signer() -> None:
    opened = unseal(SIGNER.seal(KIND, b"payload"), KIND, key_of)
    assert (opened.payload, opened.signer) == (b"payload", SIGNER.id)


def test_one_flipped_bit_anywhere_is_refused() -> None:
    raw = SIGNER.seal(KIND, b"\x93\x01\x02\x03")
    accepted = []
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            unseal(bytes(flipped), KIND, key_of)
        except SignatureRefused:
            continue
        accepted.append(bit)
    assert accepted == []


def test_one_byte_less_or_more_anywhere_is_refused() -> None:
    raw = SIGNER.seal(KIND, b"payload")
    for at in range(len(raw)):
        for damaged in (raw[:at], raw[:at] + raw[at + 1 :], raw[:at] + b"\0" + raw[at:]):
            with pytest.raises(SignatureRefused):
                unseal(damaged, KIND, key_of)
    with pytest.raises(SignatureRefused):
        unseal(raw + b"\0", KIND, key_of)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(SignatureRefused):
        unseal(raw, KIND, key_of)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        "text",
        [KIND, b"payload"],
        [KIND, b"payload", []],
        [KIND, b"payload", [[SIGNER.id]]],
        [KIND, b"payload", [[SIGNER.id, b"short"]]],
        [KIND, b"payload", [[SIGNER.id, "x" * 64]]],
        [KIND, b"payload", [[None, b"x" * 64]]],
        [KIND, b"payload", [[[], b"x" * 64]]],
        [KIND, b"payload", [[1, 2]]],
        [KIND, b"payload", "ab"],
        [KIND, "payload", [[SIGNER.id, b"x" * 64]]],
        [KIND.encode(), b"payload", [[SIGNER.id, b"x" * 64]]],
        [KIND, b"payload", [[SIGNER.id, b"x" * 64]], "more"],
    ],
)
def test_what_is_no_envelope_is_refused(value: object) -> None:
    with pytest.raises(SignatureRefused):
        unseal(msgpack.packb(value), KIND, key_of)


def test_a_signature_for_another_type_is_worth_nothing() -> None:
    raw = SIGNER.seal("discogrid/result/1", b"payload")
    assert unseal(raw, "discogrid/result/1", key_of).payload == b"payload"
    with pytest.raises(SignatureRefused, match="discogrid/result/1"):
        unseal(raw, "discogrid/job/1", key_of)
    _, payload, signatures = msgpack.unpackb(raw)
    renamed = msgpack.packb(["discogrid/job/1", payload, signatures])
    with pytest.raises(SignatureRefused, match="does not fit"):
        unseal(renamed, "discogrid/job/1", key_of)


def test_type_and_payload_cannot_be_cut_elsewhere() -> None:
    """The encoding that is signed holds both lengths: `ab`+`c` is not `a`+`bc`."""
    _, _, signatures = msgpack.unpackb(SIGNER.seal("type 1 x", b"c"))
    with pytest.raises(SignatureRefused):
        unseal(msgpack.packb(["type", b"1 x c", signatures]), "type", key_of)


def test_a_stranger_s_signature_is_refused_also_under_a_known_name() -> None:
    stranger = new_identity()
    with pytest.raises(SignatureRefused, match="nobody"):
        unseal(stranger.seal(KIND, b"payload"), KIND, key_of)
    with pytest.raises(SignatureRefused, match="does not fit"):
        unseal(seal(KIND, b"payload", stranger.signing, SIGNER.id), KIND, key_of)


def test_a_false_signature_beside_a_true_one_of_a_known_key_is_refused() -> None:
    kind, payload, [[signer, signature]] = msgpack.unpackb(SIGNER.seal(KIND, b"payload"))
    false_first = msgpack.packb([kind, payload, [[OTHER.id, bytes(64)], [signer, signature]]])
    with pytest.raises(SignatureRefused):
        unseal(false_first, KIND, key_of)


def test_a_signature_nobody_knows_beside_a_true_one_does_no_harm() -> None:
    kind, payload, [[signer, signature]] = msgpack.unpackb(SIGNER.seal(KIND, b"payload"))
    raw = msgpack.packb([kind, payload, [[new_identity().id, bytes(64)], [signer, signature]]])
    assert unseal(raw, KIND, key_of).signer == SIGNER.id


def test_signatures_are_bounded_in_number() -> None:
    kind, payload, [pair] = msgpack.unpackb(SIGNER.seal(KIND, b"payload"))
    assert unseal(msgpack.packb([kind, payload, [pair] * SIGNATURES_MAX]), KIND, key_of).payload == payload
    with pytest.raises(SignatureRefused):
        unseal(msgpack.packb([kind, payload, [pair] * (SIGNATURES_MAX + 1)]), KIND, key_of)


def test_an_envelope_is_bounded_in_size() -> None:
    room = ENVELOPE_BYTES_MAX - len(SIGNER.seal(KIND, b"x" * 70_000)) + 70_000
    assert len(unseal(SIGNER.seal(KIND, b"x" * room), KIND, key_of).payload) == room
    with pytest.raises(SignatureRefused, match="over"):
        unseal(SIGNER.seal(KIND, b"x" * (room + 1)), KIND, key_of)
