"""Inviting as its user does it: an invitation of one's own grid that is open while a program runs."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from discogrid.client import AsyncClient
from discogrid.discovery import EVERYWHERE, PAIRING, Announcement, addresses_of, own_addresses
from discogrid.grid import Grid
from discogrid.pairing.addresses import PORT_DEFAULT, Address
from discogrid.pairing.admission import Admission
from discogrid.pairing.codes import NAMEPLATE_MAX, Code, new_code
from discogrid.pairing.desk import Desk
from discogrid.pairing.frames import Reason
from discogrid.pairing.invitations import CODE_S, Invitation
from discogrid.pairing.letters import Grant
from discogrid.pairing.nearby import nameplates
from discogrid.pairing.news import News
from discogrid.pairing.tokens import ADDRESSES_MAX, SECRET_BYTES, Token
from discogrid.trust.owner import Owner
from discogrid.trust.roster import Member
from discogrid.types import Role

LOOPBACK = ("127.", "localhost", "[::1]", "::1")


@dataclass(frozen=True, slots=True)
class Offer:
    """An invitation that is open: the code or token, the addresses it is answered at, and how to wait for its end."""

    secret: Code | Token
    addresses: tuple[Address, ...]
    multicast: bool
    desk: Desk

    @property
    def nameplate(self) -> str:
        """What the invitation is found by."""
        return self.secret.nameplate

    async def ended(self) -> Reason:
        """Wait until nobody can join by it any more; why."""
        return await self.desk.ended(self.nameplate)


@asynccontextmanager
async def inviting(
    grid: Grid,
    owner: Owner,
    client: AsyncClient,
    told: Callable[[News], None],
    *,
    token: bool = False,
    seconds: float = CODE_S,
    uses: int = 1,
    roles: frozenset[Role] = frozenset(),
    host: str = EVERYWHERE[0],
    port: int = PORT_DEFAULT,
) -> AsyncIterator[Offer]:
    """Show an invitation while the block runs; whoever uses it is in the roster before it hears so.

    `client` is connected to the grid's coordinator, which is told of every newer roster first.
    """
    admission = Admission(grid, owner, client.publish)

    async def admit(member: Member, here: str) -> tuple[Member, Grant]:
        roster = await admission.admit(member)
        known = roster.member(member.id)
        assert known is not None
        return known, Grant(roster.envelope, endpoints_for(grid.endpoint or "", here))

    desk = Desk(owner.identity, admit, told)
    bound = await desk.open(host, port)
    addresses = tuple(Address(each, bound) for each in addresses_of(host))[:ADDRESSES_MAX]
    secret: Code | Token
    if token:
        fingerprint = hashlib.sha256(owner.public).digest()
        secret = Token(secrets.token_bytes(SECRET_BYTES), fingerprint, addresses)
    else:
        secret = new_code(free_nameplate(await nameplates()), secrets.token_bytes(2))
    expires = asyncio.get_running_loop().time() + seconds
    desk.offer(Invitation(secret.nameplate, secret.password, expires, uses, guessable=not token, roles=roles))
    properties = {"v": "1", "plate": secret.nameplate}
    announcement = Announcement(f"invite-{secrets.token_hex(4)}", properties, bound, host, PAIRING)
    try:
        async with announcement.standing() as multicast:
            yield Offer(secret, addresses, multicast, desk)
    finally:
        await desk.close()


def free_nameplate(shown: frozenset[str]) -> int:
    """One that nobody shows just now; any one when there is none left."""
    every = range(1, NAMEPLATE_MAX + 1)
    return secrets.choice([plate for plate in every if str(plate) not in shown] or every)


def endpoints_for(endpoint: str, here: str) -> tuple[str, ...]:
    """Where a machine that reached this one at `here` may dial the coordinator that this one knows at `endpoint`."""
    parts = urlsplit(endpoint)
    if parts.port is None or not endpoint.startswith("tcp://"):
        return ()
    if not (parts.hostname or "").startswith(LOOPBACK):
        return (endpoint,)
    hosts = dict.fromkeys((here, *own_addresses(), parts.hostname))
    return tuple(f"tcp://{f'[{host}]' if ':' in host else host}:{parts.port}" for host in hosts if host)
