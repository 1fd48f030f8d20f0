"""What a runner asks of a box, whatever the level or platform.

A box starts one command in one scene. It ends when the command has ended *and* nothing that it started lives on.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from discogrid.types import Limits, SandboxLevel


@dataclass(frozen=True, slots=True)
class Scene:
    """What one attempt sees and may use. Paths are the host's; the box decides where the task sees them."""

    work: Path  # its own folder and working directory, seen as /local where the level has fixed paths
    temporary: Path  # its HOME and TMPDIR, on disk beside `work`
    mounts: tuple[tuple[str, Path], ...]  # (target, tree), read-only
    command: tuple[str, ...]
    environment: Mapping[str, str]
    limits: Limits
    stdout: int  # descriptors that the command writes to; the caller closes its own copies
    stderr: int
    shown: tuple[Path, ...] = ()  # further folders that the task sees read-only, at their own paths
    network: bool = False  # a network of its own that leads to the public one; none at all otherwise
    submitter: str = ""  # whose task it is: what stays warm between tasks is never shared by two


@dataclass(frozen=True, slots=True)
class BoxEnd:
    """How the command in a box ended."""

    ran: bool  # False: the box failed before the command could start
    exit: int | None  # negative: the signal that ended it; None when it never ran
    seconds: float  # the command's own wall time
    error: int | None = None  # why the kernel did not start the command
    refused: int | None = None  # why the kernel did not build the box
    ran_out: bool = False  # the kernel ended some of it for want of memory
    no_network: str = ""  # why it did not get the network that it needed, or lost it


class Boxed(Protocol):
    """A command that runs in its box."""

    @property
    def ended(self) -> "asyncio.Future[BoxEnd]":
        """Done when the command and everything that it started are dead."""

    def processes(self) -> list[int]:
        """Ids of the processes that live in the box now."""

    def shared_bytes(self) -> int:
        """What lies in shared memory of the box's own, mapped or not."""

    def kill(self) -> None:
        """End everything in the box at once; again, or after its end: nothing happens."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The unprivileged user that tasks run as when the agent is root."""

    uid: int
    gid: int


class Box(Protocol):
    """One way of keeping a task to itself."""

    @property
    def level(self) -> SandboxLevel:
        """What it keeps the task from."""

    @property
    def owner(self) -> Owner | None:
        """Whom the work folder must belong to; None when that is the agent's own user."""

    @property
    def python(self) -> Path:
        """The interpreter of Python scripts, as a task sees it."""

    @property
    def no_network(self) -> str:
        """Why its tasks cannot have a network of their own; empty when they can."""

    def settle(self, folder: Path) -> None:
        """Make ready for attempts that lie below `folder`, which is the agent's own; once, before the first start."""

    def start(self, scene: Scene) -> Boxed:
        """Start a command; on the event loop's own thread, because the kernel binds its death to the thread that started it.

        SandboxError when it cannot be started at all.
        """

    def close(self) -> None:
        """End what waits for further attempts; when none runs any more."""
