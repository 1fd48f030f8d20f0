"""The numbers and rules the scheduler goes by."""

from dataclasses import replace
from itertools import pairwise

import pytest

from discogrid.types import ENVIRONMENT_CAPABILITY, GIB, JobId, Requirements, SandboxLevel
from discogrid_coordinator import policies
from tests.pure.referee import offer


@pytest.mark.parametrize(
    ("requirements", "reason"),
    [
        (Requirements(), ""),
        (Requirements(cpus=2, memory_bytes=8 * GIB, gpus=1, needs=("dlib",), network=True), ""),
        (Requirements(cpus=8), "has 2 slots, the task needs 8"),
        (Requirements(memory_bytes=9 * GIB), "lends 8.0 GiB of memory, the task needs 9.0 GiB"),
        (Requirements(gpus=2), "has 1 gpus, the task needs 2"),
        (Requirements(needs=("dlib", "cv2", "av")), "lacks cv2, av"),
        (
            Requirements(needs=("dlib", ENVIRONMENT_CAPABILITY)),
            "builds no environments: its owner has not said --allow-environments",
        ),
    ],
)
def test_a_misfit_says_why(requirements: Requirements, reason: str) -> None:
    lent = offer(2, gpus=1, network=True, capabilities=frozenset({"dlib"}))
    assert policies.misfit(requirements, lent) == reason


def test_a_weaker_box_and_a_closed_network_are_misfits() -> None:
    weak = offer(2, sandbox=SandboxLevel.CONFINED)
    assert policies.misfit(Requirements(), weak) == "box level confined, job demands strict"
    assert policies.misfit(Requirements(sandbox=SandboxLevel.NONE), weak) == ""
    assert policies.misfit(Requirements(network=True), offer()) == "its owner lets no task reach the network"


def test_what_an_agent_would_pass_over_unread_is_a_misfit() -> None:
    elder = offer(protocol=1, capabilities=frozenset({ENVIRONMENT_CAPABILITY}))
    needs = Requirements(protocol=2, needs=(ENVIRONMENT_CAPABILITY,))
    assert policies.misfit(needs, elder) == "speaks protocol 1, the job needs 2: discogrid is too old there"
    assert policies.misfit(needs, replace(elder, protocol=2)) == ""
    assert policies.misfit(Requirements(), elder) == ""


def test_a_network_that_cannot_be_given_is_not_laid_at_the_owners_door() -> None:
    unable = offer(no_network="no pasta")
    reason = "cannot give tasks a network of their own: no pasta"
    assert policies.misfit(Requirements(network=True), unable) == reason
    assert policies.misfit(Requirements(), unable) == ""


def test_large_grids_beat_more_slowly_and_lose_agents_later() -> None:
    assert policies.heartbeat_interval(1) == policies.heartbeat_interval(400) == policies.HEARTBEAT_S
    assert policies.heartbeat_interval(10_000) == 50.0
    assert policies.lease(1) == policies.LEASE_S
    assert policies.lease(10_000) == 375.0


def test_the_reserve_follows_the_run_time() -> None:
    assert policies.prefetch(None, 4) == 1
    assert policies.prefetch(60.0, 4) == 1
    assert policies.prefetch(0.05, 2) == 10
    assert policies.prefetch(policies.TINY_S * 1.1, 4) == policies.PREFETCH_MAX
    assert policies.prefetch(policies.TINY_S, 2) == 250
    assert policies.prefetch(0.0, 1) == policies.PREFETCH_TINY_MAX


def test_how_many_tasks_an_agent_runs_at_a_time() -> None:
    lent = offer(8, gpus=2)
    assert policies.fitting(Requirements(), lent) == 8
    assert policies.fitting(Requirements(cpus=3), lent) == 2
    assert policies.fitting(Requirements(memory_bytes=3 * GIB), lent) == 2
    assert policies.fitting(Requirements(gpus=1, memory_bytes=GIB), lent) == 2


def test_the_reserve_shrinks_to_the_end_unless_nobody_else_is_there() -> None:
    assert policies.reserve(5, waiting=3, agents=1) == 5
    assert policies.reserve(5, waiting=1000, agents=10) == 5
    assert policies.reserve(5, waiting=40, agents=10) == 3
    assert policies.reserve(5, waiting=19, agents=10) == 0


def test_back_off_grows_is_bounded_and_repeats_itself() -> None:
    waits = [policies.backoff(JobId("k3f9"), 4, failure) for failure in range(1, 40)]
    assert waits == [policies.backoff(JobId("k3f9"), 4, failure) for failure in range(1, 40)]
    assert all(policies.BACKOFF_MIN_S <= wait <= policies.BACKOFF_MAX_S for wait in waits)
    assert waits[0] <= 2.0
    assert max(waits) > 30.0
    assert all(first != second for first, second in pairwise(waits)), "there is no jitter"
    assert policies.backoff(JobId("k3f9"), 5, 1) != waits[0]
