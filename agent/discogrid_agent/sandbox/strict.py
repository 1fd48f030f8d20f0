"""The strict box: Linux namespaces through bwrap, a seccomp filter and resource limits.

A task sees its own folder at /local, /tmp, its mounts, the system's programs and the agent's Python read-only; no
network, no other process, no terminal, none of the owner's files, variables or descriptors.
"""

import asyncio
import fcntl
import os
import platform
import subprocess
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from discogrid.errors import SandboxError
from discogrid.mounts import check_mount_targets
from discogrid.types import MIB, SandboxLevel
from discogrid_agent.sandbox import landlock
from discogrid_agent.sandbox.box import Scene
from discogrid_agent.sandbox.control_groups import ControlGroups
from discogrid_agent.sandbox.credentials import acting_as, task_owner
from discogrid_agent.sandbox.interpreter import own_interpreter
from discogrid_agent.sandbox.last_steps import strict_launcher
from discogrid_agent.sandbox.processes import adopt_orphans
from discogrid_agent.sandbox.programs import SYSTEM_FOLDERS, task_programs, unseen
from discogrid_agent.sandbox.reach import REACH
from discogrid_agent.sandbox.seccomp import filter_program
from discogrid_agent.sandbox.strict_boxed import Channels, StrictBoxed
from discogrid_agent.sandbox.system_files import HOST_NAME, PROGRAMS, TASK_ID, make_system_files

SHARED_MEMORY_BYTES: Final = 256 * MIB  # size of /dev/shm; what lies in it counts as memory

# `--unshare-all` alone only tries the user namespace, so that one is named.
_NAMESPACES: Final = (
    *("--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent", "--new-session"),
    *("--hostname", HOST_NAME, "--uid", str(TASK_ID), "--gid", str(TASK_ID), "--cap-drop", "ALL"),
)
_DEVICES: Final = (
    *("--proc", "/proc", "--dev", "/dev"),
    # A mount of its own, or semaphores fail once /dev is read-only.
    *("--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"),  # noqa: S108 - the box's own
)
# `/` and `/dev` are unbounded memory unless they are closed when all else is in its place.
_CLOSING: Final = ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/local")


class StrictBox:
    """Starts tasks through one bwrap."""

    level = SandboxLevel.STRICT

    def __init__(self, bwrap: Path, groups: ControlGroups | None = None) -> None:
        """SandboxError when the agent's own Python cannot be shown; `settle` before the first `start`."""
        adopt_orphans()  # a box's process 1 outlives the bwrap that started it, by a moment
        self.owner = task_owner()
        self.groups = groups
        self._interpreter = own_interpreter()
        self.python = self._interpreter.executable
        self.filter = filter_program(platform.machine())
        self.landlock = landlock.abi()  # its version; without it, the box is what bwrap makes of it
        self._launcher = (
            program_file(strict_launcher(platform.machine(), self.landlock)) if self.landlock else None
        )
        self._system = _system_folders()
        self._programs = task_programs(self._interpreter)
        roots = self._interpreter.roots
        # Shown last and at their own paths: /tmp, or a mount, may lie above them.
        self.at_own_path = [*roots, *unseen(self._programs.values(), roots)]
        if self.owner is not None:
            for path in (bwrap.parents[2], *self.at_own_path):
                REACH.show(path)
        self.bwrap = REACH.path(bwrap)
        # Arguments that are the same for every task, in the order bwrap needs.
        self._before: tuple[str, ...] = ()
        self._after: tuple[str, ...] = ()
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
        if self.owner is not None:
            folder.chmod(0o711)
            REACH.show(folder)
        self._before = (*self._system, *_DEVICES, *shown(system_files, "/etc"))
        self._after = (*_flat(shown(path, str(path)) for path in self.at_own_path), *_CLOSING)

    def start(self, scene: Scene) -> StrictBoxed:
        """See Box.start."""
        if threading.current_thread() is not threading.main_thread():
            raise AssertionError("a box dies with the thread that starts it: start it on the main thread")
        self.check_mounts(scene)
        with ExitStack() as stack:
            given: list[int] = []  # descriptors that bwrap gets

            def give(descriptor: int) -> str:
                stack.callback(os.close, descriptor)
                given.append(descriptor)
                return str(descriptor)

            channels = Channels.open()
            stack.callback(channels.close_far_ends)
            arguments = [
                *self._arguments(scene),
                *("--seccomp", give(memory_file(self.filter))),
                *("--block-fd", str(channels.hold), "--json-status-fd", str(channels.report_far)),
            ]
            given += [channels.hold, channels.report_far]
            through: tuple[str, ...] = ()
            if self._launcher is not None:
                given.append(self._launcher)
                through = (f"/proc/self/fd/{self._launcher}",)
            # Not on the command line: that is public on the host, and the task reads it at /proc/1/cmdline.
            packed = give(memory_file("\0".join([*arguments, ""]).encode(errors="surrogateescape")))
            try:
                with acting_as(self.owner):
                    process = subprocess.Popen(
                        [self.bwrap, "--args", packed, "--", *through, *scene.command],
                        env={},  # `--clearenv` would leave the agent's own at /proc/1/environ
                        stdin=channels.launcher_far,
                        stdout=scene.stdout,
                        stderr=scene.stderr,
                        pass_fds=given,
                    )
            except OSError as error:
                channels.close()
                raise SandboxError(f"{self.bwrap} could not be started: {error.strerror}.") from error
        group = self.groups.make(scene.limits) if self.groups else None
        return StrictBoxed(process, channels, scene.limits, self.owner, group, asyncio.get_running_loop())

    def close(self) -> None:
        """See Box.close."""

    def _arguments(self, scene: Scene) -> list[str]:
        own = [*shown(scene.temporary, "/tmp", "--bind"), *shown(scene.work, "/local", "--bind")]  # noqa: S108
        for target, source in (*scene.mounts, *((str(path), path) for path in scene.shown)):
            if self.owner is not None:
                REACH.show(source)
            own += shown(source, target)
        variables = {**self.environment, **scene.environment}
        return [
            *_NAMESPACES,
            *self.world(own),
            *_flat(("--setenv", name, value) for name, value in variables.items()),
        ]

    def world(self, own: Iterable[str]) -> list[str]:
        """The arguments that show what every task sees, and what `own` arguments show of its own."""
        assert self._before, "settle the box first"
        return [*self._before, *own, *self._after]

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


def shown(source: Path, target: str, kind: str = "--ro-bind") -> tuple[str, str, str]:
    """Arguments that show `source` at `target`."""
    return kind, REACH.path(source), target


def _flat(groups: Iterable[tuple[str, ...]]) -> list[str]:
    return [item for group in groups for item in group]


def _system_folders() -> list[str]:
    """/usr, and beside it either links into it or, on older systems, folders of their own."""
    shown = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            shown += ("--symlink", os.readlink(path), str(path))
        elif path.is_dir():
            shown += ("--ro-bind", str(path), str(path))
    return shown


def program_file(content: bytes) -> int:
    """A descriptor of a program that can be run as /proc/self/fd/N, wherever nothing else may be run."""
    descriptor = memory_file(content)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALED)
    return descriptor


_SEALED: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def memory_file(content: bytes) -> int:
    """A descriptor to read `content` from."""
    descriptor = os.memfd_create("discogrid", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
