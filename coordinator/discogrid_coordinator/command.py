"""The commands `discogrid coordinator` and `discogrid up`."""

import asyncio
import contextlib
import gc
import logging
import os

import click

from discogrid import own, places
from discogrid.cli.command import Command, as_duration
from discogrid.cli.console import Console
from discogrid.errors import GridError, UsageError
from discogrid.grid import HOME, PORT_DEFAULT, open_grid, parse_endpoint, remember_address
from discogrid.locks import held
from discogrid.quantities import parse_duration
from discogrid_coordinator.own_grid import serve_own_grid
from discogrid_coordinator.retention import KEEP_S
from discogrid_coordinator.supervisor import AgentSupervisor

LISTEN_DEFAULT = f"0.0.0.0:{PORT_DEFAULT}"

_listen = click.option(
    "--listen", metavar="HOST:PORT", default=LISTEN_DEFAULT, show_default=True, help="Where to answer."
)
_quiet_presence = click.option(
    "--no-announce", is_flag=True, help="Do not announce the grid on the local network."
)

_keep = click.option(
    "--keep",
    metavar="DURATION",
    callback=as_duration,
    help="Forget ended jobs with their results after this time. [default: 30d]",
)


@click.command(cls=Command)
@_listen
@_keep
@_quiet_presence
@click.pass_obj
def coordinator(console: Console, listen: str, keep: float | None, *, no_announce: bool) -> None:
    """Run the grid's coordinator: it takes jobs in, schedules them, and keeps their results."""
    _prepare_to_serve()
    asyncio.run(_serve_home(console, listen, keep or KEEP_S, announce=not no_announce, agent_options=None))


@click.command(cls=Command)
@_listen
@_keep
@_quiet_presence
@click.option(
    "--slots", type=click.IntRange(1, 4096), help="Tasks of one CPU that run here at once; default: all CPUs."
)
@click.option("--own", "own_grid", is_flag=True, hidden=True)
@click.option("--tell", type=int, hidden=True, help="A descriptor to write to once clients can come.")
@click.option("--idle-exit", callback=as_duration, hidden=True, help="Leave after so long without work.")
@click.pass_obj
def up(
    console: Console,
    listen: str,
    keep: float | None,
    no_announce: bool,
    slots: int | None,
    own_grid: bool,
    tell: int | None,
    idle_exit: float | None,
) -> None:
    """Run the coordinator and this machine's agent together, until interrupted."""
    _prepare_to_serve()
    options = ["--slots", str(slots)] if slots else []
    if own_grid:
        idle_s = idle_exit or parse_duration(os.environ.get(own.IDLE_VARIABLE, f"{own.IDLE_S:.0f}s"))
        serve_own_grid(idle_s, keep or KEEP_S, options, tell)
    else:
        asyncio.run(
            _serve_home(console, listen, keep or KEEP_S, announce=not no_announce, agent_options=options)
        )


async def _serve_home(
    console: Console, listen: str, keep_s: float, *, announce: bool, agent_options: list[str] | None
) -> None:
    from discogrid_coordinator.server import Server, port_of

    gc.freeze()  # what was imported stays: the collector need not look at it again and again
    endpoint = parse_endpoint(listen)
    if not endpoint.startswith("tcp://"):
        raise UsageError(
            f"{listen!r} is no address to listen on", fix="Write HOST:PORT, such as 0.0.0.0:7717."
        )
    with held(places.runtime_folder() / "coordinator.lock") as mine:
        if not mine:
            raise GridError(
                "this user's coordinator runs already",
                fix="`discogrid status` shows it; stop it before starting another.",
            )
        folder = places.coordinator_folder(HOME)
        server = Server(open_grid(HOME), folder, listen=endpoint, keep_s=keep_s, announce=announce)

        def ready(bound: str) -> None:
            remember_address(HOME, f"tcp://127.0.0.1:{port_of(bound)}")
            console.narration.say(
                f"coordinator listens on {bound.removeprefix('tcp://')}; stop it with Ctrl-C"
            )

        agent = (
            AgentSupervisor(["--grid", HOME, *agent_options]).running() if agent_options is not None else None
        )
        async with agent or contextlib.nullcontext():
            await server.run(ready)


def _prepare_to_serve() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S"
    )
