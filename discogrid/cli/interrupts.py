"""Ctrl-C as something a command can wait for."""

import asyncio
import signal
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """While open, Ctrl-C is something to wait for instead of the end of the program."""

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
        self._loop.call_soon_threadsafe(self._came.set)


async def ended_first(task: "asyncio.Task[Any]", interrupts: Interrupts) -> bool:
    """Wait for a task's end or a Ctrl-C; whether the task has ended."""
    interrupted = asyncio.create_task(interrupts.next())
    try:
        await asyncio.wait({task, interrupted}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        interrupted.cancel()
    return task.done()
