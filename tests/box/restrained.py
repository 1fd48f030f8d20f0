"""Runs as a program of its own: puts Landlock or the filter on itself, tries things, prints what came of each.

Given: what to put on, then folders and files as JSON.
"""

import json
import os
import platform
import resource
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from discogrid_agent.sandbox.landlock import Rules, restrict_self, ruleset
from discogrid_agent.sandbox.seccomp import AF_UNIX, Filter, filter_program

KIND: str = sys.argv[1]
GIVEN: dict[str, str] = json.loads(sys.argv[2])


def tried(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "done"


def connect() -> None:
    with socket.create_connection(("127.0.0.1", int(GIVEN["port"])), 2):
        pass


def abstract() -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect("\0" + GIVEN["abstract"])


def pipe_to_itself() -> None:
    near, far = os.pipe()
    os.write(far, b"x")
    os.read(near, 1)


def made(family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> Callable[[], object]:
    return lambda: socket.socket(family, kind, protocol).close()


def file_tries() -> dict[str, Callable[[], object]]:
    shown, own, other = (Path(GIVEN[name]) for name in ("shown", "own", "other"))
    return {
        "read shown": (shown / "a").read_text,
        "list shown": lambda: os.listdir(shown),
        "write shown": lambda: (shown / "a").write_text("x"),
        "truncate shown": lambda: os.truncate(shown / "a", 0),
        "make in shown": lambda: (shown / "new").write_text("x"),
        "read own": (own / "a").read_text,
        "write own": lambda: (own / "a").write_text("x"),
        "make a folder in own": (own / "sub").mkdir,
        "move in own": lambda: (own / "a").rename(own / "sub" / "a"),
        "remove in own": (own / "sub" / "a").unlink,
        "read other": (other / "a").read_text,
        "list other": lambda: os.listdir(other),
        "write other": lambda: (other / "a").write_text("x"),
        "link other into own": lambda: os.link(other / "a", own / "stolen"),
        "write a device": lambda: Path("/dev/null").write_text("x"),
        "pipe": pipe_to_itself,
        "connect": connect,
        "connect to an abstract socket": abstract,
        "signal the one who started it": lambda: os.kill(os.getppid(), 0),
        "signal itself": lambda: os.kill(os.getpid(), 0),
    }


def call_tries() -> dict[str, Callable[[], object]]:
    return {
        "unix": made(socket.AF_UNIX),
        "pair": socket.socketpair,
        "internet": made(socket.AF_INET),
        "internet 6": made(socket.AF_INET6),
        "datagrams": made(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.IPPROTO_UDP),
        "raw packets": made(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "raw packets 6": made(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
        "echoes": made(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
        "multipath": made(socket.AF_INET, socket.SOCK_STREAM, 262),
        "netlink": made(socket.AF_NETLINK, socket.SOCK_RAW),
        "vsock": made(40),
        "limit itself": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        "limit the one who started it": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE),
        "start a thread": lambda: threading.Thread(target=print, args=("",), kwargs={"end": ""}).start(),
    }


match KIND:
    case "landlock":
        listed = ruleset(
            Rules(
                read_only=(Path(GIVEN["shown"]), Path(GIVEN["shown"], "missing")),
                read_write=(Path(GIVEN["own"]),),
                devices=(Path("/dev/null"),),
            )
        )
        assert listed is not None
        tries = file_tries()
        restrict_self(listed)
    case "none" | "confined" | "network":
        machine = platform.machine()
        families = () if KIND == "confined" else (AF_UNIX,)
        tries = call_tries()
        Filter(
            machine, filter_program(machine, families, network=KIND == "network", shared=KIND == "confined")
        ).put_on()
    case _:
        tries = file_tries()
sys.stdout.write(json.dumps({name: tried(action) for name, action in tries.items()}))
