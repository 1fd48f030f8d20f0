"""The processes below one: what they have used, which of them is the one to be killed, and the end of them all.

Linux alone: /proc. Whoever calls `adopt_orphans` first keeps all that is started below it there, whatever becomes of the
processes in between, so that nothing is ever looked for, or ended, by its name alone.
"""

import ctypes
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
GRACE_S = 5.0  # to end after SIGTERM
POLL_S = 0.05
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc: `cpu_s` is its own time and that of its children which have ended."""

    pid: int
    parent: int
    dead: bool
    cpu_s: float

    @classmethod
    def of(cls, stat: str) -> "Process":
        """From /proc/PID/stat; the name in it may hold anything."""
        pid, _, rest = stat.partition(" (")
        words = rest.rpartition(") ")[2].split()
        cpu_s = sum(map(int, words[11:15])) / TICKS
        return cls(int(pid), int(words[1]), words[0] in "ZX", cpu_s)


def adopt_orphans() -> None:
    """Whose parent dies is this process's child from now on. OSError when the kernel says no."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not let this process adopt orphans")


def tree(root: int) -> list[Process]:
    """`root`, if it is there, and all below it."""
    children: defaultdict[int, list[Process]] = defaultdict(list)
    found: list[Process] = []
    for process in _all():
        children[process.parent].append(process)
        if process.pid == root:
            found.append(process)
    for process in found:  # grows meanwhile
        found += children[process.pid]
    return found


def cpu_s(root: int) -> float:
    """Seconds of processor time of a whole tree, with those of its dead whose parents have noticed."""
    return sum(process.cpu_s for process in tree(root))


def cpu_s_alone(pid: int) -> float:
    """Seconds of processor time of one process, with those of its dead; ProcessLookupError when it is gone."""
    try:
        return Process.of(Path(f"/proc/{pid}/stat").read_text(errors="replace")).cpu_s
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None


def resident_bytes() -> int:
    """Memory of this process that lies in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def innermost(word: str, root: int) -> list[int]:
    """Who has `word` as a word of its command line below `root`, and nobody below it who has it, too.

    What builds a box has the command line of the process in the box among its own words, and is its ancestor. By these
    ids the kernel knows them here; what a process in a box calls itself is the id of another one, or of none.
    """
    running = {process.pid: process for process in tree(root)}
    matching = {pid for pid in running if pid != root and word.encode() in _words(pid)}
    return sorted(matching - {ancestor for pid in matching for ancestor in _above(pid, running)})


def end_below(root: int, grace_s: float = GRACE_S) -> None:
    """End everything below this process, at first kindly; returns when nothing of it is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + grace_s
        told: set[int] = set()
        while alive := _alive_below(root):
            for pid in alive - told:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            told |= alive
            if time.monotonic() > until:
                break
            time.sleep(POLL_S)


def _alive_below(root: int) -> set[int]:
    alive = set()
    for process in tree(root):
        if process.pid == root:
            continue
        if process.dead and process.parent == os.getpid():
            with suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)
        if not process.dead:
            alive.add(process.pid)
    return alive


def _above(pid: int, running: dict[int, Process]) -> Iterator[int]:
    while (process := running.get(pid)) is not None and process.parent in running:
        pid = process.parent
        yield pid


def _all() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                yield Process.of((entry / "stat").read_text(errors="replace"))


def _words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
