"""The strict box: Linux namespaces, a seccomp filter, Landlock and resource limits.

A task sees its own folder at /local, /tmp, its mounts, the system's programs and the agent's Python read-only; no
network, no other process, no terminal, none of the owner's files, variables or descriptors.
"""

import platform
import threading
from pathlib import Path
from typing import Protocol

from discogrid.errors import SandboxError
from discogrid.mounts import check_mount_targets
from discogrid.types import SandboxLevel
from discogrid_agent.sandbox import landlock
from discogrid_agent.sandbox.box import Boxed, Scene
from discogrid_agent.sandbox.bubblewrap import Bubblewrap, find_bubblewrap
from discogrid_agent.sandbox.control_groups import ControlGroups
from discogrid_agent.sandbox.credentials import task_owner
from discogrid_agent.sandbox.interpreter import own_interpreter
from discogrid_agent.sandbox.native import Native
from discogrid_agent.sandbox.processes import adopt_orphans
from discogrid_agent.sandbox.programs import SYSTEM_FOLDERS, task_programs, unseen
from discogrid_agent.sandbox.reach import REACH
from discogrid_agent.sandbox.seccomp import filter_program
from discogrid_agent.sandbox.system_files import PROGRAMS, make_system_files
from discogrid_agent.sandbox.world import Shown, Thing, system_folders
from discogrid_agent.uplink.addresses import RESOLVERS
from discogrid_agent.uplink.attachment import Uplink


class Way(Protocol):
    """How the kernel is brought to make the box; the box itself, and its promises, are the same."""

    @property
    def name(self) -> str:
        """For whoever asks why it does not work here."""

    def settle(self, box: "StrictBox") -> None:
        """Make ready for starts in this box, which has been settled."""

    def start(self, box: "StrictBox", scene: Scene, own: list[Shown], variables: dict[str, str]) -> Boxed:
        """See Box.start; `own` and `variables` are those of the box for this scene."""


def ways() -> list[Way]:
    """Those that may work on this machine, the best one first."""
    return [Native(), *map(Bubblewrap, find_bubblewrap())]


class StrictBox:
    """Starts tasks in one way."""

    level = SandboxLevel.STRICT

    def __init__(self, way: Way, groups: ControlGroups | None = None) -> None:
        """SandboxError when the agent's own Python cannot be shown; `settle` before the first `start`."""
        adopt_orphans()  # a box's process 1 outlives what started it, by a moment
        self.way = way
        self.owner = task_owner()
        self.groups = groups
        self._interpreter = own_interpreter()
        self.python = self._interpreter.executable
        self.uplink: Uplink | None = None  # once it is proven
        self.no_network = "that has not been tried"
        self._filters = {
            network: filter_program(platform.machine(), network=network) for network in (False, True)
        }
        self.landlock = landlock.abi()  # its version; without it, the box is what namespaces make of it
        self._programs = task_programs(self._interpreter)
        roots = self._interpreter.roots
        # Shown last and at their own paths: /tmp, or a mount, may lie above them.
        self.at_own_path = [*roots, *unseen(self._programs.values(), roots)]
        if self.owner is not None:
            for path in self.at_own_path:
                REACH.show(path)
        # What every task sees, before and after what it sees of its own.
        self.before: tuple[Thing, ...] = ()
        self.after: tuple[Thing, ...] = ()
        self._online: Path | None = None  # what a task with a network sees at /etc
        folders = (f"/etc/{PROGRAMS}", str(self.python.parent), *SYSTEM_FOLDERS)
        self.environment = {
            "HOME": "/tmp",  # noqa: S108 - a folder on disk of this attempt alone
            "TMPDIR": "/tmp",  # noqa: S108
            "LANG": "C.UTF-8",
            "PATH": ":".join(dict.fromkeys(folders)),
        }

    def settle(self, folder: Path) -> None:
        """See Box.settle."""
        system_files = folder / "system"
        make_system_files(system_files, self._programs)
        if self.uplink is not None:
            self._online = folder / "system-online"
            make_system_files(self._online, self._programs, resolvers=RESOLVERS)
        if self.owner is not None:
            folder.chmod(0o711)
            REACH.show(folder)
        self.before = (*system_folders(), Shown.at(system_files, "/etc"))
        self.after = tuple(Shown.at(path, str(path)) for path in self.at_own_path)
        self.way.settle(self)

    def start(self, scene: Scene) -> Boxed:
        """See Box.start."""
        if threading.current_thread() is not threading.main_thread():
            raise AssertionError("a box dies with the thread that starts it: start it on the main thread")
        assert self.before, "settle the box first"
        self.check_mounts(scene)
        if scene.network and self.uplink is None:
            raise SandboxError(f"The task needs a network of its own: {self.no_network}.")
        return self.way.start(self, scene, self.own(scene), self.variables(scene))

    def own(self, scene: Scene) -> list[Shown]:
        """What this task sees beside what all see."""
        own: list[Shown] = []
        if scene.network:
            assert self._online is not None, "settle the box once it is proven"
            own.append(Shown.at(self._online, "/etc"))
        own += [
            Shown.at(scene.temporary, "/tmp", writable=True),  # noqa: S108
            Shown.at(scene.work, "/local", writable=True),
        ]
        for target, source in (*scene.mounts, *((str(path), path) for path in scene.shown)):
            if self.owner is not None:
                REACH.show(source)
            own.append(Shown.at(source, target))
        return own

    def filter(self, *, network: bool) -> bytes:
        """The system call filter of tasks with a network, or without."""
        return self._filters[network]

    def variables(self, scene: Scene) -> dict[str, str]:
        """All variables that this task gets."""
        return {**self.environment, **scene.environment}

    def close(self) -> None:
        """See Box.close."""

    def check_mounts(self, scene: Scene) -> None:
        """SandboxError when a mount cannot be shown here."""
        reason = check_mount_targets([target for target, _ in scene.mounts])
        if reason is not None:
            raise SandboxError(f"A mount cannot be shown: {reason}.")
        for target, _ in scene.mounts:
            for root in self._interpreter.roots:
                if root.is_relative_to(target) or Path(target).is_relative_to(root):
                    raise SandboxError(
                        f"The mount at {target} would hide this agent's Python in {root}.",
                        fix="Mount the tree at another path, such as /home/codelab.",
                    )
