"""Sets of ranges behave as sets of numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discogrid.spans import SpanSet

pairs = st.tuples(st.integers(0, 30), st.integers(0, 30))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove", "take"]), pairs), max_size=30)


def numbers(spans: SpanSet) -> set[int]:
    found = [index for start, stop in spans for index in range(start, stop)]
    assert len(found) == len(set(found)) == len(spans)
    return set(found)


@given(steps)
def test_a_span_set_is_a_set_of_numbers_in_order(steps: list[tuple[str, tuple[int, int]]]) -> None:
    spans, plain = SpanSet(), set[int]()
    for what, (low, high) in steps:
        if what == "add":
            spans.add(low, high)
            plain.update(range(low, high))
        elif what == "take":
            taken = [index for start, stop in spans.take(low) for index in range(start, stop)]
            assert taken == sorted(plain)[:low]
            plain.difference_update(taken)
        elif low in plain:
            spans.remove(low)
            plain.remove(low)
        else:
            with pytest.raises(KeyError):
                spans.remove(low)
        assert numbers(spans) == plain
        edges = [edge for span in spans for edge in span]
        assert edges == sorted(set(edges)), "neighbours are not joined"
        assert [index in spans for index in range(32)] == [index in plain for index in range(32)]
        gaps = [index for start, stop in spans.gaps(high) for index in range(start, stop)]
        assert gaps == [index for index in range(high) if index not in plain]


def test_the_gaps_of_a_set_that_begins_at_nought() -> None:
    spans = SpanSet()
    spans.add(0, 2)
    assert spans.gaps(5) == [(2, 5)]
    assert spans.gaps(2) == []
