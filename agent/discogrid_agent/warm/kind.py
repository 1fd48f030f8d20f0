"""Which tasks may share a warm Python: those that it would start for in exactly the same way."""

import hashlib
import os
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Final, Self

from discogrid_agent.sandbox.box import Scene
from discogrid_agent.work_folder import RESULT_FOLDER

SCRIPT_BYTES_MAX: Final = 256 * 1024  # a longer script starts cold
_OF_A_TASK: Final = "DISCOGRID_"  # variables that differ from task to task
# What CPython reads when it starts, and the Python that waits has read just as well.
_HARMLESS: Final = frozenset(
    {
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHASHSEED",
        "PYTHONIOENCODING",
        "PYTHONOPTIMIZE",
        "PYTHONUNBUFFERED",
        "PYTHONUTF8",
    }
)
# What else steers a Python, its loader or its memory before any script runs, or names a folder that it loads from.
_STEERING: Final = ("PYTHON", "LD_", "GLIBC_", "MALLOC_")
_STEERING_EXACTLY: Final = frozenset({"HOME"})
_SUFFIXES: Final = tuple(all_suffixes())


@dataclass(frozen=True, slots=True)
class Kind:
    """What tasks of one warm Python have in common."""

    submitter: str
    script_name: str
    script: bytes  # digest
    environment: tuple[tuple[str, str], ...]
    mounts: tuple[tuple[str, Path], ...]
    trees: tuple[
        tuple[int, int], ...
    ]  # which those were: a tree that was removed and unpacked again is another one

    @classmethod
    def of(cls, scene: Scene, python: str) -> tuple[Self, bytes] | None:
        """The kind of a task that waits to be started, and its script; None for one that starts cold."""
        if (
            scene.shown
            or scene.network
            or not scene.submitter
            or len(scene.command) < 2
            or scene.command[0] != python
        ):
            return None
        name = scene.command[1]
        if not name.endswith(".py"):
            return None
        shared = tuple(
            (variable, value)
            for variable, value in sorted(scene.environment.items())
            if not variable.startswith(_OF_A_TASK)
        )
        if any(map(_steers, (variable for variable, _ in shared))):
            return None
        script = _read(scene.work / name)
        if script is None:
            return None
        digest = hashlib.blake2b(script, digest_size=32).digest()
        trees = tuple(map(_tree, (source for _, source in scene.mounts)))
        return cls(scene.submitter, name, digest, shared, scene.mounts, trees), script


def importable_names(work: Path) -> set[str]:
    """Names under which a script would import the files that lie beside it."""
    return {
        name.partition(".")[0]
        for name in os.listdir(work)
        if name.endswith(_SUFFIXES) and name != RESULT_FOLDER
    }


def own_variables(scene: Scene) -> dict[str, str]:
    """The variables that this task has for itself."""
    return {name: value for name, value in scene.environment.items() if name.startswith(_OF_A_TASK)}


def _steers(variable: str) -> bool:
    if variable in _HARMLESS:
        return False
    return variable in _STEERING_EXACTLY or variable.startswith(_STEERING)


def _tree(source: Path) -> tuple[int, int]:
    """What tells a folder from one that had its name before; the number alone may be given again."""
    status = source.stat()
    return status.st_ino, status.st_ctime_ns


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        script = os.read(descriptor, SCRIPT_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    return script if len(script) <= SCRIPT_BYTES_MAX else None
