"""discogrid twice: on this machine's own grid, and on a grid as in production, over loopback."""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers import processes
from benchmarks.peers.grid import Grid
from benchmarks.peers.peer import NotOffered, PoolPeer

OWN_COORDINATOR = "--own"  # a word of the command line of this machine's own
WORKER = "discogrid.calls.worker"  # a word of the command line of every process that runs calls


class Discogrid(PoolPeer):
    """What both have in common: a home of their own, in which nothing was made or joined before."""

    where: ClassVar[dict[str, Any]]

    def pool(self, calls_max: int | None = None) -> Any:
        """See PoolPeer."""
        discogrid = importlib.import_module("discogrid")
        return discogrid.Pool(self.workers, maxtasksperchild=calls_max, **self.where)

    def start(self) -> None:
        """See Peer."""
        os.environ.update(home(self.folder))
        super().start()

    def victims(self) -> list[int]:
        """See Peer: a call that runs in a box would tell the id that its process has there."""
        found = processes.innermost(WORKER, self.agent())
        if not found:
            raise RuntimeError(f"no process that runs {WORKER} is below {self.agent()}")
        return found

    def agent(self) -> int:
        """The process below which calls run."""
        return os.getpid()

    def coordinator(self) -> int:
        """See Peer."""
        [found] = processes.innermost(OWN_COORDINATOR, os.getpid())
        return found

    def scripts(self, folder: Path, script: str, inputs: Sequence[str]) -> dict[str, float]:
        """See Peer: `discogrid submit`, and of it what lies between the job's acceptance and its end."""
        results = folder / "got"
        began = time.perf_counter()
        self._run(folder, "submit", script, *inputs, "-o", str(results), "--force")
        whole = time.perf_counter() - began
        for name in inputs:
            (folder / "run-result" / name).write_bytes((results / "output" / name).read_bytes())
        newest = max(
            json.loads(self._run(folder, "ls", "--json"))["jobs"], key=lambda job: str(job["created"])
        )
        created, ended = (datetime.fromisoformat(newest[name]) for name in ("created", "ended"))
        return {"scripts/s": (ended - created).total_seconds(), "scripts/s, whole command": whole}

    def _run(self, folder: Path, *words: str) -> str:
        command = [sys.executable, "-m", "discogrid", "-q", *words]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


class DiscogridOwn(Discogrid):
    """Started by the pool when it is needed."""

    name = "discogrid-own"
    includes = (
        "this user's socket files, signatures, journal, calls unboxed, scripts in the strict box,"
        " large values by memory that both sides hold"
    )
    where: ClassVar = {"local": True}


class DiscogridGrid(Discogrid):
    """A coordinator and one agent with a slot for each worker, both processes of their own."""

    name = "discogrid-grid"
    includes = "TCP on loopback, CURVE, strict box, signatures, journal"
    where: ClassVar = {"grid": "home"}

    def start(self) -> None:
        """See Peer."""
        os.environ.update(home(self.folder))
        self._grid = Grid(self.folder, self.workers)
        level = self._grid.start()
        if level != "strict":
            raise NotOffered(f"no strict box here, but {level}: see `discogrid doctor`")
        super().start()

    def stop(self) -> None:
        """See Peer."""
        super().stop()
        self._grid.stop()

    def agent(self) -> int:
        """See Discogrid."""
        return self._grid.agent.pid

    def coordinator(self) -> int:
        """See Peer."""
        return self._grid.coordinator.pid


def home(folder: Path) -> dict[str, str]:
    """Variables that keep everything of discogrid in this folder."""
    runtime = folder / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    return {"DISCOGRID_HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(runtime)}
