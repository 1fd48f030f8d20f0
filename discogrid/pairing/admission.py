"""Putting a machine that has proved the secret into the roster, and bringing that to the coordinator."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from discogrid.errors import DiscogridError, GridError, PairingFailed
from discogrid.grid import Grid
from discogrid.trust.owner import Owner
from discogrid.trust.roster import Member, Roster

PUBLISH_S = 10.0  # somebody sits at the machine that waits for it
TRIES_MAX = 5  # against other processes of this home that change the roster at the same time


class Admission:
    """What the holder of the owner's key does for one invitation; one machine after the other."""

    def __init__(self, grid: Grid, owner: Owner, publish: Callable[[bytes], Awaitable[None]]) -> None:
        """`publish` brings a roster's envelope to the coordinator; GridError when it cannot."""
        self._grid = grid
        self._owner = owner
        self._publish = publish
        self._one = asyncio.Lock()
        self._pardoned = _put_out(grid.roster)

    async def admit(self, member: Member) -> Roster:
        """The roster that names the machine, once the coordinator goes by it.

        PairingFailed for a machine that was put out while this invitation was open: the secret it still has does not
        undo that. GridError when the coordinator was not told.
        """
        async with self._one:
            newer = self._next(member)
            try:
                async with asyncio.timeout(PUBLISH_S):
                    await self._publish(newer.envelope)
            except TimeoutError:
                raise _untold(
                    member, GridError(f"the coordinator did not answer within {PUBLISH_S:.0f} s")
                ) from None
            except DiscogridError as error:
                raise _untold(member, error) from None
            self._pardoned.discard(member.id)
            return newer

    def _next(self, member: Member) -> Roster:
        for _ in range(TRIES_MAX):
            now, roster = time.time(), self._grid.roster
            if member.id in _put_out(roster) - self._pardoned:
                raise PairingFailed(
                    f"{member.name} was put out of the grid while this invitation was open",
                    fix="End this invitation and make another one, if the machine is to come back.",
                )
            newer = self._owner.admit(roster, member, now)
            self._grid.keeper.offer(newer.envelope, now)
            if self._grid.roster.envelope == newer.envelope:
                return newer
            # Another process of this home kept a newer one: what it says must not be lost.
        raise GridError("the roster is changed by others all the time", fix="Try again.")


def _untold(member: Member, error: DiscogridError) -> GridError:
    return GridError(
        f"{member.name} was not let in: {error.what}",
        why=error.why,
        fix=f"Invite it again when the coordinator is in reach, or: discogrid trust rm {member.name}",
    )


def _put_out(roster: Roster) -> set[str]:
    return {old.member.id for old in roster.body.revoked}
