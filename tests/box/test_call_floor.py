"""Workers of several jobs of calls on one agent: who stays, who makes room, and what is left of those that have ended."""

import asyncio
import os
import pickle
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from discogrid.calls import codec, functions
from discogrid.calls.frames import Call, Returned
from discogrid.errors import SandboxError
from discogrid.types import Attempt, JobId
from discogrid_agent.call_floor import LOG_BYTES_MAX, Answered, CallFloor, CallScene
from discogrid_agent.call_worker import Stage
from discogrid_agent.sandbox.unboxed import Unboxed
from discogrid_agent.watch import Watch
from tests.grid.machines import until

SLOTS = 2


def pid() -> int:
    return os.getpid()


def say(text: str) -> None:
    print(text)


def rest(seconds: float) -> None:
    print("resting", flush=True)
    time.sleep(seconds)


def die(trace: str) -> None:
    if not os.path.exists(trace):
        Path(trace).touch()
        os.kill(os.getpid(), signal.SIGKILL)


FUNCTIONS = (pid, say, rest, die)


class Floor:
    """A floor with real workers, without a box."""

    def __init__(self, folder: Path) -> None:
        box = Unboxed()
        box.settle(folder)
        self.folder = folder
        self.wrote = asyncio.Event()
        self.floor = CallFloor(folder, box, Watch(folder), SLOTS, lambda *_: self.wrote.set())
        self._scenes: dict[str, CallScene] = {}
        self._tasks = 0

    def scene(self, job: str, **how: Any) -> CallScene:
        known: dict[str, Any] = {"initializer": b"", "files": (), "seconds": None, "calls_max": None}
        if job not in self._scenes:
            self._scenes[job] = CallScene(job=JobId(job), stage=Stage(), **{**known, **how})
        return self._scenes[job]

    def attempt(self, job: str) -> Attempt:
        self._tasks += 1
        return Attempt(JobId(job), self._tasks, 1, 1)

    async def run(
        self, job: str, function: Callable[..., Any], *values: Any, attempt: Attempt | None = None, **how: Any
    ) -> Answered:
        number = FUNCTIONS.index(function)  # by which a worker knows it ever after
        packed = {number: functions.pack(function)}
        call = Call(0, number, pickle.dumps((values, {})))
        return await self.floor.run([attempt or self.attempt(job)], self.scene(job, **how), packed, [call])

    async def worker(self, job: str) -> int:
        """The process that runs the job's calls."""
        [answer] = (await self.run(job, pid)).answers
        assert isinstance(answer, Returned)
        found = codec.loads(answer.value, trusted=False)
        assert isinstance(found, int)
        return found

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("calls-*"))

    async def gone(self, process: int) -> None:
        await asyncio.to_thread(until, lambda: not Path(f"/proc/{process}").exists())


@pytest.fixture
async def floor(tmp_path: Path) -> AsyncIterator[Floor]:
    made = Floor(tmp_path)
    yield made
    await made.floor.close()
    assert made.folders() == []


async def test_a_worker_stays_for_the_next_task_of_its_job(floor: Floor) -> None:
    first = await floor.worker("a")
    assert [await floor.worker("a") for _ in range(3)] == [first] * 3
    assert len(floor.folders()) == 1


async def test_no_worker_serves_two_jobs(floor: Floor) -> None:
    first, second = await floor.worker("a"), await floor.worker("b")
    assert first != second
    assert (await floor.worker("a"), await floor.worker("b")) == (first, second)


async def test_of_more_jobs_than_slots_the_worker_that_waits_longest_makes_room(floor: Floor) -> None:
    first = await floor.worker("a")
    second = await floor.worker("b")
    await floor.worker("c")
    await floor.gone(first)
    assert await floor.worker("b") == second
    assert await floor.worker("a") != first


async def test_tasks_of_one_job_at_a_time_have_a_worker_each(floor: Floor) -> None:
    before = set(await asyncio.gather(floor.worker("a"), floor.worker("a")))
    assert len(before) == 2
    assert set(await asyncio.gather(floor.worker("a"), floor.worker("a"))) == before


async def test_of_a_job_that_has_ended_no_worker_waits(floor: Floor) -> None:
    first, other = await floor.worker("a"), await floor.worker("b")
    floor.floor.forget(JobId("a"))
    await floor.gone(first)
    assert await floor.worker("b") == other


async def test_a_task_that_is_killed_takes_its_worker_along_and_the_next_one_gets_another(
    floor: Floor,
) -> None:
    first = await floor.worker("a")
    attempt = floor.attempt("a")
    running = asyncio.create_task(floor.run("a", rest, 600.0, attempt=attempt))
    await floor.wrote.wait()
    assert b"resting" in floor.floor.logs(attempt)["stdout"].kept()
    floor.floor.kill(attempt)
    with pytest.raises(asyncio.CancelledError):
        await running
    await floor.gone(first)
    assert floor.floor.logs(attempt) == {}
    assert await floor.worker("a") != first
    floor.floor.kill(attempt)  # of what has ended, nothing is killed
    assert len(floor.folders()) == 1


async def test_what_a_task_prints_is_its_own_and_limited(floor: Floor) -> None:
    told = [await floor.run("a", say, text) for text in ("one", "two")]
    assert [answered.stdout.kept() for answered in told] == [b"one\n", b"two\n"]
    assert not (await floor.run("a", pid)).printed
    much = await floor.run("a", say, "x" * (2 * LOG_BYTES_MAX))
    assert much.stdout.total == 2 * LOG_BYTES_MAX + 1
    assert len(much.stdout.kept()) < LOG_BYTES_MAX + 200


async def test_workers_leave_no_descriptor_and_no_folder(floor: Floor) -> None:
    await floor.worker("a")
    floor.floor.forget(JobId("a"))
    await floor.floor.close()
    before = len(os.listdir("/proc/self/fd"))
    for job in "bcdef":
        await floor.worker(job)
        await floor.run(job, say, "something")
    await floor.floor.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert floor.folders() == []


async def test_a_worker_that_cannot_start_leaves_nothing_either(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await floor.worker("a")
    before = len(os.listdir("/proc/self/fd")), floor.folders()

    def fails(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("discogrid_agent.call_worker._pipes", fails)
        with pytest.raises(OSError, match="no space"):
            await floor.worker("b")
    assert (len(os.listdir("/proc/self/fd")), floor.folders()) == before
    assert await floor.worker("b")


def ends_at_once() -> None:
    os.write(2, b"there is no such library\n")
    os._exit(3)


async def test_a_worker_that_dies_of_its_start_says_how_and_what_it_said(floor: Floor) -> None:
    with pytest.raises(SandboxError, match="exit code 3") as caught:
        await floor.run("a", pid, initializer=functions.pack(ends_at_once))
    assert caught.value.why == "It said: there is no such library"


async def test_a_worker_that_was_lost_is_in_its_task_s_log_though_its_call_was_made_again(
    floor: Floor, tmp_path: Path
) -> None:
    answered = await floor.run("a", die, str(tmp_path / "trace"))
    [answer] = answered.answers
    assert isinstance(answer, Returned)
    assert answered.printed
    said = answered.stderr.kept().decode()
    assert said == "discogrid: call 0: the process that ran the call has died: signal 9\n"
    assert floor.wrote.is_set()
