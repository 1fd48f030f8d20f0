"""Virtual time: what is to happen when, and the one source of chance. The same seed makes the same world."""

import hashlib
import heapq
from collections.abc import Callable
from random import Random

Act = Callable[[], None]


class World:
    """An agenda under a clock that only the agenda moves."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.wall_offset = 0.0  # of the wall clock, which jumps
        self.steps = 0
        self._agenda: list[tuple[float, int, Act]] = []
        self._entries = 0
        self._digest = hashlib.blake2b(digest_size=16)

    def after(self, delay: float, act: Act) -> None:
        """Have it done so many seconds from now; equal times keep the order of asking."""
        self._entries += 1
        heapq.heappush(self._agenda, (self.now + delay, self._entries, act))

    def step(self) -> None:
        """Go to the next entry and do it."""
        self.now, _, act = heapq.heappop(self._agenda)
        self.steps += 1
        act()

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    @property
    def wall(self) -> float:
        """Seconds since 1970, as somebody's watch has them."""
        return 1e9 + self.now + self.wall_offset

    def note(self, what: object) -> None:
        """It belongs to the history that the digest names."""
        self._digest.update(repr(what).encode())

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()
