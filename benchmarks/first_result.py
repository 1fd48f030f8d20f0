"""From nothing to the first result on this machine's own grid, and what lies on the way: python benchmarks/first_result.py.

Every run is a program of its own in a home of its own: `Pool(2, local=True).apply(...)`, which starts the coordinator, this
starts the agent, and that the worker. Beside it stand multiprocessing's pool and a bare interpreter, in turns, so that a
busy machine disturbs all alike; medians are compared. The promise is that the first result is there within 0.5 s of the
program's first line. Where Python may not keep what it has compiled (PYTHONDONTWRITEBYTECODE), compile it first:
`python -m compileall discogrid agent coordinator`; an installed discogrid is compiled.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 7
PROMISE_S = 0.5
IDLE_EXIT = "2s"
PATIENCE_S = 30.0
POLL_S = 0.01
TICKS = os.sysconf("SC_CLK_TCK")
ROLES = (
    "discogrid.pool",
    "discogrid_coordinator.server",
    "discogrid_agent.command",
    "discogrid.calls.worker",
)
BOX_KNOWN = "tasks run in the box"

OURS = """
import time; began = time.time()
import json, os, discogrid
pool = discogrid.Pool(2, local=True); opened = time.time()
pool.apply(abs, (-1,)); first = time.time()
print(json.dumps([began, opened, first]), flush=True)
input()
pool.close(); pool.join(); again = time.time()
pool = discogrid.Pool(2, local=True); pool.apply(abs, (-1,)); second = time.time()
print(json.dumps(second - again), flush=True)
pool.terminate(); pool.join()
"""
THEIRS = """
import time; began = time.time()
import multiprocessing
if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        pool.apply(abs, (-1,))
        print(time.time() - began)
"""


def ours() -> dict[str, float]:
    """One run: when what was there, in seconds since the program's first line."""
    with tempfile.TemporaryDirectory(prefix="first-result-") as name:
        folder = Path(name)
        run = folder / "run"
        run.mkdir(mode=0o700)
        variables = {"DISCOGRID_HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(run)}
        environment = {**os.environ, **variables, "DISCOGRID_IDLE_EXIT": IDLE_EXIT}
        program = subprocess.Popen(
            [sys.executable, "-c", OURS],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert program.stdin is not None
        assert program.stdout is not None
        began, opened, first = json.loads(program.stdout.readline())
        there = started(folder / "home")
        [ready] = run.glob("discogrid/*/own.ready")
        [lending] = run.glob("discogrid/*/agent-own-*.lock")
        log = folder / "home" / "logs" / "own.log"
        wait_until(lambda: BOX_KNOWN in log.read_text())
        at = {
            "client: the grid is begun": there["up"],
            "coordinator: it listens": ready.stat().st_mtime,
            "agent: it has loaded": lending.stat().st_mtime,
            "client: the pool is open": opened,
            "worker: it is started": there["discogrid.calls.worker"],
            "first result": first,
            "agent: its box is known": log.stat().st_mtime,
        }
        program.stdin.write("\n")
        program.stdin.flush()
        second = float(json.loads(program.stdout.readline()))
        program.communicate()
        wait_until(lambda: not ready.exists())  # or it would make files in a folder that is removed
        wait_until(lambda: not started(folder / "home"))
        return {what: moment - began for what, moment in at.items()} | {
            "a second pool's first result": second
        }


def wait_until(true: object) -> None:
    """TimeoutError when it does not come true."""
    assert callable(true)
    until = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > until:
            raise TimeoutError("this machine's own grid does not do what it should")
        time.sleep(POLL_S)


def started(home: Path) -> dict[str, float]:
    """When the processes of this home in the background started (10 ms exactly), by a word of their command line; the first one of each."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found: dict[str, float] = {}
    for entry in Path("/proc").iterdir():
        try:
            if f"DISCOGRID_HOME={home}".encode() not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            words = (entry / "cmdline").read_text().split("\0")
            ticks = int((entry / "stat").read_text().rpartition(")")[2].split()[19])
        except (OSError, ValueError, IndexError):
            continue
        for word in ("up", "discogrid.calls.worker"):
            if word in words:
                found[word] = min(found.get(word, float("inf")), booted + ticks / TICKS)
    return found


def theirs(method: str) -> float:
    """Seconds from a program's first line to the first result of multiprocessing's pool."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "program.py"
        file.write_text(THEIRS.format(method=method))
        done = subprocess.run([sys.executable, str(file)], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def whole(*words: str) -> float:
    """Seconds of a whole interpreter."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True)
    return time.perf_counter() - began


def main() -> int:
    """Print the medians; 1 when the promise is broken."""
    times: dict[str, list[float]] = {}
    for _ in range(RUNS):
        found = ours()
        for method in ("fork", "spawn"):
            found[f"multiprocessing, {method}"] = theirs(method)
        found["python -c pass, whole"] = whole("-c", "pass")
        for role in ROLES:
            found[f"python -c 'import {role}', whole"] = whole("-c", f"import {role}")
        for what, seconds in found.items():
            times.setdefault(what, []).append(seconds)
    for what, each in times.items():
        print(f"{what:<52} {statistics.median(each) * 1e3:7.0f} ms")
    first = statistics.median(times["first result"])
    print(f"the first result took {first:.2f} s (promise: {PROMISE_S} s)")
    return int(first >= PROMISE_S)


if __name__ == "__main__":
    sys.exit(main())
