"""Control groups of version 2, where this agent's own was delegated to it: the kernel's limits on a box as a whole.

Such a group is what a service of systemd gets with `Delegate=yes`. Elsewhere the watch alone adds up what a box uses.
The agent moves into a group beside those of its boxes, because processes may not live above groups with limits.
"""

import os
import re
import signal
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from discogrid.types import Limits
from discogrid_agent.sandbox.box import BoxEnd

_NEEDED: Final = ("memory", "pids")
_OWN: Final = "discogrid-agent"
_BOX: Final = "box-"
_MARGIN_BYTES: Final = 32 << 20  # what the box itself takes, and what the watch shall see first
_PIDS_MARGIN: Final = 24


@dataclass(frozen=True, slots=True)
class Group:
    """One box's group."""

    folder: Path

    def take(self, process: int) -> None:
        """From now on the process, and all that it starts, counts here; OSError when it cannot."""
        (self.folder / "cgroup.procs").write_text(str(process))

    def ran_out(self) -> bool:
        """Whether the kernel ended something here for want of memory."""
        with suppress(OSError, ValueError):
            for line in (self.folder / "memory.events").read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill" and int(count) > 0:
                    return True
        return False

    def close(self, end: BoxEnd) -> BoxEnd:
        """Nothing lives in it any more; how that came about, when the kernel had a hand in it.

        What runs out of memory is ended as a whole, and with it whoever would have told of the command's end.
        """
        if self.ran_out():
            code = -signal.SIGKILL if end.exit is None else end.exit
            end = replace(end, ran=True, exit=code, ran_out=True)
        self.remove()
        return end

    def remove(self) -> None:
        """Nothing lives in it, or ever did."""
        with suppress(OSError):
            self.folder.rmdir()


class ControlGroups:
    """The groups below the agent's own."""

    def __init__(self, folder: Path) -> None:
        """`folder` is ready to have groups with limits below it."""
        self._folder = folder
        self._number = 0

    @classmethod
    def find(
        cls, mounts: Path = Path("/proc/self/mountinfo"), own: Path = Path("/proc/self/cgroup")
    ) -> Self | None:
        """Those that were delegated to this process, which moves; None, and nothing moved, where there are none.

        Once in the life of an agent: from where it has moved to it would find no others.
        """
        try:
            folder = _own_folder(mounts.read_text(), own.read_text())
            if folder is None or not os.access(folder / "cgroup.subtree_control", os.W_OK):
                return None
            if not set(_NEEDED) <= set((folder / "cgroup.controllers").read_text().split()):
                return None
            _move_aside(folder)
        except OSError:
            return None
        for left in folder.glob(f"{_BOX}*"):  # by an agent that was killed
            Group(left).remove()
        return cls(folder)

    def make(self, limits: Limits) -> Group | None:
        """A group for a box with these limits; None when the kernel refuses it, and the watch alone has to do."""
        self._number += 1
        group = Group(self._folder / f"{_BOX}{os.getpid()}-{self._number}")
        try:
            group.folder.mkdir()
            for name, value in (
                ("memory.max", limits.memory_bytes + _MARGIN_BYTES),
                ("memory.swap.max", 0),
                ("memory.oom.group", 1),
                ("pids.max", limits.processes + _PIDS_MARGIN),
            ):
                file = group.folder / name
                if file.exists() or name in ("memory.max", "pids.max"):
                    file.write_text(str(value))
        except OSError:
            group.remove()
            return None
        return group


def _move_aside(folder: Path) -> None:
    """Make room for boxes: from this process' group into one below it; OSError, and it is back, when that is refused."""
    inner, process = folder / _OWN, str(os.getpid())
    inner.mkdir(exist_ok=True)
    try:
        (inner / "cgroup.procs").write_text(process)
        # Refused while anybody else lives there: then it is not this agent's own.
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in _NEEDED))
    except OSError:
        (folder / "cgroup.procs").write_text(process)
        with suppress(OSError):
            inner.rmdir()
        raise


def _own_folder(mounts: str, own: str) -> Path | None:
    """Where this process' group of version 2 is; None when no mount shows it."""
    within = next((line[3:] for line in own.splitlines() if line.startswith("0::")), None)
    if within is None:
        return None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.startswith("cgroup2 "):
            # A mount may show a part of the hierarchy alone, such as a container's.
            root, point = (_plain(field) for field in fields.split()[3:5])
            if ".." not in Path(root).parts and Path(within).is_relative_to(root):
                return Path(point) / Path(within).relative_to(root)
    return None


def _plain(field: str) -> str:
    """A path of mountinfo, in which a space and its like are told as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda told: chr(int(told[1], 8)), field)
