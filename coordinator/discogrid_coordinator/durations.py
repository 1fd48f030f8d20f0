"""How long tasks take: what a job has shown so far, and the classes in which the longest go first. Pure."""

from collections.abc import Iterator, Sequence
from math import floor, log

from discogrid.spans import SpanSet

SAMPLES_MAX = 65
"""The newest results by which a job's run time is judged."""
CLASS_RATIO = 1.1
"""Expected durations that differ by less are of one class, in which tasks go by index."""
EXPECTED_S_MIN = 1e-3
UNKNOWN = -(10**6)
"""The class of tasks of which nothing is expected: they go last, in order of index."""


class Durations:
    """Mean and median of a job's newest run times, in seconds; None before the first. O(1) a result."""

    __slots__ = ("_median", "_newest", "_next", "_sum", "mean")

    def __init__(self) -> None:
        self._newest: list[float] = []
        self._next = 0  # the place of the oldest, once there are SAMPLES_MAX
        self._sum = 0.0
        self._median: float | None = None  # None: to be found anew
        self.mean: float | None = None

    def add(self, seconds: float) -> None:
        """One more result."""
        newest = self._newest
        self._median = None
        if len(newest) < SAMPLES_MAX:
            newest.append(seconds)
            self._sum += seconds
        else:
            self._sum += seconds - newest[self._next]
            newest[self._next] = seconds
            self._next = (self._next + 1) % SAMPLES_MAX
        self.mean = max(0.0, self._sum / len(newest))

    def median(self) -> float | None:
        """O(SAMPLES_MAX log SAMPLES_MAX) after a new result, O(1) otherwise."""
        if self._median is None and self._newest:
            self._median = sorted(self._newest)[len(self._newest) // 2]
        return self._median


class Fresh:
    """The tasks of a job that never ran: longest expected first, by index among equals and where nothing is known."""

    __slots__ = ("_classes", "_count", "_expected")

    def __init__(self, expected: Sequence[float] = ()) -> None:
        """`expected` seconds of each task; 0 where they are not known, empty where none are."""
        self._expected = expected
        self._classes: dict[int, SpanSet] = {}  # longest first
        self._count = 0

    def __len__(self) -> int:
        """How many tasks."""
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """All of them as ranges, class by class."""
        for spans in self._classes.values():
            yield from spans

    def __contains__(self, index: int) -> bool:
        """Whether the task waits here."""
        spans = self._classes.get(self._class_of(index))
        return spans is not None and index in spans

    def fill(self, ranges: list[tuple[int, int]]) -> None:
        """Put these in; once, before anything is taken."""
        found: dict[int, SpanSet] = {}
        for start, stop in ranges:
            self._count += stop - start
            if not self._expected:
                found.setdefault(UNKNOWN, SpanSet()).add(start, stop)
                continue
            for index in range(start, stop):
                found.setdefault(self._class_of(index), SpanSet()).add(index, index + 1)
        self._classes = {kind: found[kind] for kind in sorted(found, reverse=True)}

    def append(self, start: int, stop: int) -> None:
        """Put in more, after all others, of which nothing is expected. Only where nothing is of any."""
        assert not self._expected, "what is expected is said once, of all tasks"
        self._classes.setdefault(UNKNOWN, SpanSet()).add(start, stop)
        self._count += stop - start

    def remove(self, index: int) -> None:
        """Take one out. KeyError when it is not in."""
        kind = self._class_of(index)
        spans = self._classes[kind]
        spans.remove(index)
        self._count -= 1
        if not spans:
            del self._classes[kind]

    def pop(self) -> int:
        """Take out the one that goes first, of which there must be one."""
        kind, spans = next(iter(self._classes.items()))
        index = spans.pop()
        if not spans:
            del self._classes[kind]
        self._count -= 1
        return index

    def take(self, count: int) -> list[tuple[int, int]]:
        """Take out up to `count` of those that go first, as ranges."""
        taken: list[tuple[int, int]] = []
        while count > 0 and self._classes:
            kind, spans = next(iter(self._classes.items()))
            size = min(count, len(spans))
            taken += spans.take(count)
            if not spans:
                del self._classes[kind]
            count -= size
            self._count -= size
        return taken

    def _class_of(self, index: int) -> int:
        if not self._expected or self._expected[index] <= 0:
            return UNKNOWN
        return floor(log(max(self._expected[index], EXPECTED_S_MIN), CLASS_RATIO))
