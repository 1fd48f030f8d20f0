"""Lets one thread of a root agent start a process as the unprivileged user of the tasks.

`setpriv` costs an exec and `Popen(user=…)` a full fork of the agent (1 and 4 ms here). In Linux credentials belong to a
thread: the raw system calls, unlike those of the C library, change the calling thread alone, a vforked child inherits
them, and the thread takes root back by its saved user id while the rest of the agent notices nothing.
"""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from discogrid.errors import SandboxError
from discogrid_agent.sandbox.box import Owner

# A user id that no distribution, no systemd range (up to 60705 and from 61184 on) and no person is given.
TASK_OWNER: Final = Owner(60790, 60790)

# setgroups, setresuid, setresgid
_CALLS: Final = {"x86_64": (116, 117, 119), "aarch64": (159, 147, 149)}


def task_owner() -> Owner | None:
    """Whom tasks run as: the agent's own user, unless that is root."""
    return TASK_OWNER if os.geteuid() == 0 else None


@contextmanager
def acting_as(owner: Owner | None) -> Iterator[None]:
    """Within the block, this thread is `owner` without any capability; with None nothing changes."""
    if owner is None:
        yield
        return
    setgroups, setresuid, setresgid = _CALLS[platform.machine()]
    groups = os.getgroups()
    parent, death_signal = os.getppid(), ctypes.c_int(0)
    _library.prctl(_GET_DEATH_SIGNAL, ctypes.byref(death_signal), 0, 0, 0)
    try:
        _call(setgroups, 0, None)
        _call(setresgid, owner.gid, owner.gid, 0)
        _call(setresuid, owner.uid, owner.uid, 0)
        yield
    finally:
        _call(setresuid, 0, 0, 0)
        _call(setresgid, 0, 0, 0)
        _call(setgroups, len(groups), (ctypes.c_uint32 * len(groups))(*groups))
        if death_signal.value:  # the kernel forgets it with every change of the user
            _library.prctl(_SET_DEATH_SIGNAL, death_signal.value, 0, 0, 0)
            if os.getppid() != parent:
                os.kill(os.getpid(), death_signal.value)


_SET_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG
_GET_DEATH_SIGNAL: Final = 2
_library = ctypes.CDLL(None, use_errno=True)
_library.syscall.restype = ctypes.c_long


def _call(number: int, *arguments: object) -> None:
    if _library.syscall(number, *arguments) != 0:
        code = ctypes.get_errno()
        raise SandboxError(
            f"This agent runs as root and cannot become the unprivileged user of the tasks: {os.strerror(code)}.",
            why="It was probably started without the capabilities SETUID and SETGID.",
            fix="Run the agent as an ordinary user.",
        )
