"""Which ended jobs a coordinator forgets by itself. Pure.

Old ones, whatever room there is; and when the disk that is lent to results runs full, the oldest first, so that new work
can be taken in. What ended a short time ago stays even then: somebody may be on the way to fetch it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from discogrid.types import JobId

KEEP_S = 30 * 86400.0
"""After which an ended job is forgotten with its results."""
KEEP_S_MIN = 86400.0
"""An ended job is kept for so long, however little room there is."""
FULL = 0.9
"""The share of the store that may be in use before old results make room."""
FORGOTTEN_MAX = 16
"""Jobs that are forgotten at a time, so that nobody waits for a backlog."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An ended job; `size` is what its result archives take on disk, in bytes."""

    job: JobId
    ended: float
    size: int


def forgettable(oldest: Sequence[Kept], now: float, keep_s: float, used: int, capacity: int) -> list[JobId]:
    """Of the jobs that ended first, oldest first: those to forget. `now` in seconds since 1970, the rest in bytes."""
    found: list[JobId] = []
    room = FULL * capacity
    for kept in oldest[:FORGOTTEN_MAX]:
        age_s = now - kept.ended
        if age_s <= min(keep_s, KEEP_S_MIN) or (age_s <= keep_s and used <= room):
            break
        found.append(kept.job)
        used -= kept.size
    return found
