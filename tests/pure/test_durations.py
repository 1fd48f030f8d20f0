"""How long tasks take, and which of those that never ran go first."""

import pytest

from discogrid_coordinator.durations import SAMPLES_MAX, Durations, Fresh
from discogrid_coordinator.ended import Ended


def test_nothing_is_known_before_the_first_result() -> None:
    durations = Durations()
    assert durations.mean is None
    assert durations.median() is None


def test_the_newest_results_count() -> None:
    durations = Durations()
    for _ in range(SAMPLES_MAX):
        durations.add(100.0)
    for _ in range(SAMPLES_MAX):
        durations.add(2.0)
    assert durations.mean == pytest.approx(2.0)
    assert durations.median() == 2.0


def test_one_that_takes_very_long_does_not_move_the_median() -> None:
    durations = Durations()
    for seconds in (1.0, 2.0, 3.0, 4.0, 10_000.0):
        durations.add(seconds)
    assert durations.median() == 3.0


def test_the_longest_go_first_and_equals_by_index() -> None:
    fresh = Fresh((1.0, 50.0, 0.0, 1.0, 9.0))
    fresh.fill([(0, 5)])
    assert [fresh.take(1) for _ in range(5)] == [[(1, 2)], [(4, 5)], [(0, 1)], [(3, 4)], [(2, 3)]]
    assert not fresh
    assert fresh.take(1) == []


def test_without_expectations_tasks_go_as_ranges_by_index() -> None:
    fresh = Fresh()
    fresh.fill([(0, 3), (5, 9)])
    fresh.remove(6)
    assert len(fresh) == 6
    assert 6 not in fresh
    assert 7 in fresh
    assert fresh.take(5) == [(0, 3), (5, 6), (7, 8)]
    assert list(fresh) == [(8, 9)]


def test_a_task_of_any_class_can_be_taken_out() -> None:
    fresh = Fresh((1.0, 50.0, 1e-9, 1.0))
    fresh.fill([(0, 4)])
    for index in (1, 2, 0):
        fresh.remove(index)
        assert index not in fresh
    with pytest.raises(KeyError):
        fresh.remove(1)
    assert list(fresh) == [(3, 4)]


def test_the_tasks_that_have_not_ended_are_ranges() -> None:
    ended = Ended(10)
    assert ended.gaps() == [(0, 10)]
    ended.fill(0, 2)
    ended.add(5)
    ended.add(9)
    assert len(ended) == 4
    assert ended.gaps() == [(2, 5), (6, 9)]
    ended.fill(2, 5)
    ended.fill(6, 9)
    assert ended.gaps() == []
    assert Ended(0).gaps() == []
