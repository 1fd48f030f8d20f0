"""What a coordinator promises a second, and how soon it is back: `python benchmarks/durable_submits.py [--jobs 4000]`.

A real coordinator process, clients that are processes of their own, TCP. Every client has its jobs signed before the
clock starts and has one under way at a time: a job counts when its client was told that it is kept. Then the coordinator
is killed with 200,000 tasks open and started again; the time until a client has been answered with all of them includes
the interpreter's start. The floor is bare SQLite with synchronous=FULL on the same disk: rows of the same size, one
commit for as many jobs as there are clients, which is as many as can wait for one commit.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

from discogrid.client import AsyncClient
from discogrid.errors import GridError
from discogrid.grid import HOME, open_grid
from discogrid.submission import Prepared, Submission, prepare

CLIENTS = 8
JOB_TASKS = 1_000
OPEN_TASKS = 200_000
FLOOR_S = 2.0
PATIENCE_S = 60.0
TASKS_BAR, JOBS_BAR, RESTART_BAR_S = 10_000, 500, 3.0


def client(
    number: int, jobs: int, tasks: int, fresh: bool, folder: Path, ready: Barrier, done: Barrier
) -> None:
    """Sign this many jobs of as many tasks, and submit one after the other; `fresh`: each over a file of its own."""
    grid = open_grid(HOME)
    mine = folder / f"client-{number}"
    mine.mkdir(exist_ok=True)
    prepared: list[Prepared] = []
    for job in range(jobs):
        inputs = [mine / f"in-{job if fresh else index:06}.txt" for index in range(tasks)]
        for file in inputs:
            if not file.exists():
                file.write_text(f"{number} {file.name} {time.time() if fresh else 0}")
        submission = Submission(script=folder / "script.py", inputs=inputs)
        prepared.append(prepare(submission, grid, mine, time.time()))

    async def submit() -> None:
        async with AsyncClient(grid) as line:
            await line.submit(prepare(submission, grid, mine, time.time()), hold=True)  # its blobs are there
            await asyncio.to_thread(ready.wait)  # the line stays alive meanwhile
            for one in prepared:
                await line.submit(one)
            await asyncio.to_thread(done.wait)

    asyncio.run(submit())


def submitting(jobs: int, tasks: int, folder: Path, *, fresh: bool = False) -> float:
    """Jobs a second that all clients together were promised."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Barrier(CLIENTS + 1), context.Barrier(CLIENTS + 1)
    each = jobs // CLIENTS
    processes = [
        context.Process(target=client, args=(number, each, tasks, fresh, folder, ready, done))
        for number in range(CLIENTS)
    ]
    for process in processes:
        process.start()
    ready.wait(PATIENCE_S)
    began = time.perf_counter()
    done.wait(PATIENCE_S)
    took = time.perf_counter() - began
    for process in processes:
        process.join()
    return each * CLIENTS / took


def floor(row_bytes: int, folder: Path) -> float:
    """Rows of this size a second that bare SQLite makes durable, CLIENTS a commit."""
    with contextlib.closing(
        sqlite3.connect(folder / f"floor-{row_bytes}.sqlite", isolation_level=None)
    ) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=full")
        db.execute("create table rows (id blob primary key, content blob)")
        commits, began = 0, time.perf_counter()
        while time.perf_counter() - began < FLOOR_S:
            db.execute("begin immediate")
            for _ in range(CLIENTS):
                db.execute("insert into rows values (?, ?)", (os.urandom(16), bytes(row_bytes)))
            db.execute("commit")
            commits += 1
        return commits * CLIENTS / (time.perf_counter() - began)


@contextlib.contextmanager
def coordinator(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A coordinator process; killed at the end, unless it is over by then."""
    command = [
        sys.executable,
        "-m",
        "discogrid",
        "coordinator",
        "--listen",
        f"127.0.0.1:{port}",
        "--no-announce",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


async def open_tasks() -> int:
    """How many tasks wait, as a client is told once somebody answers."""
    while True:
        with contextlib.suppress(GridError):
            async with AsyncClient(open_grid(HOME)) as line:
                return sum(job.counts.queued for job in await line.jobs())


def free_port() -> int:
    """A TCP port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Print rates, floors and the restart; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=4_000, help="of one task")
    jobs = parser.parse_args().jobs
    with tempfile.TemporaryDirectory(prefix="discogrid-submits-") as scratch:
        folder, port = Path(scratch), free_port()
        os.environ["DISCOGRID_HOME"] = scratch
        (folder / "script.py").write_text("print('hello')\n")
        with coordinator(port):
            asyncio.run(open_tasks())
            single = submitting(jobs, 1, folder)
            fresh = submitting(jobs // 4, 1, folder, fresh=True)
            large = submitting(OPEN_TASKS // JOB_TASKS, JOB_TASKS, folder) * JOB_TASKS
            before = asyncio.run(open_tasks())
        began = time.perf_counter()
        with coordinator(port):
            after = asyncio.run(open_tasks())
            back_s = time.perf_counter() - began
        single_floor = floor(700, folder)
        large_floor = floor(JOB_TASKS * 100, folder) * JOB_TASKS
    print(f"{CLIENTS} clients, each with one job under way; bare SQLite in brackets")
    print(f"jobs of {JOB_TASKS:,} tasks      {large:9,.0f} tasks/s  ({large_floor:,.0f}; bar {TASKS_BAR:,})")
    print(f"jobs of one task         {single:9,.0f} jobs/s   ({single_floor:,.0f}; bar {JOBS_BAR:,})")
    print(f"... each over a new file {fresh:9,.0f} jobs/s")
    print(f"back after a kill with {after:,} tasks open: {back_s:.2f} s (bar {RESTART_BAR_S:g})")
    assert after == before >= OPEN_TASKS, (before, after)
    return int(large < TASKS_BAR or single < JOBS_BAR or back_s > RESTART_BAR_S)


if __name__ == "__main__":
    sys.exit(main())
