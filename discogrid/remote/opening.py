"""From what a pool asks for to a dispatcher whose calls run on a grid."""

import os
import sys
from pathlib import Path

from discogrid.blobs import digest_of
from discogrid.bundle import RETRIES_MAX, CallTerms, Manifest, check_base_name
from discogrid.calls import functions
from discogrid.calls.dispatch import Dispatcher
from discogrid.errors import InputError
from discogrid.grid import Grid, choose_grid
from discogrid.remote.grid_line import GridLine, Home
from discogrid.remote.options import CallOptions
from discogrid.remote.prospects import Prospects
from discogrid.remote.seat_line import SeatLine
from discogrid.types import (
    FileRef,
    Limits,
    Requirements,
    SandboxLevel,
    python_capability,
)

PYTHON = (sys.version_info[0], sys.version_info[1])
TRIES_MAX = 2  # of a call under which its worker dies
ENDLESS_S = float("inf")
CONSTANTS_BYTES_MAX = 1 << 30  # of the files that lie in the folder of every call

_told: set[str] = set()  # the grids of which it was said that calls run there


def open_calls(options: CallOptions) -> Dispatcher:
    """A dispatcher whose line is a job of its own on the grid; it ends with the dispatcher.

    GridError when the grid is not in reach, NoAgentFits and VersionMismatch when none of its agents could run a call.
    """
    grid = choose_grid(local=options.local, grid=options.grid)
    bare = grid.own and not options.box
    manifest, files = _manifest(options, grid, bare=bare)
    prospects = Prospects(grid, PYTHON, bare=bare)
    _say_where(grid, bare=bare)

    def line(home: Home) -> GridLine:
        return GridLine(home, grid, manifest, files, prospects, processes=options.processes)

    if not bare:
        return Dispatcher(line)
    return Dispatcher(
        lambda dispatcher: SeatLine(dispatcher, line, timeout=options.timeout, calls_max=options.calls_max)
    )


def _manifest(options: CallOptions, grid: Grid, *, bare: bool) -> tuple[Manifest, list[bytes]]:
    """What is signed, but for its time; and the contents of its script and constants."""
    initializer = functions.pack(options.initializer) if options.initializer is not None else b""
    constants = [(_base_name(path), _content(path)) for path in options.const]
    files = [initializer, *(content for _, content in constants)]
    needs = options.needs if bare else (python_capability(*PYTHON), *options.needs)
    program = _program()
    manifest = Manifest(
        grid=grid.roster.grid,
        audience=grid.roster.coordinator().id,
        nonce=b"",
        issued=0.0,
        expires=0.0,
        submitter=grid.identity.id,
        name=options.name or Path(program).stem,
        script=FileRef(program, digest_of(initializer), len(initializer)),
        constants=tuple(FileRef(name, digest_of(content), len(content)) for name, content in constants),
        environment=dict(os.environ) if bare else {},
        limits=_limits(options, bare=bare),
        requirements=Requirements(
            cpus=options.cpus,
            memory_bytes=options.memory_bytes,
            gpus=options.gpus,
            needs=needs,
            sandbox=SandboxLevel.NONE if bare else SandboxLevel.STRICT,
            network=options.network and not bare,
        ),
        retries=min(1, RETRIES_MAX),
        tasks=0,
        root=b"",
        calls=CallTerms(
            python=PYTHON,
            calls_max=(1 if options.calls_max else 0)
            if bare
            else options.calls_max or 0,  # a seat is one call
            tries=1 if bare else TRIES_MAX,
            folder=os.getcwd() if bare else "",
            interpreter=sys.executable if bare else "",
            bare=bare,
        ),
    )
    return manifest, files


def _limits(options: CallOptions, *, bare: bool) -> Limits:
    seconds = options.timeout if options.timeout is not None else ENDLESS_S
    if bare:  # as multiprocessing would: the user's own machine has its own limits, and a seat is kept
        return Limits(seconds=ENDLESS_S, memory_bytes=1 << 50, processes=1 << 20, disk_bytes=1 << 50)
    memory = options.memory_bytes or Limits().memory_bytes
    return Limits(seconds=seconds, memory_bytes=memory)


def _program() -> str:
    """What `discogrid ls` shows of the program that makes the calls."""
    name = Path(sys.argv[0]).name if sys.argv and sys.argv[0] not in ("", "-c") else ""
    return name if name and check_base_name(name) is None else "python"


def _base_name(path: Path) -> str:
    if (reason := check_base_name(path.name)) is not None:
        raise InputError(f"the constant {str(path)!r} cannot be used: {reason}")
    return path.name


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > CONSTANTS_BYTES_MAX:
            raise InputError(
                f"the constant {path} has {size} bytes; {CONSTANTS_BYTES_MAX} are allowed",
                fix="Give its parts as arguments, or run a script over it: discogrid submit.",
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the constant {path} cannot be read: {error.strerror}") from None


def _say_where(grid: Grid, *, bare: bool) -> None:
    """Once a program and grid, on stderr: calls run with other files and rights in the one place than in the other."""
    key = f"{grid.name} {bare}"
    if key in _told:
        return
    _told.add(key)
    if bare:
        where = "as you on this machine, without a box"
    elif grid.own:
        where = "in boxes on this machine"
    else:
        where = f"in boxes on the agents of the grid {grid.name}"
    print(f"discogrid: calls run {where}", file=sys.stderr)  # noqa: T201 (said to who runs the program)
