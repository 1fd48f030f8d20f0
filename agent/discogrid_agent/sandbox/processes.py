"""Reads the process tree below one process from /proc; what ends meanwhile is simply not in it."""

import ctypes
import os
from contextlib import suppress
from typing import Final

_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER
TREE_MAX: Final = 65_536  # processes looked at; more is a fork bomb, whatever the limit says


def descendants(root: int) -> list[int]:
    """`root` and every process below it."""
    found = [root]
    for process in found:
        found.extend(children(process))
        if len(found) > TREE_MAX:
            break
    return found


def children(process: int) -> list[int]:
    """Its direct children, whichever of its threads started them."""
    started: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):
            with suppress(OSError), open(f"/proc/{process}/task/{thread}/children") as listed:
                started.extend(map(int, listed.read().split()))
    return started


def adopt_orphans() -> None:
    """From here on, what descendants of this process leave behind becomes its child, to be ended and reaped by it."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
