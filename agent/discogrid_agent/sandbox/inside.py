"""Looks into a box from outside, by the box's process 1: who lives there, and what lies in its shared memory."""

import os
from contextlib import suppress
from pathlib import Path

from discogrid_agent.sandbox.processes import descendants


def inhabitants(first: int | None) -> list[int]:
    """The processes in the box but for its first one; nobody when that is dead, or not there yet (None)."""
    return [] if first is None else descendants(first)[1:]


def shared_memory_bytes(first: int | None) -> int:
    """What lies in the box's /dev/shm, mapped by anybody or not.

    A process 1 that began as a program of the machine hides itself from an agent that is not root; its children do not.
    """
    for process in () if first is None else descendants(first):
        with suppress(OSError):
            status = os.statvfs(Path("/proc", str(process), "root", "dev", "shm"))
            return (status.f_blocks - status.f_bfree) * status.f_frsize
    return 0
