"""The steps that the programs of all boxes share, and what such a program says of itself.

Its descriptor 0 is one end of a pair of sockets: orders come in there, reports go out. The task itself gets /dev/null.
"""

import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discogrid_agent.sandbox import landlock
from discogrid_agent.sandbox.launcher import Argument, At, Memory, Step, Table, program

CHANNEL, _RULES = 100, 101  # descriptors of the program, at places that nothing else takes
HERE: Final = -100  # AT_FDCWD
DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG
CLOSE_ON_EXEC: Final = 4  # CLOSE_RANGE_CLOEXEC
DESCRIPTORS_END: Final = 0xFFFF_FFFF
PATH_BYTES: Final = 4096  # of a path in orders, with the zero at its end
_ALL: Final = 0x100  # MSG_WAITALL
_SET_FILTER: Final = 1  # SECCOMP_SET_MODE_FILTER
_FILTER_STEP_BYTES: Final = 8
_EXIT: Final = 127  # as of a shell that cannot start a program

REPORT: Final = struct.Struct("<ii")
LIMIT: Final = struct.Struct("<QQ")  # as prlimit64 wants it: what is enforced, and what it may be raised to
# In a report instead of a process.
FAILED, NOT_STARTED, STARTED = 0, 1, -1


@dataclass(frozen=True, slots=True)
class Report:
    """What a program said: about itself, or about a process that ended below it."""

    process: int  # or FAILED (a step), NOT_STARTED (the command), STARTED (the first process)
    answer: int  # an error number below zero, the first process, or the status of the process that ended


def reports(said: bytes) -> list[Report]:
    """Every whole report."""
    whole = len(said) - len(said) % REPORT.size
    return [Report(process, answer) for process, answer in REPORT.iter_unpack(said[:whole])]


def packed_path(path: str) -> bytes:
    """A path as it stands in orders."""
    encoded = os.fsencode(path)
    if len(encoded) >= PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    return encoded.ljust(PATH_BYTES, bytes(1))


def text(path: Path | str) -> At:
    """The address of a path, or of any word, with the zero that ends it."""
    return At(Memory(os.fsencode(path) + bytes(1)))


class Steps:
    """A table of steps that grows; `program` is what it makes."""

    def __init__(self) -> None:
        """What is done when a step fails comes last."""
        self.table = Table()
        self._unexpected = Memory(REPORT.pack(FAILED, 0))
        self._execute = Step("execve", answer=None)
        self._failed = Step("write", (CHANNEL, At(self._unexpected), REPORT.size))
        self._end = Step("exit_group", (_EXIT,))
        self._unreached: list[Step] = []  # whose arguments are memory

    def keep_channel(self) -> None:
        """The pair of sockets where the task's descriptors are not, and never the task's."""
        self.table.add("dup3", 0, CHANNEL, os.O_CLOEXEC)

    def take_orders(self, given: Memory) -> None:
        """Wait for all of them."""
        self.table.add("recvfrom", CHANNEL, At(given), len(given.content), _ALL)

    def take_null_as_input(self) -> None:
        """What tasks read from."""
        opened = self.table.add("openat", HERE, text("/dev/null"), os.O_RDWR | os.O_CLOEXEC)
        opened.answer = Argument(self.table.add("dup3", 0, 0, 0), 0)

    def restrict(self, grants: list[tuple[At, int]], attributes: bytes) -> None:
        """Put Landlock on: rights by path; a path that does not exist is passed by."""
        table = self.table
        made = table.add("landlock_create_ruleset", At(Memory(attributes)), len(attributes), 0)
        made.answer = Argument(table.add("dup3", 0, _RULES, os.O_CLOEXEC), 0)
        opened: Step | None = None
        for path, rights in grants:
            rule = Memory(landlock.path_rule(rights, 0))
            step = table.add("openat", HERE, path, os.O_PATH | os.O_CLOEXEC, answer=At(rule, 8))
            table.add("landlock_add_rule", _RULES, landlock.RULE_PATH_BENEATH, At(rule), 0)
            if opened is not None:
                opened.if_negative = step
            opened = step
        restricted = table.add("prctl", landlock.NO_NEW_PRIVILEGES, 1)
        if opened is not None:
            opened.if_negative = restricted
        table.add("landlock_restrict_self", _RULES, 0)

    def filter_calls(self, filter_program: bytes) -> None:
        """Put the system call filter on, which takes no privileges once no program may gain any."""
        # `struct sock_fprog`, a length and an address: the arguments of a row that nothing leads to.
        header = Step("exit_group", (len(filter_program) // _FILTER_STEP_BYTES, At(Memory(filter_program))))
        self.table.add("seccomp", _SET_FILTER, 0, Argument(header, 0))
        self._unreached.append(header)

    def wait_for_word(self) -> None:
        """Go on when a byte comes, and never gain any right again; end when nobody is left to send one."""
        word = self.table.add("read", CHANNEL, At(Memory(bytes(1))), 1, then=self._end)
        word.if_positive = self.table.add("prctl", landlock.NO_NEW_PRIVILEGES, 1)

    def execute(self, *, alone: bool = True) -> None:
        """Become the command, with three descriptors if it is `alone`; other steps follow when they are led to."""
        not_started = Memory(REPORT.pack(NOT_STARTED, 0))
        if alone:
            self.table.add("close_range", 3, DESCRIPTORS_END, CLOSE_ON_EXEC)
        self._execute.answer = At(not_started, 4)
        self.table.steps.append(self._execute)
        self._execute.if_negative = self.table.add(
            "write", CHANNEL, At(not_started), REPORT.size, then=self._end, if_negative=self._end
        )
        self._failed.then = self._failed.if_negative = self._end
        self.table.steps += (self._failed, self._end)

    def program(self, machine: str) -> bytes:
        """All of it, for the steps that were added."""
        self.table.steps += self._unreached
        return program(machine, self.table, self._execute, self._failed, At(self._unexpected, 4))
