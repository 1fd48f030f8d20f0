"""Python calls on real grids: over TCP into strict boxes, and as this user on a grid of this machine's own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discogrid.calls.pool import CallPool
from discogrid.client import AsyncClient
from discogrid.errors import CallLost, NoAgentFits, OutOfMemory, TaskTimeout, VersionMismatch, WorkerLost
from discogrid.grid import open_grid
from discogrid.remote import grid_line, opening
from discogrid.remote.opening import open_calls
from discogrid.remote.options import CallOptions
from tests.grid import called
from tests.grid.machines import Machine, until


@contextmanager
def at(machine: Machine) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCOGRID_HOME", str(machine.home))
        patch.setenv("MARK", "of the program")
        yield


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with closing(Machine(tmp_path_factory.mktemp("own"))) as machine:
        yield machine


@pytest.fixture(params=["grid", "own"])
def where(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    machine: Machine = request.getfixturevalue(request.param)
    with at(machine):
        yield {"grid": "home"} if request.param == "grid" else {"local": True}


@contextmanager
def pool(**options: Any) -> Iterator[CallPool]:
    made = CallPool(open_calls(CallOptions(**options)))
    try:
        yield made
    finally:
        made.terminate()
        made.join()


def test_calls_of_every_kind_come_back(where: dict[str, Any]) -> None:
    with pool(**where) as made:
        assert made.apply(called.add, (1,), {"b": 2}) == 3
        assert made.map(called.square, range(1000)) == [x * x for x in range(1000)]
        assert made.map(called.square, range(50), chunksize=1) == [x * x for x in range(50)]
        assert made.starmap(divmod, [(7, 2), (9, 4)]) == [(3, 1), (2, 1)]
        assert list(made.imap(called.square, iter(range(300)))) == [x * x for x in range(300)]
        assert sorted(made.imap_unordered(abs, range(-9, 0))) == list(range(1, 10))
        assert made.apply(lambda x: x + 1, (41,)) == 42


def test_what_a_call_raises_is_raised_with_its_traceback_and_where_it_ran(where: dict[str, Any]) -> None:
    with pool(**where) as made:
        with pytest.raises(KeyError) as caught:
            made.apply(called.fail, (7,))
        assert caught.value.args == (7,)
        assert "raise KeyError(x)" in str(caught.value.__cause__)
        assert any("It ran on" in note for note in caught.value.__notes__)
        with pytest.raises(ZeroDivisionError) as caught_of_map:
            made.map(lambda x: 1 // x, [2, 1, 0])
        assert any("It was item 2," in note for note in caught_of_map.value.__notes__)


def test_what_a_call_raises_names_the_log_that_holds_what_it_printed(
    where: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    machine: Machine = request.getfixturevalue("own" if "local" in where else "grid")
    with pool(**where) as made:
        with pytest.raises(KeyError) as caught:
            made.map(called.complain, range(6), chunksize=1)  # some run together in one place
        [note] = caught.value.__notes__
        said = machine.run("logs", note.split()[-1])
        assert "complaint 3\n" in said.stdout


def test_a_call_that_kills_its_process_is_lost_alone(where: dict[str, Any]) -> None:
    with pool(**where) as made:
        results = [made.apply_async(called.die, (x,)) for x in range(6)]
        assert [result.get(60) for x, result in enumerate(results) if x != 3] == [0, 1, 2, 4, 5]
        with pytest.raises(WorkerLost, match="signal 9"):
            results[3].get(60)


def test_a_worker_that_was_lost_is_in_the_log_with_the_call_that_it_was_lost_under(
    where: dict[str, Any], request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    machine: Machine = request.getfixturevalue("own" if "local" in where else "grid")
    with pool(**where) as made:
        with pytest.raises(WorkerLost) as caught:
            made.map(called.die, range(6), chunksize=1)
        [note] = caught.value.__notes__
        assert note.startswith("It was item 3,")
        said = machine.run("logs", note.split()[-1])
        named = "seat 1: " if "local" in where else "call 4: "
        assert f"{named}the process that ran the call has died: signal 9" in said.stdout + said.stderr
        assert ("call 4 is made again" in caplog.text) == ("local" in where)


def test_of_many_quick_calls_what_kills_its_process_is_lost_alone(where: dict[str, Any]) -> None:
    with pool(**where) as made:
        made.map(called.die_at, range(1000))  # now it is known how quick they are
        results = made.imap(called.die_at, range(3000))
        assert [next(results) for _ in range(1234)] == list(range(1234))
        with pytest.raises(WorkerLost, match="signal 9") as caught:
            next(results)
        assert any("It was item 1234," in note for note in caught.value.__notes__)
        assert list(results) == list(range(1235, 3000))


def test_of_many_quick_calls_those_that_fail_do_so_alone(where: dict[str, Any]) -> None:
    with pool(**where) as made:
        made.map(called.fail_at, range(900))
        results = made.imap(called.fail_at, range(3000))
        for number in range(3000):
            if number % 1000 == 999:
                with pytest.raises(KeyError) as caught:
                    next(results)
                assert caught.value.args == (number,)
                assert "in fail_at" in str(caught.value.__cause__)
                assert any(f"It was item {number}," in note for note in caught.value.__notes__)
            else:
                assert next(results) == number


def test_of_many_quick_calls_none_waits_for_a_slow_one_behind_it(own: Machine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with at(own), pool(local=True) as made:
        made.map(called.wait_at, [(1, "")] * 1000)
        results = made.imap(called.wait_at, [(number, str(go)) for number in range(2000)])
        assert [next(results) for _ in range(700)] == list(range(700))
        go.touch()
        assert list(results) == list(range(700, 2000))


def test_a_call_that_takes_too_long_is_ended_alone(where: dict[str, Any]) -> None:
    with pool(**where, timeout=1.0) as made:
        slow, quick = made.apply_async(called.wait, (600.0,)), made.apply_async(called.square, (3,))
        with pytest.raises(TaskTimeout, match="1 s"):
            slow.get(60)
        assert quick.get(60) == 9


def test_a_call_that_takes_too_much_memory_is_ended_alone(grid: Machine) -> None:
    with at(grid), pool(grid="home", memory_bytes=256 << 20) as made:
        assert made.apply(called.eat, (50 << 20,)) == 50 << 20
        with pytest.raises((OutOfMemory, MemoryError)):
            made.apply(called.eat, (800 << 20,))
        assert made.apply(called.square, (3,)) == 9


def test_on_a_grid_calls_run_in_an_empty_folder_with_the_files_that_they_were_given(
    grid: Machine, tmp_path: Path
) -> None:
    table = tmp_path / "table.txt"
    table.write_text("forty-two")
    with at(grid), pool(grid="home", const=(table,)) as made:
        seen = made.apply(called.around, (0,))
        assert (seen["files"], seen["mark"]) == (["run-result", "table.txt"], None)
        assert made.apply(called.read, ("table.txt",)) == "forty-two"
        with pytest.raises(FileNotFoundError):
            made.apply(called.read, (str(table),))


def test_on_this_machines_own_grid_calls_run_as_the_program_does(own: Machine) -> None:
    with at(own), pool(local=True) as made:
        seen = made.map(called.around, range(8))
        assert {(one["folder"], one["mark"]) for one in seen} == {(os.getcwd(), "of the program")}
        assert os.getpid() not in {one["pid"] for one in seen}
    with at(own), pool(local=True, box=True) as boxed:
        assert boxed.apply(called.around, (0,))["mark"] is None


def test_large_arguments_and_results_arrive(where: dict[str, Any]) -> None:
    contents = [bytes([n]) * (3 << 20) + b"end" for n in range(4)]
    with pool(**where) as made:
        assert made.map(called.turn, contents) == [called.turn(content) for content in contents]
        assert made.map(len, [b"small", contents[0]]) == [5, len(contents[0])]


def test_large_arguments_and_results_become_files_in_no_store(grid: Machine) -> None:
    doors = [*grid.home.rglob("blobs/incoming")]
    assert {door.relative_to(grid.home).parts[0] for door in doors} >= {"agent", "coordinator"}
    with at(grid), pool(grid="home") as made:
        contents = [bytes([n]) * (3 << 20) for n in range(4)]
        made.map(called.turn, [b"small"])  # the function is there, which is kept as a file
        before = [door.stat().st_mtime_ns for door in doors]
        made.map(called.turn, contents)
        assert [door.stat().st_mtime_ns for door in doors] == before  # no file was begun in them


def test_large_values_of_odd_sizes_and_kinds_come_back_as_they_were(where: dict[str, Any]) -> None:
    sizes = (1, 65_535, 65_536, 65_537, 262_145, 5_000_003, 40_000_001)
    contents: list[Any] = [os.urandom(size) for size in sizes]
    contents += [bytearray(contents[4]), np.arange(300_001.0), np.zeros((300, 1001), "<i4", order="F")]
    contents += [[contents[4], np.arange(100_000), b"small"]]
    with pool(**where) as made:
        for _ in range(2):
            back = made.map(called.turn_all, contents, chunksize=1)
            for found, content in zip(back, contents, strict=True):
                expected = called.turn_all(content)
                pairs = (
                    zip(found, expected, strict=True) if isinstance(content, list) else [(found, expected)]
                )
                for one, other in pairs:
                    assert type(one) is type(other)
                    assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def test_equal_large_results_that_come_together_all_come(where: dict[str, Any]) -> None:
    with pool(**where) as made:
        assert made.map(bytes, [3_000_000] * 24, chunksize=1) == [bytes(3_000_000)] * 24


def test_what_dies_in_a_large_call_is_made_again_and_the_others_never_notice(
    own: Machine, tmp_path: Path
) -> None:
    contents = [os.urandom(3_000_000 + at) for at in range(8)]
    trace = str(tmp_path / "trace")
    with at(own), pool(local=True) as made:
        back = made.starmap(called.die_once, [(content, trace) for content in contents], chunksize=1)
    assert back == [content[::-1] for content in contents]
    assert os.path.exists(trace)


def test_seats_leave_no_memory_behind(own: Machine) -> None:
    def trays() -> int:
        names = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return sum("discogrid-tray" in os.readlink(name) for name in names if os.path.islink(name))

    with at(own), pool(local=True) as made:
        assert made.map(len, [bytes(1 << 20)] * 8, chunksize=1) == [1 << 20] * 8
        assert trays() > 0
        assert made.apply(called.inherited_trays, (bytes(1 << 20),)) == [False, False]
        until(lambda: trays() == 0)  # seats are given up when they are idle
        assert made.map(len, [bytes(1 << 20)] * 8, chunksize=1) == [1 << 20] * 8
    assert trays() == 0


KILLED = """
import itertools, sys
from discogrid.calls.pool import CallPool
from discogrid.remote.opening import open_calls
from discogrid.remote.options import CallOptions

pool = CallPool(open_calls(CallOptions(local=True)))
for _ in pool.imap_unordered(len, (bytes(8 << 20) for _ in itertools.count()), 1):
    print("one", flush=True)
"""


def test_no_memory_is_left_of_a_program_that_was_killed(own: Machine) -> None:
    def holders() -> list[str]:
        """Processes of this test that hold a tray."""
        found = []
        for process in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError):  # it has ended meanwhile, or is somebody else's
                ours = os.fsencode(own.home) in Path("/proc", process, "environ").read_bytes()
                held = [os.readlink(one) for one in Path("/proc", process, "fd").iterdir()] if ours else []
                found += [process] * any("discogrid-tray" in name for name in held)
        return found

    script = own.write("killed.py", KILLED)
    with subprocess.Popen(
        [sys.executable, script], cwd=own.work, env=own.environment, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"one\n"
        assert str(program.pid) in holders()
        assert len(holders()) > 1
        program.kill()
    until(lambda: not holders())


def test_what_a_call_prints_is_its_tasks_log(grid: Machine) -> None:
    with at(grid), pool(grid="home", name="talker") as made:
        made.apply(called.say, ("hello from afar",))
    listed = grid.document("ls")["jobs"]
    job = next(job["id"] for job in listed if job["name"] == "talker")
    logs = grid.run("logs", f"{job}-0")
    assert (logs.returncode, logs.stdout) == (0, "hello from afar\nbeside hello from afar\n"), logs.stderr


def test_a_pool_is_a_job_like_others_until_it_is_closed(where: dict[str, Any]) -> None:
    made = CallPool(open_calls(CallOptions(**where, name="counted")))
    made.map(called.square, range(40), chunksize=4)
    chunks = 10 if "grid" in where else 0  # on this machine tasks are seats, of which each takes many calls
    [open_] = [job for job in jobs(where) if job.name == "counted"]
    assert (open_.state, open_.counts.done) == ("running", chunks)
    made.close()
    made.join()
    [ended] = [job for job in jobs(where) if job.name == "counted"]
    assert ended.state == "succeeded"
    assert ended.counts.done == ended.counts.total >= max(1, chunks)


def jobs(where: dict[str, Any]) -> Any:
    async def ask() -> Any:
        async with AsyncClient(open_grid(where.get("grid", "own"))) as client:
            return await client.jobs()

    return asyncio.run(ask())


def test_a_pool_whose_job_is_cancelled_says_so(grid: Machine) -> None:
    with at(grid), pool(grid="home", name="unwanted") as made:
        result = made.apply_async(called.wait, (600.0,))
        job = next(job["id"] for job in grid.document("ls")["jobs"] if job["name"] == "unwanted")
        assert grid.run("cancel", job).returncode == 0
        with pytest.raises(CallLost, match="cancelled"):
            result.get(30)


def test_what_no_agent_can_run_is_refused_at_once(grid: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with at(grid):
        with pytest.raises(NoAgentFits, match="no agent") as lacking:
            open_calls(CallOptions(grid="home", needs=("a_module_that_nobody_has",)))
        assert "a_module_that_nobody_has" in lacking.value.why
        monkeypatch.setattr(opening, "PYTHON", (3, 7))
        with pytest.raises(VersionMismatch, match=r"Python 3\.7") as other:
            open_calls(CallOptions(grid="home"))
        assert "python3" in other.value.fix


def test_what_this_machine_turns_out_to_lack_is_said_of_the_calls_that_wait_for_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(grid_line, "STARVED_S", 0.1)
    lacking: dict[str, Any] = {"local": True, "box": True, "needs": ("a_module_that_nobody_has",)}
    said = ""

    def told() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "they wait" in said

    with at(machine):  # whose own grid starts with this, and does not know yet what it has
        try:
            with pool(**lacking) as made:
                made.apply_async(called.square, (2,))
                until(told)
        except NoAgentFits as error:  # it knew before the pool was open
            said = str(error)
    assert "a_module_that_nobody_has" in said


def test_no_more_calls_run_at_a_time_than_processes(grid: Machine, tmp_path: Path) -> None:
    with at(grid), pool(grid="home", processes=1) as made:
        assert len({one["pid"] for one in made.map(called.around, range(40), chunksize=1)}) == 1


def test_calls_are_made_again_where_an_agent_dies(machine: Machine, tmp_path: Path) -> None:
    machine.coordinate()
    agents = [machine.start("agent", "--name", name, "--slots", "1") for name in ("attic", "cellar")]
    until(lambda: len(machine.live_agents()) == 2)
    with at(machine), pool(grid="home") as made:
        results = made.imap(called.square, range(200))
        slow = made.map_async(called.wait, [0.05] * 60, chunksize=1)
        assert next(results) == 0
        agents[0].kill()
        assert slow.get(90) == [0.05] * 60
        assert list(results) == [x * x for x in range(1, 200)]


@pytest.mark.parametrize(
    ("memory", "why"),
    [
        (None, "is there now; calls wait for one\n"),
        ("64M", "can run these calls now; they wait. cellar: "),
    ],
)
def test_who_waits_for_calls_that_nobody_can_run_any_more_is_told_why(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    memory: str | None,
    why: str,
) -> None:
    monkeypatch.setattr(grid_line, "STARVED_S", 0.1)
    machine.coordinate()
    agent = machine.start("agent", "--name", "attic", "--slots", "1")
    until(lambda: len(machine.live_agents()) == 1)
    with at(machine), pool(grid="home", memory_bytes=256 << 20) as made:
        assert made.apply(called.square, (2,)) == 4
        agent.terminate()
        agent.wait()
        if memory is not None:
            machine.start("agent", "--name", "cellar", "--slots", "1", "--memory", memory)
        until(lambda: "attic" not in machine.live_agents() and len(machine.live_agents()) == bool(memory))
        capsys.readouterr()
        result = made.apply_async(called.square, (3,))
        said = ""

        def told() -> bool:
            nonlocal said
            said += capsys.readouterr().err
            return "wait" in said

        until(told)
        machine.start("agent", "--name", "attic", "--slots", "1")
        assert result.get(60) == 9
        assert said.startswith(f"discogrid: no agent of the grid home {why}")
        assert said.count("discogrid:") == 1


def test_calls_are_made_again_when_the_coordinator_was_killed(machine: Machine) -> None:
    coordinator = machine.coordinate()
    where = json.loads(machine.address.read_text())["endpoint"].removeprefix("tcp://")
    machine.lend()
    with at(machine), pool(grid="home") as made:
        assert made.apply(called.square, (2,)) == 4
        slow = made.map_async(called.wait, [0.05] * 100, chunksize=1)
        until(lambda: not slow.ready())
        coordinator.kill()
        coordinator.wait()
        machine.coordinate(where)
        assert slow.get(90) == [0.05] * 100
        assert made.map(called.square, range(30)) == [x * x for x in range(30)]
        states = [job["state"] for job in machine.document("ls")["jobs"]]
    assert states == ["running", "cancelled"]  # the newest first


ORPHANING = """
import os, time
from discogrid.calls.pool import CallPool
from discogrid.remote.opening import open_calls
from discogrid.remote.options import CallOptions

pool = CallPool(open_calls(CallOptions(grid="home", name="orphan")))
pool.apply_async(time.sleep, (600,))
pool.apply(abs, (1,))
os._exit(0)
"""


def test_calls_that_are_under_way_end_with_their_program(grid: Machine) -> None:
    script = grid.write("program.py", ORPHANING)
    subprocess.run([sys.executable, script], cwd=grid.work, env=grid.environment, check=True, timeout=60)

    def state() -> str:
        listed = grid.document("ls")["jobs"]
        return next((str(job["state"]) for job in listed if job["name"] == "orphan"), "")

    assert state() in ("running", "cancelled")
    until(lambda: state() == "cancelled", patience_s=60)
