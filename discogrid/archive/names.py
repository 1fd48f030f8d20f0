"""Which names may stand in an archive: those that mean the same file, inside the folder, on every platform."""

import os
import re
import unicodedata

NAME_BYTES_MAX = 1024  # the whole name, UTF-8
PART_BYTES_MAX = 200  # one part, UTF-8: a file system's 255, less room for an index and a temporary suffix
DEPTH_MAX = 32  # folders above a file

_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}
    | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"}
)
_DRIVE = re.compile(r"[A-Za-z]:")
# Characters that reorder or hide what a user sees: bidirectional controls, line and paragraph separators, the byte
# order mark. Joiners stay: emoji and several scripts are written with them.
_DECEIVING = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff"
)
_WINDOWS_ONLY = frozenset('<>:"|?*') if os.name == "nt" else frozenset()
_PLAIN = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_\-. ]{0,98}[A-Za-z0-9_\-]")


def check_name(name: str) -> str | None:
    """Why `name` (parts joined by `/`, a folder ends in `/`) may not stand in an archive; None when it may."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "the name is not valid UTF-8"
    if length > NAME_BYTES_MAX:
        return f"the name is longer than {NAME_BYTES_MAX} bytes"
    if name.startswith("/"):
        return "the name is an absolute path"
    if "\\" in name:
        return "the name holds a backslash"
    if _DRIVE.match(name):
        return "the name starts with a drive letter"
    parts = name.removesuffix("/").split("/")
    if len(parts) > DEPTH_MAX + 1:
        return f"the name is more than {DEPTH_MAX} folders deep"
    return next(filter(None, map(_check_part, parts)), None)


def _check_part(part: str) -> str | None:
    if _PLAIN.fullmatch(part) and part.partition(".")[0].rstrip().lower() not in _RESERVED:
        return None
    if part in ("", ".", ".."):
        return "the name leads out of its folder" if part == ".." else "the name has an empty part"
    if len(part.encode()) > PART_BYTES_MAX:
        return f"a part of the name is longer than {PART_BYTES_MAX} bytes"
    if part[-1] in " .":
        return "a part of the name ends in a dot or a space, which Windows drops"
    if part.partition(".")[0].rstrip().lower() in _RESERVED:
        return "the name is a device on Windows"
    for character in part:
        if unicodedata.category(character) in ("Cc", "Cs"):
            return "the name holds a control character"
        if character in _DECEIVING:
            return "the name holds a character that hides or reorders others"
        if character in _WINDOWS_ONLY:
            return f"the name holds {character!r}, which Windows does not allow"
    return None


class NameBook:
    """The names of one archive: each checked, and no two that some file system takes for one."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def refusal(self, name: str) -> str | None:
        """Why `name` cannot be added, None when it can."""
        if reason := check_name(name):
            return reason
        key = _key(name)
        if name.endswith("/"):
            key = key.removesuffix("/")
            if key in self._files:
                return "a file has the same name"
        elif key in self._files:
            return "another file has the same name, or one that differs only in case or accents' encoding"
        elif key in self._folders:
            return "a folder has the same name"
        if any(folder in self._files for folder in _above(key)):
            return "a file has the name of a folder above it"
        return None

    def add(self, name: str) -> None:
        """Take a name that `refusal` has nothing against."""
        key = _key(name)
        if key.endswith("/"):
            key = key.removesuffix("/")
            self._folders.add(key)
        else:
            self._files.add(key)
        self._folders.update(_above(key))


def _key(name: str) -> str:
    """What a file system that ignores case and normalises would look up."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _above(key: str) -> list[str]:
    """The folders that hold `key`, innermost last."""
    return [key[:at] for at, character in enumerate(key) if character == "/"]
