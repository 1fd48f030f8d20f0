"""A real box, and a runner below a folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from discogrid.types import SandboxLevel
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.probe import best_box, box_of
from tests.box.bench import Bench


@pytest.fixture(scope="session")
def strict() -> Box:
    probed = best_box()
    if probed.box.level is not SandboxLevel.STRICT:
        pytest.skip(f"the strict box does not work here: {probed.reason} {probed.fix}")
    return probed.box


@pytest.fixture
def bench(tmp_path: Path, strict: Box) -> Iterator[Bench]:
    yield from _bench(tmp_path, strict)


@pytest.fixture
def bare_bench(tmp_path: Path) -> Iterator[Bench]:
    yield from _bench(tmp_path, box_of(SandboxLevel.NONE))


@pytest.fixture(params=["strict", "none"])
def any_bench(request: pytest.FixtureRequest) -> Bench:
    """The same world at every level."""
    made = request.getfixturevalue("bench" if request.param == "strict" else "bare_bench")
    assert isinstance(made, Bench)
    return made


def _bench(folder: Path, box: Box) -> Iterator[Bench]:
    runner = Runner(folder / "agent", box, "attic")
    yield Bench(folder, runner)
    runner.close()
    assert not list((folder / "agent" / "attempts").iterdir()), "an attempt left its folder behind"
