from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
from textual.pilot import Pilot

from discogrid_tui.app import Dashboard
from discogrid_tui.model import Model
from discogrid_tui.screens.main import Main
from discogrid_tui.widgets.table import Table
from tests.tui.fakes import NOW, FakeGrid, until


@dataclass
class Clock:
    """Time as a number."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Stage:
    """A dashboard that runs without a terminal, over a grid that is not there."""

    app: Dashboard
    pilot: Pilot[None]
    grid: FakeGrid
    clock: Clock

    @property
    def model(self) -> Model:
        return self.app.model

    @property
    def main(self) -> Main:
        return next(screen for screen in self.app.screen_stack if isinstance(screen, Main))

    @property
    def table(self) -> Table:
        return self.main.table

    async def until(self, true: Callable[[], bool]) -> None:
        """Let the dashboard work until this is so."""
        await until(true)
        await self.paint()

    async def paint(self) -> None:
        await self.pilot.pause()
        self.main.paint()
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.paint()

    def text(self) -> str:
        """What is on the screen, without colours."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


Open = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def stage() -> Open:
    @asynccontextmanager
    async def open_stage(
        grid: FakeGrid, size: tuple[int, int] = (80, 24), *, own: bool = True
    ) -> AsyncIterator[Stage]:
        clock = Clock()
        app = Dashboard(Model("own" if own else "home", NOW, own=own), grid.connect, clock)
        async with app.run_test(size=size, notifications=True) as pilot:
            found = Stage(app, pilot, grid, clock)
            await found.until(lambda: found.model.complete or not grid.reachable)
            yield found

    return open_stage
