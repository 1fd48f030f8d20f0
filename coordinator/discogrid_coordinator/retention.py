"""Which ended jobs a coordinator forgets by itself. Pure.

Old ones, whatever room there is; and when the disk that is lent to results runs full, or there are very many, the oldest
first, so that new work can be taken in. What ended a short time ago stays even then: somebody may be on the way to fetch it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from discogrid.types import JobId

KEEP_S = 30 * 86400.0
"""After which an ended job is forgotten with its results."""
KEEP_S_MIN = 86400.0
"""An ended job is kept for so long, however little room there is."""
ENDED_JOBS_MAX = 100_000
"""Ended jobs that are kept; with so many, no new one is taken in."""
FULL = 0.9
"""The share of the store, or of that number, that may be in use before old results make room."""
FORGOTTEN_MAX = 16
"""Jobs that are forgotten at a time, so that nobody waits for a backlog."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An ended job; `size` is what its result archives take on disk, in bytes."""

    job: JobId
    ended: float
    size: int


def forgettable(
    oldest: Sequence[Kept], now: float, keep_s: float, used: int, capacity: int, ended: int
) -> list[JobId]:
    """Of the jobs that ended first, oldest first: those to forget.

    `now` in seconds since 1970, `used` and `capacity` of the store in bytes, `ended` the number of all ended jobs.
    """
    found: list[JobId] = []
    for kept in oldest[:FORGOTTEN_MAX]:
        age_s = now - kept.ended
        room = used <= FULL * capacity and ended <= FULL * ENDED_JOBS_MAX
        if age_s <= min(keep_s, KEEP_S_MIN) or (age_s <= keep_s and room):
            break
        found.append(kept.job)
        used -= kept.size
        ended -= 1
    return found
