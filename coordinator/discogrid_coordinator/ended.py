"""Which tasks of a job have ended. Pure."""

_OVER = 1


class Ended:
    """A byte a task: a million tasks take a megabyte, and a task's end one assignment."""

    __slots__ = ("_count", "_marks")

    def __init__(self, tasks: int) -> None:
        self._marks = bytearray(tasks)
        self._count = 0

    def __len__(self) -> int:
        """How many have."""
        return self._count

    def __contains__(self, index: int) -> bool:
        """Whether the task has."""
        return self._marks[index] == _OVER

    def grow(self, tasks: int) -> None:
        """There are so many more tasks, which have not."""
        self._marks.extend(bytes(tasks))

    def add(self, index: int) -> None:
        """The task has ended, which it had not before."""
        self._marks[index] = _OVER
        self._count += 1

    def fill(self, start: int, stop: int) -> None:
        """The tasks `start <= index < stop` have ended, which they had not before."""
        self._marks[start:stop] = bytes([_OVER]) * (stop - start)
        self._count += stop - start

    def gaps(self) -> list[tuple[int, int]]:
        """The others, as ranges. O(tasks), at the speed of memory."""
        found: list[tuple[int, int]] = []
        start = self._marks.find(0)
        while start >= 0:
            stop = self._marks.find(_OVER, start)
            if stop < 0:
                found.append((start, len(self._marks)))
                break
            found.append((start, stop))
            start = self._marks.find(0, stop)
        return found
