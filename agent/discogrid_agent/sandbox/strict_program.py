"""The program of the strict box: makes namespaces, builds what the task sees, gives up every right, becomes the task.

One process makes the next. The first makes process 1 of the box, whose parent is the agent itself, and ends. Process 1
builds the box around itself and waits for the agent's word; then it forks the task, reaps whatever is orphaned, and ends
with the task, upon which the kernel ends everybody else in the box.
"""

import resource
import signal
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discogrid.types import MIB
from discogrid_agent.sandbox import landlock
from discogrid_agent.sandbox.box import Owner
from discogrid_agent.sandbox.landlock import Rules
from discogrid_agent.sandbox.launcher import Argument, At, Memory, Step
from discogrid_agent.sandbox.steps import (
    CHANNEL,
    CLOSE_ON_EXEC,
    DEATH_SIGNAL,
    DESCRIPTORS_END,
    HERE,
    LIMIT,
    PATH_BYTES,
    REPORT,
    STARTED,
    Steps,
    packed_path,
    text,
)
from discogrid_agent.sandbox.system_files import HOST_NAME, TASK_ID
from discogrid_agent.sandbox.world import Link, Shown, Thing

# clone's
_CHILD_OF_THE_AGENT: Final = 0x8000  # CLONE_PARENT
_NEW_USER: Final = 0x1000_0000
_NEW_MOUNTS, _NEW_CGROUPS, _NEW_NAMES, _NEW_IPC, _NEW_PROCESSES, _NEW_NETWORK = (
    *(0x2_0000, 0x200_0000, 0x400_0000),
    *(0x800_0000, 0x2000_0000, 0x4000_0000),
)
_NEW_ALL: Final = (
    _NEW_USER | _NEW_MOUNTS | _NEW_CGROUPS | _NEW_NAMES | _NEW_IPC | _NEW_PROCESSES | _NEW_NETWORK
)
_OF_A_SERVER: Final = (21, 31)  # CAP_SYS_ADMIN; CAP_SETFCAP, to map user 0 into a namespace (Linux 5.12)
# mount's
_NOSUID, _NODEV, _NOEXEC, _BIND, _RECURSIVE, _SLAVE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x8_0000
_DETACH: Final = 2  # MNT_DETACH
# mount_setattr's: struct mount_attr is what to set, to clear, propagation, user namespace
_ATTRIBUTES: Final = struct.Struct("<4Q")
_READ_ONLY, _NO_SETUID, _NO_DEVICES = 0x1, 0x2, 0x4
_ALL_BELOW: Final = 0x8000  # AT_RECURSIVE
# prctl's
_DUMPABLE, _DROP_BOUNDING = 4, 24
_CAPABILITY_VERSION: Final = 0x2008_0522
_CAPABILITY_SETS_BYTES: Final = 24
_REMOVE_FOLDER: Final = 0x200  # AT_REMOVEDIR
_WRITE_ONLY, _CREATE = 0o1, 0o100
_FILE, _FILE_MODE, _FOLDER_MODE = 0o100000, 0o644, 0o755

_STAGE: Final = "/tmp"  # noqa: S108 - a folder that every machine has; only the box's own view of it changes
_MACHINE: Final = "/.machine"  # where the box sees this machine while it is built
_ROOT_BYTES: Final = 1 << 20  # of the file system that holds the places things are shown at
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS: Final = (
    *(("fd", "/proc/self/fd"), ("core", "/proc/kcore"), ("ptmx", "pts/ptmx")),
    *((name, f"/proc/self/fd/{number}") for number, name in enumerate(("stdin", "stdout", "stderr"))),
)

SHARED_MEMORY_BYTES: Final = 256 * MIB  # of /dev/shm; what lies in it counts as memory
LIMITS: Final = (
    *(resource.RLIMIT_CORE, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE),
    *(resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC),
)
_LIMITS_BYTES: Final = len(LIMITS) * LIMIT.size

# A box has nothing but what its task may see, so that `/` may be read. The others are what a box itself leaves writable.
STRICT_RULES: Final = Rules(
    read_only=(Path("/"),),
    read_write=(Path("/local"), Path("/tmp"), Path("/dev/shm")),  # noqa: S108 - the box's own
    devices=(
        Path("/proc"),
        *(Path("/dev", name) for name in ("null", "zero", "full", "random", "urandom", "tty")),
    ),
    terminals=(Path("/dev/pts"),),
)
_FOLDERS: Final = frozenset(map(Path, ("/", "/local", "/tmp", "/dev/shm", "/proc", "/dev/pts")))  # noqa: S108


def strict_grants(version: int) -> list[tuple[Path, int]]:
    """What Landlock of `version` leaves a task of the strict box, by path as the task sees it."""
    return [
        (path, landlock.rights_on(rights, folder=path in _FOLDERS))
        for path, rights in landlock.grants(STRICT_RULES, version)
    ]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one program builds: the same for all tasks that see something of their own at the same places."""

    user: Owner  # of this machine, who is the task's user in the box
    capabilities: int  # how many the kernel has
    landlock: int  # its version, 0 without it
    filter: bytes
    before: tuple[Thing, ...]
    own: tuple[Shown, ...]  # their sources come with the orders
    after: tuple[Thing, ...]
    network: bool = False  # the filter is one that leaves TCP to the task


def orders(limits: dict[int, int], sources: Sequence[str]) -> bytes:
    """What the program reads first: a value for each of LIMITS, and the sources of what is the task's own.

    OSError when a path is too long.
    """
    return b"".join(
        [
            *(LIMIT.pack(limits[kind], limits[kind]) for kind in LIMITS),
            *(packed_path(f"{_MACHINE}{source}") for source in sources),
        ]
    )


def capabilities() -> int:
    """How many this kernel has."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1


def strict_program(machine: str, plan: Plan) -> bytes:
    """The program for tasks of this plan, run as `PROGRAM COMMAND ARGUMENT…` by the task's user on this machine."""
    given = Memory(bytes(_LIMITS_BYTES + len(plan.own) * PATH_BYTES))
    started, ended = Memory(REPORT.pack(STARTED, 0)), Memory(REPORT.pack(0, 0))
    steps = _BoxSteps()
    table = steps.table
    steps.keep_channel()
    steps.take_orders(given)
    box = table.add("clone", _NEW_ALL | _CHILD_OF_THE_AGENT | signal.SIGCHLD, answer=At(started, 4))

    # Process 1. Whoever dies before this step, it hears so below, when it waits for the word.
    table.add("prctl", DEATH_SIGNAL, signal.SIGKILL)
    steps.enter(plan)
    for number, thing in enumerate(plan.own):
        steps.show(thing, At(given, _LIMITS_BYTES + number * PATH_BYTES))
    steps.close(plan)
    steps.take_null_as_input()
    steps.give_up(plan.capabilities)
    for number, kind in enumerate(LIMITS):
        table.add("prlimit64", 0, kind, At(given, number * LIMIT.size))
    steps.wait_for_word()
    if plan.landlock:
        grants = [(text(path), rights) for path, rights in strict_grants(plan.landlock)]
        steps.restrict(grants, landlock.attributes(plan.landlock, network=plan.network))
    steps.filter_calls(plan.filter)
    table.add("prctl", _DUMPABLE, 0)  # the task may not look into process 1; its own program undoes it
    task = table.add("clone", signal.SIGCHLD)

    # Process 2, the task.
    table.add("setsid")
    steps.execute()

    # Process 1, for as long as process 2 lives: when it can be sent nothing any more, it was what ended.
    lives = Step("kill", (0, 0))
    task.answer = Argument(lives, 0)
    task.if_positive = table.add("close_range", 0, CHANNEL - 1, 0)
    table.add("close_range", CHANNEL + 1, DESCRIPTORS_END, 0)
    lives.then = table.add("wait4", -1, At(ended, 4), 0, 0, answer=At(ended))
    table.steps.append(lives)
    lives.if_negative = table.add("write", CHANNEL, At(ended), REPORT.size)
    table.add("exit_group", 0)

    # The first process.
    box.if_positive = table.add("write", CHANNEL, At(started), REPORT.size)
    table.add("exit_group", 0)
    return steps.program(machine)


def server_program(
    machine: str, plan: Plan, scratch: tuple[str, int], folders: Sequence[str], files: Mapping[str, bytes]
) -> bytes:
    """The program that becomes process 1 of a box of its own, and may make boxes in it; its channel stays open.

    `plan.own` has its sources; `scratch` is a place and the bytes of a file system there, and `folders` and `files` are
    made afterwards. The first process lives as long as process 1.
    """
    steps = _BoxSteps()
    table = steps.table
    table.add("dup3", 0, CHANNEL, 0)
    table.add("prctl", DEATH_SIGNAL, signal.SIGKILL)
    box = table.add("clone", _NEW_ALL | signal.SIGCHLD)

    # Process 1: user 0 of its namespace, so that what it forks may have namespaces in it.
    table.add("prctl", DEATH_SIGNAL, signal.SIGKILL)
    steps.enter(plan)
    place, scratch_bytes = scratch
    steps.folder(place)
    steps.mount("tmpfs", place, _NOSUID | _NODEV, f"mode=755,size={scratch_bytes}")
    for thing in plan.own:
        steps.show(thing)
    for folder in folders:
        steps.folders(folder)
    for path, content in files.items():
        steps.folders(str(Path(path).parent))
        steps.store(path, content)
    steps.close(plan)
    steps.take_null_as_input()
    table.add("setsid")
    steps.leave_capabilities(number for number in range(plan.capabilities) if number not in _OF_A_SERVER)
    table.add("prctl", landlock.NO_NEW_PRIVILEGES, 1)
    table.add("close_range", 3, CHANNEL - 1, CLOSE_ON_EXEC)
    table.add("close_range", CHANNEL + 1, DESCRIPTORS_END, CLOSE_ON_EXEC)
    steps.execute(alone=False)

    # The first process.
    box.if_positive = table.add("close_range", 0, DESCRIPTORS_END, 0)
    table.add("wait4", -1, 0, 0, 0, may_fail=True)
    table.add("exit_group", 0)
    return steps.program(machine)


def landlock_program(machine: str, version: int, *, network: bool = False) -> bytes:
    """Inside a box that somebody else has built: Landlock of `version`."""
    steps = Steps()
    steps.keep_channel()
    steps.take_null_as_input()
    grants = [(text(path), rights) for path, rights in strict_grants(version)]
    steps.restrict(grants, landlock.attributes(version, network=network))
    steps.execute()
    return steps.program(machine)


class _BoxSteps(Steps):
    """The steps that build a box."""

    def be(self, inner: int, user: int, group: int) -> None:
        """Be `inner` in this user namespace, who is this user and this group outside of it."""
        self.write("/proc/self/setgroups", "deny")
        self.write("/proc/self/uid_map", f"{inner} {user} 1")
        self.write("/proc/self/gid_map", f"{inner} {group} 1")

    def enter(self, plan: Plan) -> None:
        """Stand in a file system of the box's own, with what everybody sees; this machine is at `_MACHINE`."""
        self.be(0, plan.user.uid, plan.user.gid)
        self.table.add("umask", 0)
        self.table.add("mount", 0, text("/"), 0, _RECURSIVE | _SLAVE)  # nothing of this reaches the machine
        self.mount("tmpfs", _STAGE, _NOSUID | _NODEV, f"mode=755,size={_ROOT_BYTES}")
        self.folder(f"{_STAGE}{_MACHINE}")
        self.table.add("pivot_root", text(_STAGE), text(f"{_STAGE}{_MACHINE}"))
        self.table.add("chdir", text("/"))
        self.folder("/proc")
        self.mount("proc", "/proc", _NOSUID | _NODEV | _NOEXEC)
        self.devices()
        for thing in plan.before:
            self.show(thing)

    def devices(self) -> None:
        """Show /dev: the harmless ones, terminals of the box's own, and shared memory."""
        self.folder("/dev")
        self.mount("tmpfs", "/dev", _NOSUID | _NODEV, f"mode=755,size={_ROOT_BYTES}")
        for name in _DEVICES:
            self.file(f"/dev/{name}")
            self.table.add("mount", text(f"{_MACHINE}/dev/{name}"), text(f"/dev/{name}"), 0, _BIND)
            self.restrain(f"/dev/{name}", _NO_SETUID)
        for name, to in _DEVICE_LINKS:
            self.link(to, f"/dev/{name}")
        self.folder("/dev/pts")
        self.mount("devpts", "/dev/pts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620")
        self.folder("/dev/shm")  # noqa: S108 - the box's own
        self.mount("tmpfs", "/dev/shm", _NOSUID | _NODEV, f"mode=755,size={SHARED_MEMORY_BYTES}")  # noqa: S108

    def show(self, thing: Thing, source: At | None = None) -> None:
        """Put one thing at its place; `source` when it is not known yet."""
        match thing:
            case Link(to, target):
                self.link(to, target)
            case Shown(path, target, writable, folder):
                self.folders(target if folder else str(Path(target).parent))
                if not folder:
                    self.file(target)
                found = source or text(f"{_MACHINE}{path}")
                self.table.add("mount", found, text(target), 0, _BIND | _RECURSIVE)
                bits = _NO_SETUID | _NO_DEVICES | (0 if writable else _READ_ONLY)
                self.restrain(target, bits, _ALL_BELOW)

    def close(self, plan: Plan) -> None:
        """Let go of this machine: from here on there is the box alone, which takes nothing more."""
        for thing in plan.after:
            self.show(thing)
        self.table.add("umount2", text(_MACHINE), _DETACH)
        self.table.add("unlinkat", HERE, text(_MACHINE), _REMOVE_FOLDER)
        for path in ("/dev", "/"):
            self.restrain(path, _READ_ONLY)
        self.table.add("chdir", text("/local"))
        self.table.add("sethostname", text(HOST_NAME), len(HOST_NAME))

    def give_up(self, capabilities: int) -> None:
        """Move into a user namespace that owns none of the others, can have none in it, and grants nothing."""
        self.table.add("unshare", _NEW_USER)
        self.be(TASK_ID, 0, 0)
        self.write("/proc/sys/user/max_user_namespaces", "0")
        self.leave_capabilities(range(capabilities))
        header = Memory(struct.pack("<II", _CAPABILITY_VERSION, 0))
        self.table.add("capset", At(header), At(Memory(bytes(_CAPABILITY_SETS_BYTES))))

    def leave_capabilities(self, numbers: Iterable[int]) -> None:
        """No program gets them any more."""
        for number in numbers:
            self.table.add("prctl", _DROP_BOUNDING, number)

    def write(self, path: str, words: str) -> None:
        """Write to a file of the kernel's; its descriptor is closed with all the others."""
        opened = self.table.add("openat", HERE, text(path), _WRITE_ONLY)
        opened.answer = Argument(self.table.add("write", 0, At(Memory(words.encode())), len(words)), 0)

    def mount(self, kind: str, target: str, flags: int, options: str | None = None) -> None:
        """Mount a new file system."""
        data = 0 if options is None else text(options)
        self.table.add("mount", text(kind), text(target), text(kind), flags, data)

    def restrain(self, target: str, bits: int, how: int = 0) -> None:
        """Take rights from a mount (Linux 5.12)."""
        attributes = Memory(_ATTRIBUTES.pack(bits, 0, 0, 0))
        self.table.add("mount_setattr", HERE, text(target), how, At(attributes), _ATTRIBUTES.size)

    def folder(self, path: str) -> None:
        """Make a folder, if there is none; what is shown there says whether it worked."""
        self.table.add("mkdirat", HERE, text(path), _FOLDER_MODE, may_fail=True)

    def folders(self, path: str) -> None:
        """Make a folder and all above it."""
        for part in (*reversed(Path(path).parents[:-1]), Path(path)):
            self.folder(str(part))

    def store(self, path: str, content: bytes) -> None:
        """Make a file of this content."""
        created = self.table.add("openat", HERE, text(path), _CREATE | _WRITE_ONLY, _FILE_MODE)
        created.answer = Argument(self.table.add("write", 0, At(Memory(content)), len(content)), 0)

    def file(self, path: str) -> None:
        """Make an empty file, if there is none."""
        self.table.add("mknodat", HERE, text(path), _FILE | _FILE_MODE, 0, may_fail=True)

    def link(self, to: str, path: str) -> None:
        """Make a symbolic link."""
        self.table.add("symlinkat", text(to), HERE, text(path))
