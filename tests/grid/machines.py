"""Real processes of a real grid, each user's in a home of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

PATIENCE_S = 30.0
POLL_S = 0.05

T = TypeVar("T")


def until(what: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """What `what` returns, as soon as that is true; AssertionError when it stays false."""
    deadline = time.monotonic() + patience_s
    while True:
        if found := what():
            return found
        assert time.monotonic() < deadline, f"waited {patience_s} s in vain"
        time.sleep(POLL_S)


class Machine:
    """One user's home, and what this user runs."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DISCOGRID")},
            "DISCOGRID_HOME": str(self.home),
            "DISCOGRID_IDLE_EXIT": "60s",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str | Path, patience_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.work,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Run a command beside the test; what it says goes to `<command>.log`."""
        with (self.work.parent / f"{arguments[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                self.command(*arguments), cwd=self.work, env=self.environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "discogrid", *map(str, arguments)]

    def document(self, *arguments: str) -> dict[str, Any]:
        """What a reading command prints with --json; an empty one while there is no answer."""
        done = self.run(*arguments, "--json")
        return dict(json.loads(done.stdout)) if done.returncode == 0 and done.stdout else {}

    def live_agents(self) -> list[str]:
        agents = self.document("agents").get("agents", [])
        return [agent["id"] for agent in agents if agent["state"] == "live"]

    def coordinate(self, listen: str = "127.0.0.1:0") -> subprocess.Popen[bytes]:
        """Start a coordinator and wait until it listens."""
        before = self.address.stat().st_mtime_ns if self.address.exists() else 0
        coordinator = self.start("coordinator", "--listen", listen, "--no-announce")
        until(lambda: self.address.exists() and self.address.stat().st_mtime_ns != before)
        return coordinator

    def lend(self, slots: int = 2) -> subprocess.Popen[bytes]:
        """Start an agent and wait until the grid has it."""
        agent = self.start("agent", "--name", "attic", "--slots", str(slots))
        until(self.live_agents)
        return agent

    @property
    def address(self) -> Path:
        """Where the joined grid's address is remembered."""
        return self.home / "grids" / "home" / "address.json"

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.work / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def close(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self.children():
            os.kill(pid, signal.SIGTERM)

    def children(self) -> Iterator[int]:
        """Processes in the background that belong to this home."""
        mark = f"DISCOGRID_HOME={self.home}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        yield int(entry.name)
                except OSError:
                    continue


def processes_with(mark: str) -> list[int]:
    """Living processes whose command line holds `mark`, whoever runs them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
