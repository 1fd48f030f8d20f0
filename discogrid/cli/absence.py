"""Bears it that a grid is out of reach for a while: says so once, tries again, and says when it is back."""

import asyncio
import time

from discogrid.cli.narration import Narration
from discogrid.cli.text import printable
from discogrid.errors import BlobError, GridError, HandshakeRefused
from discogrid.grid import Grid
from discogrid.own import ensure_own_grid

RECONNECT_S = 600.0  # a coordinator that went away may come back in this time
RECONNECT_OWN_S = 20.0  # the same of one that this machine starts itself, and of a lost file
RETRY_S = 1.0


class Absence:
    """That of one grid's coordinator, for a command that stays with a job."""

    def __init__(self, narration: Narration, grid: Grid, interrupt: str, fix: str) -> None:
        """`interrupt` says what Ctrl-C does, `fix` how to go on later."""
        self._narration = narration
        self._own = grid.own
        self._interrupt = interrupt
        self._fix = fix
        self._since: float | None = None
        self._said = False

    async def bear(self, error: GridError | BlobError) -> None:
        """Wait until it is worth another try; the error is raised when it has lasted for too long, or waiting is no use."""
        if isinstance(error, HandshakeRefused):
            raise error from None
        now = time.monotonic()
        waits = isinstance(error, GridError) and not self._own
        self._since = now if self._since is None else self._since
        if waits and not self._said:
            self._said = True
            self._narration.say(
                f"{printable(error.what)}; the job goes on, and we wait for its return ({self._interrupt})"
            )
        if now - self._since > (RECONNECT_S if waits else RECONNECT_OWN_S):
            raise type(error)(error.what, why=error.why, fix=self._fix) from None
        self._narration.detail(f"{printable(error.what)}; trying again")
        await asyncio.sleep(RETRY_S)
        if self._own:
            await asyncio.to_thread(ensure_own_grid)

    def end(self) -> None:
        """It answers."""
        if self._said:
            self._narration.say("the coordinator is back")
        self._since, self._said = None, False
