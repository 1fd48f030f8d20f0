"""How attempts end: exit codes, limits, cancel; each with a next task unharmed, and nothing left alive."""

import asyncio
import json
import os
import signal
import textwrap
import time
from pathlib import Path

import pytest

from discogrid.types import MIB, Limits, Outcome
from discogrid_agent.runner import Ended, Runner
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.processes import children
from tests.box.bench import Bench, appeared, content, gone, living, outputs, state_of, stderr, stdout

# Two levels of double forks that leave the session, and ignore what can be ignored.
DAEMONS = """
import os, signal, sys, time
for number in range(1, 32):
    if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            os.execv(sys.executable, [sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(300)', MARK])
        os._exit(0)
"""


def daemons(mark: str, then: str) -> str:
    return DAEMONS.replace("MARK", repr(mark)) + textwrap.dedent(then)


async def next_task_works(bench: Bench) -> None:
    ended = await bench.run("print('fine')")
    assert (ended.outcome, stdout(ended)) == (Outcome.SUCCEEDED, "fine\n")


def exceeded(ended: Ended, limit: str) -> None:
    assert ended.outcome is Outcome.LIMIT_EXCEEDED, ended
    assert ended.limit_exceeded == limit, ended
    record = json.loads(content(ended, "DiscoTask.json"))
    assert record["limit_exceeded"] == limit
    assert ended.reason


@pytest.mark.parametrize(("code", "retryable"), [(1, True), (3, True), (2, False), (77, True)])
async def test_an_exit_code_comes_back(any_bench: Bench, code: int, retryable: bool) -> None:
    ended = await any_bench.run(f"import sys; print('why', file=sys.stderr); sys.exit({code})")
    assert (ended.outcome, ended.exit, ended.retryable) == (Outcome.SCRIPT_FAILED, code, retryable)
    assert ended.reason == f"The script ended with exit code {code}.\nwhy"
    assert stderr(ended) == "why\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
async def test_a_signal_is_a_negative_exit(any_bench: Bench, number: signal.Signals) -> None:
    ended = await any_bench.run(f"import os; os.kill(os.getpid(), {int(number)})")
    assert (ended.outcome, ended.exit) == (Outcome.SCRIPT_FAILED, -number)
    assert number.name in ended.reason


@pytest.mark.parametrize("line", ["import no_such_module", "from os import no_such_name", "def ("])
async def test_a_program_that_is_wrong_everywhere_is_not_tried_again(any_bench: Bench, line: str) -> None:
    ended = await any_bench.run(line)
    assert (ended.outcome, ended.exit, ended.retryable) == (Outcome.SCRIPT_FAILED, 1, False)


async def test_a_failed_task_keeps_its_logs_and_results(any_bench: Bench) -> None:
    ended = await any_bench.run(
        "print('so far'); open('run-result/half', 'w').write('x'); raise SystemExit(9)"
    )
    assert stdout(ended) == "so far\n"
    assert outputs(ended) == ["half"]


async def test_a_task_over_its_time_ends_with_all_its_daemons(bench: Bench) -> None:
    mark = f"over-time-{os.getpid()}"
    began = time.monotonic()
    ended = await bench.run(daemons(mark, "time.sleep(300)"), limits=Limits(seconds=0.8))
    assert time.monotonic() - began < 0.8 + 1
    assert await gone(mark, 0.1)
    exceeded(ended, "time")
    assert (ended.exit, ended.retryable) == (-signal.SIGKILL, True)
    assert "0.8 s" in ended.reason
    await next_task_works(bench)


async def test_what_was_printed_before_the_time_was_over_is_kept(any_bench: Bench) -> None:
    ended = await any_bench.run("print('early'); import time; time.sleep(60)", limits=Limits(seconds=0.6))
    exceeded(ended, "time")
    assert stdout(ended) == "early\n"


async def test_a_cancelled_task_ends_with_all_its_daemons(bench: Bench) -> None:
    mark = f"cancelled-{os.getpid()}"
    task = bench.task(daemons(mark, "time.sleep(300)"))
    running = asyncio.ensure_future(bench.runner.run(task))
    await appeared(mark, 4)
    began = time.monotonic()
    bench.runner.kill(task.attempt, "the job was cancelled")
    bench.runner.kill(task.attempt, "again")
    ended = await running
    assert time.monotonic() - began < 1
    assert not living(mark)
    assert (ended.outcome, ended.reason, ended.retryable) == (
        Outcome.CANCELLED,
        "the job was cancelled",
        False,
    )
    bench.runner.kill(task.attempt, "late")
    await next_task_works(bench)


async def test_a_task_cancelled_at_once_never_runs_or_dies(any_bench: Bench) -> None:
    name = f"cancelled-{os.getpid()}.py"
    for delay in (0, 0.001, 0.003, 0.006, 0.01):
        task = any_bench.task("import time; time.sleep(60)", name=name)
        running = asyncio.ensure_future(any_bench.runner.run(task))
        await asyncio.sleep(delay)
        any_bench.runner.kill(task.attempt, "never mind")
        ended = await asyncio.wait_for(running, 5)
        assert ended.outcome is Outcome.CANCELLED
    assert not living(name)


async def test_daemons_left_behind_end_with_their_task(any_bench: Bench) -> None:
    mark = f"left-{os.getpid()}"
    ended = await any_bench.run(daemons(mark, "time.sleep(0.3); print('done')"))
    assert (ended.outcome, ended.exit) == (Outcome.SUCCEEDED, 0)
    assert stdout(ended) == "done\n"
    assert await gone(mark, 0.5)


async def test_an_abandoned_run_ends_its_task(bench: Bench) -> None:
    mark = f"abandoned-{os.getpid()}"
    running = asyncio.ensure_future(bench.run(daemons(mark, "time.sleep(300)")))
    await appeared(mark, 4)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await gone(mark, 0.5)


async def test_a_process_that_wants_too_much_memory_is_told_so(any_bench: Bench) -> None:
    ended = await any_bench.run("bytearray(600 << 20)", limits=Limits(memory_bytes=256 * MIB))
    exceeded(ended, "memory")
    assert "256" in ended.reason
    await next_task_works(any_bench)


async def test_processes_that_together_use_too_much_memory_are_stopped(any_bench: Bench) -> None:
    ended = await any_bench.run(
        "import os, time\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0: break\n"
        "kept = b'x' * (120 << 20)\n"
        "time.sleep(60)\n",
        limits=Limits(memory_bytes=256 * MIB, seconds=30),
    )
    exceeded(ended, "memory")
    await next_task_works(any_bench)


async def test_memory_that_processes_share_counts_once(any_bench: Bench) -> None:
    ended = await any_bench.run(
        "import os, time\n"
        "kept = b'x' * (120 << 20)\n"
        "children = []\n"
        "for _ in range(4):\n"
        "    if not (child := os.fork()): time.sleep(1); os._exit(0)\n"
        "    children.append(child)\n"
        "for child in children: os.waitpid(child, 0)\n",
        limits=Limits(memory_bytes=256 * MIB),
    )
    assert ended.outcome is Outcome.SUCCEEDED, ended.reason


@pytest.mark.parametrize(
    "how",
    [
        "fd = os.open('/dev/shm/hidden', os.O_RDWR | os.O_CREAT)",
        "fd = os.memfd_create('hidden')",
        "import mmap; kept = mmap.mmap(-1, 200 << 20); kept.write(bytes(200 << 20)); fd = os.open('/dev/null', 1)",
    ],
)
async def test_memory_outside_of_a_process_counts(strict_bench: Bench, how: str) -> None:
    ended = await strict_bench.run(
        f"import os, time\n{how}\nfor _ in range(200): os.write(fd, bytes(1 << 20))\ntime.sleep(60)\n",
        limits=Limits(memory_bytes=128 * MIB, seconds=30),
    )
    exceeded(ended, "memory")
    await next_task_works(strict_bench)


async def test_a_fork_bomb_is_stopped_by_name(bench: Bench) -> None:
    ended = await bench.run(
        "import os, time\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0: time.sleep(60)\n"
        "    except OSError: time.sleep(0.1)\n",
        limits=Limits(processes=50, seconds=30),
    )
    exceeded(ended, "processes")
    await next_task_works(bench)


async def test_too_many_threads_are_refused_by_the_kernel_and_told_so(bench: Bench) -> None:
    ended = await bench.run(
        "import threading, time\nfor _ in range(500): threading.Thread(target=time.sleep, args=(2,)).start()\n",
        limits=Limits(processes=20),
    )
    exceeded(ended, "processes")


async def test_a_file_over_the_disk_limit_is_told_so(any_bench: Bench) -> None:
    ended = await any_bench.run(
        "with open('big', 'wb') as f:\n    while True: f.write(bytes(1 << 20))\n",
        limits=Limits(disk_bytes=20 * MIB),
    )
    exceeded(ended, "disk")
    await next_task_works(any_bench)


@pytest.mark.parametrize("where", [".", "/tmp", "run-result"])
async def test_many_files_over_the_disk_limit_are_stopped(strict_bench: Bench, where: str) -> None:
    ended = await strict_bench.run(
        f"import time\nfor i in range(30): open(f'{where}/f{{i}}', 'wb').write(bytes(1 << 20))\ntime.sleep(60)\n",
        limits=Limits(disk_bytes=20 * MIB, seconds=30),
    )
    exceeded(ended, "disk")
    assert not ended.retryable


@pytest.mark.parametrize(
    "hide",
    ["os.unlink(name)", "os.chmod('inner', 0)"],
    ids=["deleted but open", "in a closed folder"],
)
async def test_hidden_files_count_as_disk(bench: Bench, hide: str) -> None:
    ended = await bench.run(
        "import os, time\nos.mkdir('inner')\nkept = []\n"
        "for i in range(30):\n"
        "    name = f'inner/f{i}'\n"
        "    kept.append(open(name, 'wb', buffering=0)); kept[-1].write(bytes(1 << 20))\n"
        f"    if i == 29 or 'unlink' in {hide!r}: {hide}\n"
        "time.sleep(60)\n",
        limits=Limits(disk_bytes=20 * MIB, seconds=30),
    )
    exceeded(ended, "disk")


async def test_a_disk_without_room_for_its_owner_takes_no_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discogrid_agent.runner.FREE_DISK_BYTES", 1 << 60)
    ended = await bench.run("print(1)")
    assert (ended.outcome, ended.retryable) == (Outcome.BOX_FAILED, True)
    assert "its owner keeps" in ended.reason


async def test_the_largest_task_is_stopped_when_the_disk_runs_full(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discogrid_agent.watch.FREE_DISK_BYTES", 1 << 60)
    small = "import time; time.sleep(1.5); print('spared')"
    large = "import time; open('big', 'wb').write(bytes(100 << 20)); time.sleep(60)"
    spared, stopped = await asyncio.gather(bench.run(small), bench.run(large))
    assert stdout(spared) == "spared\n"
    exceeded(stopped, "disk")
    assert stopped.retryable


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_flood_is_cut_in_the_middle_and_starves_nothing(any_bench: Bench, stream: str) -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.ensure_future(beat())
    began = time.monotonic()
    ended = await any_bench.run(
        f"import sys\nout = sys.{stream}.buffer\nout.write(b'first\\n')\n"
        "for _ in range(2000): out.write(b'x' * 65536)\n"
        "out.write(b'last\\n')\n",
        limits=Limits(log_bytes=10_000, seconds=60),
    )
    took = time.monotonic() - began
    beating.cancel()
    text = stdout(ended) if stream == "stdout" else stderr(ended)
    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert f"[… {6 + 2000 * 65536 + 5 - 10_000:,} bytes cut …]" in text
    assert len(text) < 10_000 + 100
    assert beats > took / 0.01 / 10


async def test_results_over_their_limits_end_as_output(bench: Bench) -> None:
    ended = await bench.run(
        "for i in range(3): open(f'run-result/{i}', 'wb').write(bytes(1000))\n",
        limits=Limits(output_bytes=2500),
    )
    exceeded(ended, "output")
    assert outputs(ended) == ["0", "1"]
    assert ended.skipped == (("2", "over the limit of 2,500 bytes for all files"),)
    assert (ended.exit, ended.retryable) == (0, False)


async def test_ten_thousand_results(any_bench: Bench) -> None:
    ended = await any_bench.run("for i in range(10_000): open(f'run-result/{i:05}', 'w')\n")
    exceeded(ended, "output")
    assert len(ended.outputs) == 4096
    assert len(ended.skipped) == 101
    assert ended.skipped[-1] == ("…", "and 5,804 more")


async def test_logs_are_heard_while_the_task_runs(tmp_path: Path, strict: Box) -> None:
    heard: list[str] = []
    arrived = asyncio.Event()

    def on_log(_: object, stream: str) -> None:
        heard.append(stream)
        arrived.set()

    runner = Runner(tmp_path / "agent", strict, "attic", on_log)
    bench = Bench(tmp_path, runner)
    task = bench.task("import os, time; os.write(1, b'one\\n'); time.sleep(60)")
    running = asyncio.ensure_future(runner.run(task))
    await asyncio.wait_for(arrived.wait(), 10)
    assert heard == ["stdout"]
    kept = {stream: keeper.kept() for stream, keeper in runner.logs(task.attempt).items()}
    assert kept == {"stdout": b"one\n", "stderr": b""}
    runner.kill(task.attempt, "enough")
    await running
    assert runner.logs(task.attempt) == {}
    runner.close()


async def test_a_dropped_archive_is_gone(bench: Bench) -> None:
    ended = await bench.run("print(1)")
    bench.runner.drop(ended.attempt)
    bench.runner.drop(ended.attempt)
    assert not list((bench.folder / "agent" / "archives").iterdir())


async def test_no_dead_process_stays_behind(any_bench: Bench) -> None:
    for _ in range(5):
        await any_bench.run(daemons("dead", ""))
    assert not [child for child in children(os.getpid()) if state_of(child) == "Z"]
