"""What the grid says, into the model: connects, watches, and connects again when the grid is gone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from discogrid.errors import DiscogridError, GridError
from discogrid.messages import Changed, Welcome
from discogrid.types import JobId
from discogrid_tui.model import Model

RETRY_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # waits between tries; the last one again and again
APPLY_S_MAX = 0.02  # the screen waits no longer for a first picture of many pushes


class GridClient(Protocol):
    """What the dashboard needs of `discogrid.client.AsyncClient`."""

    @property
    def welcome(self) -> Welcome | None:
        """What the coordinator said of itself; None before it did."""

    def watch(
        self, job: JobId | None = None, *, tasks: bool = True
    ) -> AbstractAsyncContextManager[AsyncIterator[Changed]]:
        """Changes of one job or of everything, after a complete first picture."""


class Feed:
    """Keeps the model at the grid's side for as long as `run` runs."""

    def __init__(
        self,
        model: Model,
        connect: Callable[[], AbstractAsyncContextManager[GridClient]],
        clock: Callable[[], float],
    ) -> None:
        """`connect` makes a client that is not connected yet."""
        self._model = model
        self._connect = connect
        self._clock = clock
        self._switched = asyncio.Event()
        self._hurry = asyncio.Event()

    def opened(self) -> None:
        """The model looks at another job: watch that one's tasks."""
        self._switched.set()

    def retry(self) -> None:
        """Do not wait for the next try."""
        self._hurry.set()

    async def run(self) -> None:
        """Follow the grid until cancelled."""
        failures = 0
        while True:
            lived = await self._follow()
            failures = 0 if lived else failures + 1
            self._hurry.clear()
            try:
                async with asyncio.timeout(RETRY_S[min(failures, len(RETRY_S) - 1)]):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    async def _follow(self) -> bool:
        """Follow one connection until it ends; whether there was one."""
        lived = False
        try:
            async with self._connect() as client:
                lived = True
                clock = client.welcome.clock if client.welcome else None
                self._model.connected(self._clock(), clock)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._watch_grid(client))
                    group.create_task(self._watch_opened(client))
        except* DiscogridError as errors:
            error = _first(errors)
            self._model.disconnected(self._clock(), error.what, error.fix)
        return lived

    async def _watch_grid(self, client: GridClient) -> None:
        async with client.watch(tasks=False) as changes:
            turn = asyncio.get_running_loop().time()
            async for changed in changes:
                self._model.apply(changed, self._clock())
                turn = await self._breathe(turn)
        raise GridError("the coordinator ended the watch")

    async def _watch_opened(self, client: GridClient) -> None:
        while True:
            self._switched.clear()
            watching = asyncio.create_task(self._watch_job(client, self._model.opened))
            switching = asyncio.create_task(self._switched.wait())
            try:
                await asyncio.wait({watching, switching}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    watching.result()
                    await switching
            finally:
                watching.cancel()
                switching.cancel()
                await asyncio.gather(watching, switching, return_exceptions=True)

    async def _watch_job(self, client: GridClient, job: JobId | None) -> None:
        if job is None:
            return
        self._model.tasks_begin(job)
        async with client.watch(job, tasks=True) as changes:
            turn = asyncio.get_running_loop().time()
            async for changed in changes:
                self._model.apply_tasks(job, changed)
                turn = await self._breathe(turn)

    @staticmethod
    async def _breathe(turn: float) -> float:
        """Pushes that wait already come without a pause: let the screen have its turn."""
        loop = asyncio.get_running_loop()
        if loop.time() - turn < APPLY_S_MAX:
            return turn
        await asyncio.sleep(0)
        return loop.time()


def _first(errors: BaseExceptionGroup[DiscogridError]) -> DiscogridError:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
