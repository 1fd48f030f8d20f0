"""How many calls travel together: so many that what a chunk costs is small, so few that no worker waits for another. Pure.

A chunk costs about a millisecond on its way through a grid, whatever is in it. So calls of which many fit into CHUNK_S
go together, by the run times of those that have come back; and towards the end, where it is known, chunks get smaller
(guided self-scheduling, Polychronopoulos and Kuck 1987), so that the last ones end together.
"""

from math import ceil

CHUNK_S = 0.1
"""Calls that take so long together go in one chunk: a hundred times what it costs."""
CHUNK_CALLS_MAX = 4096
GROWTH = 8
"""A chunk has at most so many times the calls of the largest before it: the first results may have been the quick ones."""
SHARES = 2
"""A chunk takes at most one part in so many, for each slot, of what is known to be left."""
AHEAD = 2
"""Chunks that are under way for each slot: one runs, one is there when that ends."""
AHEAD_S = 0.02
"""And of a size that the caller has said, as many as run for so long, which is what the way of one through a grid takes."""
CHUNK_BYTES = 32 << 20
"""Large values of so many bytes are enough for a chunk."""
WAY_BYTES_S = 50e6
"""Of large arguments and results so many bytes a second pass a grid, for want of better knowledge."""
AHEAD_BYTES = 128 << 20
"""But no more of them are under way than this, beside the chunks of which one runs and one is there."""
AHEAD_MAX = 512
"""But no more for a slot: a chunk whose calls take no time is handled in one."""
WEIGHT = 0.3
"""Of the newest chunk in the mean run time."""


class Chunker:
    """Sizes of the chunks of one function's calls. It is told of what leaves and comes back, and asked before each chunk."""

    def __init__(self, size: int | None = None) -> None:
        """`size` calls a chunk, where the caller has said so."""
        self._fixed = size
        self.mean_s: float | None = None  # run time of a call, as far as is known
        self._mean_bytes = 0.0  # of a call's arguments and result, where they are large
        self._largest = 0  # chunk that has come back
        self._filling = True  # what is under way, to as much as is to be
        self.under_way: int = 0  # chunks

    def next(self, waiting: int, slots: int, *, more: bool) -> int:
        """How many of the `waiting` calls go next; 0: none as long as enough is under way.

        `slots` run calls at a time; `more` says that calls may follow those that wait, so that the end is not known.
        """
        slots = max(1, slots)
        if not waiting or not self.room(slots):
            return 0
        if self._fixed is not None:
            return min(waiting, self._fixed)
        size = self._worth()
        if not more:
            size = min(size, ceil(waiting / (SHARES * slots)))
        return max(1, min(size, waiting))

    def room(self, slots: int) -> int:
        """How many chunks may leave now.

        Of those that run for next to no time none leaves before there is room for many, which then travel together.
        """
        most = self._ahead(max(1, slots)) * max(1, slots)
        if self.under_way >= most:
            self._filling = False
        elif self.under_way <= most // 2 or most <= AHEAD * slots or self._mean_bytes:
            self._filling = True
        return most - self.under_way if self._filling else 0

    def sent(self, chunks: int = 1) -> None:
        """Chunks have left."""
        self.under_way += chunks

    def lost(self) -> None:
        """A chunk is over, and nothing was learnt from it."""
        self.under_way -= 1

    def returned(self, calls: int, seconds: float, size: int = 0) -> None:
        """A chunk has come back, whose `calls` ran so long together, with so many bytes of large values."""
        self.under_way -= 1
        if calls <= 0:
            return
        self._largest = max(self._largest, calls)
        mean = max(0.0, seconds) / calls
        self.mean_s = mean if self.mean_s is None else WEIGHT * mean + (1 - WEIGHT) * self.mean_s
        known = self._mean_bytes or size / calls
        self._mean_bytes = WEIGHT * size / calls + (1 - WEIGHT) * known if size else 0.0

    def _ahead(self, slots: int) -> int:
        """Chunks that are to be under way for each slot."""
        if self.mean_s is None or self._fixed is None:
            return AHEAD
        chunk_s = self.mean_s * self._fixed
        chunk_bytes = self._mean_bytes * self._fixed
        way_s = AHEAD_S + chunk_bytes / WAY_BYTES_S
        ahead = AHEAD_MAX if chunk_s * AHEAD_MAX <= way_s else ceil(way_s / chunk_s)
        if chunk_bytes:
            ahead = min(ahead, int(AHEAD_BYTES / chunk_bytes / slots))
        return max(AHEAD, ahead)

    def _worth(self) -> int:
        """The calls that are worth a chunk, as far as that is known."""
        if self.mean_s is None:
            return 1
        fitting = CHUNK_CALLS_MAX if self.mean_s <= 0.0 else int(CHUNK_S / self.mean_s)
        if self._mean_bytes:
            fitting = min(fitting, int(CHUNK_BYTES / self._mean_bytes))
        return max(1, min(fitting, GROWTH * self._largest, CHUNK_CALLS_MAX))
