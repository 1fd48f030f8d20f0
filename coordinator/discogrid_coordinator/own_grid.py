"""This machine's own grid: its coordinator in this process, and an agent beside it."""

import asyncio
import gc
import importlib
from collections.abc import Sequence

from discogrid import own, places
from discogrid.grid import OWN, open_grid, own_endpoint
from discogrid.locks import held
from discogrid_coordinator.forked_agent import POSSIBLE, ForkedAgent
from discogrid_coordinator.supervisor import AgentSupervisor

SHARED = ("discogrid.batches", "discogrid.channel", "discogrid.discovery", "discogrid.transfer", "ssl")
"""What coordinator and agent both need: loaded once, before one becomes two."""


def serve_own_grid(idle_s: float, keep_s: float, agent_options: Sequence[str], news: int | None) -> None:
    """Serve until it has been idle for so long; at once when another process serves it. `news`: see `tell_ready`."""
    options = ["--grid", OWN, *agent_options]
    for module in SHARED:
        importlib.import_module(module)
    gc.freeze()  # what was imported stays: the collector need not look at it again and again
    agent = ForkedAgent.fork(options, [] if news is None else [news]) if POSSIBLE else None
    asyncio.run(_serve(idle_s, keep_s, AgentSupervisor(options, agent), news))


async def _serve(idle_s: float, keep_s: float, agent: AgentSupervisor, news: int | None) -> None:
    from discogrid_coordinator.server import Server  # while the agent loads what it alone needs

    gc.freeze()
    with held(own.lock_file()) as mine:
        if not mine:
            return  # somebody was faster; the agent's leash ends with this process
        own.ready_file().unlink(missing_ok=True)
        folder = places.coordinator_folder(OWN)
        server = Server(open_grid(OWN), folder, listen=own_endpoint(), idle_s=idle_s, keep_s=keep_s)

        def ready(_: str) -> None:
            own.tell_ready(news)
            agent.go()

        async with agent.running():
            try:
                await server.run(ready)
            finally:
                own.ready_file().unlink(missing_ok=True)
