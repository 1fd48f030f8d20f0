"""A grid of one member a role, and a coordinator of it without sockets."""

from pathlib import Path

import pytest

from tests.coordinator.bench import Bench
from tests.trust.forge import Cast, cast


@pytest.fixture
def grid() -> Cast:
    return cast()


@pytest.fixture
def bench(grid: Cast, tmp_path: Path) -> Bench:
    return Bench(grid, tmp_path / "coordinator")
