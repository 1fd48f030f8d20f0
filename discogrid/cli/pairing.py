"""`discogrid invite` and `discogrid join`: one short code brings a machine into the grid."""

import asyncio
import hashlib
import os
import secrets
import socket
import sys
from pathlib import Path

import click

from discogrid import places
from discogrid.cli.command import Command, as_duration
from discogrid.cli.connect import GridChoice, grid_options
from discogrid.cli.console import Console
from discogrid.cli.text import printable
from discogrid.client import AsyncClient
from discogrid.discovery import PAIRING, Announcement
from discogrid.errors import ExitCode, GridError, PairingFailed, UsageError
from discogrid.grid import Grid, grid_of
from discogrid.keys import load_or_create, shown_id
from discogrid.pairing.addresses import PORT_DEFAULT, Address, parse_address
from discogrid.pairing.codes import parse_target
from discogrid.pairing.frames import Reason
from discogrid.pairing.host import Offer, inviting
from discogrid.pairing.invitations import CODE_S, TOKEN_S, TOKEN_S_MAX, USES_MAX
from discogrid.pairing.join import Secret
from discogrid.pairing.join import join as join_by
from discogrid.pairing.nearby import ASKS
from discogrid.pairing.news import GuessedWrong, Joined, News, Trouble
from discogrid.pairing.tokens import Token, parse_token
from discogrid.quantities import duration_text
from discogrid.trust.owner import Owner
from discogrid.types import Role
from discogrid.whereabouts import lets_in

LISTEN_DEFAULT = "0.0.0.0:7718"
TOKEN_FILE_BYTES_MAX = 8192


@click.command(cls=Command)
@click.option(
    "--token", is_flag=True, help="A long token for machines that nobody sits at, instead of a code."
)
@click.option(
    "--uses",
    type=click.IntRange(1, USES_MAX),
    default=1,
    show_default=True,
    help="How many may join by a token.",
)
@click.option(
    "--ttl", callback=as_duration, metavar="DURATION", help="For how long. [default: 10m; a token: 24h]"
)
@click.option("--admin", is_flag=True, help="Who joins may steer and read everybody's jobs.")
@click.option(
    "--listen", metavar="HOST:PORT", default=LISTEN_DEFAULT, show_default=True, help="Where to be asked."
)
@grid_options
@click.pass_obj
def invite(
    console: Console,
    choice: GridChoice,
    *,
    token: bool,
    uses: int,
    ttl: float | None,
    admin: bool,
    listen: str,
) -> ExitCode:
    """Let a machine join the grid by a short code, or several by a token, while this command runs.

    The code is printed on stdout. Type it on the machine that joins: `discogrid agent --join CODE` lends that machine,
    `discogrid join CODE` lets its user submit. One wrong guess burns the code.
    """
    if uses != 1 and not token:
        raise UsageError("a code is for one machine", fix="Add --token for several.")
    seconds = ttl or (TOKEN_S if token else CODE_S)
    if not 0 < seconds <= TOKEN_S_MAX:
        raise UsageError(f"an invitation lasts at most {duration_text(TOKEN_S_MAX)}")
    grid = choice.known()
    if grid.own:
        raise GridError(
            "this machine's own grid has no other machines",
            fix="Start one that has: `discogrid up` here, then `discogrid invite` in another terminal.",
        )
    owner = grid.owner()
    if owner is None:
        raise UsageError(
            f"the owner's key of the grid {grid.name} is not on this machine",
            why="Only its holder lets machines in.",
            fix="Run this where the key lies; `discogrid trust ls` says whether it is here.",
        )
    roles = frozenset({Role.AGENT, Role.SUBMITTER, Role.ADMIN}) if admin else frozenset()
    return asyncio.run(
        _invite(
            console,
            grid,
            owner,
            token=token,
            seconds=seconds,
            uses=uses,
            roles=roles,
            where=parse_address(listen),
        )
    )


async def _invite(
    console: Console,
    grid: Grid,
    owner: Owner,
    *,
    token: bool,
    seconds: float,
    uses: int,
    roles: frozenset[Role],
    where: Address,
) -> ExitCode:
    joined: list[Joined] = []
    troubles: list[Trouble] = []

    def told(news: News) -> None:
        match news:
            case Joined():
                joined.append(news)
            case Trouble():
                troubles.append(news)
            case GuessedWrong():
                pass
        _tell(console, news)

    async with (
        AsyncClient(grid) as client,
        inviting(
            grid,
            owner,
            client,
            told,
            token=token,
            seconds=seconds,
            uses=uses,
            roles=roles,
            host=where.host,
            port=where.port,
        ) as offer,
    ):
        _show(console, offer, token=token, seconds=seconds, uses=uses)
        reason = await offer.ended()
    if reason is Reason.BURNT:
        raise PairingFailed(
            "the code was burnt by a wrong guess; it opens nothing any more",
            why="It was mistyped, or somebody on this network tried to get in.",
            fix="Run `discogrid invite` again for another code.",
        )
    if reason is Reason.EXPIRED:
        console.narration.warn("The invitation has expired.")
        return ExitCode.SUCCEEDED if joined else ExitCode.WAIT_TIMED_OUT
    if joined:
        return ExitCode.SUCCEEDED
    if troubles:
        return troubles[-1].error.exit_code
    raise PairingFailed(
        "nobody joined, and the code is used",
        why="A machine that knew it was lost on the way.",
        fix="Run `discogrid invite` again for another code.",
    )


def _show(console: Console, offer: Offer, *, token: bool, seconds: float, uses: int) -> None:
    console.output.line(str(offer.secret))
    console.output.stream.flush()
    say = console.narration.say
    if token:
        say(
            f"Good for {uses} machine{'s' if uses > 1 else ''} and {duration_text(seconds)}, while this runs."
        )
        say("On each: discogrid agent --token-file FILE  (or: discogrid join --token-file FILE)")
        return
    say(f"Good for one machine and {duration_text(seconds)}. On that machine, type one of:")
    say(f"  discogrid agent --join {offer.secret}   to lend it to the grid")
    say(f"  discogrid join {offer.secret}           to submit from it")
    if offer.addresses:
        only = "" if offer.multicast else " (there is no multicast here, so write it in full)"
        say(f"If it is not found: {offer.secret}@{offer.addresses[0]}{only}. Ctrl-C withdraws it.")


def _tell(console: Console, news: News) -> None:
    match news:
        case Joined(member, kept):
            roles = " and ".join(member.roles)
            console.narration.say(
                f"{printable(member.name)} has joined as {roles}: node {shown_id(member.id)}"
            )
            if not kept:
                console.narration.warn(
                    "It has not confirmed that it kept what it needs. If it does not appear, invite it again,"
                    f" or put it out: discogrid trust rm {printable(member.name)}"
                )
        case GuessedWrong(_, source, burnt):
            console.narration.warn(
                f"Somebody at {source} did not know the secret{'; the code is burnt' if burnt else ''}."
            )
        case Trouble(error):
            console.narration.error(error)


@click.command(cls=Command)
@click.argument("code", metavar="CODE", required=False)
@click.option("--token-file", type=click.Path(path_type=Path), help="Join by the token in this file.")
@click.option("--name", help="What the grid calls this machine. [default: its host name]")
@click.pass_obj
def join(console: Console, code: str | None, *, token_file: Path | None, name: str | None) -> None:
    """Join a grid as one who submits, by the CODE that `discogrid invite` shows; nothing is typed again."""
    grid = join_grid(code, token_file, name, (Role.SUBMITTER,))
    console.narration.say(f"This machine has joined the grid {grid.name}. Try: discogrid status")


def join_grid(code: str | None, token_file: Path | None, name: str | None, roles: tuple[Role, ...]) -> Grid:
    """Join by a code or a token; what `join` and `agent --join` do."""
    if (code is None) == (token_file is None):
        raise UsageError(
            "to join takes a code or a token", fix="discogrid join 4-crater-mango, or --token-file FILE"
        )
    if code is None:
        return asyncio.run(_join_by_token(parse_token(_token(token_file)), name or _host_name(), roles))
    identity = load_or_create(places.identity_file())
    return asyncio.run(join_by(Secret.of(parse_target(code)), identity, name or _host_name(), roles))


async def _join_by_token(token: Token, name: str, roles: tuple[Role, ...]) -> Grid:
    """A service may start with a token each time: it is used only by a machine that its grid does not let in."""
    known = grid_of(lambda owner: hashlib.sha256(owner).digest() == token.fingerprint)
    member = known is not None and all(known.roster.may(known.identity.id, role) for role in roles)
    if known is not None and member and await lets_in(known):
        return known
    identity = known.identity if known is not None else load_or_create(places.identity_file())
    try:
        return await join_by(Secret.of(token), identity, name, roles)
    except GridError:
        if known is not None and member:
            return known  # neither answers now; whoever is a member waits for the coordinator
        raise


def _host_name() -> str:
    return socket.gethostname()


def ask_for_code(console: Console, name: str) -> str:
    """Ask whoever sits here for a code, and the network for somebody who shows one."""

    async def ask() -> str:
        properties = {"v": "1", "asks": ASKS, "name": name}
        announcement = Announcement(f"asks-{secrets.token_hex(4)}", properties, PORT_DEFAULT, kind=PAIRING)
        async with announcement.standing():
            return str(await asyncio.to_thread(click.prompt, "Code", err=True))

    console.narration.say(
        "This machine has joined no grid. Run `discogrid invite` on the grid's side and type the code it shows."
    )
    return asyncio.run(ask())


def _token(file: Path | None) -> str:
    assert file is not None
    try:
        if os.fspath(file) == "-":
            return sys.stdin.readline(TOKEN_FILE_BYTES_MAX)
        with file.open(encoding="ascii", errors="replace") as lines:
            return lines.readline(TOKEN_FILE_BYTES_MAX)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
