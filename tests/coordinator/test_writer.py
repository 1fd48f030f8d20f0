"""Persist, then send, with a disk that is slow: what waits for it, what does not, and what shares one commit."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from discogrid.messages import Heartbeat, HeartbeatSeen, JobAccepted, Message, Query, SubmitJob, Welcome
from discogrid.submission import Prepared
from discogrid.transfer import pack_small
from discogrid.types import Role
from discogrid.wire import pack_parts
from discogrid_coordinator import server as shell
from discogrid_coordinator.journal import Journal, Write
from discogrid_coordinator.server import Server
from tests.coordinator.house import ARRIVES_S, Caller, House, hello, prepared, serving
from tests.trust.forge import Cast, cast


class SlowDisk:
    """Holds every commit back until it is let go; `told` is what happened, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[str] = []
        self.commits: list[int] = []  # jobs in each
        self.arrived = threading.Semaphore(0)
        self._go = threading.Semaphore(0)
        self._open = False
        write, send, fsync = Journal.write, Server._send, os.fsync

        def slow(journal: Journal, writes: Sequence[Write]) -> None:
            self.arrived.release()
            if not self._open:
                assert self._go.acquire(timeout=ARRIVES_S)
            write(journal, writes)
            self.commits.append(sum("into jobs" in statement for statement, _ in writes))
            self.told.append("commit")

        def sending(server: Server, route: bytes, message: Message, payload: Sequence[bytes]) -> None:
            self.told.append(type(message).__name__)
            send(server, route, message, payload)

        def syncing(descriptor: int) -> None:
            fsync(descriptor)
            self.told.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

        monkeypatch.setattr(Journal, "write", slow)
        monkeypatch.setattr(Server, "_send", sending)
        monkeypatch.setattr(os, "fsync", syncing)

    def go(self) -> None:
        """Let one commit through."""
        self._go.release()

    def open(self) -> None:
        """Hold nothing any more."""
        self._open = True
        self._go.release()


@pytest.fixture
def grid() -> Cast:
    return cast()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    disk = SlowDisk(monkeypatch)
    yield disk
    disk.open()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(ARRIVES_S):
        while not true():  # noqa: ASYNC110 - what changes is no event of the loop
            await asyncio.sleep(0.002)


async def arrives(disk: SlowDisk) -> None:
    """A commit has begun, and is held."""
    assert await asyncio.to_thread(disk.arrived.acquire, timeout=ARRIVES_S)


async def caller_in(house: House, grid: Cast) -> Caller:
    caller = house.caller(grid.submitter)
    await caller.ask(hello(Role.SUBMITTER), Welcome)
    return caller


def submit(caller: Caller, job: Prepared, request: int = 1) -> None:
    riders = pack_small(job.refs(), lambda file: job.files[file.digest].read_bytes())
    caller.send(SubmitJob(request=request), job.job.envelope, pack_parts(job.leaves), riders)


async def test_an_answer_leaves_after_its_commit_and_that_begins_after_the_blobs_are_on_the_disk(
    grid: Cast, tmp_path: Path, disk: SlowDisk
) -> None:
    job = prepared(grid, tmp_path / "job")
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = await caller_in(house, grid)
        disk.told.clear()
        submit(caller, job)
        await arrives(disk)
        assert "commit" not in disk.told
        blobs = {digest.removeprefix("blake3:") for digest in job.files}
        assert {name[2:] for name in blobs} <= set(disk.told)  # the files ...
        assert {name[:2] for name in blobs} <= set(disk.told)  # ... and the folders that name them
        disk.go()
        await caller.next(JobAccepted)
        ordered = [told for told in disk.told if told in ("commit", "JobAccepted")]
        assert ordered == ["commit", "JobAccepted"]


async def test_while_the_disk_is_slow_nothing_is_promised_and_the_coordinator_is_seen_to_live(
    grid: Cast, tmp_path: Path, disk: SlowDisk
) -> None:
    job = prepared(grid, tmp_path / "job")
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = await caller_in(house, grid)
        submit(caller, job)
        await arrives(disk)
        caller.send(Query(request=2, what="jobs"))  # its answer would tell of the job
        caller.send(Heartbeat())
        await caller.next(HeartbeatSeen)
        assert disk.told[-1] == "HeartbeatSeen"
        assert not {"JobAccepted", "Answer"} & set(disk.told)
        assert list(house.server._engine.journal.jobs()) == []
        disk.go()
        await caller.next(JobAccepted)
        assert [kept.digest for kept in house.server._engine.journal.jobs()] == [job.job.digest]


async def test_what_comes_while_the_disk_is_busy_shares_the_next_commit(
    grid: Cast, tmp_path: Path, disk: SlowDisk
) -> None:
    jobs = [prepared(grid, tmp_path / "job", name=f"job-{number}") for number in range(20)]
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = await caller_in(house, grid)
        submit(caller, jobs[0])
        await arrives(disk)
        for number, job in enumerate(jobs[1:]):
            submit(caller, job, number)
        await until(lambda: len(house.server._engine.journal) == len(jobs) - 1)
        disk.open()
        for _ in jobs:
            await caller.next(JobAccepted)
        assert disk.commits == [1, len(jobs) - 1]


async def test_nobody_is_heard_while_more_waits_for_the_disk_than_may(
    grid: Cast, tmp_path: Path, disk: SlowDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "WRITES_WAITING_MAX", 3)
    jobs = [prepared(grid, tmp_path / "job", name=f"job-{number}") for number in range(8)]
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = await caller_in(house, grid)
        journal = house.server._engine.journal
        submit(caller, jobs[0])
        await arrives(disk)
        threading.Thread(target=let_go_when, args=(disk, lambda: len(journal) > 3)).start()
        for number, job in enumerate(jobs[1:]):
            submit(caller, job, number)
        for _ in jobs:
            await caller.next(JobAccepted)
        assert sum(disk.commits) == len(jobs)


def let_go_when(disk: SlowDisk, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ARRIVES_S
    while not true() and time.monotonic() < deadline:
        time.sleep(0.002)
    disk.open()


async def test_a_coordinator_that_is_stopped_keeps_what_it_was_told_before(
    grid: Cast, tmp_path: Path, disk: SlowDisk
) -> None:
    jobs = [prepared(grid, tmp_path / "job", name=name) for name in ("one", "two")]
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = await caller_in(house, grid)
        submit(caller, jobs[0])
        await arrives(disk)
        submit(caller, jobs[1])
        await until(lambda: len(house.server._engine.journal) == 1)
        threading.Thread(target=let_go_when, args=(disk, house.server._stopping.is_set)).start()
    async with serving(grid, tmp_path / "coordinator") as house:
        assert [kept.digest for kept in house.server._engine.journal.jobs()] == [
            job.job.digest for job in jobs
        ]
