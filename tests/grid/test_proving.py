"""An agent that cannot make the box that was found for it."""

import asyncio
from pathlib import Path

import pytest

from discogrid.types import Offer
from discogrid_agent.sandbox.late_box import LateBox
from tests.coordinator.house import ARRIVES_S
from tests.grid.crowd import crowd


@pytest.mark.parametrize("error", [OSError("no room for it"), ValueError("a fault of ours")], ids=repr)
async def test_it_ends_rather_than_leave_waiting_what_wants_a_box(tmp_path: Path, error: Exception) -> None:
    async def proof() -> Offer:
        raise error

    async with crowd(tmp_path, LateBox(), 1) as opened:
        opened.lend(0, proof=proof)
        with pytest.raises(type(error), match=str(error)):
            await asyncio.wait_for(opened.serving[0], ARRIVES_S)
