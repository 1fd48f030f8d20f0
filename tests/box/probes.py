"""Runs as a task: tries what a task must not do, each beside a harmless twin, and prints what came of it as JSON.

Given: its input, a secret file, a TCP port, a path of a unix socket, the name of an abstract one, a pid, the names of namespaces,
and the level of the box when that is not strict.
"""

import ctypes
import fcntl
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable

SECRET, PORT, SOCKET, ABSTRACT, AGENT, NAMESPACES = (
    sys.argv[2],
    int(sys.argv[3]),
    sys.argv[4],
    sys.argv[5],
    int(sys.argv[6]),
    json.loads(sys.argv[7]),
)
LEVEL = sys.argv[8] if len(sys.argv) > 8 else ""
X86 = os.uname().machine == "x86_64"
library = ctypes.CDLL(None, use_errno=True)


def works(action: Callable[[], object]) -> bool:
    try:
        return bool(action())
    except OSError:
        return False


def call(name: str, *arguments: object) -> bool:
    """A function of the C library succeeds."""
    return int(getattr(library, name)(*arguments)) >= 0


def system_call(x86: int, arm: int, *arguments: object) -> bool:
    return int(library.syscall(x86 if X86 else arm, *arguments)) >= 0


def in_child(action: Callable[[], object]) -> bool:
    """For what would change this process for good."""
    child = os.fork()
    if child == 0:
        os._exit(0 if works(action) else 1)
    return os.waitpid(child, 0)[1] == 0


def read(path: str) -> bool:
    with open(path, "rb") as file:
        return bool(file.read(1))


def says(path: str, text: str) -> Callable[[], object]:
    def action() -> bool:
        with open(path, "rb") as file:
            return text.encode() in file.read()

    return action


def write(path: str) -> bool:
    """A file can be opened for writing; nothing is written, because outside of a box it would be."""
    with open(path, "ab"):
        return True


def own_file(path: str) -> Callable[[], object]:
    def action() -> bool:
        with open(path, "xb") as file:
            file.write(b"x")
        os.unlink(path)
        return True

    return action


def mounts() -> bool:
    os.makedirs("point", exist_ok=True)
    return call("mount", b"none", b"point", b"tmpfs", 0, None) and call("umount2", b"point", 2)


def own_shared_memory() -> bool:
    segment: int = library.shmget(0, 4096, 0o1600)
    return segment >= 0 and call("shmctl", segment, 0, None)


def makes_folder(path: str) -> Callable[[], object]:
    def action() -> bool:
        os.mkdir(path)
        os.rmdir(path)
        return True

    return action


def socket_of(family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> Callable[[], object]:
    def action() -> bool:
        with socket.socket(family, kind, protocol):
            return True

    return action


def connect_to(family: int, address: tuple[str, int] | str, protocol: int = 0) -> Callable[[], object]:
    def action() -> bool:
        with socket.socket(family, socket.SOCK_STREAM, protocol) as made:
            made.settimeout(2)
            made.connect(address)
            return True

    return action


def send_datagram() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        return bool(made.sendto(b"x", ("127.0.0.1", PORT)))


def talk() -> bool:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"x")
        return bool(right.recv(1))


def piped() -> bool:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", 0) as heard, os.fdopen(writing, "wb", 0) as said:
        said.write(b"x")
        return bool(heard.read(1))


def own_unix_socket() -> bool:
    path = os.path.join(tempfile.mkdtemp(), "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        return True


def shares(kind: str) -> Callable[[], object]:
    return lambda: os.readlink(f"/proc/self/ns/{kind}") == NAMESPACES[kind]


def signal_one(process: int) -> Callable[[], object]:
    def action() -> bool:
        os.kill(process, 0)
        return True

    return action


def reads_memory() -> bool:
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    source, target = ctypes.create_string_buffer(b"secret"), ctypes.create_string_buffer(6)
    local, remote = Vector(ctypes.addressof(target), 6), Vector(ctypes.addressof(source), 6)
    return call("process_vm_readv", os.getpid(), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)


def pushes_input(request: int) -> Callable[[], object]:
    def action() -> bool:
        main, _ = os.openpty()
        fcntl.ioctl(main, request, b"x" * 8)
        return True

    return action


def inherited() -> bool:
    return any(int(name) > 3 for name in os.listdir("/proc/self/fd"))  # 3 reads this very folder


def gains_privilege() -> bool:
    with open("/proc/self/status") as file:
        return "NoNewPrivs:\t0" in file.read()


def capable() -> bool:
    with open("/proc/self/status") as file:
        lines = dict(line.split(":\t", 1) for line in file.read().splitlines())
    return any(int(lines[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"))


def own_terminal() -> bool:
    main, other = os.openpty()
    os.write(other, b"x")
    return bool(os.read(main, 1))


NEW_USER, NEW_NET = 0x1000_0000, 0x4000_0000
fine = talk if LEVEL != "confined" else piped  # where there are no sockets, they are no twin
local_write = own_file("run-result/x")

TRIED: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "read the owner's files": (lambda: read(SECRET), lambda: read("in.txt")),
    "read passwords": (lambda: read("/etc/shadow"), lambda: read("/etc/passwd")),
    "see the owner's users": (
        says("/etc/passwd", "root:/root"),
        lambda: read("/etc/group"),
    ),
    "see the owner's homes": (
        lambda: os.path.exists(os.path.dirname(SECRET)),
        lambda: os.path.exists("/tmp"),
    ),
    "write into /usr": (makes_folder("/usr/discogrid-probe"), local_write),
    "write into /": (makes_folder("/discogrid-probe"), local_write),
    "write into /etc": (makes_folder("/etc/discogrid-probe"), local_write),
    "write into /dev": (makes_folder("/dev/discogrid-probe"), own_file("/dev/shm/discogrid-probe")),
    "write into its Python": (
        makes_folder(sys.prefix + "/discogrid-probe"),
        own_file("/tmp/discogrid-probe"),
    ),
    "write kernel settings": (
        lambda: write("/proc/sys/kernel/hostname"),
        lambda: read("/proc/sys/kernel/hostname"),
    ),
    "see devices": (lambda: os.path.exists("/sys/class"), lambda: read("/dev/urandom")),
    "see the agent's processes": (shares("pid"), lambda: os.listdir("/proc/self")),
    "signal the agent": (lambda: shares("pid")() and signal_one(AGENT)(), signal_one(os.getpid())),
    "share the network": (shares("net"), fine),
    "share its mounts": (shares("mnt"), fine),
    "share its shared memory": (shares("ipc"), own_shared_memory),
    "share the host's name": (shares("uts"), socket.gethostname),
    "share its users": (shares("user"), os.getuid),
    "share its control groups": (shares("cgroup"), lambda: read("/proc/self/cgroup")),
    "connect by TCP": (connect_to(socket.AF_INET, ("127.0.0.1", PORT)), fine),
    "connect by multipath TCP": (connect_to(socket.AF_INET, ("127.0.0.1", PORT), 262), fine),
    "send datagrams": (send_datagram, fine),
    "connect to a unix socket of the host": (connect_to(socket.AF_UNIX, SOCKET), own_unix_socket),
    "connect to an abstract unix socket of the host": (
        connect_to(socket.AF_UNIX, "\0" + ABSTRACT),
        own_unix_socket,
    ),
    "make IPv6 sockets": (socket_of(socket.AF_INET6), socket_of(socket.AF_UNIX)),
    "make raw sockets": (socket_of(socket.AF_PACKET, socket.SOCK_RAW), socket_of(socket.AF_UNIX)),
    "make vsock sockets": (socket_of(40), socket_of(socket.AF_UNIX)),
    "make netlink sockets": (socket_of(16, socket.SOCK_RAW), socket_of(socket.AF_UNIX)),
    "make crypto sockets": (socket_of(38, socket.SOCK_SEQPACKET), socket_of(socket.AF_UNIX)),
    "read the agent's variables": (
        says("/proc/1/environ", "OWNERS_SECRET"),
        lambda: read("/proc/self/environ"),
    ),
    "inherit variables": (says("/proc/self/environ", "OWNERS_SECRET"), lambda: "HOME" in os.environ),
    "see where the owner keeps things": (
        says("/proc/1/cmdline", "/attempts/"),
        lambda: read("/proc/1/cmdline"),
    ),
    "inherit descriptors": (inherited, lambda: read("/dev/zero")),
    "use a terminal": (lambda: read("/dev/tty"), own_terminal),
    "type into a terminal": (pushes_input(0x5412), own_terminal),
    "gain privileges by a program": (gains_privilege, fine),
    "have capabilities": (capable, fine),
    "use keyrings": (lambda: system_call(250, 219, 0, -3, 1), fine),
    "make user namespaces": (lambda: in_child(lambda: call("unshare", NEW_USER)), lambda: in_child(fine)),
    "make network namespaces": (lambda: in_child(lambda: call("unshare", NEW_NET)), lambda: in_child(fine)),
    "clone into namespaces": (
        lambda: in_child(lambda: system_call(56, 220, NEW_USER | 17, 0, 0, 0, 0)),
        lambda: in_child(fine),
    ),
    "mount": (lambda: in_child(mounts), local_write),
    "change its root": (
        lambda: in_child(lambda: call("chroot", b"/tmp")),
        lambda: in_child(lambda: call("chdir", b"/tmp")),
    ),
    "be traced": (lambda: in_child(lambda: call("ptrace", 0, 0, 0, 0)), lambda: in_child(fine)),
    "read another's memory": (reads_memory, fine),
    "change its personality": (lambda: in_child(lambda: call("personality", 0x0040000)), fine),
    "watch performance counters": (
        lambda: system_call(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0),
        fine,
    ),
    "load kernel programs": (
        lambda: system_call(
            321, 280, 0, ctypes.create_string_buffer(b"\x02\0\0\0\4\0\0\0\4\0\0\0\1", 128), 128
        ),
        fine,
    ),
    "use io_uring": (lambda: system_call(425, 425, 1, ctypes.create_string_buffer(120)), fine),
    "use secret memory": (lambda: system_call(447, 447, 0), lambda: os.memfd_create("x")),
    "read the kernel's log": (lambda: system_call(103, 116, 10, None, 0), fine),
}

answers = {name: [works(hostile), works(twin)] for name, (hostile, twin) in TRIED.items()}
sys.stdout.write(json.dumps(answers))
