"""What a runner is given, and what it hands back; how a task's command and variables follow from it."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from discogrid.errors import InputError
from discogrid.types import Attempt, Digest, FileRef, Limits, Outcome
from discogrid_agent.environments import Environment

# Libraries that start a thread for every processor they see, unless told otherwise.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Task:
    """Everything one attempt needs, verified already; paths are local, mounts lie in the runner's `trees`."""

    attempt: Attempt
    label: str
    count: int
    script: Path | bytes  # the file, or its content
    script_name: str
    input: Path | bytes | None
    input_name: str | None
    constants: tuple[tuple[str, Path | bytes], ...]
    mounts: tuple[tuple[str, Path], ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    cpus: int
    limits: Limits
    network: bool = False
    submitter: str = ""  # whose it is
    interpreter: Environment | None = None  # with the packages that it brings; else the box's own

    def command(self, python: str) -> tuple[str, ...]:
        """What to run in the task's folder; InputError when the script is nothing that can be run."""
        # "./" for the one name that would be read as an option
        name = f"./{self.script_name}" if self.script_name.startswith("-") else self.script_name
        arguments = (*(() if self.input_name is None else (self.input_name,)), *self.arguments)
        if self.script_name.endswith(".py"):
            return (python, name, *arguments)
        first = _first_line(self.script)
        if not first.startswith(b"#!"):
            raise InputError(
                f"{self.script_name!r} cannot be run.",
                why="It is no Python file (*.py), and its first line does not name its program (#!/bin/sh).",
                fix="Rename it, or add such a line, and submit again.",
            )
        if first.rstrip(b"\n").endswith(b"\r"):
            raise InputError(
                f"{self.script_name!r} cannot be run.",
                why="Its lines end as on Windows, so that its first line names a program that does not exist.",
                fix="Save it with Unix line ends and submit again.",
            )
        return (f"./{self.script_name}", *arguments)

    def variables(self) -> dict[str, str]:
        """The variables of this task, besides those of the box; InputError when one cannot be set."""
        for name, value in self.environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise InputError(
                    f"The variable {name!r:.80} cannot be set for a task.", fix="Use --env NAME=VALUE."
                )
        return {
            **thread_variables(self.cpus),
            "PYTHONUNBUFFERED": "1",  # what a task printed is seen at once, and kept when it is stopped
            **self.environment,
            "DISCOGRID_JOB": self.attempt.job,
            "DISCOGRID_TASK": self.label,
            "DISCOGRID_INDEX": str(self.attempt.index),
            "DISCOGRID_COUNT": str(self.count),
            "DISCOGRID_ATTEMPT": str(self.attempt.number),
        }


def thread_variables(cpus: int) -> dict[str, str]:
    """What keeps libraries from starting more threads than a task has slots."""
    return dict.fromkeys(_THREAD_VARIABLES, str(cpus))


def _first_line(script: Path | bytes) -> bytes:
    with io.BytesIO(script) if isinstance(script, bytes) else open(script, "rb") as file:
        return file.readline(256)


@dataclass(frozen=True, slots=True)
class Ended:
    """How one attempt ended; `archive` holds its outputs, logs and record, whatever the outcome."""

    attempt: Attempt
    outcome: Outcome
    exit: int | None  # negative: the signal that ended the script; None: it never ran
    limit_exceeded: str | None
    reason: str
    started: float  # seconds since the epoch
    ended: float
    seconds: float  # the script's own run time
    outputs: tuple[FileRef, ...]
    skipped: tuple[tuple[str, str], ...]
    archive: Path | bytes  # the file, or itself when it is small
    archive_digest: Digest
    archive_size: int
    retryable: bool
