"""Builds the system call filter of a box: classic BPF for x86_64 and aarch64, without libseccomp.

Everything is allowed but what no script of ours needs and kernels were broken through, what namespaces do not cover
(keyrings, vsock and other socket families), and what would undo the box (more namespaces, mounts).
"""

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_ALLOW, _KILL, _ERROR = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits (both machines little-endian).
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, (16, 24, 32)

_X32_BIT: Final = 0x4000_0000
_NEWEST: Final = 470  # numbers from here on are newer than this list: they do not exist for a task
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
# Harmless inside own mount and network namespaces, and multiprocessing needs it.
_ONLY_UNIX: Final = (AF_UNIX,)
_STREAM, _DATAGRAM, _KIND_BITS = 1, 2, 0xF  # of a socket; what is above those bits are flags
_PLAIN_PROTOCOLS: Final = (0, 6, 17)  # the kind's own, TCP, UDP
_NEW_NAMESPACES: Final = 0x7E02_0000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_TERMINAL_REQUESTS: Final = (0x5412, 0x541C, 0x5423)  # TIOCSTI types for the user, TIOCLINUX, TIOCSETD

# Refused with "operation not permitted"; (x86_64, aarch64), 0 where a machine has no such call.
_FORBIDDEN: Final[dict[str, tuple[int, int]]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "ioperm": (173, 0),
    "iopl": (172, 0),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, 0),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
# Refused with "no such call", so that libraries take their older path: clone3's flags are behind a pointer that a
# filter cannot read, io_uring passes filters by, and secret memory is counted nowhere.
_ABSENT: Final[dict[str, tuple[int, int]]] = {
    "clone3": (435, 435),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "memfd_secret": (447, 447),
}
# Refused as well where a task shares the namespaces of its machine: what reaches the owner's programs or watches the
# owner's folders, and what neither Landlock nor any file permission stops.
_FORBIDDEN_WHERE_SHARED: Final[dict[str, tuple[int, int]]] = {
    "inotify_add_watch": (254, 27),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "msgctl": (71, 187),
    "msgget": (68, 186),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "semctl": (66, 191),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmget": (29, 194),
}


@dataclass(frozen=True, slots=True)
class _Machine:
    """What differs between processors."""

    column: int
    audit: int  # AUDIT_ARCH_*
    clone: int
    ioctl: int
    prlimit: int
    seccomp: int
    socket: int
    socketpair: int


_MACHINES: Final = {
    "x86_64": _Machine(0, 0xC000_003E, 56, ioctl=16, prlimit=302, seccomp=317, socket=41, socketpair=53),
    "aarch64": _Machine(1, 0xC000_00B7, 220, ioctl=29, prlimit=261, seccomp=277, socket=198, socketpair=199),
}


def knows(machine: str) -> bool:
    """Whether there is a filter for this machine (`platform.machine()`)."""
    return machine in _MACHINES


def filter_program(
    machine: str, families: Sequence[int] = _ONLY_UNIX, *, network: bool = False, shared: bool = False
) -> bytes:
    """The filter as an array of `struct sock_filter`; KeyError for a machine it does not know.

    Sockets are of `families` only, and with `network` plain TCP and UDP; `shared`: the task lives in the namespaces of
    its machine.
    """
    chosen = _MACHINES[machine]
    forbidden = _FORBIDDEN | (_FORBIDDEN_WHERE_SHARED if shared else {})
    program = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, chosen.audit, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        # On x86_64 the numbers of the x32 calls start above every other one; both are refused by this one test.
        _step(_AT_LEAST, _NEWEST, 0, 1),
        _step(_RETURN, _ERROR | errno.ENOSYS),
    ]
    assert _NEWEST < _X32_BIT
    for calls, error in ((forbidden, errno.EPERM), (_ABSENT, errno.ENOSYS)):
        for numbers in calls.values():
            if number := numbers[chosen.column]:
                program += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERROR | error)]
    program += _when(
        chosen.clone, 0, [_step(_ANY_BIT, _NEW_NAMESPACES, 0, 1), _step(_RETURN, _ERROR | errno.EPERM)]
    )
    of_families = [
        # to the end, over the families that follow and the refusal
        *(_step(_EQUAL, family, len(families) - at, 0) for at, family in enumerate(families)),
        _step(_RETURN, _ERROR | errno.EAFNOSUPPORT),
    ]
    program += _when(chosen.socket, 0, [*(_plain_internet() if network else []), *of_families])
    program += _when(chosen.socketpair, 0, of_families)
    if shared:  # limits of its own; not those of the owner's programs
        program += _when(chosen.prlimit, 0, [_step(_EQUAL, 0, 1, 0), _step(_RETURN, _ERROR | errno.EPERM)])
    refused = [
        part
        for request in _TERMINAL_REQUESTS
        for part in (_step(_EQUAL, request, 0, 1), _step(_RETURN, _ERROR | errno.EPERM))
    ]
    program += _when(chosen.ioctl, 1, refused)
    program.append(_step(_RETURN, _ALLOW))
    return b"".join(program)


class Filter:
    """A program laid out in memory, so that it can be put on in a freshly forked child as well."""

    def __init__(self, machine: str, program: bytes) -> None:
        """`program` is a `filter_program` of `machine`."""
        self._number = _MACHINES[machine].seccomp
        self._steps = ctypes.create_string_buffer(program, len(program))
        self._header = _Header(len(program) // _STEP_BYTES, ctypes.addressof(self._steps))
        self._at = ctypes.byref(self._header)

    def put_on(self) -> None:
        """Filter the calls of this thread and all that it starts, for ever; OSError when that fails."""
        if _prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0 or _system_call(
            self._number, _SET_FILTER, 0, self._at
        ):
            code = ctypes.get_errno()
            raise OSError(code, f"seccomp: {os.strerror(code)}")


class _Header(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


_STEP_BYTES: Final = 8
_SET_FILTER: Final = 1  # SECCOMP_SET_MODE_FILTER
_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS
_library = ctypes.CDLL(None, use_errno=True)
_system_call = _library.syscall
_prctl = _library.prctl


def _plain_internet() -> list[bytes]:
    """With the family at hand: of IP's, streams and datagrams alone, neither raw packets nor other protocols."""
    refuse = _step(_RETURN, _ERROR | errno.EPROTONOSUPPORT)
    protocols = [
        _step(_EQUAL, protocol, len(_PLAIN_PROTOCOLS) - at, 0) for at, protocol in enumerate(_PLAIN_PROTOCOLS)
    ]
    checks = [
        _step(_LOAD, _ARGUMENT[1]),
        _step(_AND, _KIND_BITS),
        _step(_EQUAL, _STREAM, 2, 0),
        _step(_EQUAL, _DATAGRAM, 1, 0),
        refuse,
        _step(_LOAD, _ARGUMENT[2]),
        *protocols,
        refuse,
        _step(_RETURN, _ALLOW),
    ]
    return [_step(_EQUAL, AF_INET, 1, 0), _step(_EQUAL, AF_INET6, 0, len(checks)), *checks]


def _when(number: int, argument: int, steps: list[bytes]) -> list[bytes]:
    """For the call `number` alone: look at the low half of an argument, take `steps`, else allow."""
    body = [_step(_LOAD, _ARGUMENT[argument]), *steps, _step(_RETURN, _ALLOW)]
    return [_step(_EQUAL, number, 0, len(body)), *body]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
