"""Ctrl-C as something a command can wait for and count."""

import asyncio
import signal
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """While open, Ctrl-C is counted instead of ending the program."""

    def __init__(self) -> None:
        """None so far."""
        self.count = 0

    def __enter__(self) -> Self:
        """Take over SIGINT (of the main thread, inside a running loop)."""
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give SIGINT back."""
        signal.signal(signal.SIGINT, self._before)

    async def next(self) -> None:
        """Wait for one more than were waited for before."""
        await self._came.wait()
        self._came.clear()

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._note)

    def _note(self) -> None:
        self.count += 1
        self._came.set()
