"""The command `discogrid agent`: lends this machine."""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import click

from discogrid import places
from discogrid.cli.command import Command, as_size
from discogrid.cli.console import Console
from discogrid.discovery import announced
from discogrid.errors import GridError, SandboxError, UsageError
from discogrid.grid import (
    COORDINATOR_VARIABLE,
    OWN,
    Grid,
    lent_grid,
    open_grid,
    parse_endpoint,
    remember_address,
)
from discogrid.locks import held
from discogrid.types import ENVIRONMENT_CAPABILITY, Limits, Offer, Role, SandboxLevel
from discogrid.whereabouts import coordinator_answers, find_coordinator
from discogrid_agent.capabilities import capabilities, cpu_count, memory_bytes
from discogrid_agent.environments import Environments
from discogrid_agent.guardian import stand_guard
from discogrid_agent.prover import Prover, box_as_found
from discogrid_agent.rules import Rule
from discogrid_agent.rules_file import RulesFile
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.control_groups import ControlGroups
from discogrid_agent.sandbox.late_box import LateBox
from discogrid_agent.sandbox.probe import best_box, box_of
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.service import Service
from discogrid_agent.uplink.proof import prove_network
from discogrid_agent.warm.proof import prove_warm

NAME_BYTES_MAX = 64

log = logging.getLogger(__name__)


@click.command(cls=Command)
@click.option(
    "--slots", type=click.IntRange(1, 4096), help="Tasks of one CPU that run here at once; default: all CPUs."
)
@click.option(
    "--memory", callback=as_size, metavar="SIZE", help="What all tasks together may use; default: all of it."
)
@click.option("--name", help="What the grid calls this agent; default: this machine's name.")
@click.option(
    "--coordinator", envvar=COORDINATOR_VARIABLE, metavar="HOST:PORT", help="Where the coordinator answers."
)
@click.option(
    "--grid", "grid_name", metavar="NAME", help="Lend it to this grid; default: the one that was joined."
)
@click.option(
    "--join", "code", metavar="CODE", help="First join the grid by the code that `discogrid invite` shows."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="First join the grid by the token in this file, unless this machine is in it already.",
)
@click.option(
    "--sandbox",
    type=click.Choice([level.value for level in SandboxLevel]),
    help="The box that tasks run in; anything but strict is weaker.",
)
@click.option(
    "--no-warm",
    "warm",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Start a Python for every task; else one waits loaded.",
)
@click.option(
    "--allow-environments",
    is_flag=True,
    help="Install packages that jobs bring, from wheels alone, in folders of their own.",
)
@click.option(
    "--no-peers",
    "peers",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Listen on no port: large files come from the coordinator alone, and go to no other agent.",
)
@click.option("--leash", is_flag=True, hidden=True, help="Stop when stdin closes.")
@click.option("--told", is_flag=True, hidden=True, help="Dial when something comes on stdin.")
@click.pass_obj
def agent(
    console: Console,
    slots: int | None,
    memory: int | None,
    name: str | None,
    coordinator: str | None,
    grid_name: str | None,
    code: str | None,
    token_file: Path | None,
    sandbox: str | None,
    warm: bool,
    allow_environments: bool,
    peers: bool,
    leash: bool,
    told: bool,
) -> None:
    """Lend this machine: run signed tasks of the grid, each in a box, and return their results."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S"
    )
    shown = name or socket.gethostname()
    if (
        not shown.isprintable()
        or "/" in shown
        or shown.startswith(".")
        or len(shown.encode()) > NAME_BYTES_MAX
    ):
        raise UsageError(
            f"{shown!r} cannot be an agent's name", fix="Use letters, digits, '-' and '.', 64 at most."
        )
    grid = _grid(console, grid_name, code, token_file, shown)
    if told and not os.read(sys.stdin.fileno(), 1):
        return  # whoever started this agent has made way for somebody else
    # On this machine's own grid the submitter is the owner, whose --network is word enough.
    rules = RulesFile(places.rules_file(grid.name), Rule(network=grid.own))
    groups = ControlGroups.find()
    lent = memory or memory_bytes()
    offer = Offer(slots=slots or cpu_count(), memory_bytes=lent, sandbox=SandboxLevel.NONE, proving=True)
    limits = Limits(seconds=float("inf"), memory_bytes=lent, log_bytes=16 << 20)
    # On this machine's own grid most work needs no box: what else it can give is found out while that runs.
    late = grid.own and sandbox is None and not allow_environments
    environments: Environments | None = None
    box: Box = LateBox()
    if not late:
        box = _proven_box(grid, sandbox, groups, warm=warm)
        environments = _environments(grid, shown, box) if allow_environments else None
        names = capabilities() | ({ENVIRONMENT_CAPABILITY} if environments else frozenset())
        offer = _offer(offer, box, names)
    stand_guard()  # while there is one thread only
    gc.freeze()  # what was imported stays: the collector need not look at it again and again
    proof = _proof(box, offer, groups, warm=warm) if isinstance(box, LateBox) else None
    lending = _lend(
        *(grid, coordinator, shown, offer, limits, rules, box, environments, proof), peers=peers, leash=leash
    )
    asyncio.run(lending)


def _proven_box(grid: Grid, wanted: str | None, groups: ControlGroups | None, *, warm: bool) -> Box:
    """The box that tasks run in, after it has been tried with all that it gives them."""
    box = _box(grid, wanted, groups)
    if isinstance(box, StrictBox) and (proof := prove_network(box)).reason:
        log.info("tasks get no network: %s", ". To mend it: ".join(filter(None, (proof.reason, proof.fix))))
    return _warm(box) if warm else box


def _offer(offer: Offer, box: Box, names: frozenset[str]) -> Offer:
    return replace(
        offer,
        sandbox=box.level,
        network=not box.no_network,
        no_network=box.no_network,
        capabilities=names,
        proving=False,
    )


def _proof(
    box: LateBox, offer: Offer, groups: ControlGroups | None, *, warm: bool
) -> Callable[[], Awaitable[Offer]]:
    """Begin to find out what this machine can give; what is returned waits for it, and makes the box what it is."""
    prover = Prover.begin(groups, warm=warm)

    async def proof() -> Offer:
        found = await prover.findings()
        box.become(box_as_found(found, groups))
        if box.level is not SandboxLevel.STRICT:
            _warn_of_weak_box(box, found.weak)
        elif found.no_network:
            told = ". To mend it: ".join(filter(None, (found.no_network, found.mend_network)))
            log.info("tasks get no network: %s", told)
        if found.cold and warm and box.level is SandboxLevel.STRICT:
            log.info("tasks start cold: %s", found.cold)
        log.info("tasks run in the box %s", box.level.value)
        return _offer(offer, box, frozenset(found.capabilities))

    return proof


def _grid(
    console: Console, grid_name: str | None, code: str | None, token_file: Path | None, name: str
) -> Grid:
    """The grid that was named, or joined now, or before; whoever sits here is asked when there is none."""
    if code is None and token_file is None:
        found = open_grid(grid_name) if grid_name is not None else lent_grid()
        if found is not None:
            return found
    from discogrid.cli.pairing import ask_for_code, join_grid  # which few starts of an agent need

    if code is None and token_file is None:
        if not sys.stdin.isatty():
            raise GridError(
                "this machine has joined no grid",
                fix="Run `discogrid invite` on the grid's side, and here: discogrid agent --join CODE",
            )
        code = ask_for_code(console, name)
    grid = join_grid(code, token_file, name, (Role.AGENT,))
    log.info("this machine is a member of the grid %s", grid.name)
    return grid


async def _lend(
    grid: Grid,
    coordinator: str | None,
    name: str,
    offer: Offer,
    limits: Limits,
    rules: RulesFile,
    box: Box,
    environments: Environments | None,
    proof: Callable[[], Awaitable[Offer]] | None,
    *,
    peers: bool,
    leash: bool,
) -> None:
    with held(places.runtime_folder() / f"agent-{grid.name}-{name}.lock") as mine:
        if not mine:
            raise UsageError(
                f"an agent called {name!r} runs on this machine already",
                fix="Stop it, or choose another --name.",
            )
        # A variable or setting that names a joined grid's coordinator says nothing about this machine's own.
        endpoint = parse_endpoint(coordinator) if coordinator and not grid.own else await _endpoint(grid)
        folder = places.agent_folder(grid.name, name)
        service = Service(
            grid,
            endpoint,
            folder,
            name=name,
            offer=offer,
            limits=limits,
            rules=rules,
            box=box,
            environments=environments,
            peers=peers,
            proof=proof,
        )
        known = "to be found out" if offer.proving else box.level.value
        log.info("agent %s lends %d slots, box %s, to %s", name, offer.slots, known, endpoint)
        async with _leashed(service) if leash else contextlib.nullcontext(), _announced(grid):
            await service.run()


def _box(grid: Grid, wanted: str | None, groups: ControlGroups | None) -> Box:
    """The box asked for, else strict; on this machine's own grid the best there is. SandboxError says what to fix."""
    if wanted is not None:
        box = box_of(SandboxLevel(wanted), groups)
        if box.level is SandboxLevel.NONE:
            log.warning("tasks run WITHOUT a box: they can read and change whatever you can")
        return box
    probed = best_box(groups)
    if probed.box.level is SandboxLevel.STRICT:
        return probed.box
    if not grid.own:
        raise SandboxError(
            "the strict box cannot be built on this machine", why=probed.reason, fix=probed.fix
        )
    _warn_of_weak_box(probed.box, probed.reason)
    return probed.box


def _warn_of_weak_box(box: Box, reason: str) -> None:
    log.warning("tasks of this machine's own grid run in the box %r: %s", box.level.value, reason)


def _environments(grid: Grid, name: str, box: Box) -> Environments:
    """Where packages of jobs are installed; an error says why they cannot be."""
    if box.level is not SandboxLevel.STRICT:
        raise UsageError(
            "environments are shown in the strict box alone",
            fix="Leave out --allow-environments, or --sandbox.",
        )
    return Environments(places.agent_folder(grid.name, name) / "environments", box.owner)


def _warm(box: Box) -> Box:
    """The same box with warm starts, where they keep its promises."""
    if not isinstance(box, StrictBox):
        return box
    proof = prove_warm(box)
    if proof.box is None:
        log.info("tasks start cold: %s", proof.reason)
        return box
    return proof.box


async def _endpoint(grid: Grid) -> str:
    """The remembered address if the coordinator answers there, else the one that is found on the local network."""
    known = grid.endpoint
    if known is not None and (known.startswith("ipc://") or await coordinator_answers(grid, known)):
        return known
    log.info("looking for the grid's coordinator on the local network")
    if (found := await find_coordinator(grid)) is not None:
        remember_address(grid.name, found)
        return found
    if known is not None:
        return known  # it may come back; the agent keeps dialling, and looks around again
    raise GridError(
        "no coordinator of this user's grid was found on this machine or its network",
        fix="Start one with `discogrid coordinator` or `discogrid up`, or name it with --coordinator HOST:PORT.",
    )


@contextlib.asynccontextmanager
async def _leashed(service: Service) -> AsyncIterator[None]:
    """Stop the agent when whoever started it is gone: its end of our stdin closes."""
    loop = asyncio.get_running_loop()
    leash = sys.stdin.fileno()

    def pulled() -> None:
        if not os.read(leash, 4096):
            loop.remove_reader(leash)
            log.info("whoever started this agent is gone")
            service.stop()

    loop.add_reader(leash, pulled)
    try:
        yield
    finally:
        loop.remove_reader(leash)


def _announced(grid: Grid) -> contextlib.AbstractAsyncContextManager[object]:
    if grid.name == OWN:
        return contextlib.nullcontext()
    return announced(grid.roster.grid, Role.AGENT, 0)
