"""`discogrid doctor`: each thing that must be right here, with the command that fixes it."""

import asyncio
import importlib
import importlib.util
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

import click

from discogrid import __version__, places
from discogrid.cli.command import Command, json_option
from discogrid.cli.connect import GridChoice, grid_options
from discogrid.cli.console import Console
from discogrid.cli.text import printable
from discogrid.client import AsyncClient
from discogrid.errors import DiscogridError, ExitCode
from discogrid.keys import load_or_create, shown_id
from discogrid.own import is_running
from discogrid.programs import find_ffmpeg
from discogrid.quantities import size_text
from discogrid.trust.roster import WARN_BEFORE_S
from discogrid.types import GIB, SandboxLevel

FREE_BYTES_MIN = 1 * GIB
FREE_BYTES_GOOD = 5 * GIB
VISION = (
    "numpy",
    "cv2",
    "dlib",
    "ffmpeg",
    "imutils",
    "matplotlib",
    "av",
    "imageio_ffmpeg",
    "face_recognition_models",
)


class Verdict(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `fix` is the command that mends it."""

    name: str
    verdict: Verdict
    what: str
    fix: str = ""


@click.command(cls=Command)
@json_option
@grid_options
@click.pass_obj
def doctor(console: Console, choice: GridChoice, *, as_json: bool) -> ExitCode:
    """Check this machine: each line is ok, warn or fail, with the command that fixes it. Exit code 1 if one fails."""
    checks = list(examine(choice))
    if as_json:
        console.output.json("doctor", {"checks": [asdict(check) for check in checks]})
    else:
        style = console.output.style
        for check in checks:
            console.output.line(
                f"{style.state(f'{check.verdict:<4}')}  {check.name:<9} {printable(check.what)}"
            )
            if check.fix:
                console.output.line(f"{'':16}fix: {printable(check.fix)}")
    failed = any(check.verdict is Verdict.FAIL for check in checks)
    return ExitCode.TASK_FAILED if failed else ExitCode.SUCCEEDED


def examine(choice: GridChoice) -> Iterator[Check]:
    """All checks, one after the other; one that cannot even be made fails."""
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("python", _python),
        ("keys", _keys),
        ("owner", lambda: _owner(choice)),
        ("box", _box),
        ("network", _network),
        ("ffmpeg", _ffmpeg),
        ("vision", _vision),
        ("disk", _disk),
        ("zeroconf", _zeroconf),
        ("grid", lambda: _grid(choice)),
    ]
    for name, check in checks:
        try:
            yield check()
        except DiscogridError as error:
            yield Check(name, Verdict.FAIL, ". ".join(filter(None, (error.what, error.why))), error.fix)
        except OSError as error:
            yield Check(name, Verdict.FAIL, str(error))


def _python() -> Check:
    return Check(
        "python", Verdict.OK, f"{platform.python_version()} at {sys.executable}, discogrid {__version__}"
    )


def _keys() -> Check:
    identity = load_or_create(places.identity_file())
    return Check(
        "keys", Verdict.OK, f"node {shown_id(identity.id)}, readable by you alone, in {places.home()}"
    )


def _owner(choice: GridChoice) -> Check:
    """Where the key lies that decides who belongs to the grid, and how long its roster is good."""
    grid = choice.known()
    left_s = grid.roster.body.expires - time.time()
    where = "lies on this machine" if grid.owner() else "is not on this machine"
    what = (
        f"the owner's key of the grid {grid.name} {where}; its roster is good for {left_s / 86400:.0f} days"
    )
    if left_s < WARN_BEFORE_S:
        return Check("owner", Verdict.WARN, what, "discogrid trust renew, where the owner's key lies")
    coordinates = grid.roster.coordinator().id == grid.identity.id
    if grid.owner() and coordinates and not grid.own:
        return Check(
            "owner",
            Verdict.OK,
            f"{what}. Who steals this machine, which also coordinates, could change the roster: `trust move` helps",
        )
    return Check("owner", Verdict.OK, what)


def _box() -> Check:
    probe = importlib.import_module("discogrid_agent.sandbox.probe").best_box()
    if probe.box.level is SandboxLevel.STRICT:
        proof = importlib.import_module("discogrid_agent.warm.proof").prove_warm(probe.box)
        starts = "start warm" if proof.box is not None else f"start cold ({proof.reason})"
        landlock = "" if probe.box.landlock else ", without Landlock, which this kernel does not have"
        return Check(
            "box",
            Verdict.OK,
            f"strict{landlock}: tasks see neither your files nor your network; they {starts}",
        )
    if probe.box.level is SandboxLevel.CONFINED:
        means = "no namespaces, so that less is hidden. `discogrid agent --sandbox confined` lends it all the same"
    else:
        means = "this machine runs your own tasks only, and cannot be lent"
    return Check("box", Verdict.WARN, f"{probe.box.level}: {means}. {probe.reason}", probe.fix)


def _network() -> Check:
    """Whether tasks can have one of their own."""
    box = importlib.import_module("discogrid_agent.sandbox.probe").best_box().box
    if box.level is not SandboxLevel.STRICT:
        return Check("network", Verdict.WARN, f"tasks cannot have one: {box.no_network}")
    proof = importlib.import_module("discogrid_agent.uplink.proof").prove_network(box)
    if proof.reason:
        return Check("network", Verdict.WARN, f"tasks cannot have one: {proof.reason}", proof.fix)
    return Check(
        "network", Verdict.OK, "tasks whose job asks for one, and may, reach the internet and nothing else"
    )


def _ffmpeg() -> Check:
    found = find_ffmpeg()
    if found is None:
        return Check(
            "ffmpeg",
            Verdict.WARN,
            "not found: scripts that call it fail here",
            "pip install 'discogrid[vision]'",
        )
    probe = "" if shutil.which("ffprobe") else "; no ffprobe, which some scripts call"
    return Check("ffmpeg", Verdict.OK, f"{found}{probe}")


def _vision() -> Check:
    missing = [name for name in VISION if importlib.util.find_spec(name) is None]
    if missing:
        return Check(
            "vision", Verdict.WARN, f"missing {', '.join(missing)}", "pip install 'discogrid[vision]'"
        )
    return Check("vision", Verdict.OK, f"{', '.join(VISION[:3])} and {len(VISION) - 3} more can be imported")


def _disk() -> Check:
    free = shutil.disk_usage(places.private_folder(places.home())).free
    what = f"{size_text(free)} free for {places.home()}"
    if free >= FREE_BYTES_GOOD:
        return Check("disk", Verdict.OK, what)
    verdict = Verdict.WARN if free >= FREE_BYTES_MIN else Verdict.FAIL
    return Check(
        "disk", verdict, what, f"Free some space, or set {places.HOME_VARIABLE} to a folder on another disk."
    )


def _zeroconf() -> Check:
    if importlib.util.find_spec("zeroconf") is None:
        return Check(
            "zeroconf", Verdict.WARN, "missing: grids are found by --coordinator only", "pip install zeroconf"
        )
    return Check("zeroconf", Verdict.OK, "grids in this network can be found")


def _grid(choice: GridChoice) -> Check:
    grid = choice.known()
    if grid.own and not is_running():
        return Check("grid", Verdict.OK, "this machine's own; it starts when a command needs it")
    began = time.monotonic()

    async def ask() -> int:
        async with AsyncClient(grid) as client:
            return sum(agent.state == "live" for agent in await client.agents())

    live = asyncio.run(ask())
    took_ms = (time.monotonic() - began) * 1000
    what = f"{grid.name} at {grid.endpoint} answers in {took_ms:.0f} ms; live agents: {live}"
    return Check("grid", Verdict.OK if live else Verdict.WARN, what, "" if live else "discogrid agent")
