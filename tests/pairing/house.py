"""A grid's side that invites, in this process, over real TCP; what it is told, and a home for whoever joins."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from discogrid.errors import GridError
from discogrid.keys import Identity, new_identity
from discogrid.pairing.addresses import Address
from discogrid.pairing.codes import Code, new_code
from discogrid.pairing.desk import Desk
from discogrid.pairing.invitations import Invitation
from discogrid.pairing.letters import Grant
from discogrid.pairing.news import News
from discogrid.trust.owner import Owner, member_of
from discogrid.trust.roster import Member, Roster
from discogrid.types import Role

ARRIVES_S = 20.0
PLATE = 4

N = TypeVar("N")


@dataclass
class House:
    """The inviting side. `fails`: the coordinator cannot be reached."""

    owner: Owner
    roster: Roster
    news: list[News] = field(default_factory=list)
    fails: bool = False
    port: int = 0
    desk: Desk = field(init=False)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port)

    async def admit(self, member: Member, here: str) -> tuple[Member, Grant]:
        if self.fails:
            raise GridError("the coordinator did not answer")
        self.roster = self.owner.admit(self.roster, member, self.roster.body.issued)
        known = self.roster.member(member.id)
        assert known is not None
        return known, Grant(self.roster.envelope, (f"tcp://{here}:9",))

    def told(self, news: News) -> None:
        self.news.append(news)
        self._heard.set()

    async def next(self, kind: type[N]) -> N:
        """The first news of this kind."""
        while True:
            for each in self.news:
                if isinstance(each, kind):
                    return each
            self._heard.clear()
            await asyncio.wait_for(self._heard.wait(), ARRIVES_S)

    def code(
        self, seconds: float = 600.0, words: bytes = b"\x01\x02", roles: frozenset[Role] = frozenset()
    ) -> Code:
        """Offer a code."""
        code = new_code(PLATE, words)
        self.offer(code.nameplate, code.password, seconds=seconds, roles=roles)
        return code

    def offer(
        self,
        nameplate: str,
        password: bytes,
        *,
        seconds: float = 600.0,
        uses: int = 1,
        guessable: bool = True,
        roles: frozenset[Role] = frozenset(),
    ) -> None:
        expires = asyncio.get_running_loop().time() + seconds
        self.desk.offer(Invitation(nameplate, password, expires, uses, guessable=guessable, roles=roles))


@asynccontextmanager
async def inviting(identity: Identity | None = None) -> AsyncIterator[House]:
    owner, first = Owner(identity or new_identity()), new_identity()
    founded = owner.found("attic", member_of(first.statement(), "desk", tuple(Role)), time.time())
    house = House(owner, founded)
    house.desk = Desk(owner.identity, house.admit, house.told)
    house.port = await house.desk.open("127.0.0.1", 0)
    try:
        yield house
    finally:
        await house.desk.close()
