"""A sheet that keeps an invitation open for as long as it is shown."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import ClassVar, Protocol, assert_never

from textual.binding import Binding, BindingType

from discogrid.errors import DiscogridError
from discogrid.keys import shown_id
from discogrid.pairing.addresses import Address
from discogrid.pairing.frames import Reason
from discogrid.pairing.invitations import CODE_S
from discogrid.pairing.news import GuessedWrong, Joined, News, Trouble
from discogrid_tui.invitation import Invitation
from discogrid_tui.screens.sheet import Sheet

PAINT_S = 1.0  # the time that is left, in seconds


class OpenInvitation(Protocol):
    """What the sheet needs of `discogrid.pairing.host.Offer`."""

    @property
    def secret(self) -> object:
        """What is typed on the other machine, when written out."""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it is answered."""

    @property
    def multicast(self) -> bool:
        """Whether it can be found without an address."""

    async def ended(self) -> Reason:
        """Wait until nobody can join by it any more; why."""


@dataclass(frozen=True, slots=True)
class Inviting:
    """How to invite to the grid: open an invitation, and hear which machines on this network ask for one."""

    open: Callable[[Callable[[News], None]], AbstractAsyncContextManager[OpenInvitation]]
    asking: Callable[[], Awaitable[list[tuple[str, str]]]]


class InvitationSheet(Sheet, inherit_bindings=False):
    """The code, and what comes of it. Closing it withdraws the code, so no key does that by chance."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Withdraw", priority=True),
        Binding("j,down", "scroll(1)", "Down", priority=True),
        Binding("k,up", "scroll(-1)", "Up", priority=True),
    ]

    def __init__(self, grid: str, inviting: Inviting, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970."""
        self._invitation = Invitation()
        self._inviting = inviting
        self._clock = clock
        super().__init__(f"Invite a machine to {grid}", self._invitation.lines(clock()), "esc withdraws it")

    def on_mount(self) -> None:
        """Open it."""
        self.set_interval(PAINT_S, self._paint)
        self.run_worker(self._offer(), name="invitation", exit_on_error=True)

    async def _offer(self) -> None:
        try:
            async with self._inviting.open(self._told) as offer:
                address = str(offer.addresses[0]) if offer.addresses else ""
                expires = self._clock() + CODE_S
                self._now(self._invitation.opened(str(offer.secret), address, expires, found=offer.multicast))
                listening = asyncio.create_task(self._listen())
                try:
                    reason = await offer.ended()
                finally:
                    listening.cancel()
                self._now(self._invitation.ended(reason))
        except DiscogridError as error:
            self._now(self._invitation.failed(error))

    async def _listen(self) -> None:
        while True:
            machines = await self._inviting.asking()  # while others change what is known
            self._now(self._invitation.asked(machines))

    def _told(self, news: News) -> None:
        match news:
            case Joined(member, kept):
                node = shown_id(member.id)
                self._now(self._invitation.joined(member.name, member.roles, node, kept=kept))
            case GuessedWrong(_, source, _):
                self._now(self._invitation.guessed_wrong(source))
            case Trouble(error):
                self._now(self._invitation.not_let_in(error))
            case _:
                assert_never(news)

    def _now(self, invitation: Invitation) -> None:
        self._invitation = invitation
        self._paint()

    def _paint(self) -> None:
        self.show(self._invitation.lines(self._clock()))
