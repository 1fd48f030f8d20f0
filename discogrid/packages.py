"""The packages a job asks for: read from a requirements file, a script's header (PEP 723) or the active environment.

Names with versions only. What could make pip or uv go elsewhere (URLs, paths, options, indexes) is refused, by the
submitter's command and again by every agent: where wheels come from is the business of the machine's owner.
"""

import os
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from discogrid.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PACKAGES_MAX = 256
PACKAGE_CHARACTERS_MAX = 200
REQUIREMENTS_BYTES_MAX = 64 * 1024
AUTO = "auto"

_SCRIPT_BLOCK = re.compile(r"(?m)^# /// script\s*$\n(?P<content>(?:^#(?:| .*)$\n)+?)^# ///\s*$")
_NOT_WANTED = frozenset({"pip", "setuptools", "wheel", "discogrid"})  # of an active environment


def read_requirements(text: str) -> tuple[str, ...]:
    """The packages of `-r`: a file, or `auto` for the active virtual environment. InputError says what is wrong."""
    if text == AUTO:
        return active_environment()
    try:
        with open(text, encoding="utf-8") as file:
            lines = file.read(REQUIREMENTS_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the requirements {text} cannot be read: {error}") from None
    if len(lines) > REQUIREMENTS_BYTES_MAX:
        raise InputError(f"the requirements {text} are larger than {REQUIREMENTS_BYTES_MAX} bytes")
    packages = []
    for number, line in enumerate(lines.replace("\\\n", " ").split("\n"), 1):
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        if bare:
            packages.append(_package(bare, f"line {number} of {text}"))
    return _whole(packages, text)


def script_packages(source: str, where: str) -> tuple[str, ...]:
    """The packages of a script's own header; none when it has no header. InputError when the header is broken."""
    blocks = list(_SCRIPT_BLOCK.finditer(source))
    if not blocks:
        return ()
    if len(blocks) > 1:
        raise InputError(f"{where} has several headers `# /// script`", fix="Leave one of them.")
    content = "".join(
        line[2:] if line.startswith("# ") else line[1:]
        for line in blocks[0]["content"].splitlines(keepends=True)
    )
    try:
        wanted = tomllib.loads(content).get("dependencies", [])
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the header `# /// script` of {where} is no TOML: {error}") from None
    if not isinstance(wanted, list) or not all(isinstance(each, str) for each in wanted):
        raise InputError(f"the dependencies in the header of {where} are no list of texts")
    return _whole([_package(each, f"the header of {where}") for each in wanted], where)


def active_environment() -> tuple[str, ...]:
    """What is installed in the active virtual environment, each at its version. InputError when there is none."""
    # Few jobs bring packages, and every program that has to do with jobs would load what reads their names.
    from importlib.metadata import distributions

    from packaging.utils import canonicalize_name

    active = os.environ.get("VIRTUAL_ENV")
    if not active:
        raise InputError(
            "no virtual environment is active, of which -r auto could send the packages",
            fix="Activate it, or name a file: -r requirements.txt",
        )
    folders = [str(folder) for folder in Path(active).glob("lib/python3*/site-packages")]
    if Path(active) == Path(sys.prefix):
        folders = [folder for folder in sys.path if "site-packages" in folder]
    packages = []
    for found in distributions(path=folders):
        name = canonicalize_name(found.metadata["Name"] or "")
        if not name or name in _NOT_WANTED:
            continue
        if found.read_text("direct_url.json") is not None:
            raise InputError(
                f"{name} in {active} was installed from a path or an address, which other machines cannot follow",
                fix="Install a released version of it, or name what is needed in a file: -r requirements.txt",
            )
        packages.append(_package(_pinned(found, name), active))
    return _whole(packages, active)


def check_packages(packages: Sequence[str]) -> str:
    """What is wrong with a signed job's packages, in words; empty when nothing is."""
    if len(packages) > PACKAGES_MAX:
        return f"it asks for {len(packages)} packages; at most {PACKAGES_MAX} are allowed"
    for package in packages:
        try:
            if _package(package, "the job") != package:
                return f"{package[:80]!r} is not written as it must be"
        except InputError as error:
            return error.what
    return ""


def _pinned(found: "Distribution", name: str) -> str:
    return f"{name}=={found.version.partition('+')[0]}"


def _package(text: str, where: str) -> str:
    """One package as it is signed; InputError when it could lead elsewhere than to an index."""
    from packaging.requirements import InvalidRequirement, Requirement

    if len(text) > PACKAGE_CHARACTERS_MAX or not text.isprintable():
        raise InputError(f"{where} holds something that is no package: {text[:80]!r}")
    if text.startswith("-") or "/" in text or "\\" in text:
        raise InputError(
            f"{where} says {text[:80]!r}, which is no package by its name",
            why="Options, addresses and paths are not followed on other people's machines.",
            fix="Write names with versions, such as numpy>=2; send files with --const.",
        )
    try:
        wanted = Requirement(text)
    except InvalidRequirement as error:
        raise InputError(f"{where} says {text[:80]!r}: {error}") from None
    if wanted.url is not None:
        raise InputError(f"{where} names an address for {wanted.name}", fix="Write its version instead.")
    return str(wanted)


def _whole(packages: Sequence[str], where: str) -> tuple[str, ...]:
    if len(packages) > PACKAGES_MAX:
        raise InputError(f"{where} names {len(packages)} packages; at most {PACKAGES_MAX} are taken")
    return tuple(sorted(set(packages)))
