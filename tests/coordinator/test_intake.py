"""Taking jobs in: whole, verified, once, under a name of their own."""

import time
from pathlib import Path

import msgspec
import pytest

from discogrid.blobs import BlobStore
from discogrid.bundle import Job, Leaf, encode_leaf, job_id_candidates
from discogrid.errors import SignatureRefused, WireError
from discogrid.types import GIB
from discogrid.wire import pack_parts
from discogrid_coordinator.intake import BLOBS_MISSING_MAX, RECENT_MAX, Intake
from tests.trust.forge import cast, leaves_of, ref

GRID = cast()
NAMES = ("a.txt", "b.txt", "c.txt")
LEAVES = leaves_of(*NAMES)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", GIB)


@pytest.fixture
def intake(store: BlobStore) -> Intake:
    return Intake(GRID.keeper, GRID.coordinator.id, store, lambda _: None)


def now_job(leaves: list[bytes] = LEAVES, **other: object) -> Job:
    return GRID.job(leaves, time.time(), **other)


def verify(intake: Intake, job: Job, leaves: list[bytes] = LEAVES):  # type: ignore[no-untyped-def]
    return intake.verify(job.envelope, pack_parts(leaves), GRID.submitter.id, time.time())


def test_what_is_missing_is_named_until_it_is_here(intake: Intake, store: BlobStore) -> None:
    verified = verify(intake, now_job())
    script = verified.job.manifest.script.digest
    wanted = {script, *(ref(name, name.encode()).digest for name in NAMES)}
    assert set(intake.missing(verified.blobs(), GRID.submitter.id)) == wanted
    store.put_bytes(b"b.txt")
    assert set(intake.missing(verified.blobs(), GRID.submitter.id)) == wanted - {
        ref("b.txt", b"b.txt").digest
    }
    for content in (b"content", b"a.txt", b"c.txt"):
        store.put_bytes(content)
    assert intake.missing(verified.blobs(), GRID.submitter.id) == []


def test_a_blob_that_many_tasks_need_is_named_once_and_not_too_many_at_a_time(intake: Intake) -> None:
    twice = leaves_of("same.txt", "same.txt")
    assert len(intake.missing(verify(intake, now_job(twice), twice).blobs(), GRID.submitter.id)) == 2
    many = leaves_of(*(str(number) for number in range(BLOBS_MISSING_MAX + 10)))
    assert (
        len(intake.missing(verify(intake, now_job(many), many).blobs(), GRID.submitter.id))
        == BLOBS_MISSING_MAX
    )


def test_a_job_is_sent_by_who_signed_it(intake: Intake) -> None:
    with pytest.raises(SignatureRefused, match="who sends it"):
        intake.verify(now_job().envelope, pack_parts(LEAVES), GRID.other_submitter.id, time.time())


def test_other_tasks_than_the_signed_ones_are_refused(intake: Intake) -> None:
    for leaves in (LEAVES[:2], LEAVES[::-1], [*LEAVES, LEAVES[0]]):
        with pytest.raises(SignatureRefused):
            verify(intake, now_job(), leaves)
    with pytest.raises(WireError):
        intake.verify(now_job().envelope, b"\xc1", GRID.submitter.id, time.time())


def test_signed_tasks_out_of_order_are_refused_at_once(intake: Intake) -> None:
    """Every agent would refuse them later."""
    leaves = [encode_leaf(Leaf(index, None)) for index in (1, 0)]
    with pytest.raises(SignatureRefused, match="order"):
        verify(intake, now_job(leaves), leaves)


def test_a_task_with_an_impossible_name_is_refused_at_once(intake: Intake) -> None:
    leaves = [encode_leaf(Leaf(0, ref("../x")))]
    with pytest.raises(SignatureRefused, match="cannot be used"):
        verify(intake, now_job(leaves), leaves)


def test_a_job_that_comes_again_is_not_checked_from_the_start_but_still_against_the_clock(
    intake: Intake,
) -> None:
    job = now_job()
    first = verify(intake, job)
    assert verify(intake, job) is first
    with pytest.raises(SignatureRefused, match="expired"):
        intake.verify(job.envelope, pack_parts(LEAVES), GRID.submitter.id, time.time() + 10**6)
    with pytest.raises(SignatureRefused, match="who sends"):
        intake.verify(job.envelope, pack_parts(LEAVES), GRID.agent.id, time.time())
    with pytest.raises(SignatureRefused):
        verify(intake, job, LEAVES[::-1])
    for number in range(RECENT_MAX):
        verify(intake, now_job(name=str(number)))
    assert verify(intake, job) is not first


def test_a_second_job_whose_digest_begins_alike_gets_a_longer_id(intake: Intake) -> None:
    verified = verify(intake, now_job())
    short, longer, longest = job_id_candidates(verified.job.digest)[:3]
    assert intake.accept(verified).id == short
    # The same digest stands for one that begins alike: twenty bits of likeness take a while to find.
    assert intake.accept(verified).id == longer
    assert intake.accept(verified).id == longest


def test_accepted_blobs_stay_until_the_job_has_ended(intake: Intake, store: BlobStore) -> None:
    verified = verify(intake, now_job())
    for content in (b"content", *(name.encode() for name in NAMES)):
        store.put_bytes(content)
    accepted = intake.accept(verified)
    assert not any(store.remove(file.digest) for file in verified.blobs())
    intake.close(accepted.id)
    assert all(store.remove(file.digest) for file in verified.blobs())


def test_a_restored_job_is_verified_again(intake: Intake) -> None:
    job = now_job()
    id_ = job_id_candidates(job.digest)[0]
    kept = msgspec.structs.replace(job.manifest, name="other")
    assert kept != job.manifest
    with pytest.raises(SignatureRefused):
        intake.restore(id_, job.envelope.replace(b"script.py", b"Script.py"), pack_parts(LEAVES))
    with pytest.raises(SignatureRefused):
        intake.restore(id_, job.envelope, pack_parts(LEAVES[:2]))
    assert intake.restore(id_, job.envelope, pack_parts(LEAVES)).job == job
    assert intake.known(job.digest) == id_
