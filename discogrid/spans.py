"""Sets of task indices, kept as ranges because tasks come, wait and end in ranges."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class SpanSet:
    """Whole numbers as sorted, disjoint ranges that never touch.

    Lookups are O(log ranges); changes shift at most the list of ranges.
    """

    __slots__ = ("_count", "_starts", "_stops")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        """How many numbers, not ranges."""
        return self._count

    def __contains__(self, index: int) -> bool:
        """Whether the number is in."""
        at = bisect_right(self._starts, index) - 1
        return at >= 0 and index < self._stops[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges, lowest first."""
        return zip(self._starts, self._stops, strict=True)

    def add(self, start: int, stop: int) -> None:
        """Put `start <= number < stop` in; what is in already stays."""
        if start >= stop:
            return
        # As where tasks come, and end, in their order.
        if self._starts and self._starts[-1] <= start <= self._stops[-1]:
            self._count += max(0, stop - self._stops[-1])
            self._stops[-1] = max(stop, self._stops[-1])
            return
        low = bisect_left(self._stops, start)
        high = bisect_right(self._starts, stop)
        if low < high:
            start = min(start, self._starts[low])
            stop = max(stop, self._stops[high - 1])
            self._count -= sum(self._stops[at] - self._starts[at] for at in range(low, high))
        self._starts[low:high] = [start]
        self._stops[low:high] = [stop]
        self._count += stop - start

    def remove(self, index: int) -> None:
        """Take one number out. KeyError when it is not in."""
        at = bisect_right(self._starts, index) - 1
        if at < 0 or index >= self._stops[at]:
            raise KeyError(index)
        start, stop = self._starts[at], self._stops[at]
        rest = [span for span in ((start, index), (index + 1, stop)) if span[0] < span[1]]
        self._starts[at : at + 1] = [low for low, _ in rest]
        self._stops[at : at + 1] = [high for _, high in rest]
        self._count -= 1

    def pop(self) -> int:
        """Take out the lowest number. IndexError when there is none."""
        index = self._starts[0]
        if index + 1 < self._stops[0]:
            self._starts[0] = index + 1
        else:
            del self._starts[0], self._stops[0]
        self._count -= 1
        return index

    def take(self, count: int) -> list[tuple[int, int]]:
        """Take out up to `count` of the lowest numbers, as ranges."""
        if self._starts and self._stops[0] - self._starts[0] > count > 0:
            start = self._starts[0]
            self._starts[0] = start + count
            self._count -= count
            return [(start, start + count)]
        taken: list[tuple[int, int]] = []
        emptied = 0
        for start, stop in self:
            if count <= 0:
                break
            cut = min(stop, start + count)
            taken.append((start, cut))
            count -= cut - start
            self._count -= cut - start
            if cut < stop:
                self._starts[emptied] = cut
                break
            emptied += 1
        del self._starts[:emptied]
        del self._stops[:emptied]
        return taken

    def gaps(self, stop: int) -> list[tuple[int, int]]:
        """The ranges of `0 <= number < stop` that are not in."""
        missing: list[tuple[int, int]] = []
        low = 0
        for start, end in self:
            if start >= stop:
                break
            if low < start:
                missing.append((low, start))
            low = end
        if low < stop:
            missing.append((low, stop))
        return missing
