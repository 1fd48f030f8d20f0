"""What the tests of calls have called, as a module of a user's own."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def square(x: int) -> int:
    return x * x


def add(a: int, *, b: int) -> int:
    return a + b


def around(_: Any) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "folder": os.getcwd(),
        "files": sorted(os.listdir()),
        "mark": os.environ.get("MARK"),
    }


def die(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def eat(size: int) -> int:
    return len(bytearray(os.urandom(1 << 20)) * (size >> 20))


def say(word: str) -> str:
    print(word)
    print("beside", word, file=sys.stderr)
    return word


def complain(x: int) -> None:
    print("complaint", x)
    if x == 3:
        raise KeyError(x)


def turn(content: bytes) -> bytes:
    return content[1:] + content[:1]


def turn_all(content: Any) -> Any:
    """Arrays and bytes, in a list or by themselves."""
    return [one[::-1] for one in content] if isinstance(content, list) else content[::-1]


def inherited_trays(_: bytes) -> list[bool]:
    """Whether a program that this process starts would hold its trays."""
    names = [name for name in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{name}")]
    trays = [int(name) for name in names if "discogrid-tray" in os.readlink(f"/proc/self/fd/{name}")]
    return [os.get_inheritable(tray) for tray in trays]


def die_once(content: bytes, trace: str) -> bytes:
    """In the middle of a large call, the first time."""
    if not os.path.exists(trace):
        Path(trace).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return content[::-1]


def fail(x: int) -> None:
    raise KeyError(x)


def read(name: str) -> str:
    return Path(name).read_text()


def note(folder: str, x: int) -> int:
    """Leave a trace of each time that it runs."""
    with open(os.path.join(folder, f"{x}"), "a") as file:
        file.write("x")
    time.sleep(0.05)
    return 2 * x


def die_at(x: int, fatal: int = 1234) -> int:
    if x == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def wait_at(x: tuple[int, str]) -> int:
    """The one in the middle waits for a file."""
    number, file = x
    while number == 700 and not os.path.exists(file):
        time.sleep(0.01)
    return number


def fail_at(x: int) -> int:
    if x % 1000 == 999:
        raise KeyError(x)
    return x
