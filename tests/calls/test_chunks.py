"""Chunks of calls: tiny calls amortize what a chunk costs, long ones balance, whatever comes."""

import heapq
from collections.abc import Sequence
from random import Random

import pytest

from discogrid.calls.chunks import (
    AHEAD,
    AHEAD_BYTES,
    CHUNK_BYTES,
    CHUNK_CALLS_MAX,
    CHUNK_S,
    GROWTH,
    SHARES,
    Chunker,
)

COST_S = 0.001  # of a chunk on its way, while its worker has another one


class Simulated:
    """Workers that take chunks in the order in which they leave, under a virtual clock."""

    def __init__(
        self, calls: Sequence[float], slots: int, *, cost_s: float = COST_S, known_end: bool = True
    ) -> None:
        self.chunker, self.slots, self.sizes = Chunker(), slots, list[int]()
        self.makespan_s = self.spent_s = 0.0
        free = [0.0] * slots
        busy: list[tuple[float, int, float]] = []
        at, now = 0, 0.0
        while at < len(calls) or busy:
            while count := self.chunker.next(len(calls) - at, slots, more=not known_end):
                seconds = sum(calls[at : at + count])
                at += count
                self.sizes.append(count)
                self.chunker.sent()
                start = max(now, heapq.heappop(free))
                end = start + cost_s + seconds
                heapq.heappush(free, end)
                heapq.heappush(busy, (end, count, seconds))
            now, count, seconds = heapq.heappop(busy)
            self.chunker.returned(count, seconds)
        self.makespan_s = now


def greedy(calls: Sequence[float], slots: int) -> float:
    """What one call a chunk would take if a chunk cost nothing."""
    free = [0.0] * slots
    for seconds in calls:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


@pytest.mark.parametrize("slots", [1, 2, 8, 64])
@pytest.mark.parametrize("mean_s", [1e-6, 2e-5, 1e-3, 0.02, 0.5, 30.0])
@pytest.mark.parametrize("shape", ["even", "log-normal", "growing", "a few long ones at the end"])
def test_the_calls_take_little_longer_than_they_would_for_nothing(
    slots: int, mean_s: float, shape: str
) -> None:
    random = Random(f"{slots} {mean_s} {shape}")
    count = 20_000 if mean_s < 0.01 else 400
    calls = {
        "even": lambda: [mean_s] * count,
        "log-normal": lambda: [mean_s * random.lognormvariate(0, 1) for _ in range(count)],
        "growing": lambda: [mean_s * 2 * index / count for index in range(count)],
        "a few long ones at the end": lambda: [mean_s] * (count - slots) + [20 * mean_s] * slots,
    }[shape]()
    ideal = greedy(calls, slots)
    took = Simulated(calls, slots).makespan_s
    assert took <= 1.10 * ideal + 0.05, (took, ideal)


def test_tiny_calls_go_in_few_chunks_and_long_ones_alone() -> None:
    tiny = Simulated([2e-5] * 100_000, 2)
    assert len(tiny.sizes) < 100
    assert max(tiny.sizes) <= CHUNK_CALLS_MAX
    assert set(Simulated([1.0] * 50, 2).sizes) == {1}


def test_the_first_chunks_are_small_and_grow_step_by_step() -> None:
    sizes = Simulated([2e-5] * 100_000, 2, known_end=False).sizes
    assert sizes[:AHEAD] == [1] * AHEAD
    largest = 1
    for size in sizes:
        assert size <= GROWTH * largest
        largest = max(largest, size)
    assert largest == CHUNK_CALLS_MAX


def test_towards_a_known_end_they_get_smaller() -> None:
    sizes = Simulated([1e-4] * 20_000, 4).sizes
    last = sizes[-8:]
    assert last == sorted(last, reverse=True)
    assert last[-1] <= 2


def test_where_the_end_is_not_known_they_do_not() -> None:
    chunker = Chunker()
    chunker.sent()
    chunker.returned(1000, 1000 * CHUNK_S / 500)
    assert chunker.next(600, 64, more=True) == 500
    assert chunker.next(600, 64, more=False) == -(-600 // (64 * SHARES))


def test_what_is_under_way_is_bounded_by_the_slots() -> None:
    chunker = Chunker()
    sent = 0
    while chunker.next(1000, 3, more=True):
        chunker.sent()
        sent += 1
    assert sent == chunker.under_way == AHEAD * 3
    chunker.lost()
    assert chunker.next(1000, 3, more=True) == 1
    assert chunker.next(0, 3, more=True) == 0
    assert Chunker().next(5, 0, more=True) == 1  # no agent is here yet: one waits for it


def test_a_size_that_was_asked_for_is_kept() -> None:
    chunker = Chunker(7)
    assert (chunker.next(100, 2, more=False), chunker.next(3, 2, more=True)) == (7, 3)


def test_calls_that_take_no_time_and_chunks_of_none_do_no_harm() -> None:
    chunker = Chunker()
    for _ in range(10):
        chunker.sent()
        chunker.returned(CHUNK_CALLS_MAX, 0.0)
    assert chunker.next(10**6, 1, more=True) == CHUNK_CALLS_MAX
    chunker.sent()
    chunker.returned(0, 5.0)
    assert chunker.next(10**6, 1, more=True) == CHUNK_CALLS_MAX


def test_of_large_values_so_many_are_under_way_that_some_travel_while_others_run() -> None:
    large = 16 << 20
    chunker = Chunker(1)
    chunker.sent(AHEAD * 2)
    assert chunker.room(2) == 0
    chunker.returned(1, 0.01, large)
    assert chunker.under_way + chunker.room(2) == AHEAD_BYTES // large
    chunker.sent(chunker.room(2))
    chunker.returned(1, 0.01, large)
    assert chunker.room(2) == 1  # each that comes back makes room for one


def test_no_more_is_under_way_than_the_bytes_allow_and_long_calls_need_nothing_ahead() -> None:
    huge, long = Chunker(1), Chunker(1)
    for _ in range(30):
        for chunker, seconds, size in ((huge, 0.01, 1 << 30), (long, 60.0, 16 << 20)):
            chunker.sent()
            chunker.returned(1, seconds, size)
    assert huge.room(3) == long.room(3) == AHEAD * 3


def test_once_values_are_small_again_as_much_is_under_way_as_before() -> None:
    chunker = Chunker(1)
    for size in (16 << 20, 0):
        for _ in range(30):
            chunker.sent()
            chunker.returned(1, 0.05, size)
    assert chunker.room(2) == AHEAD * 2


def test_chunks_of_large_values_are_small_however_quick_their_calls_are() -> None:
    chunker = Chunker()
    for _ in range(10):
        chunker.sent()
        chunker.returned(8, 0.0, 8 * CHUNK_BYTES // 3)
    assert chunker.next(1000, 1, more=True) == 3
    chunker.sent()
    chunker.returned(1, 0.0, 10 * CHUNK_BYTES)
    assert chunker.next(1000, 1, more=True) == 1
