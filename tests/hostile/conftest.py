"""A real agent in a strict box, and a coordinator of which somebody else has the keys."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from discogrid.types import SandboxLevel
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.probe import best_box
from tests.hostile.false_coordinator import CountingBox, FalseCoordinator, lent
from tests.trust.forge import cast


@pytest.fixture(scope="session")
def strict() -> Box:
    probed = best_box()
    if probed.box.level is not SandboxLevel.STRICT:
        pytest.skip(f"the strict box does not work here: {probed.reason} {probed.fix}")
    return probed.box


@pytest.fixture
def box(strict: Box) -> CountingBox:
    return CountingBox(strict)


@pytest.fixture
async def thief(tmp_path: Path, box: CountingBox) -> AsyncIterator[FalseCoordinator]:
    coordinator = FalseCoordinator(cast(), tmp_path / "coordinator")
    async with lent(coordinator, box, tmp_path):
        yield coordinator
