"""How much a submitter may have open at a time."""

import pytest

from discogrid.types import JobId, NodeId, Quotas
from discogrid_coordinator.quotas import Load, Usage

ME, OTHER = NodeId("me"), NodeId("other")
FEW = Quotas(jobs_open=2, tasks_open=10, input_bytes=100)


def used() -> Usage:
    usage = Usage()
    usage.add(ME, JobId("a"), Load(tasks=4, input_bytes=40))
    return usage


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (Load(6, 60), ""),
        (Load(7, 0), "11 tasks of yours"),
        (Load(1, 61), "101 B of your inputs"),
    ],
)
def test_what_is_over_a_quota_is_said(more: Load, said: str) -> None:
    assert used().excess(ME, more, FEW).startswith(said)
    assert bool(used().excess(ME, more, FEW)) == bool(said)


def test_a_job_too_many_is_said() -> None:
    usage = used()
    usage.add(ME, JobId("b"), Load(1, 1))
    assert usage.excess(ME, Load(1, 1), FEW).startswith("2 jobs of yours are open")


def test_another_member_s_jobs_do_not_count() -> None:
    assert used().excess(OTHER, Load(10, 100), FEW) == ""


def test_an_ended_job_counts_no_more_however_often_it_ends() -> None:
    usage = used()
    for _ in range(2):
        usage.end(JobId("a"))
    usage.end(JobId("never was"))
    assert usage.excess(ME, Load(10, 100), FEW) == ""
    assert usage.open_jobs() == {}


def test_open_jobs_are_known_by_their_submitter() -> None:
    usage = used()
    usage.add(OTHER, JobId("b"), Load(1, 1))
    usage.add(OTHER, JobId("c"), Load(1, 1))
    usage.end(JobId("b"))
    assert usage.open_jobs() == {ME: (JobId("a"),), OTHER: (JobId("c"),)}
