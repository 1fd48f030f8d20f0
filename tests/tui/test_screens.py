"""What the screens look like, without colours: `DISCOGRID_SNAPSHOTS=write pytest tests/tui/test_screens.py` keeps them anew."""

import os
from pathlib import Path

import pytest

from tests.tui.conftest import Open
from tests.tui.fakes import FakeGrid, a_busy_grid

FOLDER = Path(__file__).parent / "screens"
SIZES = [(80, 24), (120, 40), (200, 60), (40, 12)]


def check(name: str, size: tuple[int, int], shown: str) -> None:
    kept = FOLDER / f"{name}-{size[0]}x{size[1]}.txt"
    if os.environ.get("DISCOGRID_SNAPSHOTS") == "write":
        FOLDER.mkdir(exist_ok=True)
        kept.write_text(shown, encoding="utf-8")
    lines = shown.splitlines()
    assert len(lines) == size[1]
    assert not any(ord(char) < 32 for line in lines for char in line)
    assert shown == kept.read_text(encoding="utf-8")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("jobs", ""),
        ("tasks", "j j enter j"),
        ("agents", "3 j"),
        ("filtered", "j j enter slash f a i enter"),
        ("sorted", "s"),
    ],
)
async def test_a_busy_grid(stage: Open, name: str, keys: str, size: tuple[int, int]) -> None:
    async with stage(a_busy_grid(), size) as shown:
        for key in keys.split():
            await shown.press(key)
        await shown.until(lambda: shown.model.opened is None or shown.model.tasks_complete)
        check(name, size, shown.text())


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_an_empty_grid(stage: Open, size: tuple[int, int]) -> None:
    async with stage(FakeGrid(), size) as shown:
        check("empty", size, shown.text())


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_grid_that_is_gone(stage: Open, size: tuple[int, int]) -> None:
    async with stage(a_busy_grid(), size) as shown:
        shown.grid.vanish()
        await shown.until(lambda: shown.model.connection.what != "")
        shown.clock.now += 12
        await shown.paint()
        check("stale", size, shown.text())


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_grid_that_was_never_there(stage: Open, size: tuple[int, int]) -> None:
    grid = FakeGrid()
    grid.reachable = False
    async with stage(grid, size, own=False) as shown:
        await shown.until(lambda: shown.model.connection.what != "")
        check("no-grid", size, shown.text())
