"""Settings and where each comes from: flag > `DISCOGRID_*` > project `discogrid.toml` > user file > default.

Flags belong to the command line; the rest is read here. Every key is known: a mistyped one is an error.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from discogrid import places
from discogrid.errors import UsageError
from discogrid.quantities import parse_duration, parse_size
from discogrid.types import SandboxLevel

PROJECT_FILE = "discogrid.toml"
SETTINGS_BYTES_MAX = 64 * 1024
PREFIX = "DISCOGRID_"
TRUSTED_OWNERS = frozenset({0})  # of a project's file, beside this user: root


@dataclass(frozen=True, slots=True)
class Known:
    """What a key means and which values it takes."""

    help: str
    kind: str = "text"  # text | count | size | duration
    choices: tuple[str, ...] = ()


KNOWN: dict[str, Known] = {
    "grid": Known("the grid that commands work on"),
    "coordinator": Known("the coordinator's HOST:PORT"),
    "color": Known("when to colour", choices=("auto", "always", "never")),
    "submit.cpus": Known("slots a task takes", "count"),
    "submit.memory": Known("memory a task may use", "size"),
    "submit.timeout": Known("time a task may take", "duration"),
    "submit.retries": Known("how often a failed task is tried again", "count"),
    "submit.priority": Known("jobs of higher priority go first", "count"),
    "submit.min-sandbox": Known("the weakest box a task may run in", choices=tuple(SandboxLevel)),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, as text, and the variable or file it comes from."""

    key: str
    value: str
    origin: str


def load(environment: Mapping[str, str] = os.environ, folder: Path | None = None) -> dict[str, Setting]:
    """The settings that are set, by key; UsageError for an unknown key or an impossible value.

    `folder` is where the search for the project's file begins: the working directory unless given.
    """
    found: dict[str, Setting] = {}
    for file in (places.settings_file(), _project_file(folder or Path.cwd())):
        if file is not None:
            found.update(_read(file))
    for key in KNOWN:
        variable = variable_of(key)
        if value := environment.get(variable):
            found[key] = _checked(key, value, variable)
    return found


def variable_of(key: str) -> str:
    """The environment variable of a key: DISCOGRID_SUBMIT_MIN_SANDBOX."""
    return PREFIX + key.replace(".", "_").replace("-", "_").upper()


def _project_file(folder: Path) -> Path | None:
    """The nearest discogrid.toml at or above the folder that belongs to this user (not one left in /tmp for others)."""
    for place in (folder, *folder.parents):
        file = place / PROJECT_FILE
        try:
            owner = file.stat().st_uid
        except OSError:
            continue
        return file if not hasattr(os, "getuid") or owner in TRUSTED_OWNERS | {os.getuid()} else None
    return None


def _read(file: Path) -> dict[str, Setting]:
    try:
        with file.open("rb") as opened:
            text = opened.read(SETTINGS_BYTES_MAX + 1).decode()
        if len(text) > SETTINGS_BYTES_MAX:
            raise UsageError(f"{file} is larger than {SETTINGS_BYTES_MAX} bytes")
        content = tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"the settings in {file} cannot be read", why=str(error)) from None
    flat: dict[str, object] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{inner}": deep for inner, deep in value.items()})
        else:
            flat[key] = value
    return {key: _checked(key, str(value), str(file)) for key, value in flat.items()}


def _checked(key: str, value: str, origin: str) -> Setting:
    known = KNOWN.get(key)
    if known is None:
        nearest = difflib.get_close_matches(key, KNOWN, 1)
        raise UsageError(
            f"{origin} sets {key!r}, which is no setting",
            fix=f"Did you mean {nearest[0]!r}?" if nearest else f"Settings: {', '.join(KNOWN)}.",
        )
    try:
        _check_value(known, value)
    except ValueError as error:
        raise UsageError(f"{origin} sets {key} to {value!r}", why=str(error)) from None
    return Setting(key, value, origin)


def _check_value(known: Known, value: str) -> None:
    if known.choices and value not in known.choices:
        raise ValueError(f"It must be one of {', '.join(known.choices)}.")
    if known.kind == "count":
        int(value)
    elif known.kind == "size":
        parse_size(value)
    elif known.kind == "duration":
        parse_duration(value)
