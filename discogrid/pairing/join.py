"""The joining side of a pairing: finds who shows the code, proves to know it, and keeps what it is granted."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from discogrid.discovery import FIND_S, PAIRING, services
from discogrid.errors import DiscogridError, GridError, PairingFailed, SignatureRefused
from discogrid.grid import Grid, adopt_grid
from discogrid.keys import Identity
from discogrid.pairing.addresses import Address, parse_address
from discogrid.pairing.codes import Target
from discogrid.pairing.frames import Reason
from discogrid.pairing.handshake import (
    PAIRING_TYPE,
    Asked,
    Confirmed,
    Event,
    Failed,
    Fault,
    Heard,
    Joiner,
    Kept,
    Paired,
    Party,
    Spoken,
)
from discogrid.pairing.letters import Introduction, decode_grant, encode_introduction
from discogrid.pairing.line import Question, call
from discogrid.pairing.spake import ENTROPY_BYTES
from discogrid.pairing.tokens import Token
from discogrid.trust.keeper import RosterKeeper
from discogrid.trust.roster import open_roster
from discogrid.types import Role
from discogrid.whereabouts import coordinator_answers

SALT_BYTES = 32
CALLS_MAX = 32  # of machines that say that they show the code

NEW_CODE = "Ask for a new one: `discogrid invite` on the grid's side."


@dataclass(frozen=True, slots=True)
class Secret:
    """What the joiner was told, be it a code or a token."""

    nameplate: str
    password: bytes
    addresses: tuple[Address, ...]
    fingerprint: bytes | None = None  # of the owner's key, when a token names it
    everywhere: bool = True  # whether to ask on the network, too

    @classmethod
    def of(cls, told: Target | Token) -> "Secret":
        """The secret in a code, with its address if it has one, or in a token."""
        if isinstance(told, Token):
            return cls(told.nameplate, told.password, told.addresses, told.fingerprint)
        where = () if told.address is None else (told.address,)
        return cls(told.code.nameplate, told.code.password, where, everywhere=not where)


async def join(secret: Secret, identity: Identity, name: str, roles: tuple[Role, ...]) -> Grid:
    """Join by a secret, as a member of this name in these roles; the grid, kept on this machine.

    GridError when nobody shows the code, PairingFailed when the secret does not fit or somebody is in the middle.
    """
    failure: DiscogridError | None = None
    async with aclosing(_addresses(secret)) as addresses:
        async for address in addresses:
            joining = _Joining(secret, identity, name, roles)
            try:
                end = await call(address, joining.machine, joining.answer)
            except GridError as error:
                failure = failure or error
                continue
            if isinstance(end, Paired) and joining.grid is not None:
                return joining.grid
            assert isinstance(end, Failed)
            if end.spent:
                raise failed(end, address)
            failure = failed(end, address)
    raise failure or GridError(
        "nobody on this network shows this code",
        why="The invitation has ended, it is on another network, or multicast does not pass between.",
        fix="Write the address behind it, as `discogrid invite` shows it: CODE@HOST:PORT.",
    )


class _Joining:
    """One call: what this side says, and what becomes of the answer."""

    def __init__(self, secret: Secret, identity: Identity, name: str, roles: tuple[Role, ...]) -> None:
        self._secret = secret
        self._identity = identity
        self._introduction = Introduction(statement=identity.statement(), name=name, roles=roles)
        self.grid: Grid | None = None

    def machine(self, now: float) -> Joiner:
        party = Party(
            self._identity.public, secrets.token_bytes(SALT_BYTES), secrets.token_bytes(ENTROPY_BYTES)
        )
        return Joiner(self._secret.nameplate, self._secret.password, party, now)

    async def answer(self, question: Question) -> Event:
        match question:
            case Confirmed(statement):
                proof = self._identity.seal(PAIRING_TYPE, statement)
                return Spoken(proof, encode_introduction(self._introduction))
            case Heard():
                self.grid = await self._keep(question)
                return Kept()
            case Asked():
                raise AssertionError("only the inviting side asks for an invitation")

    async def _keep(self, heard: Heard) -> Grid:
        fingerprint = self._secret.fingerprint
        if fingerprint is not None and hashlib.sha256(heard.public).digest() != fingerprint:
            raise SignatureRefused(
                "who answered is not the owner of the token's grid",
                why="Somebody else knows the token and has made a grid of that name.",
                fix="Nothing was joined. Ask the owner for a new token.",
            )
        grant = decode_grant(heard.body)
        now = time.time()
        roster = open_roster(grant.roster, heard.public, now)
        if roster.admitted(self._identity.curve_public) != self._identity.id:
            raise SignatureRefused("the grid's roster does not name this machine; nothing was joined")
        grid = Grid("", self._identity, RosterKeeper(roster), None)
        endpoint = await _that_answers(grid, grant.endpoints)
        return adopt_grid(heard.public, grant.roster, endpoint, now, self._identity)


async def _that_answers(grid: Grid, endpoints: tuple[str, ...]) -> str | None:
    """The first of these addresses at which the grid's coordinator proves its key; the first one if none does now."""

    async def tried(endpoint: str) -> str | None:
        return endpoint if await coordinator_answers(grid, endpoint) else None

    for answer in asyncio.as_completed([tried(endpoint) for endpoint in endpoints]):
        if (endpoint := await answer) is not None:
            return endpoint
    return endpoints[0] if endpoints else None


async def _addresses(secret: Secret) -> AsyncGenerator[Address, None]:
    """Where to call: what was told with the secret, then who says on the network that he shows it."""
    tried: set[str] = set()
    for address in secret.addresses:
        tried.add(str(address))
        yield address
    if not secret.everywhere:
        return
    async with aclosing(services(FIND_S, PAIRING)) as answers:
        async for answer in answers:
            if answer.properties.get("plate") != secret.nameplate:
                continue
            for endpoint in answer.endpoints:
                address = parse_address(endpoint.removeprefix("tcp://"))
                if str(address) not in tried and len(tried) < CALLS_MAX:
                    tried.add(str(address))
                    yield address


def failed(end: Failed, address: Address) -> DiscogridError:
    """What a pairing that came to nothing means for whoever typed the code."""
    match end.fault:
        case Fault.WRONG_CODE | Fault.TAMPERED:
            return PairingFailed(
                f"{address} does not know this code, or somebody stands between it and this machine",
                why="The code was mistyped, or the line is not safe. It was burnt: it opens nothing any more.",
                fix=f"{NEW_CODE} If this happens again, somebody on this network is trying to get in.",
            )
        case Fault.REFUSED if end.reason is not None:
            return _refused(end.reason, address)
        case Fault.GARBLED:
            return PairingFailed(
                f"what answers at {address} does not pair machines", fix="Look at the address."
            )
        case _:
            return _cut(address, spent=end.spent)


def _refused(reason: Reason, address: Address) -> DiscogridError:
    say = partial(PairingFailed, fix=NEW_CODE)
    match reason:
        case Reason.BURNT:
            return PairingFailed(
                f"{address} says that this code was guessed wrong, and is burnt",
                why="It was mistyped here or elsewhere, or somebody tried to get in.",
                fix=NEW_CODE,
            )
        case Reason.UNKNOWN:
            return GridError(f"{address} shows another code", fix="Look at the code again.")
        case Reason.EXPIRED:
            return say("this code has expired")
        case Reason.USED:
            return say("this code was used by another machine")
        case Reason.BUSY:
            return say(f"{address} is busy with other machines")
        case Reason.VERSION:
            return PairingFailed(
                f"{address} speaks another version of this", fix="Install the same version on both machines."
            )
        case Reason.FAILED:
            return PairingFailed(
                f"{address} could not let this machine in", why="Its terminal says why.", fix=NEW_CODE
            )


def _cut(address: Address, *, spent: bool) -> DiscogridError:
    return PairingFailed(
        f"the line to {address} was cut in the middle of the pairing",
        why="The network failed, the invitation was withdrawn, or somebody did not want it to happen.",
        fix=NEW_CODE if spent else "Try again.",
    )
