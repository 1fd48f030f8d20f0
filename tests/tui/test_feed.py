import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Self

import pytest

from discogrid.errors import HandshakeRefused
from discogrid.messages import Changed
from discogrid.types import JobId
from discogrid_tui import feed as feeds
from discogrid_tui.feed import Feed
from discogrid_tui.model import Link, Model
from tests.tui.fakes import NOW, FakeClient, FakeGrid, a_busy_grid, task, until

K3F9 = JobId("k3f9")


@asynccontextmanager
async def following(grid: FakeGrid) -> AsyncIterator[tuple[Model, Feed]]:
    model = Model("own", NOW)
    feed = Feed(model, grid.connect, lambda: NOW)
    running = asyncio.create_task(feed.run())
    try:
        yield model, feed
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert not grid._clients


async def test_the_first_picture_comes_whole() -> None:
    async with following(a_busy_grid()) as (model, _):
        await until(lambda: model.complete)
        assert (model.jobs.total, model.agents.total) == (6, 3)


async def test_leaving_ends_every_watch_and_the_connection() -> None:
    grid = a_busy_grid()
    async with following(grid) as (model, feed):
        await until(lambda: model.complete)
        model.open(K3F9)
        feed.opened()
        await until(lambda: model.tasks_complete)
        [client] = grid._clients
    assert client._watches == {}


async def test_the_watch_of_a_job_ends_when_another_is_opened() -> None:
    grid = a_busy_grid()
    async with following(grid) as (model, feed):
        await until(lambda: model.complete)
        for job in (K3F9, JobId("a2b7")):
            model.open(job)
            feed.opened()
            await until(lambda: model.tasks_complete)
        [client] = grid._clients
        assert [job for job, _, _ in client._watches.values()] == [None, "a2b7"]
        grid.push(task(0, "a2b7"))
        await until(lambda: model.tasks.total == 1)


async def test_a_grid_that_refuses_says_why_and_is_asked_again_only_when_the_user_wants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds, "RETRY_S", (3600.0,))
    grid = a_busy_grid()
    asked = 0

    class Refusing(FakeClient):
        async def __aenter__(self) -> Self:
            nonlocal asked
            asked += 1
            raise HandshakeRefused("protocol 9 is not spoken here", fix="Upgrade.")

    monkeypatch.setattr(grid, "connect", lambda: Refusing(grid))
    async with following(grid) as (model, feed):
        await until(lambda: asked == 1 and model.connection.what)
        assert (model.connection.link, model.connection.fix) == (Link.CONNECTING, "Upgrade.")
        feed.retry()
        await until(lambda: asked == 2)


async def test_waits_between_tries_grow_and_begin_anew_after_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    real = asyncio.timeout

    def noted(seconds: float) -> asyncio.Timeout:
        waits.append(seconds)
        return real(0)

    monkeypatch.setattr(asyncio, "timeout", noted)
    grid = a_busy_grid()
    model = Model("own", NOW)
    grid.reachable = False
    running = asyncio.create_task(Feed(model, grid.connect, lambda: NOW).run())
    await until(lambda: len(waits) >= 6, pause_s=0)
    grid.reachable = True
    await until(lambda: model.complete, pause_s=0)
    before = len(waits)
    assert waits[:5] == [1.0, 2.0, 4.0, 8.0, 8.0]
    grid.vanish()
    await until(lambda: len(waits) > before, pause_s=0)
    assert waits[before] == feeds.RETRY_S[0]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_watch_that_ends_without_a_word_is_a_lost_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = a_busy_grid()

    class Silent(FakeClient):
        @asynccontextmanager
        async def watch(
            self, job: JobId | None = None, *, tasks: bool = True
        ) -> AsyncIterator[AsyncIterator[Changed]]:
            async def nothing() -> AsyncIterator[Changed]:
                for changed in list[Changed]():
                    yield changed

            yield nothing()

    monkeypatch.setattr(grid, "connect", lambda: Silent(grid))
    async with following(grid) as (model, _):
        await until(lambda: model.connection.link is Link.STALE)
        assert "ended the watch" in model.connection.what


async def test_a_picture_of_many_pushes_lets_others_have_their_turn() -> None:
    grid = FakeGrid()
    grid.push(*(task(index) for index in range(20_000)))
    grid.push(*a_busy_grid().jobs.values())
    async with following(grid) as (model, feed):
        await until(lambda: model.complete)
        model.open(K3F9)
        feed.opened()
        turns = 0
        while not model.tasks_complete:
            await asyncio.sleep(0)
            turns += 1
        assert model.tasks.total == 20_000
        assert turns > 5


async def test_the_clocks_difference_is_learned() -> None:
    grid = FakeGrid()

    class Ahead(FakeClient):
        async def __aenter__(self) -> Self:
            await super().__aenter__()
            self.welcome = SimpleNamespace(clock=NOW + 30)  # type: ignore[assignment]
            return self

    grid.connect = lambda: Ahead(grid)  # type: ignore[method-assign]
    async with following(grid) as (model, _):
        await until(lambda: model.complete)
        assert model.skew == 30
