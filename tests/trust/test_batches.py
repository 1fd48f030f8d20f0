"""Calls that a job gets while it runs: what its submitter has signed for it, and nothing else."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discogrid import merkle
from discogrid.batches import (
    BATCH_CHUNKS_MAX,
    BATCH_TYPE,
    CHUNK_BYTES_MAX,
    TASKS_OPEN_JOB_MAX,
    Batch,
    BatchBody,
    Chunk,
    check_chunks,
    encode_chunk,
    open_batch,
    seal_batch,
)
from discogrid.bundle import JOB_TYPE
from discogrid.calls.chunks import CHUNK_CALLS_MAX
from discogrid.calls.frames import Call
from discogrid.errors import SignatureRefused
from discogrid.types import Digest, FileRef, Role
from tests.trust.forge import HOUR, NOW, cast, leaves_of, member, ref, roster_of

GRID = cast()
JOB = GRID.job(leaves_of("a"))
START = 5
FUNCTIONS = {0: ref("square"), 3: ref("cube")}


def chunks(start: int, count: int, *functions: int) -> list[bytes]:
    named = functions or (0, 3)
    return [
        encode_chunk(Chunk(start + at, tuple(Call(10 * at + one, one, b"arguments") for one in named)))
        for at in range(count)
    ]


LEAVES = chunks(START, 7)
TREE = merkle.Tree([merkle.leaf_hash(leaf) for leaf in LEAVES])
SEALED = seal_batch(JOB, START, LEAVES, FUNCTIONS, GRID.submitter)


def opened(envelope: bytes = SEALED.envelope, **other: Any) -> Batch:
    known: dict[str, Any] = {"job": JOB, "roster": GRID.roster, "now": NOW}
    return open_batch(envelope, **{**known, **other})


def signed(identity: Any = GRID.submitter, kind: str = BATCH_TYPE, **other: Any) -> bytes:
    envelope: bytes = identity.seal(
        kind, msgspec.msgpack.encode(msgspec.structs.replace(SEALED.body, **other))
    )
    return envelope


@given(st.integers(0, 6), st.integers(1, 7))
def test_every_range_of_a_batch_is_proven(at: int, length: int) -> None:
    stop = min(7, at + length)
    found = check_chunks(opened(), START + at, LEAVES[at:stop], TREE.prove(at, stop))
    assert [chunk.index for chunk in found] == list(range(START + at, START + stop))
    assert found[0].calls[0] == Call(10 * at, 0, b"arguments")


def test_a_batch_says_where_it_stands() -> None:
    batch = opened()
    assert (batch.body.start, batch.stop, batch.body.functions) == (START, START + 7, FUNCTIONS)
    assert batch == SEALED


@pytest.mark.parametrize(
    "envelope",
    [
        signed(GRID.other_submitter),
        signed(GRID.agent),
        signed(GRID.coordinator),
        signed(kind=JOB_TYPE),
        signed(job=Digest("blake3:" + "0" * 64)),
        signed(version=2),
        signed(start=-1),
        signed(chunks=0),
        signed(chunks=BATCH_CHUNKS_MAX + 1),
        signed(start=TASKS_OPEN_JOB_MAX),
        signed(functions={-1: ref("f")}),
        signed(functions={0: FileRef("../f", ref("f").digest, 1)}),
        signed(functions={0: FileRef("f", Digest("blake3:x"), 1)}),
        signed(functions={number: ref("f") for number in range(1025)}),
        GRID.submitter.seal(BATCH_TYPE, b"\xc1"),
        b"no envelope",
    ],
    ids=range(16),
)
def test_what_the_submitter_has_not_signed_for_this_job_is_refused(envelope: bytes) -> None:
    with pytest.raises(SignatureRefused):
        opened(envelope)


def test_an_expired_job_or_roster_gets_no_more_calls_but_what_has_run_is_read() -> None:
    with pytest.raises(SignatureRefused, match="expired"):
        opened(now=NOW + 2 * HOUR)
    with pytest.raises(SignatureRefused):
        opened(now=NOW + 10_000 * HOUR)
    assert opened(now=None) == SEALED


def test_a_submitter_that_was_put_out_of_the_grid_gets_no_more_calls() -> None:
    without = roster_of(GRID.owner, member(GRID.coordinator, Role.COORDINATOR))
    with pytest.raises(SignatureRefused, match="nobody this grid knows"):
        opened(roster=without)


@given(st.data())
@settings(max_examples=200)
def test_whatever_is_changed_on_the_way_is_refused(data: st.DataObject) -> None:
    raw = bytearray(SEALED.envelope)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SignatureRefused):
        opened(bytes(raw))
    leaves = [bytearray(leaf) for leaf in LEAVES[1:3]]
    leaf = data.draw(st.sampled_from(leaves))
    leaf[data.draw(st.integers(0, len(leaf) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SignatureRefused):
        check_chunks(opened(), START + 1, list(map(bytes, leaves)), TREE.prove(1, 3))


def proven(leaves: list[bytes], start: int = START) -> list[Chunk]:
    """Signed as they are: what a submitter itself may have got wrong."""
    batch = open_batch(
        seal_batch(JOB, start, leaves, FUNCTIONS, GRID.submitter).envelope, JOB, GRID.roster, now=NOW
    )
    tree = merkle.Tree([merkle.leaf_hash(leaf) for leaf in leaves])
    return check_chunks(batch, start, leaves, tree.prove(0, len(leaves)))


def test_chunks_are_not_moved_to_another_place() -> None:
    with pytest.raises(SignatureRefused):
        check_chunks(opened(), START + 1, LEAVES[:1], TREE.prove(0, 1))
    with pytest.raises(SignatureRefused):
        check_chunks(opened(), START - 1, LEAVES[:1], TREE.prove(0, 1))
    with pytest.raises(SignatureRefused, match="another place"):
        proven(chunks(START + 1, 2))
    with pytest.raises(SignatureRefused):
        check_chunks(opened(), START, [], [])


@pytest.mark.parametrize(
    ("leaves", "reason"),
    [
        (chunks(START, 1, 7), "names a function"),
        ([encode_chunk(Chunk(START, ()))], "cannot be read"),
        ([encode_chunk(Chunk(START, (Call(0, 0, b""),) * (CHUNK_CALLS_MAX + 1)))], "cannot be read"),
        ([b"\xc1"], "cannot be read"),
        ([b"\x92\x05"], "cannot be read"),
        ([encode_chunk(Chunk(START, (Call(0, 0, b"x" * CHUNK_BYTES_MAX),)))], "longer than"),
    ],
    ids=range(6),
)
def test_chunks_that_no_agent_can_run_are_refused(leaves: list[bytes], reason: str) -> None:
    with pytest.raises(SignatureRefused, match=reason):
        proven(leaves)


def test_a_batch_without_functions_is_one_whose_calls_name_none() -> None:
    body = msgspec.msgpack.decode(msgspec.msgpack.encode(SEALED.body), type=BatchBody)
    assert body == SEALED.body
