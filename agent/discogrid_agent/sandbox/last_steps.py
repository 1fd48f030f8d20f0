"""What the launcher of each level does before it becomes the task, and what it says about that.

Its descriptor 0 is one end of a pair of sockets: orders come in there, reports go out. The task itself gets /dev/null.
"""

import os
import resource
import signal
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discogrid_agent.sandbox import landlock
from discogrid_agent.sandbox.landlock import Rules
from discogrid_agent.sandbox.launcher import Argument, At, Memory, Step, Table, program
from discogrid_agent.sandbox.reach import REACH

_REPORT, _RULES = 100, 101  # descriptors of the launcher, at places that nothing else takes
_HERE: Final = -100  # AT_FDCWD
_DEATH_SIGNAL, _SUBREAPER = 1, 36  # PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER
_CLOSE_ON_EXEC: Final = 4  # CLOSE_RANGE_CLOEXEC
_DESCRIPTORS: Final = (3, 0xFFFF_FFFF)
_SET_FILTER: Final = 1  # SECCOMP_SET_MODE_FILTER
_FILTER_STEP_BYTES: Final = 8
_EXIT: Final = 127  # as of a shell that cannot start a program

REPORT: Final = struct.Struct("<ii")
# In a report instead of a process.
FAILED, NOT_STARTED, STARTED = 0, 1, -1

LIMITS: Final = (resource.RLIMIT_CORE, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
_LIMIT: Final = struct.Struct("<QQ")
_PATH_BYTES: Final = 4096

# A box has nothing but what its task may see, so that `/` may be read. The others are what bwrap leaves writable.
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


@dataclass(frozen=True, slots=True)
class Report:
    """What a launcher said: about itself, or about a process that ended below it."""

    process: int  # or FAILED (a restriction), NOT_STARTED (the command), STARTED (the first process)
    answer: int  # an error number below zero, the first process, or the status of the process that ended


def reports(said: bytes) -> list[Report]:
    """Every whole report."""
    whole = len(said) - len(said) % REPORT.size
    return [Report(process, answer) for process, answer in REPORT.iter_unpack(said[:whole])]


def orders(limits: dict[int, int], temporary: str) -> bytes:
    """What a confined launcher reads first: a value for each of LIMITS, and the task's temporary folder."""
    path = os.fsencode(temporary)
    assert len(path) < _PATH_BYTES, "no folder of an agent is that deep"
    return b"".join(_LIMIT.pack(limits[kind], limits[kind]) for kind in LIMITS) + path + bytes(1)


def strict_grants(version: int) -> list[tuple[Path, int]]:
    """What Landlock of `version` leaves a task of the strict box, by path as the task sees it."""
    return [
        (path, landlock.rights_on(rights, folder=path in _FOLDERS))
        for path, rights in landlock.grants(STRICT_RULES, version)
    ]


def strict_launcher(machine: str, version: int, *, network: bool = False) -> bytes:
    """Inside the box that bwrap has made: Landlock of `version`."""
    steps = _Steps()
    steps.keep_report()
    steps.take_null_as_input()
    grants = [(_text(path), rights) for path, rights in strict_grants(version)]
    steps.restrict(grants, landlock.attributes(version, network=network))
    steps.execute()
    return steps.program(machine)


def confined_launcher(machine: str, version: int, rules: Rules, filter_program: bytes) -> bytes:
    """In the midst of the machine: stays as the parent of all and tells of their ends; its child becomes the task.

    The child's working directory is its own, as is the temporary folder of its orders.
    """
    steps = _Steps()
    table = steps.table
    given = Memory(bytes(len(LIMITS) * _LIMIT.size + _PATH_BYTES))
    steps.keep_report()
    table.add("read", 0, At(given), len(given.content))
    steps.take_null_as_input()
    table.add("prctl", _DEATH_SIGNAL, signal.SIGKILL)
    table.add("prctl", _SUBREAPER, 1)
    started, ended = Memory(REPORT.pack(STARTED, 0)), Memory(REPORT.pack(0, 0))
    fork = table.add("clone", signal.SIGCHLD, answer=At(started, 4))

    # The child. Were its parent dead by now, the agent would be as well, and its guard would end this one.
    table.add("prctl", _DEATH_SIGNAL, signal.SIGKILL)
    table.add("setsid")
    for number, kind in enumerate(LIMITS):
        table.add("prlimit64", 0, kind, At(given, number * _LIMIT.size))
    steps.restrict(
        [*_own(At(given, len(LIMITS) * _LIMIT.size), version), *_shared(rules, version)],
        landlock.attributes(version, network=False),
    )
    # `struct sock_fprog`, a length and an address: the arguments of a row that nothing leads to.
    header = Step("exit_group", (len(filter_program) // _FILTER_STEP_BYTES, At(Memory(filter_program))))
    table.add("seccomp", _SET_FILTER, 0, Argument(header, 0))
    steps.execute()

    # The parent, for as long as anything lives below it.
    fork.if_positive = table.add("write", _REPORT, At(started), REPORT.size)
    wait = table.add("wait4", -1, At(ended, 4), 0, 0, answer=At(ended))
    table.add("write", _REPORT, At(ended), REPORT.size, then=wait)
    wait.if_negative = table.add("exit_group", 0)
    table.steps.append(header)
    return steps.program(machine)


def _own(temporary: At, version: int) -> list[tuple[At, int]]:
    """The task's folders, and of /proc what tells of itself: the rest tells of the owner's programs."""
    [(_, write)] = landlock.grants(Rules(read_write=(Path(),), sockets=False), version)
    [(_, see)] = landlock.grants(Rules(devices=(Path(),)), version)
    return [(_text("."), write), (temporary, write), (_text("/proc/self"), see)]


def _shared(rules: Rules, version: int) -> list[tuple[At, int]]:
    return [
        (_text(REACH.path(path)), landlock.rights_on(rights, folder=path.is_dir()))
        for path, rights in landlock.grants(rules, version)
        if path.exists()
    ]


class _Steps:
    """The steps that launchers share."""

    def __init__(self) -> None:
        """What is done when a step fails comes last."""
        self.table = Table()
        self._unexpected = Memory(REPORT.pack(FAILED, 0))
        self._execute = Step("execve", answer=None)
        self._failed = Step("write", (_REPORT, At(self._unexpected), REPORT.size))

    def keep_report(self) -> None:
        """The pair of sockets where the task's descriptors are not, and never the task's."""
        self.table.add("dup3", 0, _REPORT, os.O_CLOEXEC)

    def take_null_as_input(self) -> None:
        """What tasks read from."""
        opened = self.table.add("openat", _HERE, _text("/dev/null"), os.O_RDWR | os.O_CLOEXEC)
        opened.answer = Argument(self.table.add("dup3", 0, 0, 0), 0)

    def restrict(self, grants: list[tuple[At, int]], attributes: bytes) -> None:
        """Put Landlock on: rights by path; a path that does not exist is passed by."""
        table = self.table
        made = table.add("landlock_create_ruleset", At(Memory(attributes)), len(attributes), 0)
        made.answer = Argument(table.add("dup3", 0, _RULES, os.O_CLOEXEC), 0)
        opened: Step | None = None
        for path, rights in grants:
            rule = Memory(landlock.path_rule(rights, 0))
            step = table.add("openat", _HERE, path, os.O_PATH | os.O_CLOEXEC, answer=At(rule, 8))
            table.add("landlock_add_rule", _RULES, landlock.RULE_PATH_BENEATH, At(rule), 0)
            if opened is not None:
                opened.if_negative = step
            opened = step
        restricted = table.add("prctl", landlock.NO_NEW_PRIVILEGES, 1)
        if opened is not None:
            opened.if_negative = restricted
        table.add("landlock_restrict_self", _RULES, 0)

    def execute(self) -> None:
        """Become the task."""
        not_started = Memory(REPORT.pack(NOT_STARTED, 0))
        self.table.add("close_range", *_DESCRIPTORS, _CLOSE_ON_EXEC)
        self._execute.answer = At(not_started, 4)
        self.table.steps.append(self._execute)
        end = Step("exit_group", (_EXIT,))
        self._execute.if_negative = self.table.add(
            "write", _REPORT, At(not_started), REPORT.size, then=end, if_negative=end
        )
        self._failed.then = self._failed.if_negative = end
        self.table.steps += (self._failed, end)

    def program(self, machine: str) -> bytes:
        """All of it, for the steps that were added."""
        return program(machine, self.table, self._execute, self._failed, At(self._unexpected, 4))


def _text(path: Path | str) -> At:
    return At(Memory(os.fsencode(path) + bytes(1)))
