from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.grid.machines import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A user who has not used discogrid before."""
    with closing(Machine(tmp_path)) as machine:
        yield machine


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A coordinator and an agent with two slots, on TCP."""
    with closing(Machine(tmp_path_factory.mktemp("grid"))) as machine:
        machine.coordinate()
        machine.lend()
        yield machine


@pytest.fixture(scope="module")
def at_grid(grid: Machine) -> Iterator[None]:
    """This process is the grid's user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCOGRID_HOME", str(grid.home))
        yield
