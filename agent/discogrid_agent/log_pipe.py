"""Drains a task's stdout or stderr on the event loop, a bounded part at a time."""

import asyncio
import os
from collections.abc import Callable
from typing import Final

from discogrid_agent.log_keeper import LogKeeper

PART_BYTES: Final = 64 * 1024  # read each time the loop comes round, so that a flood starves nothing else
_LAST_BYTES: Final = 16 * PART_BYTES  # read at most when the writers are dead; a pipe holds less


class LogPipe:
    """One stream: what the task writes to `far` goes to its keeper."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, keeper: LogKeeper, heard: Callable[[], None] | None
    ) -> None:
        """Open the pipe; `heard()` is called whenever its keeper got a part."""
        self.keeper = keeper
        self._loop = loop
        self._heard = heard
        self._near, self.far = os.pipe()
        os.set_blocking(self._near, False)
        self._open = True
        loop.add_reader(self._near, self._on_readable)

    def close_far(self) -> None:
        """When the task has its own."""
        os.close(self.far)

    def drain(self) -> None:
        """Read what is there already; its writers may write on."""
        left = _LAST_BYTES
        while self._open and left > 0 and self._read():
            left -= PART_BYTES

    def finish(self) -> None:
        """Read what is left and close; for when nobody writes any more."""
        left = _LAST_BYTES
        while self._open and left > 0:
            left -= PART_BYTES
            if not self._read():
                break
        self._close()

    def _on_readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        try:
            part = os.read(self._near, PART_BYTES)
        except BlockingIOError:
            return False
        if not part:
            self._close()
            return False
        self.keeper.add(part)
        if self._heard is not None:
            self._heard()
        return True

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._near)
            os.close(self._near)
