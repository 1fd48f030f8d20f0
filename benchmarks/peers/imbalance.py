"""W5: calls of very unequal length, which burn processor time, the longest last; nobody is told which they are."""

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from benchmarks.peers import calls
from benchmarks.peers.peer import Function, Peer
from benchmarks.peers.sizes import Sizes

CALL_S = 0.2  # on average
SIGMA = 1.0
SEED = 42

Way = Callable[[Function, Sequence[Any]], list[Any]]
"""A kind of map."""


def imbalance(peer: Peer, sizes: Sizes) -> Mapping[str, float]:
    """One a task."""
    return _imbalance(peer, peer.map, sizes.unequal)


def imbalance_by_default(peer: Peer, sizes: Sizes) -> Mapping[str, float]:
    """In the peer's own chunks."""
    return _imbalance(peer, peer.map_by_default, sizes.unequal)


def lengths(count: int) -> list[float]:
    """Seconds of processor time of each call, the longest last."""
    random = Random(SEED)
    drawn = [random.lognormvariate(0, SIGMA) for _ in range(count)]
    return sorted(one * CALL_S * count / sum(drawn) for one in drawn)


def greedy(seconds: Sequence[float], workers: int) -> float:
    """What list scheduling in this order takes."""
    free = [0.0] * workers
    for one in seconds:
        heapq.heappush(free, heapq.heappop(free) + one)
    return max(free)


def best(seconds: Sequence[float], workers: int) -> float:
    """What no schedule takes less than."""
    return max(*seconds, sum(seconds) / workers)


def _imbalance(peer: Peer, way: Way, count: int) -> Mapping[str, float]:
    """Against what the calls' own times by the clock allow, so that what else the machine does counts on both sides."""
    began = time.perf_counter()
    each = way(calls.burnt, lengths(count))
    took = time.perf_counter() - began
    return {
        "ratio to greedy": took / greedy(each, peer.workers),
        "ratio to best": took / best(each, peer.workers),
    }
