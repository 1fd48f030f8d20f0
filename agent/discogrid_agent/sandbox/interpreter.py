"""Which folders of this machine the agent's own Python lives in, so that a box can show them at their own paths."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from discogrid.errors import SandboxError

_HOPS_MAX = 40  # symbolic links that the kernel follows, too


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that tasks run with, as they see it."""

    executable: Path
    roots: tuple[Path, ...]  # folders and files that must be shown read-only, besides /usr


def own_interpreter() -> Interpreter:
    """The agent's own; SandboxError when showing it would show the owner's files as well."""
    executable = Path(sys.executable)
    roots: list[Path] = []
    for prefix in (Path(sys.prefix), Path(sys.base_prefix)):
        for path in (prefix, prefix.resolve()):
            _add(roots, path)
    for hop in _links(executable):
        _add(roots, hop)  # a link outside of both, such as ~/.local/bin/python: the file alone
    return Interpreter(executable, tuple(roots))


def _add(roots: list[Path], path: Path) -> None:
    if any(path.is_relative_to(root) for root in (Path("/usr"), *roots)):
        return
    home = Path.home()
    if path.is_dir() and home.is_relative_to(path):
        raise SandboxError(
            f"Python is installed in {path}, which tasks must not see as a whole.",
            why="It holds other files of this machine's owner.",
            fix="Install discogrid into a virtual environment of its own: python3 -m venv …",
        )
    roots.append(path)


def _links(path: Path) -> list[Path]:
    """`path` and every path that it leads to by symbolic links."""
    hops = [path]
    while path.is_symlink() and len(hops) < _HOPS_MAX:
        path = Path(os.path.normpath(path.parent / os.readlink(path)))
        hops.append(path)
    return hops
