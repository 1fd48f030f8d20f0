"""One list as it is seen: filtered, sorted, with a cursor that stays on its row. Pure; a change costs O(log n)."""

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Mapping, ValuesView
from typing import Generic, TypeVar

from discogrid_tui.filters import Filter

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SortKey = tuple[object, ...]
Entry = tuple[SortKey, object]
"""Where a row stands: its sort key, then its own key, which breaks ties and never repeats."""


class Listing(Generic[K, V]):
    """Rows by key. `order` is what is seen; the cursor follows its key when rows come, go or change places."""

    def __init__(self, sort: Callable[[V], SortKey], *, descending: bool = False) -> None:
        """`sort` gives keys that compare with each other; ties are broken by the row's own key."""
        self._values: dict[K, V] = {}
        self._entries: dict[K, Entry] = {}
        self._order: list[Entry] = []
        self._sort = sort
        self._descending = descending
        self._filter: Filter[V] = Filter.everything()
        self._selected: K | None = None
        self._cursor = 0
        self._dirty: set[K] = set()
        self._moved = True

    # -- what is in it

    @property
    def total(self) -> int:
        """All rows, the filtered ones too."""
        return len(self._values)

    def __len__(self) -> int:
        """Rows that pass the filter."""
        return len(self._order)

    def get(self, key: K) -> V | None:
        """The value of a row, seen or not."""
        return self._values.get(key)

    def values(self) -> ValuesView[V]:
        """Every row, in no order."""
        return self._values.values()

    def at(self, position: int) -> V:
        """The row at a position of what is seen."""
        return self._values[self._key(self._order[self._index(position)])]

    def position(self, key: K) -> int | None:
        """Where a row is seen; None when it is not."""
        entry = self._entries.get(key)
        return None if entry is None else self._index(bisect_left(self._order, entry))

    # -- changes

    def put(self, key: K, value: V) -> None:
        """Add or replace a row."""
        self._values[key] = value
        before = self._entries.get(key)
        after: Entry | None = (self._sort(value), key) if self._filter.accepts(value) else None
        if before == after:
            if after is not None:
                self._dirty.add(key)
            return
        if before is not None:
            del self._order[bisect_left(self._order, before)]
            del self._entries[key]
        if after is not None:
            insort(self._order, after)
            self._entries[key] = after
        self._moved = True

    def keep(self, keys: Mapping[K, object] | set[K]) -> None:
        """Forget every row that is not among these."""
        gone = [key for key in self._values if key not in keys]
        for key in gone:
            del self._values[key]
        if gone:
            self._rebuild()

    def clear(self) -> None:
        """Forget every row and where the cursor was."""
        self._selected, self._cursor = None, 0
        self.keep(set())
        self._moved = True

    def filter(self, wanted: Filter[V]) -> None:
        """Show only what the filter accepts."""
        self._filter = wanted
        self._rebuild()

    def sort(self, by: Callable[[V], SortKey], *, descending: bool) -> None:
        """Show the rows in another order."""
        self._sort, self._descending = by, descending
        self._rebuild()

    # -- the cursor

    @property
    def cursor(self) -> int:
        """The position of the cursor: its row's if that is seen, else where that row was."""
        followed = None if self._selected is None else self.position(self._selected)
        return followed if followed is not None else max(0, min(self._cursor, len(self) - 1))

    @property
    def selected(self) -> V | None:
        """The row under the cursor; None when nothing is seen."""
        return self.at(self.cursor) if self._order else None

    def move(self, position: int) -> None:
        """Put the cursor on a position, or on the nearest there is."""
        self._cursor = max(0, min(position, len(self) - 1))
        self._selected = self._key(self._order[self._index(self._cursor)]) if self._order else None

    # -- what to paint

    def drain(self) -> set[K] | None:
        """The keys whose rows changed where they stand since the last call; None when rows also came, went or moved."""
        dirty, moved = self._dirty, self._moved
        self._dirty, self._moved = set(), False
        if moved and self._selected is not None:
            self._cursor = self.cursor  # if the row goes, the cursor stays where it was last
        return None if moved else dirty

    def _rebuild(self) -> None:
        self._entries = {
            key: (self._sort(value), key)
            for key, value in self._values.items()
            if self._filter.accepts(value)
        }
        self._order = sorted(self._entries.values())
        self._dirty.clear()
        self._moved = True

    def _index(self, position: int) -> int:
        return len(self._order) - 1 - position if self._descending else position

    @staticmethod
    def _key(entry: Entry) -> K:
        return entry[1]  # type: ignore[return-value]
