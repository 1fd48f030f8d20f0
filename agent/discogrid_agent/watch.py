"""Stops attempts that use more than they may: looks at all of them at once, a few times a second."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discogrid.types import MIB, Limits
from discogrid_agent.usage import Meter, Usage, free_bytes
from discogrid_agent.verdict import Exceeded, Limit

WATCH_S: Final = 0.25  # between two looks; the first comes as late, so that a short task costs none
FREE_DISK_BYTES: Final = 1024 * MIB  # left to the machine's owner, whatever the limits allow
SPARED_BYTES: Final = 64 * MIB  # an attempt that uses less is not stopped for a disk that is full


@dataclass(frozen=True, slots=True)
class Watched:
    """A running attempt: how it is measured, what it may use, how it is stopped."""

    meter: Meter
    limits: Limits
    stop: Callable[[Exceeded], None]


class Watch:
    """Looks only while something runs."""

    def __init__(self, folder: Path) -> None:
        """`folder` is on the disk that must not run full."""
        self._folder = folder
        self._watched: list[Watched] = []
        self._looking: asyncio.Task[None] | None = None

    def begin(self, watched: Watched) -> None:
        """Look at an attempt from now on."""
        self._watched.append(watched)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_again())

    def end(self, watched: Watched) -> None:
        """Look at it no more."""
        self._watched.remove(watched)

    async def _look_again(self) -> None:
        await asyncio.sleep(WATCH_S)
        while self._watched:
            current = list(self._watched)
            usages, free = await asyncio.to_thread(self._measure, current)
            self._enforce(
                [pair for pair in zip(current, usages, strict=True) if pair[0] in self._watched], free
            )
            await asyncio.sleep(WATCH_S)
        self._looking = None

    def _measure(self, watched: list[Watched]) -> tuple[list[Usage], int]:
        usages = [one.meter.measure(one.limits.memory_bytes, one.limits.disk_bytes) for one in watched]
        return usages, free_bytes(self._folder)

    @staticmethod
    def _enforce(measured: list[tuple[Watched, Usage]], free: int) -> None:
        for one, usage in measured:
            exceeded = over(usage, one.limits)
            if exceeded is not None:
                one.stop(exceeded)
        if free < FREE_DISK_BYTES and measured:
            largest, usage = max(measured, key=lambda pair: pair[1].disk_bytes)
            if usage.disk_bytes > SPARED_BYTES:
                reason = (
                    f"The disk of this machine has only {free // MIB:,} MiB left, and its owner keeps "
                    f"{FREE_DISK_BYTES // MIB:,}; this task used most of what tasks use, {usage.disk_bytes // MIB:,} MiB."
                )
                largest.stop(Exceeded(Limit.DISK, reason, elsewhere=True))


def over(usage: Usage, limits: Limits) -> Exceeded | None:
    """The limit that is exceeded, if one is."""
    if usage.memory_bytes > limits.memory_bytes:
        return Exceeded(
            Limit.MEMORY,
            f"The task used {usage.memory_bytes // MIB:,} MiB of memory; the limit is {limits.memory_bytes // MIB:,}.",
        )
    if usage.processes > limits.processes:
        return Exceeded(
            Limit.PROCESSES,
            f"The task had {usage.processes:,} processes and threads; the limit is {limits.processes:,}.",
        )
    if usage.disk_bytes > limits.disk_bytes:
        return Exceeded(
            Limit.DISK,
            f"The task wrote more than the limit of {limits.disk_bytes // MIB:,} MiB into its folder and /tmp.",
        )
    return None
