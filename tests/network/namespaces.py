"""The system calls that make and enter namespaces (man 7 namespaces), which Python 3.11 does not have."""

import ctypes
import os
import signal
from pathlib import Path

MOUNTS, HOSTNAME, IPC, USERS, PROCESSES, NETWORK = (
    0x20000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
BIND, RECURSIVE, PRIVATE = 0x1000, 0x4000, 0x40000
DEATH_SIGNAL = 1

library = ctypes.CDLL(None, use_errno=True)


def check(answer: int) -> None:
    if answer != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def unshare(kinds: int) -> None:
    check(library.unshare(kinds))


def enter(process: int, *kinds: str) -> None:
    """Go into namespaces of a process; `kinds` are names in /proc/PID/ns."""
    handles = [os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]
    for handle in handles:  # all were opened before: /proc may be another one afterwards
        check(library.setns(handle, 0))
        os.close(handle)


def become(inside: int, outside: int, group: int) -> None:
    """Make a user namespace in which user and group `outside` and `group` are both known as `inside`."""
    unshare(USERS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside} {outside} 1")
    Path("/proc/self/gid_map").write_text(f"{inside} {group} 1")


def own_processes() -> None:
    """Show this process namespace in /proc, in this mount namespace alone."""
    check(library.mount(None, b"/", None, ctypes.c_ulong(RECURSIVE | PRIVATE), None))
    check(library.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(0), None))


def cover(place: Path, other: Path) -> None:
    """Show another file in the place of one, in this mount namespace alone."""
    check(library.mount(None, b"/", None, ctypes.c_ulong(RECURSIVE | PRIVATE), None))
    check(library.mount(os.fsencode(other), os.fsencode(place), None, ctypes.c_ulong(BIND), None))


def name_host(name: str) -> None:
    encoded = name.encode()
    check(library.sethostname(encoded, len(encoded)))


def die_with_parent(parent: int) -> None:
    """`parent` is who it was before the fork: it may be gone already."""
    check(library.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0))
    if os.getppid() not in (parent, 0):  # 0 where the parent lives in another process namespace
        os._exit(1)
