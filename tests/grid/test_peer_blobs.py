"""Several agents need the same large blob at the same time."""

import asyncio
from pathlib import Path

import pytest

from discogrid.client import AsyncClient
from discogrid.submission import Prepared
from discogrid.types import MIB, SandboxLevel, TaskState
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.probe import best_box
from tests.grid.crowd import Crowd, crowd, mounted

AGENTS = 4
TREE_BYTES = 20 * MIB
ENDS_S = 60.0


@pytest.fixture(scope="module")
def box() -> Box:
    probed = best_box()
    if probed.box.level is not SandboxLevel.STRICT:
        pytest.skip(f"the strict box does not work here: {probed.reason} {probed.fix}")
    return probed.box


async def everybody_is_there(client: AsyncClient, count: int) -> None:
    while sum(view.state == "live" for view in await client.agents()) < count:  # noqa: ASYNC110 - it is the coordinator's word
        await asyncio.sleep(0.02)


async def at_work(opened: Crowd, job: Prepared, agents: int) -> set[str | None]:
    """Who runs the tasks of a job that is submitted once all agents are there. None ends before all have begun."""
    cast = opened.cast
    async with (
        AsyncClient(cast.grid(cast.submitter, opened.house.endpoint)) as client,
        asyncio.timeout(ENDS_S),
    ):
        await everybody_is_there(client, agents)
        id_ = await client.submit(job)
        tasks = await client.tasks(id_)
        while {task.state for task in tasks} != {TaskState.RUNNING}:
            await asyncio.sleep(0.05)
            tasks = await client.tasks(id_)
        await client.cancel(id_)
    return {task.agent for task in tasks}


async def test_a_mount_crosses_the_coordinators_line_once_for_four_agents(tmp_path: Path, box: Box) -> None:
    async with crowd(tmp_path, box, AGENTS) as opened:
        for number in range(AGENTS):
            opened.lend(number)
        job = mounted(opened.cast, tmp_path / "job", TREE_BYTES, AGENTS, stays=True)
        assert len(await at_work(opened, job, AGENTS)) == AGENTS
        assert TREE_BYTES <= opened.relayed_bytes <= 1.1 * TREE_BYTES


async def test_agents_whose_owners_keep_to_themselves_get_it_from_the_coordinator(
    tmp_path: Path, box: Box
) -> None:
    async with crowd(tmp_path, box, 2) as opened:
        for number in range(2):
            opened.lend(number, peers=False)
        job = mounted(opened.cast, tmp_path / "job", 2 * MIB, 2, stays=True)
        assert len(await at_work(opened, job, 2)) == 2
        assert opened.relayed_bytes >= 4 * MIB
        assert {peer.blob_endpoint for peer in opened.house.server._engine.peers.all()} == {""}
