"""The grid's side of a pairing: keeps the invitations, takes calls, and lets machines in that know a secret.

It runs where the owner's key lies. What an invitation is worth is decided here at once, in one thread and without
waiting in between: a use is claimed before anybody hears of it, and a wrong guess burns the code before the next call.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from discogrid.errors import DiscogridError, SignatureRefused
from discogrid.keys import Identity, check_statement
from discogrid.pairing.addresses import PORT_DEFAULT
from discogrid.pairing.frames import Reason
from discogrid.pairing.handshake import (
    PAIRING_TYPE,
    Asked,
    Claimed,
    Confirmed,
    Event,
    Failed,
    Fault,
    Heard,
    InvitationFound,
    Inviter,
    Paired,
    Party,
    Spoken,
    Withdrawn,
)
from discogrid.pairing.invitations import Invitation
from discogrid.pairing.letters import Grant, Introduction, decode_introduction, encode_grant
from discogrid.pairing.line import Line, Listener, Question
from discogrid.pairing.news import GuessedWrong, Joined, News, Trouble
from discogrid.pairing.spake import ENTROPY_BYTES
from discogrid.trust.owner import member_of
from discogrid.trust.roster import Member
from discogrid.types import Role

SALT_BYTES = 32
GUESSES_TOLD_MAX = 20  # a token is not burnt, and guessing at it does not fill a terminal
ASKABLE = frozenset({Role.AGENT, Role.SUBMITTER})
"""Roles that a machine may ask for by itself."""


@dataclass(slots=True)
class _Call:
    """What is known of one line: its invitation, whether it has a use of it, and who it turned out to be."""

    nameplate: str = ""
    claimed: bool = False
    statement: bytes = b""
    member: Member | None = None


class Desk:
    """Invitations and the calls about them. Use `await open`, `offer`, and `await close`."""

    def __init__(
        self,
        owner: Identity,
        admit: Callable[[Member, str], Awaitable[tuple[Member, Grant]]],
        told: Callable[[News], None],
    ) -> None:
        """`admit(member, here)` puts a machine into the roster that reached this one at the address `here`."""
        self._owner = owner
        self._admit = admit
        self._told = told
        self._invitations: dict[str, Invitation] = {}
        self._calls: dict[Line, _Call] = {}
        self._guesses = 0
        self._changed = asyncio.Event()
        self._listener = Listener(self._machine, self._answer, self._ended)

    async def open(self, host: str, port: int = PORT_DEFAULT) -> int:
        """Take calls; the port. GridError when there is no such address here."""
        return await self._listener.open(host, port)

    async def close(self) -> None:
        """Withdraw everything and take no more calls."""
        await self._listener.close()

    def offer(self, invitation: Invitation) -> None:
        """Let machines join by it."""
        self._invitations[invitation.nameplate] = invitation

    def state(self, nameplate: str) -> Reason | None:
        """Why nobody can join by the invitation any more; None while somebody can, or is just doing so."""
        reason = self._invitations[nameplate].ended(asyncio.get_running_loop().time())
        pairing = any(call.claimed and call.nameplate == nameplate for call in self._calls.values())
        return None if pairing and reason is not Reason.BURNT else reason

    async def ended(self, nameplate: str) -> Reason:
        """Wait until nobody can join by the invitation any more; why."""
        loop = asyncio.get_running_loop()
        while (reason := self.state(nameplate)) is None:
            self._changed.clear()
            left_s = self._invitations[nameplate].expires - loop.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(left_s, 1.0)):
                    await self._changed.wait()
        return reason

    # -- one call

    def _machine(self, now: float) -> Inviter:
        party = Party(self._owner.public, secrets.token_bytes(SALT_BYTES), secrets.token_bytes(ENTROPY_BYTES))
        return Inviter(party, now)

    async def _answer(self, line: Line, question: Question) -> Event:
        call = self._calls.setdefault(line, _Call())
        match question:
            case Asked(nameplate):
                return self._found(call, nameplate)
            case Confirmed(statement):
                return self._claim(line, call, statement)
            case Heard():
                return await self._let_in(line, call, question)

    def _found(self, call: _Call, nameplate: str) -> Event:
        invitation = self._invitations.get(nameplate)
        if invitation is None:
            return Withdrawn(Reason.UNKNOWN)
        if (reason := invitation.ended(asyncio.get_running_loop().time())) is not None:
            return Withdrawn(reason)
        call.nameplate = nameplate
        return InvitationFound(invitation.password)

    def _claim(self, line: Line, call: _Call, statement: bytes) -> Event:
        invitation = self._invitations[call.nameplate]
        if (reason := invitation.ended(asyncio.get_running_loop().time())) is not None:
            return Withdrawn(reason)
        call.claimed, call.statement = True, statement
        self._invitations[call.nameplate] = invitation.used()
        if invitation.uses == 1:
            self._withdraw(call.nameplate, Reason.USED, but=line)
        return Claimed()

    async def _let_in(self, line: Line, call: _Call, heard: Heard) -> Event:
        try:
            introduction = decode_introduction(heard.body)
            if check_statement(introduction.statement).signing != heard.public:
                raise SignatureRefused("the machine states other keys than those it has proved")
            roles = self._roles(self._invitations[call.nameplate], introduction)
            wanted = member_of(introduction.statement, introduction.name, roles)
            call.member, grant = await self._admit(wanted, line.here)
        except (DiscogridError, OSError) as error:
            self._told(Trouble(error if isinstance(error, DiscogridError) else _unkept(error)))
            return Withdrawn(Reason.FAILED)
        return Spoken(self._owner.seal(PAIRING_TYPE, call.statement), encode_grant(grant))

    def _roles(self, invitation: Invitation, introduction: Introduction) -> tuple[Role, ...]:
        granted = (invitation.roles or ASKABLE) & set(introduction.roles)
        if not granted:
            raise SignatureRefused(
                f"a machine asked to be {' and '.join(introduction.roles) or 'nothing'}, which this invitation is not for"
            )
        # An admin is one who submits: whoever only lends has nothing to administer.
        more = invitation.roles & {Role.ADMIN} if Role.SUBMITTER in granted else frozenset()
        return tuple(role for role in Role if role in granted | more)

    def _ended(self, line: Line, end: Paired | Failed) -> None:
        call = self._calls.pop(line, None)
        self._changed.set()
        if call is None or not call.nameplate:
            return
        if isinstance(end, Failed) and end.fault in (Fault.WRONG_CODE, Fault.TAMPERED):
            burnt = self._invitations[call.nameplate].guessed_wrong()
            self._invitations[call.nameplate] = burnt
            if burnt.burnt:
                self._withdraw(call.nameplate, Reason.BURNT, but=line)
            self._guesses += 1
            if burnt.burnt or self._guesses <= GUESSES_TOLD_MAX:
                self._told(GuessedWrong(call.nameplate, line.source, burnt.burnt))
        if call.member is not None:
            self._told(Joined(call.member, isinstance(end, Paired)))

    def _withdraw(self, nameplate: str, reason: Reason, *, but: Line) -> None:
        """End the other calls about an invitation that have no use of it yet."""
        for line, call in list(self._calls.items()):
            if line is not but and call.nameplate == nameplate and not call.claimed:
                line.feed(Withdrawn(reason))


def _unkept(error: OSError) -> DiscogridError:
    return DiscogridError(
        f"the new roster could not be kept on this machine: {error.strerror}", fix="Nobody was let in."
    )
