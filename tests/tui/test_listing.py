from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from discogrid_tui.filters import Filter
from discogrid_tui.listing import Listing, SortKey

KEYS = st.integers(0, 12)
VALUES = st.tuples(st.integers(0, 3), st.sampled_from(["red", "green"]))
Value = tuple[int, str]
FIELDS = {"colour": lambda value: value[1]}


def by_number(value: Value) -> SortKey:
    return (value[0],)


def numbers(*values: int) -> Listing[int, Value]:
    listing: Listing[int, Value] = Listing(by_number)
    for key, value in enumerate(values):
        listing.put(key, (value, "red"))
    listing.drain()
    return listing


def seen(listing: Listing[int, Value]) -> list[Value]:
    return [listing.at(position) for position in range(len(listing))]


class AnyListing(RuleBasedStateMachine):
    """Against a plain dict that is filtered and sorted anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.listing: Listing[int, Value] = Listing(by_number)
        self.plain: dict[int, Value] = {}
        self.filter: Filter[Value] = Filter.everything()
        self.descending = False
        self.column = 0
        self.painted: list[tuple[int, Value]] = []

    @rule(key=KEYS, value=VALUES)
    def put(self, key: int, value: Value) -> None:
        self.listing.put(key, value)
        self.plain[key] = value

    @rule(keys=st.sets(KEYS))
    def keep(self, keys: set[int]) -> None:
        self.listing.keep(keys)
        self.plain = {key: value for key, value in self.plain.items() if key in keys}

    @rule(text=st.sampled_from(["", "colour:red", "-colour:red"]))
    def filtered(self, text: str) -> None:
        self.filter = Filter.parse(text, FIELDS)
        self.listing.filter(self.filter)

    @rule(column=st.integers(0, 1), descending=st.booleans())
    def ordered(self, column: int, descending: bool) -> None:
        self.column, self.descending = column, descending
        self.listing.sort(lambda value: (value[column],), descending=descending)

    @rule(position=st.integers(-3, 20))
    def moved(self, position: int) -> None:
        self.listing.move(position)
        if self.expected():
            assert self.listing.cursor == max(0, min(position, len(self.expected()) - 1))

    @rule()
    def clear(self) -> None:
        self.listing.clear()
        self.plain.clear()
        assert self.listing.cursor == 0

    @rule()
    def paint(self) -> None:
        """What was painted before plus the rows named dirty is what is seen now."""
        dirty = self.listing.drain()
        now = self.expected()
        if dirty is not None:
            assert [key for key, _ in now] == [key for key, _ in self.painted]
            for (key, value), (_, old) in zip(now, self.painted, strict=True):
                assert value == old or key in dirty
        self.painted = now

    def expected(self) -> list[tuple[int, Value]]:
        rows = [(key, value) for key, value in self.plain.items() if self.filter.accepts(value)]
        return sorted(rows, key=lambda row: (row[1][self.column], row[0]), reverse=self.descending)

    @invariant()
    def it_is_the_plain_dict(self) -> None:
        expected = self.expected()
        assert seen(self.listing) == [value for _, value in expected]
        assert len(self.listing) == len(expected)
        assert self.listing.total == len(self.plain) == len(self.listing.values())
        for position, (key, _) in enumerate(expected):
            assert self.listing.position(key) == position
        for key in set(self.plain) - {key for key, _ in expected}:
            assert self.listing.position(key) is None
        assert 0 <= self.listing.cursor <= max(0, len(expected) - 1)
        assert self.listing.selected == (expected[self.listing.cursor][1] if expected else None)


TestAnyListing = AnyListing.TestCase


def test_the_cursor_follows_its_row_when_another_comes_before_it() -> None:
    listing = numbers(10, 20, 30)
    listing.move(1)
    listing.put(9, (5, "red"))
    assert listing.cursor == 2
    assert listing.selected == (20, "red")


def test_the_cursor_stays_in_place_when_its_row_goes() -> None:
    listing = numbers(10, 20, 30)
    listing.put(9, (5, "red"))
    listing.move(2)
    listing.put(8, (1, "red"))
    assert listing.drain() is None
    listing.keep({0, 2, 9, 8})
    assert (listing.cursor, listing.selected) == (3, (30, "red"))


def test_a_cursor_that_was_never_moved_stays_on_top_of_the_newest() -> None:
    listing = numbers(10)
    listing.put(1, (5, "red"))
    assert listing.selected == (5, "red")


def test_a_change_that_leaves_the_row_in_place_repaints_only_it() -> None:
    listing = numbers(10, 20, 30)
    listing.put(1, (20, "green"))
    assert listing.drain() == {1}
    assert listing.drain() == set()


def test_a_row_that_no_longer_passes_the_filter_leaves() -> None:
    listing = numbers(10, 20)
    listing.filter(Filter.parse("colour:red", FIELDS))
    listing.drain()
    listing.put(0, (10, "green"))
    assert (seen(listing), listing.total, listing.drain()) == ([(20, "red")], 2, None)


def test_a_row_that_stays_hidden_repaints_nothing() -> None:
    listing = numbers(10, 20)
    listing.filter(Filter.parse("colour:green", FIELDS))
    listing.drain()
    listing.put(0, (11, "red"))
    assert listing.drain() == set()
    assert listing.get(0) == (11, "red")


@given(st.integers())
def test_an_empty_list_has_a_cursor_but_no_row(position: int) -> None:
    listing = numbers()
    listing.move(position)
    assert (listing.cursor, listing.selected) == (0, None)
