"""A task that counts aloud until the test tells it to end, on whatever host and in whatever box it is."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.network.hosts import until

SCRIPT = """
import hashlib, os, signal, time
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(True))
number = 0
while not told:
    print(number, flush=True)
    number += 1
    time.sleep(0.05)
large = os.urandom(5 << 20)  # too large to come along with a message
open("run-result/large", "wb").write(large)
open("run-result/digest", "w").write(hashlib.sha256(large).hexdigest())
open("run-result/attempt", "w").write(os.environ["DISCOGRID_ATTEMPT"])
"""
TOLD = 1 << (signal.SIGUSR1 - 1)


def tell(mark: str) -> None:
    """End the task that has `mark` among its arguments; it may run only now."""
    found = until(lambda: list(listening(mark)))
    for process in found:
        os.kill(process, signal.SIGUSR1)


def listening(mark: str) -> Iterator[int]:
    """Processes with this argument that take the signal: not those which only started the task."""
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or mark.encode() not in (entry / "cmdline").read_bytes().split(b"\0"):
                continue
            status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines())
        except OSError:
            continue
        if int(status["SigCgt"], 16) & TOLD:
            yield int(entry.name)
