"""The program of the confined box: the parent of all that the task starts, and what its child does to become the task."""

import resource
import signal
from pathlib import Path
from typing import Final

from discogrid_agent.sandbox import landlock
from discogrid_agent.sandbox.landlock import Rules
from discogrid_agent.sandbox.launcher import At, Memory
from discogrid_agent.sandbox.reach import REACH
from discogrid_agent.sandbox.steps import (
    CHANNEL,
    DEATH_SIGNAL,
    LIMIT,
    PATH_BYTES,
    REPORT,
    STARTED,
    Steps,
    packed_path,
    text,
)

_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER

LIMITS: Final = (resource.RLIMIT_CORE, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)


def orders(limits: dict[int, int], temporary: str) -> bytes:
    """What the program reads first: a value for each of LIMITS, and the task's temporary folder."""
    return b"".join(LIMIT.pack(limits[kind], limits[kind]) for kind in LIMITS) + packed_path(temporary)


def confined_program(machine: str, version: int, rules: Rules, filter_program: bytes) -> bytes:
    """In the midst of the machine: stays as the parent of all and tells of their ends; its child becomes the task.

    The child's working directory is its own, as is the temporary folder of its orders.
    """
    steps = Steps()
    table = steps.table
    given = Memory(bytes(len(LIMITS) * LIMIT.size + PATH_BYTES))
    steps.keep_channel()
    steps.take_orders(given)
    steps.take_null_as_input()
    table.add("prctl", DEATH_SIGNAL, signal.SIGKILL)
    table.add("prctl", _SUBREAPER, 1)
    started, ended = Memory(REPORT.pack(STARTED, 0)), Memory(REPORT.pack(0, 0))
    fork = table.add("clone", signal.SIGCHLD, answer=At(started, 4))

    # The child. Were its parent dead by now, the agent would be as well, and its guard would end this one.
    table.add("prctl", DEATH_SIGNAL, signal.SIGKILL)
    table.add("setsid")
    for number, kind in enumerate(LIMITS):
        table.add("prlimit64", 0, kind, At(given, number * LIMIT.size))
    steps.restrict(
        [*_own(At(given, len(LIMITS) * LIMIT.size), version), *_shared(rules, version)],
        landlock.attributes(version, network=False),
    )
    steps.filter_calls(filter_program)
    steps.execute()

    # The parent, for as long as anything lives below it.
    fork.if_positive = table.add("write", CHANNEL, At(started), REPORT.size)
    wait = table.add("wait4", -1, At(ended, 4), 0, 0, answer=At(ended))
    table.add("write", CHANNEL, At(ended), REPORT.size, then=wait)
    wait.if_negative = table.add("exit_group", 0)
    return steps.program(machine)


def _own(temporary: At, version: int) -> list[tuple[At, int]]:
    """The task's folders, and of /proc what tells of itself: the rest tells of the owner's programs."""
    [(_, write)] = landlock.grants(Rules(read_write=(Path(),), sockets=False), version)
    [(_, see)] = landlock.grants(Rules(devices=(Path(),)), version)
    return [(text("."), write), (temporary, write), (text("/proc/self"), see)]


def _shared(rules: Rules, version: int) -> list[tuple[At, int]]:
    return [
        (text(REACH.path(path)), landlock.rights_on(rights, folder=path.is_dir()))
        for path, rights in landlock.grants(rules, version)
        if path.exists()
    ]
