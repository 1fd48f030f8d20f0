"""Calls in real boxes: each is answered once, whatever it or another one does."""

import asyncio
import os
import pickle
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from discogrid.calls import codec, exceptions, functions
from discogrid.calls.frames import Call, Raised, Returned
from discogrid.calls.tray import LAID_BYTES_MIN
from discogrid.errors import SandboxError, TaskTimeout, WorkerLost
from discogrid.types import SandboxLevel
from discogrid_agent.call_runner import Answer, CallRunner
from discogrid_agent.call_worker import HEARD_MAX, TRAYS, CallWorker, Stage
from discogrid_agent.removal import remove_tree
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.unboxed import Unboxed
from discogrid_agent.work_folder import WorkFolder


@pytest.fixture(params=["strict", "none"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Box:
    box: Box = request.getfixturevalue("strict") if request.param == "strict" else Unboxed()
    (tmp_path / "attempts").mkdir()
    if box.owner is not None:
        for folder in (tmp_path, *list(tmp_path.parents)[:3], tmp_path / "attempts"):
            folder.chmod(folder.stat().st_mode | 0o711)
    box.settle(tmp_path)
    return box


class House:
    """Workers in folders of their own, and what they print."""

    def __init__(self, box: Box, folder: Path, initializer: Callable[[], object] | None) -> None:
        self.box = box
        self.folder = folder
        self.initializer = functions.pack(initializer) if initializer else b""
        self.started: list[CallWorker] = []
        self.works: list[WorkFolder] = []
        self.log = (folder / "log").open("wb+")

    async def start(self) -> CallWorker:
        work = WorkFolder(self.folder / "attempts" / str(len(self.works)), self.box.owner)
        work.lay_out([])
        self.works.append(work)
        out = self.log.fileno()
        worker = CallWorker.start(self.box, work, Stage(), out, out, self.initializer)
        self.started.append(worker)
        return worker

    def printed(self) -> str:
        return (self.folder / "log").read_text()


class Desk:
    """A runner, and the calls of one function."""

    def __init__(self, house: House, function: Callable[..., Any], **how: Any) -> None:
        self.house = house
        self.runner = CallRunner(house.start, **how)
        self.functions = {0: functions.pack(function)}
        self.numbers = 0

    async def run(self, *arguments: tuple[Any, ...]) -> list[Any]:
        answers: list[Answer] = []
        first = self.numbers
        self.numbers += len(arguments)
        calls = [Call(first + at, 0, pickle.dumps((values, {}))) for at, values in enumerate(arguments)]
        await self.runner.run(self.functions, calls, answers.append)
        assert [answer.number for answer in answers] == [call.number for call in calls]
        return [_opened(answer) for answer in answers]


def _opened(answer: Answer) -> Any:
    if isinstance(answer, Raised):
        return exceptions.unpack(answer.error, trusted=True, modules=(__name__,))
    assert isinstance(answer, Returned)
    return codec.loads(answer.value, trusted=False, modules=(__name__,))


@asynccontextmanager
async def desk(
    box: Box,
    folder: Path,
    function: Callable[..., Any],
    initializer: Callable[[], object] | None = None,
    **how: Any,
) -> AsyncIterator[Desk]:
    house = House(box, folder, initializer)
    made = Desk(house, function, **how)
    try:
        yield made
    finally:
        await made.runner.close()
        house.log.close()
        assert all(worker.ended.done() for worker in house.started), "a worker outlives its runner"
        for work in house.works:
            remove_tree(work.path)


async def test_chunks_run_one_after_the_other_in_one_worker(box: Box, tmp_path: Path) -> None:
    def work(number: int) -> tuple[int, int]:
        print("call", number)
        return number * 2, os.getpid()

    async with desk(box, tmp_path, work) as calls:
        first = await calls.run((1,), (2,), (3,))
        second = await calls.run((4,))
        assert [double for double, _ in first + second] == [2, 4, 6, 8]
        assert len({process for _, process in first + second}) == 1
        await calls.runner.close()
        assert calls.house.printed().splitlines() == [f"call {number}" for number in (1, 2, 3, 4)]


async def test_a_call_finds_an_empty_folder_of_its_own(box: Box, tmp_path: Path) -> None:
    def work() -> tuple[list[str], list[str], str]:
        import tempfile

        with open("made", "w") as file:
            file.write("x")
        temporary = [name for name in os.listdir(tempfile.gettempdir()) if name.startswith(".discogrid")]
        return sorted(os.listdir(".")), temporary, sys.argv[0]

    async with desk(box, tmp_path, work) as calls:
        assert await calls.run(()) == [(["made", "run-result"], [], "")]


async def test_what_kills_its_worker_is_tried_twice_and_the_others_never_notice(
    box: Box, tmp_path: Path
) -> None:
    def work(number: int) -> int:
        print("begins", number, flush=True)
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 4:
            os._exit(7)
        return number

    async with desk(box, tmp_path, work) as calls:
        zero, one, two, three, four, five = await calls.run(*((number,) for number in range(6)))
        assert (zero, one, three, five) == (0, 1, 3, 5)
        assert isinstance(two, WorkerLost)
        assert "signal 9" in two.what or "137" in two.what
        assert two.exit_status in (-9, 137)
        assert isinstance(four, WorkerLost)
        assert "exit code 7" in four.what
        assert four.exit_status == 7
        begun = calls.house.printed().split("\n")
        assert [begun.count(f"begins {number}") for number in range(6)] == [1, 1, 2, 1, 2, 1]


async def test_a_call_that_takes_too_long_is_ended_and_the_next_one_runs(box: Box, tmp_path: Path) -> None:
    def work(number: int) -> int:
        if number == 1:
            time.sleep(60)
        return number

    async with desk(box, tmp_path, work, seconds=3.0) as calls:
        zero, one, two = await calls.run((0,), (1,), (2,))
        assert (zero, two) == (0, 2)
        assert isinstance(one, TaskTimeout)
        assert len(calls.house.started) == 2


async def test_what_an_initializer_raises_is_the_answer_to_every_call(box: Box, tmp_path: Path) -> None:
    def start() -> None:
        raise ValueError("no start")

    async with desk(box, tmp_path, abs, start) as calls:
        answers = await calls.run((1,), (2,))
        assert [repr(answer) for answer in answers] == ["ValueError('no start')"] * 2


async def test_a_worker_ends_after_so_many_calls_and_the_next_has_its_functions(
    box: Box, tmp_path: Path
) -> None:
    def work() -> int:
        return os.getpid()

    async with desk(box, tmp_path, work, calls_max=2) as calls:
        processes = await calls.run(*[()] * 5)
        assert len(calls.house.started) == 3
        if box.level is SandboxLevel.NONE:
            assert [processes.count(one) for one in dict.fromkeys(processes)] == [2, 2, 1]


async def test_many_large_calls_do_not_block_each_other(box: Box, tmp_path: Path) -> None:
    def work(content: bytes) -> bytes:
        return content

    content = os.urandom(100_000)
    async with desk(box, tmp_path, work) as calls:
        assert await calls.run(*[(content,)] * 100) == [content] * 100


async def test_more_answers_than_are_kept_wait_in_the_pipe(box: Box, tmp_path: Path) -> None:
    async with desk(box, tmp_path, abs) as calls:
        count = 5 * HEARD_MAX
        assert await calls.run(*((-number,) for number in range(count))) == list(range(count))


async def test_large_values_lie_on_trays_and_come_back_as_they_were(box: Box, tmp_path: Path) -> None:
    def work(content: bytes) -> bytes:
        return content[::-1]

    contents = [os.urandom(LAID_BYTES_MIN + at * 700_001) for at in range(12)]
    async with desk(box, tmp_path, work) as calls:
        for _ in range(2):
            assert await calls.run(*((one,) for one in contents)) == [one[::-1] for one in contents]


async def test_a_worker_that_dies_of_a_large_call_loses_that_one_alone(box: Box, tmp_path: Path) -> None:
    def work(content: bytes) -> bytes:
        if content[0] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return content

    contents = [bytes([at]) * (3 << 20) for at in range(4)]
    async with desk(box, tmp_path, work) as calls:
        zero, one, *rest = await calls.run(*((content,) for content in contents))
        assert isinstance(one, WorkerLost)
        assert [zero, *rest] == [contents[0], *contents[2:]]
        calls.house.log.flush()


async def test_files_and_trays_of_workers_are_closed_when_they_end(box: Box, tmp_path: Path) -> None:
    def trays() -> int:
        open_now = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
        return sum(any(tray in path for tray in TRAYS) for path in open_now)

    before = trays()
    async with desk(box, tmp_path, len, calls_max=2) as calls:
        assert await calls.run(*((bytes(1 << 20),) for _ in range(4))) == [1 << 20] * 4
        assert await calls.run((bytes(1 << 20),)) == [1 << 20]
        assert trays() == before + len(TRAYS)
    assert trays() == before


@pytest.mark.parametrize("said", [(0, 64 << 20), (1 << 40, 8), (0, 1 << 40), (-1, 8)])
async def test_a_worker_that_lies_of_what_lies_on_its_tray_is_ended(
    box: Box, tmp_path: Path, said: tuple[int, int]
) -> None:
    def work(number: int) -> int:
        if number == 1:
            from discogrid.calls.frames import Laid, frame

            for name in os.listdir("/proc/self/fd"):
                try:
                    os.write(int(name), frame(Laid(2, 0.0, *said)))
                except OSError:
                    continue
            time.sleep(60)
        return number

    async with desk(box, tmp_path, work) as calls:
        assert await calls.run((0,), (0,)) == [0, 0]
        one, two = await calls.run((1,), (2,))
        assert isinstance(one, WorkerLost)
        assert two == 2


async def test_a_worker_that_answers_what_nobody_asked_is_ended(box: Box, tmp_path: Path) -> None:
    def work(number: int) -> int:
        if number == 1:
            from discogrid.calls.frames import Returned, frame

            for name in os.listdir("/proc/self/fd"):
                try:
                    os.write(int(name), frame(Returned(999, 0.0, b"m\x01")))
                except OSError:
                    continue
        return number

    async with desk(box, tmp_path, work) as calls:
        zero, one, two = await calls.run((0,), (1,), (2,))
        assert (zero, two) == (0, 2)
        assert isinstance(one, WorkerLost)


async def test_a_worker_that_speaks_nonsense_is_ended(box: Box, tmp_path: Path) -> None:
    def work(number: int) -> int:
        if number == 1:
            for name in os.listdir("/proc/self/fd"):
                try:
                    os.write(int(name), b"\xff" * 8)
                except OSError:
                    continue
            time.sleep(60)
        return number

    async with desk(box, tmp_path, work) as calls:
        assert await calls.run((0,)) == [0]
        one, two = await calls.run((1,), (2,))
        assert isinstance(one, WorkerLost)
        assert two == 2


async def test_a_run_that_is_cancelled_ends_its_worker(box: Box, tmp_path: Path) -> None:
    def work() -> None:
        print("begins", flush=True)
        time.sleep(60)

    async with desk(box, tmp_path, work) as calls:
        running = asyncio.ensure_future(calls.run(()))
        while "begins" not in calls.house.printed():  # noqa: ASYNC110 (another process writes it)
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert calls.house.started[0].ended.done()


async def test_a_worker_that_cannot_start_is_the_box_s_fault(tmp_path: Path, box: Box) -> None:
    async with desk(box, tmp_path, abs) as calls:
        start = calls.house.start

        async def killed() -> CallWorker:
            worker = await start()
            worker.kill()
            return worker

        calls.runner = CallRunner(killed)
        with pytest.raises(SandboxError, match="did not start"):
            await calls.run((1,))
