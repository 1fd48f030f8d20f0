import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.grid.machines import Machine

SCRIPT = Path(sys.executable).with_name("discogrid")  # what a user types


class Desk(Machine):
    """A machine whose user types `discogrid`."""

    def command(self, *arguments: str | Path) -> list[str]:
        return [str(SCRIPT), *map(str, arguments)]


@pytest.fixture(scope="session")
def this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A user with this machine's own grid and nothing else, for all tests: starting a grid takes a second."""
    with closing(Desk(tmp_path_factory.mktemp("own"))) as machine:
        yield machine


@pytest.fixture
def desk(this_machine: Machine, tmp_path: Path) -> Machine:
    """The same user in an empty folder."""
    this_machine.work = tmp_path
    return this_machine
