"""Which files a user means: our own pattern expansion, the same on every platform, in an order people expect.

A file that exists by the very name given wins over a pattern. Arguments keep their order; what one pattern matches is
sorted as people count (split2 before split10). Nothing found is an error, so that nothing is submitted by mistake.
"""

import difflib
import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from discogrid.errors import InputError

NEAREST_MAX = 3  # names offered in place of one that is not there
_MAGIC = re.compile(r"[*?\[]")
_DIGITS = re.compile(r"(\d+)")
_RECURSIVE = "**"


def expand(arguments: Sequence[str], role: str = "input") -> list[Path]:
    """The files these names and patterns stand for, each once; InputError names the first that stands for none.

    `*`, `?` and `[…]` match within one name, `**` any number of folders. Hidden files need a pattern with a dot; folders
    are never matched by a pattern.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        for path in _expand_one(argument, role):
            found.setdefault(os.path.abspath(path), Path(path))
    return list(found.values())


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sorts split2 before split10, whatever the case; the text itself decides between equals."""
    parts = [(0, int(part)) if part.isdecimal() else (1, part) for part in _DIGITS.split(text.casefold())]
    return [*parts, (1, text)]


def _expand_one(argument: str, role: str) -> list[str]:
    if not argument:
        raise InputError(f"an {role} is empty", fix="Look for a shell variable that is not set.")
    if os.path.lexists(argument):
        return [argument]
    if not _MAGIC.search(argument):
        raise _absent(argument, role)
    matches = list(_matches(argument))
    files = [path for path in matches if not os.path.isdir(path)]
    if files:
        return sorted(files, key=lambda path: [natural_key(part) for part in path.split(os.sep)])
    if matches:
        raise InputError(
            f"{argument!r} matches folders only, no file",
            fix=f"Name the files in them, such as {argument.rstrip('/') + '/*'!r}.",
        )
    raise _absent(argument, role)


def _matches(pattern: str) -> Iterator[str]:
    drive, rest = os.path.splitdrive(pattern)
    rest = rest.replace(os.altsep, os.sep) if os.altsep else rest
    root = drive + os.sep if rest.startswith(os.sep) else drive
    yield from _below(root, [part for part in rest.split(os.sep) if part])


def _below(folder: str, parts: list[str]) -> Iterator[str]:
    """What `parts` match below `folder` ("" is the working directory)."""
    first, rest = parts[0], parts[1:]
    if first == _RECURSIVE:
        tails = rest or ["*"]
        for inner in _folders(folder):
            yield from _below(inner, tails)
        return
    for path in [os.path.join(folder, first)] if not _MAGIC.search(first) else _named(folder, first):
        if not rest:
            if os.path.lexists(path):
                yield path
        elif os.path.isdir(path):
            yield from _below(path, rest)


def _folders(folder: str) -> Iterator[str]:
    """The folder and all folders below it that are neither hidden nor symlinks (which may lead in a circle)."""
    yield folder
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _folders(os.path.join(folder, entry.name))


def _named(folder: str, pattern: str) -> Iterator[str]:
    fits: Callable[[str], object] = re.compile(fnmatch.translate(pattern)).match
    hidden = pattern.startswith(".")
    for entry in _entries(folder):
        if (hidden or not entry.name.startswith(".")) and fits(entry.name):
            yield os.path.join(folder, entry.name)


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except OSError:
        return []  # a folder that cannot be read holds nothing for us, as in a shell


def _absent(argument: str, role: str) -> InputError:
    what = (
        f"no file matches {argument!r}"
        if _MAGIC.search(argument)
        else f"the {role} {argument!r} does not exist"
    )
    above, last = os.path.split(argument)
    if above and not os.path.isdir(above):
        missing = above if not _MAGIC.search(above) else None
        return InputError(
            what + "; nothing was submitted",
            why=f"There is no folder {missing!r}." if missing else "",
            fix=f"This folder is {os.getcwd()!r}.",
        )
    names = [entry.name for entry in _entries(above)]
    nearest = difflib.get_close_matches(last, names, NEAREST_MAX)
    did_you_mean = ", ".join(repr(os.path.join(above, name)) for name in nearest)
    return InputError(
        what + "; nothing was submitted",
        why=f"The nearest names are {did_you_mean}." if nearest else "",
        fix=f"Look at its spelling; this folder is {os.getcwd()!r}.",
    )
