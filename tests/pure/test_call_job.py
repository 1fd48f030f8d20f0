"""What a coordinator keeps of one job of calls: chunks until their tasks end, words until its client has them."""

import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discogrid.batches import Batch, Chunk, check_chunks, encode_chunk, seal_batch
from discogrid.calls.frames import Call
from discogrid.errors import SignatureRefused
from discogrid.messages import CallsDone
from discogrid.types import AgentId, JobId
from discogrid.wire import unpack_parts
from discogrid_coordinator import call_job
from discogrid_coordinator.call_job import CallJob
from tests.trust.forge import cast, leaves_of, ref

GRID = cast()
JOB = GRID.job(leaves_of("a"))
ID = JobId("k3f9")


def batch_of(start: int, count: int) -> tuple[Batch, list[bytes]]:
    chunks = [encode_chunk(Chunk(start + at, (Call(start + at, 0, b"argument"),))) for at in range(count)]
    return seal_batch(JOB, start, chunks, {0: ref("square")}, GRID.submitter), chunks


def added(calls: CallJob, count: int) -> Batch:
    batch, chunks = batch_of(calls.tasks, count)
    calls.add(batch, chunks, calls.check(batch, chunks))
    return batch


def job_of(*counts: int) -> CallJob:
    calls = CallJob(ID)
    for count in counts:
        added(calls, count)
    return calls


done = partial(CallsDone, job=ID, agent=AgentId("attic"))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.data())
def test_any_tasks_that_wait_travel_with_what_proves_them(counts: list[int], data: st.DataObject) -> None:
    calls = job_of(*counts)
    start = data.draw(st.integers(0, calls.tasks - 1))
    stop = data.draw(st.integers(start + 1, calls.tasks))
    told = []
    for parcel in calls.parcels(start, stop):
        [batch] = [batch for batch in calls.batches() if batch.envelope == parcel.envelope]
        proof = unpack_parts(parcel.proof, part_bytes_max=32)
        told += [chunk.index for chunk in check_chunks(batch, parcel.start, parcel.chunks, proof)]
    assert told == list(range(start, stop))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=90), st.randoms(use_true_random=False))
def test_a_batch_is_over_with_the_last_of_its_tasks_whatever_their_order(
    counts: list[int], dice: random.Random
) -> None:
    calls = job_of(*counts)
    order = list(range(calls.tasks))
    dice.shuffle(order)
    whose = [batch.body.start for batch in calls.batches() for _ in range(batch.body.chunks)]
    for at, index in enumerate(order):
        over = calls.ended(index, index + 1)
        last = whose[index] not in {whose[later] for later in order[at + 1 :]}
        assert [batch.body.start for batch in over] == [whose[index]] * last
    assert not calls.batches()
    assert added(calls, 2).body.start == len(order)  # and there is room as at first
    assert [parcel.start for parcel in calls.parcels(len(order), calls.tasks)] == [len(order)]


def test_an_old_task_among_hundreds_of_newer_ones_is_still_found() -> None:
    calls = CallJob(ID)
    added(calls, 2)
    for start in range(2, 202):
        added(calls, 1)
        calls.ended(start, start + 1)
    assert [parcel.start for parcel in calls.parcels(0, 2)] == [0]
    assert [batch.body.start for batch in calls.ended(0, 2)] == [0]


def test_a_range_over_several_batches_ends_all_that_lie_in_it() -> None:
    calls = job_of(2, 3, 4)
    assert [batch.body.start for batch in calls.ended(1, 6)] == [2]
    assert [batch.body.start for batch in calls.ended(0, 1)] == [0]


def test_chunks_that_were_not_signed_are_refused() -> None:
    calls = CallJob(ID)
    batch, chunks = batch_of(0, 3)
    for wrong in (chunks[:2], [*chunks[:2], chunks[0]], chunks[::-1], [*chunks, chunks[0]]):
        with pytest.raises(SignatureRefused, match="not the ones that were signed"):
            calls.check(batch, wrong)


def test_a_batch_that_is_not_the_next_is_refused() -> None:
    calls = job_of(2)
    for start in (0, 1, 3):
        with pytest.raises(SignatureRefused, match="task 2 is next"):
            calls.check(*batch_of(start, 1))
    calls.closed = True
    with pytest.raises(SignatureRefused):
        calls.check(*batch_of(2, 1))


@pytest.mark.parametrize(("limit", "most"), [("CHUNKS_WAITING_MAX", 3), ("CHUNKS_BYTES_MAX", 60)])
def test_what_waits_is_limited_until_some_of_it_has_ended(
    monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(call_job, limit, most)
    calls = job_of(3)
    with pytest.raises(SignatureRefused, match="of one pool wait") as refused:
        added(calls, 1)
    assert "imap" in refused.value.fix
    calls.ended(0, 3)
    added(calls, 1)


def test_words_are_kept_in_order_until_the_client_has_them() -> None:
    calls = CallJob(ID)
    words = [calls.done(lambda number: done(number=number), [bytes(number)]) for number in range(4)]
    assert [word.message.number for word in words] == [1, 2, 3, 4]
    assert calls.unseen() == words
    assert calls.seen(2) == [1, 2]
    assert calls.seen(2) == []
    assert calls.unseen() == words[2:]
    assert calls.seen(99) == [3, 4]
    assert not calls.unseen()


def test_a_client_that_takes_nothing_is_too_far_behind_at_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_job, "UNSEEN_BYTES_MAX", 10)
    calls = CallJob(ID)
    told = []
    for content in (b"12345", b"67890", b"1"):
        calls.done(lambda number: done(number=number), [content])
        told.append(calls.full)
    calls.seen(1)
    assert [*told, calls.full] == [False, False, True, False]
