from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network.hosts import Network


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A switch, and no hosts yet."""
    with Network(tmp_path) as network:
        yield network
