"""Where a grid's coordinator answers: of all addresses that are claimed, the one that proves to have its key."""

import asyncio
from contextlib import aclosing
from typing import Any

from discogrid import discovery, transport
from discogrid.grid import Grid, joined, remember_address
from discogrid.types import Role

CANDIDATES_MAX = 256  # addresses that are tried in one search
DIALS_AT_ONCE = 32  # so that those which do not answer do not keep the right one waiting


async def find_coordinator(grid: Grid, seconds: float = discovery.FIND_S) -> str | None:
    """The first announced address at which the coordinator's key is proven; None when none is within `seconds`.

    Whoever is on the network can announce an address, and answer faster than the coordinator does.
    """
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    gate = asyncio.Semaphore(DIALS_AT_ONCE)

    async def attempt(endpoint: str) -> None:
        async with gate:
            if await coordinator_answers(grid, endpoint) and not found.done():
                found.set_result(endpoint)

    async def search() -> None:
        tried: set[str] = set()
        async with (
            asyncio.TaskGroup() as attempts,
            aclosing(discovery.members(grid.roster.grid, Role.COORDINATOR, seconds)) as answers,
        ):
            async for answer in answers:
                for endpoint in answer.endpoints:
                    if endpoint not in tried and len(tried) < CANDIDATES_MAX:
                        tried.add(endpoint)
                        attempts.create_task(attempt(endpoint))

    searching = asyncio.create_task(search())
    try:
        either: set[asyncio.Future[Any]] = {searching, found}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if searching.done():
            searching.result()
        return found.result() if found.done() else None
    finally:
        searching.cancel()
        await asyncio.wait({searching})


async def coordinator_answers(grid: Grid, endpoint: str) -> bool:
    """Whether the grid's coordinator, and nobody else, answers there and lets this node in."""
    keys = transport.CurveKeys(grid.identity.curve_public, grid.identity.curve_secret)
    return await transport.proves_key(endpoint, keys, grid.roster.coordinator().curve)


async def lets_in(grid: Grid) -> bool:
    """Whether the grid's coordinator is in reach and takes this node, wherever it answers now."""
    if grid.endpoint is not None and await coordinator_answers(grid, grid.endpoint):
        return True
    return await find_coordinator(grid) is not None


async def moved_to(grid: Grid, endpoint: str) -> str | None:
    """Another address at which a coordinator answers that no longer does so at `endpoint`; None: stay and wait."""
    if not endpoint.startswith("tcp://"):
        return None
    staying = asyncio.create_task(coordinator_answers(grid, endpoint))
    searching = asyncio.create_task(find_coordinator(grid))
    try:
        if await staying:
            return None
        found = await searching
        return found if found != endpoint else None
    finally:
        for task in (staying, searching):
            task.cancel()
        await asyncio.wait({staying, searching})


def remember(grid: Grid, endpoint: str) -> None:
    """Keep where the coordinator has moved, if an address was kept before: what was named for once stays so."""
    if grid.name in joined():
        remember_address(grid.name, endpoint)
