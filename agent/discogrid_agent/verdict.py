"""Says how an attempt ended and why, from what is known about it; pure.

A script that the kernel refuses memory, disk or processes ends by its own exception: that is told as the limit it is.
"""

import os
import re
import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from discogrid.types import MIB, Limits, Outcome
from discogrid_agent.sandbox.box import BoxEnd

REASON_LINES: Final = 3  # of stderr, in a reason
REASON_CHARACTERS: Final = 500  # of stderr, in a reason
EXIT_USAGE: Final = 2  # a script's "I was called wrongly": it will be so again


class Limit(StrEnum):
    """The limits an attempt may exceed, by the name its result tells."""

    TIME = "time"
    MEMORY = "memory"
    DISK = "disk"
    PROCESSES = "processes"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody asked for the end of the attempt."""

    reason: str


@dataclass(frozen=True, slots=True)
class Exceeded:
    """The attempt was stopped at a limit; `elsewhere` when another machine may have more room."""

    limit: Limit
    reason: str
    elsewhere: bool = False


Stop = Cancelled | Exceeded


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the attempt ended, why, and whether another try can end differently."""

    outcome: Outcome
    exit: int | None
    limit: Limit | None
    reason: str
    retryable: bool


def judge(end: BoxEnd, stop: Stop | None, stderr: bytes, over: str | None, limits: Limits) -> Verdict:
    """From the box's end, what we stopped it for, the last bytes of stderr and a limit of outputs that was hit."""
    said = last_lines(stderr)
    match stop:
        case Cancelled(reason):
            return Verdict(Outcome.CANCELLED, end.exit, None, reason, retryable=False)
        case Exceeded() if end.exit != 0:  # at 0 it was done before it could be stopped
            return _exceeded(end.exit, stop, said)
        case Exceeded() | None:
            pass
        case _:
            assert_never(stop)
    if end.no_network and end.exit != 0:  # at 0 it was done before that
        return _no_network(end, said)
    if end.error is not None:
        return _no_program("The script", os.strerror(end.error))
    if not end.ran or end.exit is None:
        return _never_ran(end, stderr, said)
    if end.exit == 0:
        if over is not None:
            return Verdict(
                Outcome.LIMIT_EXCEEDED, 0, Limit.OUTPUT, f"The results are {over}.", retryable=False
            )
        return Verdict(Outcome.SUCCEEDED, 0, None, "", retryable=False)
    limit = Limit.MEMORY if end.ran_out else _limit_behind(end.exit, stderr)
    if limit is not None:
        return _exceeded(end.exit, Exceeded(limit, _LIMIT_TEXTS[limit](limits)), said)
    return Verdict(
        Outcome.SCRIPT_FAILED,
        end.exit,
        None,
        _failure(end.exit, said),
        retryable=not _hopeless(end.exit, stderr),
    )


def last_lines(stderr: bytes) -> str:
    """The last lines that say something, printable, for a reason."""
    lines = [line.rstrip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    text = "\n".join(lines[-REASON_LINES:])[-REASON_CHARACTERS:]
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)


def _exceeded(code: int | None, stop: Exceeded, said: str) -> Verdict:
    retryable = stop.elsewhere or stop.limit is Limit.TIME
    return Verdict(Outcome.LIMIT_EXCEEDED, code, stop.limit, _with(stop.reason, said), retryable=retryable)


def _no_network(end: BoxEnd, said: str) -> Verdict:
    why = f"The task could not be given a network of its own: {end.no_network}."
    if end.ran:
        why = f"The task was ended because its network was lost: {end.no_network}."
    return Verdict(Outcome.BOX_FAILED, end.exit, None, _with(why, said), retryable=True)


def _never_ran(end: BoxEnd, stderr: bytes, said: str) -> Verdict:
    if match := _NO_PROGRAM.search(stderr):
        return _no_program(match[1].decode(errors="replace"), match[2].decode(errors="replace"))
    why = "The box could not be built, or was killed from outside."
    if end.refused is not None:
        why = f"The box could not be built: {os.strerror(end.refused)}."
    return Verdict(Outcome.BOX_FAILED, None, None, _with(why, said), retryable=True)


def _no_program(name: str, why: str) -> Verdict:
    reason = (
        f"{name} could not be started: {why}. "
        "The program that its first line (#!) names is probably not on this machine."
    )
    return Verdict(Outcome.SCRIPT_FAILED, None, None, reason, retryable=False)


def _failure(code: int, said: str) -> str:
    if code > 0:
        return _with(f"The script ended with exit code {code}.", said)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    text = f"The script was ended by signal {-code} ({name})."
    if -code == signal.SIGKILL:
        text += " Nobody of discogrid did it: the machine was probably out of memory."
    return _with(text, said)


def _with(text: str, said: str) -> str:
    return f"{text}\n{said}" if said else text


def _limit_behind(code: int, stderr: bytes) -> Limit | None:
    """The limit whose refusal the script died of, if its last words tell."""
    if code == -signal.SIGXFSZ:
        return Limit.DISK
    last = stderr.rstrip().rpartition(b"\n")[2]
    return next((limit for limit, words in _LAST_WORDS.items() if words.search(last)), None)


def _hopeless(code: int, stderr: bytes) -> bool:
    """Whether the same script would fail in the same way anywhere."""
    return code == EXIT_USAGE or bool(_WRONG_PROGRAM.search(stderr.rstrip().rpartition(b"\n")[2]))


_NO_PROGRAM: Final = re.compile(rb"^bwrap: execvp (.{1,300}?): (.{1,100})$", re.MULTILINE)
_WRONG_PROGRAM: Final = re.compile(
    rb"^(ModuleNotFoundError|ImportError|SyntaxError|IndentationError|TabError)\b"
)
_LAST_WORDS: Final = {
    Limit.MEMORY: re.compile(
        rb"^(\S*MemoryError\b|.*std::bad_alloc|OSError: \[Errno 12\]|.*Cannot allocate memory)"
    ),
    Limit.DISK: re.compile(rb"^OSError: \[Errno 27\]|File too large"),
    Limit.PROCESSES: re.compile(
        rb"^BlockingIOError: \[Errno 11\]|can't start new thread|[Ff]ork: .*Resource temporarily"
    ),
}
_LIMIT_TEXTS: Final = {
    Limit.MEMORY: lambda limits: (
        f"A process wanted more memory than the limit of {limits.memory_bytes // MIB:,} MiB."
    ),
    Limit.DISK: lambda limits: (
        f"A file wanted to be larger than the limit of {limits.disk_bytes // MIB:,} MiB."
    ),
    Limit.PROCESSES: lambda limits: f"The task wanted more than {limits.processes:,} processes and threads.",
}
