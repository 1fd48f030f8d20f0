"""A timer in the running event loop for a machine's deadline, which is told after every event and seldom comes nearer."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Rings when it is due, or sooner: a deadline that is put off is found to have been when it rings."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """It is not set."""
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: float | None) -> None:
        """Ring at this time of the loop's clock at the latest; None: there is no need to."""
        if due is None or (self._timer is not None and self._timer.when() <= due):
            return
        self.cancel()
        self._timer = self._loop.call_at(due, self._due)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._ring()
