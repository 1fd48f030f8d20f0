"""What a strict box shows of this machine, in the order in which it is put there; each way of making one reads it."""

import os
from dataclasses import dataclass
from pathlib import Path

from discogrid_agent.sandbox.reach import REACH

_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True, slots=True)
class Shown:
    """A folder, with all that is mounted below it, or a file."""

    source: str  # on this machine, as the tasks' user can walk to it
    target: str  # in the box
    writable: bool = False
    folder: bool = True

    @classmethod
    def at(cls, source: Path, target: str, *, writable: bool = False) -> "Shown":
        """`source` at `target`."""
        return cls(REACH.path(source), target, writable, source.is_dir())


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link that stands at `target`."""

    to: str
    target: str


Thing = Shown | Link


def system_folders() -> list[Thing]:
    """/usr, and beside it either links into it or, on older systems, folders of their own."""
    things: list[Thing] = [Shown("/usr", "/usr")]
    for path in (Path("/", name) for name in _SYSTEM):
        if path.is_symlink():
            things.append(Link(os.readlink(path), str(path)))
        elif path.is_dir():
            things.append(Shown(str(path), str(path)))
    return things
