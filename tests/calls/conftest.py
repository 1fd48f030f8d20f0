from collections.abc import Iterator

import pytest

from tests.calls.mortal_line import Openings, in_place_of_a_grid


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Openings]:
    """Faces open lines to processes of this machine."""
    openings = in_place_of_a_grid(monkeypatch)
    yield openings
    openings.close()
