"""The strict box by our own program: what it does before, beside and after a task, which the task itself cannot tell."""

import asyncio
import os
import platform
import select
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from discogrid.errors import SandboxError
from discogrid.submission import MOUNTS_MAX
from discogrid.types import Limits, Outcome
from discogrid_agent.sandbox.box import BoxEnd, Scene
from discogrid_agent.sandbox.credentials import acting_as
from discogrid_agent.sandbox.kernel_limits import box_limits
from discogrid_agent.sandbox.memory_files import program_file
from discogrid_agent.sandbox.native import PROGRAMS_MAX, Native, plan_of
from discogrid_agent.sandbox.steps import STARTED, Report, reports
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.sandbox.strict_program import orders, strict_program
from discogrid_agent.sandbox.world import Shown
from tests.box.bench import LOOK_S, LOOKS_MAX, Bench, content, stdout

ENDS_MS = 10_000
WRITES = ("/bin/sh", "-c", "echo ran > run-result/done")


@pytest.fixture
def box(tmp_path: Path) -> StrictBox:
    made = StrictBox(Native())
    made.settle(tmp_path)
    return made


def scene(folder: Path, box: StrictBox, command: tuple[str, ...]) -> Scene:
    for name in ("work", "work/run-result", "tmp"):
        (folder / name).mkdir(parents=True)
        if box.owner is not None:
            os.chown(folder / name, box.owner.uid, box.owner.gid)
    out = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    return Scene(folder / "work", folder / "tmp", (), command, {}, Limits(), out, out)


@dataclass
class ByHand:
    """A program that was started without an agent."""

    channel: socket.socket
    first: int  # the box's process 1
    alive: int  # its pidfd

    def ended(self) -> bool:
        return bool(select.select([self.alive], [], [], ENDS_MS / 1000)[0])

    def said(self) -> list[Report]:
        said = b""
        while part := self.channel.recv(64):
            said += part
        return reports(said)


@pytest.fixture
def by_hand(tmp_path: Path, box: StrictBox) -> Iterator[ByHand]:
    made = scene(tmp_path / "attempt", box, WRITES)
    own = [
        Shown.at(made.temporary, "/tmp", writable=True),
        Shown.at(made.work, "/local", writable=True),
    ]
    program = program_file(strict_program(platform.machine(), plan_of(box, own)))
    near, far = socket.socketpair()
    with near, far:
        near.sendall(orders(box_limits(made.limits), [thing.source for thing in own]))
        with acting_as(box.owner):
            process = subprocess.Popen(
                [f"/proc/self/fd/{program}", *WRITES], env={}, stdin=far.fileno(), pass_fds=[program]
            )
        far.close()
        [report] = reports(near.recv(8))
        assert report.process == STARTED
        assert process.wait() == 0
        alive = os.pidfd_open(report.answer)
        yield ByHand(near, report.answer, alive)
        os.close(alive)
    os.close(program)
    os.waitpid(report.answer, 0)


def test_a_box_without_an_agent_that_gives_the_word_runs_nothing(tmp_path: Path, by_hand: ByHand) -> None:
    by_hand.channel.shutdown(socket.SHUT_WR)
    assert by_hand.ended()
    assert not (tmp_path / "attempt/work/run-result/done").exists()


def test_a_box_with_the_word_runs_its_command_and_says_how_it_ended(tmp_path: Path, by_hand: ByHand) -> None:
    by_hand.channel.send(b"\0")
    assert by_hand.said() == [Report(2, 0)]
    assert by_hand.ended()
    assert (tmp_path / "attempt/work/run-result/done").read_text() == "ran\n"


async def test_a_step_that_the_kernel_refuses_ends_the_box_with_its_reason(
    tmp_path: Path, box: StrictBox
) -> None:
    made = scene(tmp_path / "attempt", box, WRITES)
    (tmp_path / "attempt/work/run-result").rmdir()
    (tmp_path / "attempt/work").rmdir()  # nothing to be shown at /local
    end = await box.start(made).ended
    assert end == BoxEnd(ran=False, exit=None, seconds=end.seconds, refused=2)  # ENOENT


async def test_a_command_that_is_not_there_is_told_from_a_box_that_failed(
    tmp_path: Path, box: StrictBox
) -> None:
    end = await box.start(scene(tmp_path / "attempt", box, ("/no/such/program",))).ended
    assert (end.ran, end.error, end.refused) == (False, 2, None)


async def test_a_box_that_is_killed_before_its_first_process_is_known_runs_nothing(
    tmp_path: Path, box: StrictBox
) -> None:
    boxed = box.start(scene(tmp_path / "attempt", box, WRITES))
    boxed.kill()
    end = await asyncio.wait_for(boxed.ended, ENDS_MS / 1000)
    assert not end.ran
    assert not (tmp_path / "attempt/work/run-result/done").exists()


async def test_a_box_that_is_killed_leaves_no_process_and_no_zombie(tmp_path: Path, box: StrictBox) -> None:
    boxed = box.start(scene(tmp_path / "attempt", box, ("/bin/sleep", "300")))
    for _ in range(LOOKS_MAX):
        if inside := boxed.processes():
            break
        await asyncio.sleep(LOOK_S)
    else:
        raise AssertionError("nothing was started")
    boxed.kill()
    boxed.kill()
    end = await asyncio.wait_for(boxed.ended, ENDS_MS / 1000)
    assert (end.ran, end.exit) == (True, -9)
    assert not {str(process) for process in inside} & set(os.listdir("/proc"))
    assert boxed.processes() == []
    assert boxed.shared_bytes() == 0


async def test_an_exit_code_that_looks_like_a_signal_is_none(cold_bench: Bench) -> None:
    ended = await cold_bench.run("import os; os._exit(137)")
    assert (ended.outcome, ended.exit) == (Outcome.SCRIPT_FAILED, 137)
    ended = await cold_bench.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (ended.outcome, ended.exit) == (Outcome.SCRIPT_FAILED, -9)


async def test_orphans_are_reaped_while_their_task_runs(cold_bench: Bench) -> None:
    """A zombie each would use up the task's processes."""
    script = """
import os, time
for _ in range(300):
    if (child := os.fork()) == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.waitpid(child, 0)
for _ in range(1000):
    left = [name for name in os.listdir('/proc') if name.isdigit() and int(name) not in (1, os.getpid())]
    if not left:
        break
    time.sleep(0.01)
print(len(left))
"""
    ended = await cold_bench.run(script, limits=Limits(seconds=60, processes=64))
    assert (ended.outcome, stdout(ended)) == (Outcome.SUCCEEDED, "0\n")


async def test_process_1_shows_a_task_nothing_of_the_machine(cold_bench: Bench) -> None:
    script = """
import os
for name in ('environ', 'maps', 'mem', 'fd', 'root', 'cwd'):
    try:
        os.listdir(f'/proc/1/{name}') if name in ('fd', 'root', 'cwd') else open(f'/proc/1/{name}', 'rb').read(1)
        print(name)
    except PermissionError:
        pass
open('run-result/mounts', 'w').write(open('/proc/self/mountinfo').read())
"""
    ended = await cold_bench.run(script)
    assert (ended.outcome, stdout(ended)) == (Outcome.SUCCEEDED, "")
    places = [line.split()[4] for line in content(ended, "mounts").decode().splitlines()]
    assert "/.machine" not in " ".join(places)
    assert "/" in places
    assert "/local" in places


async def test_more_jobs_with_files_of_their_own_than_programs_are_kept(
    cold_bench: Bench, tmp_path: Path
) -> None:
    for number in [*range(PROGRAMS_MAX + 2), 0]:
        tree = tmp_path / f"tree-{number}"
        tree.mkdir(exist_ok=True)
        (tree / "file").write_text(f"{number}")
        ended = await cold_bench.run(
            f"print(open('/home/codelab/{number}/file').read())", mounts=((f"/home/codelab/{number}", tree),)
        )
        assert stdout(ended) == f"{number}\n"


async def test_a_job_with_as_many_mounts_as_are_allowed_is_shown_all(
    cold_bench: Bench, tmp_path: Path
) -> None:
    mounts = []
    for number in range(MOUNTS_MAX):
        (tmp_path / f"tree-{number}").mkdir()
        mounts.append((f"/home/codelab/{number}", tmp_path / f"tree-{number}"))
    ended = await cold_bench.run("import os; print(len(os.listdir('/home/codelab')))", mounts=tuple(mounts))
    assert stdout(ended) == f"{MOUNTS_MAX}\n"


async def test_a_path_that_is_too_long_is_told(tmp_path: Path, box: StrictBox) -> None:
    made = scene(tmp_path / "attempt", box, WRITES)
    long = Path("/", *["d" * 250] * 17)
    with pytest.raises(SandboxError, match="File name too long"):
        box.way.start(box, made, [Shown(str(long), "/local", writable=True)], {})
