"""`discogrid trust`: who belongs to the grid, and the key that decides it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import click
import msgspec

from discogrid import places
from discogrid.cli.command import Command, as_size, json_option
from discogrid.cli.connect import GridChoice, grid_options
from discogrid.cli.console import Console
from discogrid.cli.output import Column
from discogrid.client import AsyncClient
from discogrid.errors import ExitCode, GridError, UsageError
from discogrid.grid import Grid, adopt_keys, put_back, renewed_keys
from discogrid.keys import shown_id, typed_id
from discogrid.own import is_running
from discogrid.quantities import iso_text, parse_duration, size_text
from discogrid.trust.owner import KEY_FILE, Owner
from discogrid.trust.roster import WARN_BEFORE_S, Member, Roster
from discogrid.trust.vault import Backup, back_up, restore
from discogrid.types import Quotas, Role

MEMBER_COLUMNS = [
    Column("NAME", gives_way=True),
    Column("NODE"),
    Column("ROLES"),
    Column("STATE", state=True),
]
PASSPHRASE_BYTES_MAX = 1024
WEIGHT_MAX = 100


@click.group()
def trust() -> None:
    """Say who belongs to the grid, put a member out, keep the owner's key."""


def _passphrase_option(*, new: bool) -> click.Option:
    return click.Option(
        ["--passphrase-file", "passphrase"],
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        callback=lambda _ctx, _param, file: _passphrase(file, new=new),
        help="Read the passphrase from this file instead of asking for it.",
    )


def _passphrase(file: Path | None, *, new: bool) -> str:
    if file is not None:
        with file.open(encoding="utf-8") as lines:
            return lines.read(PASSPHRASE_BYTES_MAX).rstrip("\r\n")
    return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True))


@trust.command("ls", cls=Command)
@json_option
@grid_options
@click.pass_obj
def list_members(console: Console, choice: GridChoice, *, as_json: bool) -> None:
    """List the members of the grid, when its roster ends, and where its owner's key is."""
    grid = choice.known()
    roster = grid.roster
    if as_json:
        console.output.json("trust", _document(grid))
        return
    rows = [_row(member, "member") for member in roster.body.members]
    rows += [_row(old.member, f"put out, from {_day(old.before)} on") for old in roster.body.revoked]
    console.output.table(MEMBER_COLUMNS, rows)
    where = "lies here" if grid.owner() else "is not on this machine"
    console.narration.say(
        f"Roster {roster.version} of the grid {grid.name} ({shown_id(roster.grid)}), good until"
        f" {_day(roster.body.expires)}. Its owner's key {where}."
    )
    if roster.body.expires - time.time() < WARN_BEFORE_S:
        console.narration.warn(
            "The roster ends soon: run `discogrid trust renew` where the owner's key lies."
        )


@trust.command("rm", cls=Command)
@click.argument("name", metavar="NAME")
@click.option(
    "--before",
    metavar="TIME",
    help="What it signed from then on counts no more: 2h (ago) or 2026-11-25T10:00. [default: now]",
)
@grid_options
@click.pass_obj
def remove(console: Console, choice: GridChoice, name: str, *, before: str | None) -> ExitCode:
    """Put a member out of the grid, at once: its tasks go elsewhere, its open jobs end."""
    return put_out(console, choice.known(), name, before)


def put_out(console: Console, grid: Grid, name: str, before: str | None) -> ExitCode:
    """Revoke a member; what `trust rm` and `agents ban` do."""
    owner, now = _owner(grid), time.time()
    moment = _moment(before, now)

    def sign() -> tuple[Roster, str]:
        member = find_member(grid.roster, name)
        newer = owner.revoke(grid.roster, member.id, moment, now)
        return newer, f"{member.name} was put out of the grid {grid.name}."

    return _enact(console, grid, sign)


@trust.command("set", cls=Command)
@click.argument("name", metavar="NAME")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([Role.AGENT.value, Role.SUBMITTER.value, Role.ADMIN.value]),
    help="What it may do, instead of what it may do now; more than once for several.",
)
@click.option("--jobs", type=click.IntRange(0), help="How many of its jobs may be open at a time.")
@click.option("--tasks", type=click.IntRange(0), help="How many tasks its open jobs may have together.")
@click.option(
    "--weight",
    type=click.IntRange(1, WEIGHT_MAX),
    help="Its share where several submit: twice the weight, twice the slots. For jobs from then on.",
)
@click.option(
    "--input", "input_bytes", callback=as_size, metavar="SIZE", help="How much input they may have."
)
@click.option(
    "--trusted/--untrusted", default=None, help="Whether Python objects in its results are unpickled."
)
@grid_options
@click.pass_obj
def change(
    console: Console,
    choice: GridChoice,
    name: str,
    *,
    roles: tuple[str, ...],
    jobs: int | None,
    tasks: int | None,
    weight: int | None,
    input_bytes: int | None,
    trusted: bool | None,
) -> ExitCode:
    """Change what a member may do, and how much at a time."""
    grid = choice.known()
    owner = _owner(grid)
    given = {"jobs_open": jobs, "tasks_open": tasks, "input_bytes": input_bytes, "weight": weight}

    def sign() -> tuple[Roster, str]:
        member = find_member(grid.roster, name)
        quotas = replace(
            member.quotas,
            **{key: value for key, value in given.items() if value is not None},
        )
        kept = tuple(role for role in member.roles if role is Role.COORDINATOR)
        wanted = (*map(Role, dict.fromkeys(roles)), *kept) if roles else member.roles
        changed = msgspec.structs.replace(
            member, roles=wanted, quotas=quotas, trusted=member.trusted if trusted is None else trusted
        )
        newer = owner.change(grid.roster, changed, time.time())
        return newer, f"{member.name}: {', '.join(wanted)}; {_quotas_text(quotas)}."

    return _enact(console, grid, sign)


@trust.command("renew", cls=Command)
@grid_options
@click.pass_obj
def renew(console: Console, choice: GridChoice) -> ExitCode:
    """Let the roster be good for longer."""
    grid = choice.known()
    owner = _owner(grid)

    def sign() -> tuple[Roster, str]:
        newer = owner.renew(grid.roster, time.time())
        return newer, f"The roster is good until {_day(newer.body.expires)}."

    return _enact(console, grid, sign)


@trust.command("backup", cls=Command, params=[_passphrase_option(new=True)])
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@grid_options
@click.pass_obj
def backup(console: Console, choice: GridChoice, file: Path, *, passphrase: str) -> None:
    """Write the owner's key to a new FILE, sealed by a passphrase.

    Without the key nobody can be admitted or put out, and the roster ends. On the machine that coordinates, the
    backup holds the coordinator's keys, too: with it another machine takes its place.
    """
    grid = choice.known()
    back_up(file, passphrase, _backup_of(grid, with_coordinator=True))
    console.narration.say(
        f"The owner's key of the grid {grid.name} is in {file}. Keep it away from this machine."
    )


@trust.command("move", cls=Command, params=[_passphrase_option(new=True)])
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@grid_options
@click.pass_obj
def move(console: Console, choice: GridChoice, file: Path, *, passphrase: str) -> None:
    """Move the owner's key out of this machine into FILE, for `trust restore` on another one.

    Whoever steals this machine can then not change the roster any more, even if it coordinates.
    """
    grid = choice.known()
    back_up(file, passphrase, _backup_of(grid, with_coordinator=False))
    (places.grid_folder(grid.name) / KEY_FILE).unlink()
    console.narration.say(
        f"The owner's key of the grid {grid.name} is in {file} alone now. On the other machine, which has joined"
        f" the grid, run: discogrid trust restore {file.name}"
    )


@trust.command("restore", cls=Command, params=[_passphrase_option(new=False)])
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.pass_obj
def take_back(console: Console, file: Path, *, passphrase: str) -> None:
    """Take the owner's key out of a FILE that `trust backup` or `trust move` wrote; the file stays."""
    name = put_back(restore(file, passphrase))
    console.narration.say(f"The owner's key of the grid {name} lies on this machine now.")


@trust.command("rotate", cls=Command)
@grid_options
@click.pass_obj
def rotate(console: Console, choice: GridChoice) -> None:
    """Give this machine new keys in the grid; what the old ones signed until now still counts."""
    grid = choice.known()
    if grid.roster.coordinator().id == grid.identity.id:
        raise UsageError(
            "this machine coordinates the grid, and the others know it by its keys",
            fix="Start a new grid on it and let the others join that one.",
        )
    fresh = renewed_keys(grid)

    async def ask() -> None:
        try:
            async with AsyncClient(grid) as client:
                await client.rotate(fresh)
        except GridError:
            # An earlier try may have been cut off between the coordinator's yes and our hearing it.
            async with AsyncClient(replace(grid, identity=fresh)):
                pass

    asyncio.run(ask())
    adopt_keys(grid)
    console.narration.say(
        f"This machine is node {shown_id(fresh.id)} in the grid {grid.name} now. Start its agent again."
    )


def find_member(roster: Roster, text: str) -> Member:
    """The member meant by a name or a shown node id; UsageError when none is."""
    for member in roster.body.members:
        if text in (member.name, member.id):
            return member
    try:
        short = typed_id(text)
    except UsageError:
        short = None
    for member in roster.body.members:
        if short and member.id.startswith(short):
            return member
    names = ", ".join(member.name for member in roster.body.members[:8])
    raise UsageError(
        f"the grid has no member {text!r}", fix=f"Its members: {names}. See `discogrid trust ls`."
    )


def _owner(grid: Grid) -> Owner:
    if (owner := grid.owner()) is not None:
        return owner
    raise UsageError(
        f"the owner's key of the grid {grid.name} is not on this machine",
        why="Only its holder says who belongs to the grid.",
        fix="Run this where the key lies, or bring it here: discogrid trust restore FILE",
    )


def _enact(console: Console, grid: Grid, sign: Callable[[], tuple[Roster, str]]) -> ExitCode:
    """Sign the next roster, keep it here, and bring it to the coordinator, which tells everybody.

    To connect comes first: it brings both sides to the newest roster there is, so that nobody's change is lost.
    """
    said = ""

    def signed() -> Roster:
        nonlocal said
        newer, said = sign()
        grid.keeper.offer(newer.envelope, time.time())
        return newer

    async def bring() -> None:
        async with AsyncClient(grid) as client:
            await client.publish(signed().envelope)

    try:
        if grid.own and not is_running():
            signed()
        else:
            asyncio.run(bring())
    except GridError as error:
        if not said:
            signed()
        console.narration.say(said)
        console.narration.warn(
            f"The others do not know yet: {error.what}. They will when the coordinator runs again on this machine, or"
            " a command here reaches it."
        )
        return ExitCode.NO_GRID
    console.narration.say(said)
    return ExitCode.SUCCEEDED


def _backup_of(grid: Grid, *, with_coordinator: bool) -> Backup:
    owner, roster = _owner(grid), grid.roster
    coordinates = roster.coordinator().id == grid.identity.id
    return Backup(owner.identity, roster, grid.identity if with_coordinator and coordinates else None)


def _moment(text: str | None, now: float) -> float:
    """Seconds since 1970 of a time, or of a duration ago."""
    if text is None:
        return now
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UsageError(f"{text!r} is no time", fix="Write 2h (ago) or 2026-11-25T10:00.") from None


def _row(member: Member, state: str) -> list[str]:
    return [member.name, shown_id(member.id), ", ".join(member.roles), state]


def _quotas_text(quotas: Quotas) -> str:
    size = size_text(quotas.input_bytes)
    weight = "" if quotas.weight == 1 else f", weight {quotas.weight}"
    return f"at most {quotas.jobs_open} jobs, {quotas.tasks_open} tasks and {size} of input open at a time{weight}"


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(moment))


def _document(grid: Grid) -> dict[str, object]:
    body = grid.roster.body
    return {
        "grid": grid.name,
        "id": body.grid,
        "version": body.version,
        "expires": iso_text(body.expires),
        "owner_key_here": grid.owner() is not None,
        "members": [
            {
                "name": member.name,
                "node": member.id,
                "roles": list(member.roles),
                "trusted": member.trusted,
                "quotas": asdict(member.quotas),
            }
            for member in body.members
        ],
        "revoked": [
            {"name": old.member.name, "node": old.member.id, "before": iso_text(old.before)}
            for old in body.revoked
        ],
    }
