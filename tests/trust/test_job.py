"""A job's signature: for this grid, this coordinator, now, and saying only what can be done."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from discogrid.bundle import (
    CLOCK_SKEW_S_MAX,
    JOB_ID_CHARACTERS,
    JOB_TYPE,
    MANIFEST_BYTES_MAX,
    RESULT_TYPE,
    TASKS_MAX,
    VALID_S_MAX,
    Job,
    Manifest,
    check_base_name,
    check_leaves,
    is_id_of,
    job_id_candidates,
    open_job,
    seal_job,
)
from discogrid.errors import SignatureRefused
from discogrid.keys import new_identity
from discogrid.types import Digest, JobId, Limits, Mount, Requirements
from tests.trust.forge import HOUR, NOW, cast, leaves_of, ref, renamed

GRID = cast()
LEAVES = leaves_of("a.mp4", "b.mp4", "c.mp4")
NAN, INF = float("nan"), float("inf")


def opened(job: Job, now: float | None = NOW) -> Job:
    return open_job(job.envelope, GRID.roster, audience=GRID.coordinator.id, now=now)


def refused(job: Job, match: str, now: float | None = NOW) -> None:
    with pytest.raises(SignatureRefused, match=match):
        opened(job, now)


def test_a_true_job_is_opened_as_it_was_signed() -> None:
    job = GRID.job(LEAVES)
    assert opened(job) == job
    check_leaves(job, LEAVES)


# For whom.


def test_a_job_for_another_grid_is_refused() -> None:
    refused(GRID.job(LEAVES, grid=cast().roster.grid), "another grid")


def test_a_job_for_another_coordinator_is_refused() -> None:
    refused(GRID.job(LEAVES, audience=GRID.agent.id), "another coordinator")


def test_a_job_of_a_stranger_is_refused() -> None:
    stranger = new_identity()
    refused(seal_job(GRID.manifest(LEAVES, submitter=stranger.id), stranger), "nobody")


@pytest.mark.parametrize("role", ["agent", "coordinator"])
def test_a_job_of_a_member_who_may_not_submit_is_refused(role: str) -> None:
    signer = getattr(GRID, role)
    refused(seal_job(GRID.manifest(LEAVES, submitter=signer.id), signer), "nobody")


def test_a_job_in_another_member_s_name_is_refused() -> None:
    refused(seal_job(GRID.manifest(LEAVES), GRID.other_submitter), "another submitter")


def test_a_result_is_no_job() -> None:
    payload = msgspec.msgpack.encode(GRID.manifest(LEAVES))
    job = Job(GRID.manifest(LEAVES), Digest(""), GRID.submitter.seal(RESULT_TYPE, payload))
    refused(job, "discogrid/result/1")


# Until when.


def test_a_job_is_good_until_its_end() -> None:
    job = GRID.job(LEAVES)
    opened(job, NOW + HOUR)
    refused(job, "expired", NOW + HOUR + 1)


def test_an_expired_job_can_still_be_read_by_who_only_looks_at_results() -> None:
    assert opened(GRID.job(LEAVES), None).manifest.name == "job"


def test_a_clock_may_be_off_by_five_minutes_and_no_more() -> None:
    job = GRID.job(LEAVES)
    opened(job, NOW - CLOCK_SKEW_S_MAX)
    refused(job, "five minutes|impossible", NOW - CLOCK_SKEW_S_MAX - 1)


def test_a_job_is_good_for_seven_days_at_most() -> None:
    opened(GRID.job(LEAVES, expires=NOW + VALID_S_MAX))
    refused(GRID.job(LEAVES, expires=NOW + VALID_S_MAX + 1), "impossible")


@pytest.mark.parametrize(
    ("issued", "expires"),
    [(NOW, NOW), (NOW, NOW - 1), (NAN, NOW), (NOW, NAN), (NOW, INF), (-INF, NOW), (INF, INF)],
)
def test_impossible_times_are_refused(issued: float, expires: float) -> None:
    refused(GRID.job(LEAVES, issued=issued, expires=expires), "impossible")


# What it says.


@pytest.mark.parametrize("version", [0, 2, -1])
def test_a_job_of_another_version_is_refused(version: int) -> None:
    refused(GRID.job(LEAVES, version=version), "version")


@pytest.mark.parametrize("tasks", [0, -1, TASKS_MAX + 1])
def test_a_job_of_no_or_too_many_tasks_is_refused(tasks: int) -> None:
    refused(GRID.job(LEAVES, tasks=tasks), "tasks")


def test_a_job_of_the_greatest_number_of_tasks_is_opened() -> None:
    assert opened(GRID.job(LEAVES, tasks=TASKS_MAX)).manifest.tasks == TASKS_MAX


NAMES = [
    "",
    ".",
    "..",
    "a/b",
    "/etc/passwd",
    "../x",
    "a\\b",
    "C:x",
    "a\0b",
    "x" * 256,
    "é" * 128,
    "run-result",
]
GOOD_NAMES = ["a b.mp4", "ünïcode.mp4", "-rf", ".hidden", "a\nb", "x" * 255, "run-result.py", "...", "'; rm"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_would_leave_the_task_s_folder_is_refused_everywhere(name: str) -> None:
    assert check_base_name(name) is not None
    refused(GRID.job(LEAVES, script=ref(name)), "cannot be used")
    refused(GRID.job(LEAVES, constants=(ref("fine"), ref(name))), "cannot be used")
    refused(GRID.job(LEAVES, mounts=(Mount("/home/codelab", ref(name)),)), "cannot be used")


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_strange_but_plain_name_is_taken(name: str) -> None:
    assert check_base_name(name) is None
    opened(GRID.job(LEAVES, script=ref(name), constants=(ref(name),)))


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "blake3:",
        "blake3:" + "a" * 63,
        "blake3:" + "a" * 65,
        "blake3:" + "A" * 64,
        "sha256:" + "a" * 64,
        "blake3:../../" + "a" * 58,
        "blake3:" + "a" * 64 + "\n",
    ],
)
def test_a_digest_that_is_none_is_refused_everywhere(digest: str) -> None:
    bad = renamed(ref("x"), digest=Digest(digest))
    refused(GRID.job(LEAVES, script=bad), "digest")
    refused(GRID.job(LEAVES, constants=(bad,)), "digest")
    refused(GRID.job(LEAVES, mounts=(Mount("/home/codelab", bad),)), "digest")


@pytest.mark.parametrize("size", [-1, 2**60])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    refused(GRID.job(LEAVES, script=renamed(ref("x"), size=size)), "size")


@pytest.mark.parametrize(
    "other",
    [
        {"limits": Limits(seconds=NAN)},  # min(nan, the owner's limit) is nan: no limit at all
        {"limits": Limits(seconds=0)},
        {"limits": Limits(seconds=-1)},
        {"limits": Limits(seconds=-INF)},
        {"limits": Limits(memory_bytes=-1)},
        {"limits": Limits(processes=-1)},
        {"limits": Limits(disk_bytes=2**63)},
        {"limits": Limits(output_bytes=-1)},
        {"limits": Limits(output_files=-1)},
        {"limits": Limits(log_bytes=-1)},
        {"requirements": Requirements(cpus=0)},
        {"requirements": Requirements(cpus=-4)},  # would make room out of nothing
        {"requirements": Requirements(cpus=5000)},
        {"requirements": Requirements(memory_bytes=-1)},
        {"requirements": Requirements(gpus=-1)},
        {"retries": -1},
        {"retries": 10**9},
        {"priority": 2**40},
    ],
    ids=str,
)
def test_a_number_out_of_all_bounds_is_refused(other: dict[str, Any]) -> None:
    refused(GRID.job(LEAVES, **other), "bounds")


@pytest.mark.parametrize(
    "other",
    [
        {"limits": Limits(seconds=INF)},
        {"limits": Limits(seconds=0.1, memory_bytes=1, processes=1, disk_bytes=0, output_bytes=0)},
        {"limits": Limits(output_files=0, log_bytes=0)},
        {"requirements": Requirements(cpus=4096, memory_bytes=2**50, gpus=8)},
        {"retries": 0},
        {"priority": -5},
    ],
    ids=str,
)
def test_a_number_within_its_bounds_is_taken(other: dict[str, Any]) -> None:
    opened(GRID.job(LEAVES, **other))


@pytest.mark.parametrize(
    "other",
    [{"arguments": ("a", "b\0c")}, {"environment": {"A\0": "b"}}, {"environment": {"A": "b\0"}}],
    ids=str,
)
def test_a_text_that_no_program_can_be_given_is_refused(other: dict[str, Any]) -> None:
    refused(GRID.job(LEAVES, **other), "NUL")


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_a_job_without_a_name_or_with_an_endless_one_is_refused(name: str) -> None:
    refused(GRID.job(LEAVES, name=name), "name")


def _payload(change: Callable[[dict[str, Any]], Any]) -> Job:
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(GRID.manifest(LEAVES)))
    payload = msgspec.msgpack.encode(change(plain))
    return Job(GRID.manifest(LEAVES), Digest(""), GRID.submitter.seal(JOB_TYPE, payload))


def test_a_field_of_the_next_version_does_not_make_a_job_unreadable() -> None:
    assert opened(_payload(lambda plain: {**plain, "mood": "fine"})).manifest == GRID.manifest(LEAVES)


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: [],
        lambda plain: None,
        lambda plain: {key: value for key, value in plain.items() if key != "root"},
        lambda plain: {**plain, "tasks": "3"},
        lambda plain: {**plain, "limits": {"seconds": "60"}},
        lambda plain: {**plain, "script": "script.py"},
        lambda plain: {**plain, "arguments": ["x" * 15_000] * (MANIFEST_BYTES_MAX // 15_000 + 1)},
    ],
    ids=["list", "nothing", "no-root", "tasks", "limits", "script", "too-large"],
)
def test_a_signed_job_that_cannot_be_read_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    refused(_payload(change), "read")


# Its tasks, all of them.


@pytest.mark.parametrize(
    "leaves",
    [
        LEAVES[:2],
        [*LEAVES, LEAVES[0]],
        LEAVES[::-1],
        [LEAVES[0]] * 3,
        [],
        leaves_of("a.mp4", "b.mp4", "x.mp4"),
    ],
    ids=["one less", "one more", "turned round", "one thrice", "none", "one other"],
)
def test_tasks_that_were_not_signed_are_refused(leaves: list[bytes]) -> None:
    with pytest.raises(SignatureRefused):
        check_leaves(GRID.job(LEAVES), leaves)


# Its id.


def test_an_id_is_the_beginning_of_the_digest() -> None:
    job = GRID.job(LEAVES)
    candidates = job_id_candidates(job.digest)
    assert len(candidates[0]) == JOB_ID_CHARACTERS
    assert all(is_id_of(candidate, job.digest) for candidate in candidates)
    other = GRID.job(LEAVES, nonce=b"m" * 16)
    assert not any(is_id_of(candidate, other.digest) for candidate in candidates)


@pytest.mark.parametrize("length", range(JOB_ID_CHARACTERS))
def test_an_id_too_short_to_mean_one_job_is_none(length: int) -> None:
    job = GRID.job(LEAVES)
    assert not is_id_of(JobId(job_id_candidates(job.digest)[0][:length]), job.digest)


def test_two_jobs_that_say_the_same_are_two_jobs() -> None:
    one, other = GRID.job(LEAVES), GRID.job(LEAVES, nonce=b"other")
    assert one.digest != other.digest


def test_a_manifest_is_as_it_was_after_the_wire() -> None:
    manifest = GRID.manifest(LEAVES, arguments=("-x", "ü"), environment={"A": "b"}, priority=3)
    assert isinstance(manifest, Manifest)
    assert opened(seal_job(manifest, GRID.submitter)).manifest == manifest
