"""The two trays of a worker, for the side that gives it calls: arguments, which that side lays there, and results, which it reads."""

import os
from collections import deque
from collections.abc import Iterator, Sequence

from discogrid.calls.frames import Call, Calls, Laid, LaidCall, LargeCall, Taken, whole
from discogrid.calls.parts import Come, size_of
from discogrid.calls.tray import LAID_BYTES_MIN, Lying, Tray, make_tray


class Trays:
    """Without any, everything goes by the worker's line."""

    def __init__(self, descriptors: Sequence[int] = ()) -> None:
        """Those of the two, or none."""
        self.descriptors: tuple[int, ...] = tuple(descriptors)
        self._arguments = Tray(self.descriptors[0]) if self.descriptors else None
        self._lying: deque[int] = deque()  # numbers of calls
        self._read = 0  # results, of which the worker has not been told

    @classmethod
    def in_memory(cls) -> "Trays":
        """Two that are empty, or none where this system has none."""
        return cls([tray for tray in (make_tray(), make_tray()) if tray is not None])

    def lay(self, calls: Sequence[Call]) -> Iterator[Calls | LaidCall]:
        """How to tell the worker of calls: those whose arguments lie here now, each for itself."""
        by_line: list[Call] = []
        for call in calls:
            laid = self._lay(call)
            if laid is None:
                by_line.append(whole(call))
                continue
            if by_line:
                yield Calls(tuple(by_line))
                by_line = []
            yield laid
        if by_line:
            yield Calls(tuple(by_line))

    def answered(self, number: int) -> None:
        """The call has been made, and those before it."""
        if self._arguments is not None and self._lying and self._lying[0] == number:
            self._lying.popleft()
            self._arguments.taken()

    def result(self, laid: Laid) -> Lying:
        """What a call returned; OSError at its first use where there are no trays."""
        return Lying(self.descriptors[1] if self.descriptors else -1, laid.start, laid.size)

    def have_read(self, count: int) -> None:
        """So many results have been taken."""
        self._read += count

    def news(self) -> list[Taken]:
        """What the worker is to be told before its next call."""
        count, self._read = self._read, 0
        return [Taken(count)] if count else []

    def close(self) -> None:
        """Nothing of it is read any more."""
        descriptors, self.descriptors = self.descriptors, ()
        for descriptor in descriptors:
            os.close(descriptor)

    def _lay(self, call: Call) -> LaidCall | None:
        packed: Come = call.parts if isinstance(call, LargeCall) else call.arguments
        if self._arguments is None or call.count or size_of(packed) < LAID_BYTES_MIN:
            return None
        place = self._arguments.put(packed)
        if place is None:
            return None
        self._lying.append(call.number)
        return LaidCall(call.number, call.function, *place)
