"""Landlock: the kernel's own list of what a process may touch, set by itself, for good, without privileges.

The list is built by whoever has time for it (`ruleset`) and put on in two system calls (`restrict_self`), also in a
freshly forked child. Every right that this kernel knows is handled, so that what no rule grants is refused.
"""

import ctypes
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ABI_NEWEST: Final = 7  # rights of later kernels are left alone until they are understood here

# Rights on files and folders, by the first version that knows them.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_SOCK, MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FIRST_FILE_RIGHTS: Final = (1 << 13) - 1
_LATER_FILE_RIGHTS: Final = ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
_OF_ONE_FILE: Final = (
    EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
)  # the others say something of folders
_TCP_RIGHTS: Final = 0b11  # bind, connect; from version 4
_SCOPES: Final = 0b11  # abstract unix sockets and signals of outsiders; from version 6

# The numbers are the same on every machine.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
RULE_PATH_BENEATH: Final = 1
_GET_VERSION: Final = 1
NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS

_library = ctypes.CDLL(None, use_errno=True)
_library.syscall.restype = ctypes.c_long
# Made once: a forked child calls them without building anything.
_system_call = _library.syscall
_prctl = _library.prctl


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be touched below which paths; a path that does not exist grants nothing."""

    read_only: tuple[Path, ...] = ()  # read, list and run
    read_write: tuple[
        Path, ...
    ] = ()  # and make, change, move, remove; no devices, and sockets by `sockets` alone
    devices: tuple[Path, ...] = ()  # read and write what is there already; no requests to drivers
    terminals: tuple[Path, ...] = ()  # the same with such requests: a terminal is steered by them
    sockets: bool = True  # unix sockets may be made in the folders of read_write
    network: bool = False  # TCP is left to others; else it is refused


def abi() -> int:
    """The version of Landlock that this kernel gives; 0 when it has none, or it is switched off."""
    version: int = _system_call(CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)
    return max(0, min(version, ABI_NEWEST))


def ruleset(rules: Rules) -> int | None:
    """A descriptor of the list for `restrict_self`, not inherited by programs; None without Landlock.

    OSError when the kernel refuses it.
    """
    version = abi()
    if version == 0:
        return None
    attribute = attributes(version, network=rules.network)
    descriptor = _checked(_system_call(CREATE_RULESET, attribute, ctypes.c_size_t(len(attribute)), 0))
    try:
        for path, rights in grants(rules, version):
            _grant(descriptor, path, rights)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def restrict_self(descriptor: int) -> None:
    """Put the list on the calling thread and all that it starts, for ever; OSError when that fails."""
    _checked(_prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(_system_call(RESTRICT_SELF, descriptor, 0))


def attributes(version: int, *, network: bool) -> bytes:
    """`struct landlock_ruleset_attr`: all that the version handles, TCP only when it shall be refused."""
    handled = [file_rights(version)]
    if version >= 4:
        handled.append(0 if network else _TCP_RIGHTS)
    if version >= 6:
        handled.append(_SCOPES)
    return struct.pack(f"={len(handled)}Q", *handled)


def file_rights(version: int) -> int:
    """Every right on files that the version knows."""
    return _FIRST_FILE_RIGHTS | sum(right for since, right in _LATER_FILE_RIGHTS if version >= since)


def grants(rules: Rules, version: int) -> list[tuple[Path, int]]:
    """The rights of each path, before it is known whether that is a file or a folder."""
    known = file_rights(version)
    write = known & ~(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV | (0 if rules.sockets else MAKE_SOCK))
    return [
        *((path, EXECUTE | READ_FILE | READ_DIR) for path in rules.read_only),
        *((path, write) for path in rules.read_write),
        *((path, (READ_FILE | WRITE_FILE | READ_DIR | TRUNCATE) & known) for path in rules.devices),
        *((path, (READ_FILE | WRITE_FILE | READ_DIR | IOCTL_DEV) & known) for path in rules.terminals),
    ]


def rights_on(rights: int, *, folder: bool) -> int:
    """Those that make sense there: the kernel refuses a rule with others."""
    return rights if folder else rights & _OF_ONE_FILE


def path_rule(rights: int, descriptor: int) -> bytes:
    """`struct landlock_path_beneath_attr`, which is packed."""
    return struct.pack("=Qi", rights, descriptor)


def _grant(descriptor: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        folder = stat.S_ISDIR(os.fstat(place).st_mode)
        rule = path_rule(rights_on(rights, folder=folder), place)
        _checked(_system_call(ADD_RULE, descriptor, RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(place)


def _checked(answer: int) -> int:
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return answer
