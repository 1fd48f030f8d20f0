"""Runs inside a box: tries what a task must not do, each beside a harmless twin, and prints what came of it."""

import ctypes
import errno
import json
import os
import socket
import sys
from collections.abc import Callable

SECRET, PORT, AGENT_NAMESPACE, LEVEL = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
# Of a task with a network of its own: the machine's addresses, beside the one that stands for its loopback there.
ADDRESSES = ["10.0.2.2", "fd00::2", *sys.argv[5].split(",")] if len(sys.argv) > 5 else []
DOCUMENTATION = "192.0.2.1"  # nobody's address
# The option with which datagrams are told of every error: IP_RECVERR, IPV6_RECVERR.
TELL_4 = (socket.AF_INET, socket.IPPROTO_IP, 11)
TELL_6 = (socket.AF_INET6, socket.IPPROTO_IPV6, 25)
LOOPBACK = ("127.", "::1")  # the task's own
NEW_USER_NAMESPACE = 0x1000_0000
AF_VSOCK = 40

library = ctypes.CDLL(None, use_errno=True)


def works(action: Callable[[], object]) -> bool:
    """Whether an action has an effect: neither an error nor a false answer."""
    try:
        return bool(action())
    except OSError:
        return False


def read(path: str) -> bool:
    with open(path, "rb") as file:
        return bool(file.read(1))


def write(path: str) -> bool:
    with open(path, "xb") as file:
        written = file.write(b"x")
    os.unlink(path)  # where a box is broken, nothing stays behind
    return bool(written)


def connect() -> bool:
    with socket.create_connection(("127.0.0.1", PORT), timeout=2):
        return True


def reaches_machine() -> bool:
    """Whether any address of this machine answers, even if it says that nothing listens there."""
    return any(is_there(address) for address in ADDRESSES if not address.startswith(LOOPBACK))


def is_there(address: str) -> bool:
    """By datagram: it is told at once when there is no way, where a stream tries again first."""
    family, level, errors = TELL_6 if ":" in address else TELL_4
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.settimeout(2)
        made.setsockopt(level, errors, 1)
        try:
            made.connect((address, PORT))
            made.send(b"x")
            return bool(made.recv(1))
        except OSError as error:
            return error.errno == errno.ECONNREFUSED  # nothing listens there, says the machine


def has_way_out() -> bool:
    """There is a route to the world, on which nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.connect((DOCUMENTATION, 9))
        return bool(made.getsockname()[0])


def talk() -> bool:
    if LEVEL == "confined":  # where there are no sockets at all
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", 0) as heard, os.fdopen(writing, "wb", 0) as said:
            said.write(b"x")
            return bool(heard.read(1))
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"x")
        return bool(right.recv(1))


def unknown_socket() -> bool:
    with socket.socket(AF_VSOCK, socket.SOCK_STREAM):
        return True


def among_processes_of_agent() -> bool:
    return os.readlink("/proc/self/ns/pid") == AGENT_NAMESPACE


def signal_self() -> bool:
    os.kill(os.getpid(), 0)
    return True


def sees_agent_variables() -> bool:
    with open("/proc/1/environ", "rb") as file:
        return bool(file.read())


def sees_own_variables() -> bool:
    with open("/proc/self/environ", "rb") as file:
        return b"TMPDIR=" in file.read()


def start_process() -> bool:
    child = os.fork()
    if child == 0:
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def open_descriptors() -> bool:
    return any(int(name) > 3 for name in os.listdir("/proc/self/fd"))  # 3 reads this very folder


def root_is_writable() -> bool:
    os.mkdir("/discogrid-probe")
    os.rmdir("/discogrid-probe")
    return True


ATTEMPTS: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "read files of this machine's owner": (lambda: read(SECRET), lambda: read("probe.py")),
    "write into the system": (lambda: write("/usr/bin/discogrid-probe"), lambda: write("run-result/x")),
    "write outside of its folders": (root_is_writable, lambda: write(os.environ["TMPDIR"] + "/x")),
    "reach this machine's network services": (connect, talk),
    "open sockets of any family": (unknown_socket, talk),
    "signal processes of this machine": (among_processes_of_agent, signal_self),
    "read the agent's variables": (sees_agent_variables, sees_own_variables),
    "use descriptors of the agent": (open_descriptors, lambda: read("/dev/zero")),
    "make namespaces of its own": (lambda: library.unshare(NEW_USER_NAMESPACE) == 0, start_process),
}

if ADDRESSES:
    ATTEMPTS["reach this machine by its network"] = (reaches_machine, has_way_out)
if (
    LEVEL == "confined"
):  # it lives among the machine's processes; Landlock keeps it from them, see the level's own tests
    del ATTEMPTS["signal processes of this machine"]

answers = {promise: [not works(hostile), works(twin)] for promise, (hostile, twin) in ATTEMPTS.items()}
sys.stdout.write(json.dumps(answers))
