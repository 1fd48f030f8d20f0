"""The system calls that make and enter namespaces (man 7 namespaces), which Python 3.11 does not have."""

import ctypes
import os
import signal
import stat
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


def keep_mounts() -> None:
    """From now on what is mounted here is seen in this mount namespace alone."""
    check(library.mount(None, b"/", None, ctypes.c_ulong(RECURSIVE | PRIVATE), None))


def own_processes() -> None:
    """Show this process namespace in /proc."""
    check(library.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(0), None))


def cover(place: Path, other: Path) -> None:
    """Show another file in the place of one."""
    check(library.mount(os.fsencode(other), os.fsencode(place), None, ctypes.c_ulong(BIND), None))


def open_tun() -> None:
    """Let everybody open the tun device in this mount namespace, as udev does; root alone can, and need."""
    node = Path("/dev/net/tun")
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        return
    node.parent.mkdir(exist_ok=True)
    check(library.mount(b"tun", os.fsencode(node.parent), b"tmpfs", ctypes.c_ulong(0), None))
    os.mknod(node, stat.S_IFCHR, os.makedev(10, 200))
    node.chmod(0o666)


def name_host(name: str) -> None:
    encoded = name.encode()
    check(library.sethostname(encoded, len(encoded)))


def die_with_parent(parent: int) -> None:
    """`parent` is who it was before the fork: it may be gone already."""
    check(library.prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0))
    if os.getppid() not in (parent, 0):  # 0 where the parent lives in another process namespace
        os._exit(1)
