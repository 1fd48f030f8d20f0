"""The benchmark of calls beside the peers: works, table and the processes below it. What is measured is not tested."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import measure, processes
from benchmarks.peers.adapters import PEERS
from benchmarks.peers.adapters.discogrid import WORKER
from benchmarks.peers.alone import Alone
from benchmarks.peers.environments import CannotInstall
from benchmarks.peers.imbalance import best, greedy, lengths
from benchmarks.peers.measure import Measure
from benchmarks.peers.peer import Function, Peer
from benchmarks.peers.processes import Process
from benchmarks.peers.running import ROOT, Plan, run, together
from benchmarks.peers.sizes import Sizes
from benchmarks.peers.table import Table, cell, number
from benchmarks.peers.works import WORKS, percentile
from discogrid.calls.frames import Started
from discogrid.types import SandboxLevel
from discogrid_agent.call_worker import CallWorker, Stage
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.probe import best_box
from discogrid_agent.work_folder import WorkFolder

MARK = "word-of-this-test"
NESTED = """
import subprocess, sys
inner = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
subprocess.run([sys.executable, "-c", inner, sys.argv[1]])
"""


class Plain(Peer):
    """Runs calls where it is."""

    name = "multiprocessing"
    includes = "nothing"

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        return [function(item) for item in items]


class Forgetful(Plain):
    """Loses the last result."""

    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        return super().map(function, items)[:-1]


class Absent(Plain):
    """Is not installed."""

    def start(self) -> None:
        raise ModuleNotFoundError("No module named 'absent'")


def measures(peer: Peer, *works: str) -> list[Measure]:
    return [one for found in Alone(peer, 1, 0.001).measures(list(works)) for one in found]


def measured(peer: str, value: float | None, *, run: int = 1, metric: str = "calls/s", **how: Any) -> Measure:
    return Measure(peer=peer, work="W1", metric=metric, value=value, run=run, **how)


def row(text: str, peer: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"| {peer} ")]
    return [word.strip() for word in line.strip("|").split("|")]


# -- works


def test_a_peer_that_loses_a_result_has_no_numbers(tmp_path: Path) -> None:
    [first, *_] = measures(Forgetful(1, tmp_path), "W1")
    assert first.value is None
    assert first.said.startswith("failed: ")


def test_a_work_that_a_peer_has_nothing_for_is_said_to_be_not_offered(tmp_path: Path) -> None:
    found = measures(Plain(1, tmp_path), "W1", "W1d", "W8")
    assert {one.metric for one in found if one.work == "W1"} == {"calls/s", "CPU µs/call"}
    assert [one.said.partition(":")[0] for one in found if one.work != "W1"] == ["not offered"] * 2


def test_of_a_peer_with_a_coordinator_its_processor_time_is_told_by_itself(tmp_path: Path) -> None:
    class Coordinated(Plain):
        def coordinator(self) -> int:
            return os.getpid()

    found = measures(Coordinated(1, tmp_path), "W1")
    assert {one.metric for one in found} == {"calls/s", "CPU µs/call", "coordinator CPU µs/call"}
    assert all(one.value is not None for one in found)


def test_a_peer_that_is_not_installed_says_so_for_every_work(tmp_path: Path) -> None:
    found = measures(Absent(1, tmp_path), "W0", "W1")
    assert [(one.work, one.said) for one in found] == [
        ("W0", "missing: No module named 'absent'"),
        ("W1", "missing: No module named 'absent'"),
    ]


def test_a_peer_that_pip_cannot_bring_is_missing(tmp_path: Path) -> None:
    plan = Plan(("W0", "W2"), 1, 1.0, 1.0, tmp_path)
    found = run("dask", CannotInstall("no such package"), 1, plan)
    assert [(one.work, one.said) for one in found] == [
        ("W0", "missing: no such package"),
        ("W2", "missing: no such package"),
    ]


def test_memory_is_measured_in_a_process_of_its_own() -> None:
    assert together(("W0", "W8", "W6")) == [["W0", "W6"], ["W8"]]
    assert together(("W8",)) == [["W8"]]


def test_the_worker_is_killed_after_all_other_works() -> None:
    assert list(WORKS)[-1] == "W6"


def test_a_scaled_work_is_never_empty_and_lasts_until_the_worker_is_killed() -> None:
    small = Sizes().scaled(1e-9)
    assert (small.calls, small.blobs, small.naps) == (1, 1, Sizes().naps)
    assert Sizes().scaled(0.5).calls == 10_000


def test_list_scheduling_takes_what_the_longest_call_at_the_end_makes_it_take() -> None:
    assert greedy([1, 1, 4], 2) == 5
    assert best([1, 1, 4], 2) == 4
    assert best([2, 2, 2], 2) == 3
    drawn = lengths(50)
    assert drawn == sorted(drawn)
    assert sum(drawn) == pytest.approx(10.0)


def test_a_percentile_of_few_numbers_is_one_of_them() -> None:
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([float(one) for one in range(100)], 0.99) == 99.0


# -- table


def test_the_table_has_the_median_and_what_the_other_runs_were() -> None:
    text = Table([measured("dask", value, run=run) for run, value in enumerate((650.0, 600.0, 700.0))]).text()
    assert row(text, "dask")[2] == "650 (600 to 700)"


def test_a_missing_peer_has_its_row_and_its_reason() -> None:
    gone = measured("ray", None, metric="", said="missing: No module named 'ray'")
    text = Table([measured("dask", 1.0), gone]).text()
    assert row(text, "ray")[2:] == ["missing", "missing"]
    assert "ray, W1: missing: No module named 'ray'" in text.splitlines()


def test_a_run_without_a_number_shows_beside_those_that_have_one() -> None:
    found = [measured("dask", 5.0), measured("dask", None, run=2, metric="", said="failed: exit 1")]
    text = Table(found).text()
    assert row(text, "dask")[2] == "5.00, 1 without"
    assert "dask, W1: failed: exit 1" in text.splitlines()


def test_peers_that_did_less_are_named_with_how_much() -> None:
    text = Table([measured("dask", 1.0, count=20_000), measured("parsl", 1.0, count=4_000)]).text()
    assert "W1: no-op calls, one a task. Calls: 20,000 (dask); 4,000 (parsl)" in text.splitlines()


def test_every_row_says_what_it_includes() -> None:
    assert row(Table([measured("discogrid-grid", 1.0)]).text(), "discogrid-grid")[1] == (
        "TCP on loopback, CURVE, strict box, signatures, journal"
    )
    assert all(peer.includes for peer in PEERS.values())


@pytest.mark.parametrize(
    ("value", "text"), [(71240.4, "71,240"), (23.04, "23.0"), (1.005, "1.00"), (0.2, "0.200")]
)
def test_a_number_has_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_equal_runs_have_no_spread() -> None:
    assert cell([2.0, 2.0]) == "2.00"


def test_what_was_written_as_json_is_read_again(tmp_path: Path) -> None:
    found = [measured("dask", 1.5, count=3, version="1"), measured("ray", None, said="missing: ray")]
    measure.append(tmp_path / "lines", found[:1])
    measure.append(tmp_path / "lines", found[1:])
    assert list(measure.read(tmp_path / "lines")) == found


def test_a_line_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"schema": "other/1"}\n')
    with pytest.raises(ValueError, match=r"other/1"):
        list(measure.read(tmp_path / "lines"))


# -- processes


@pytest.fixture
def nested() -> Iterator[tuple[int, int]]:
    """A process with MARK on its command line, and one below it that has it, too."""
    outer = subprocess.Popen([sys.executable, "-c", NESTED, MARK], stdout=subprocess.PIPE, text=True)
    assert outer.stdout is not None
    inner = int(outer.stdout.readline())
    yield outer.pid, inner
    processes.end_below(outer.pid)
    outer.wait()
    outer.stdout.close()


def test_the_worker_is_the_innermost_that_has_the_word(nested: tuple[int, int]) -> None:
    outer, inner = nested
    assert processes.innermost(MARK, os.getpid()) == [inner]
    assert processes.innermost(MARK, outer) == [inner]
    assert processes.innermost(MARK, inner) == []


def test_nothing_below_a_process_is_left(nested: tuple[int, int]) -> None:
    outer, inner = nested
    processes.end_below(outer)
    assert inner not in {process.pid for process in processes.tree(os.getpid()) if not process.dead}


def test_a_process_with_brackets_in_its_name_is_read() -> None:
    stat = "12 (a) b (c) S 7 " + " ".join(["0"] * 9) + " 100 200 300 400 20"
    found = Process.of(stat)
    assert (found.pid, found.parent, found.dead) == (12, 7, False)
    assert found.cpu_s == 1000 / processes.TICKS


def program(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]


@pytest.fixture(scope="module")
def strict() -> Box:
    probed = best_box()
    if probed.box.level is not SandboxLevel.STRICT:
        pytest.skip(f"the strict box does not work here: {probed.reason} {probed.fix}")
    return probed.box


async def test_a_worker_in_the_strict_box_is_found_and_dies(tmp_path: Path, strict: Box) -> None:
    (tmp_path / "attempts").mkdir()
    for folder in (tmp_path, *list(tmp_path.parents)[:3], tmp_path / "attempts"):
        folder.chmod(folder.stat().st_mode | 0o711)
    strict.settle(tmp_path)
    work = WorkFolder(tmp_path / "attempts" / "0", strict.owner)
    work.lay_out([])
    worker = CallWorker.start(strict, work, Stage(), 1, 2)
    assert await worker.ready() == Started()
    [victim] = processes.innermost(WORKER, os.getpid())
    assert program(victim) == str(strict.python)
    os.kill(victim, 9)
    assert (await worker.ended).exit != 0
    assert processes.innermost(WORKER, os.getpid()) == []


def test_a_grid_says_how_much_of_the_floor_it_reaches_run_by_run() -> None:
    found = [
        Measure(peer=peer, work="W4", metric="MB/s", value=value, run=run)
        for run, (floor, grid) in enumerate(((400.0, 100.0), (200.0, 100.0), (300.0, 90.0)), 1)
        for peer, value in (("curve-echo", floor), ("discogrid-grid", grid))
    ]
    found += [Measure(peer="curve-echo", work="W4", metric="MB/s", value=1.0, run=9)]
    said = "MB/s of discogrid-grid: 0.300 (0.250 to 0.500) of curve-echo in the same run"
    assert said in Table(found).text().splitlines()
    assert "of curve-echo" not in Table(found[:1]).text()


# -- all of it


def test_two_peers_run_small_works_and_one_table_has_both(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    words = ["--works", "W0,W1,W3,W4,W8", "--peers", "xargs,multiprocessing,curve-echo", "--reps", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", *words, "--scale", "0.001", "--json", lines],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = {(one.peer, one.work): one for one in measure.read(lines)}
    assert len({work for peer, work in found if peer == "xargs"}) == 5
    assert all(one.value is not None for (peer, _), one in found.items() if peer == "multiprocessing")
    assert row(done.stdout, "xargs")[3] == "not offered"
    echoed = found["curve-echo", "W4"].value
    assert echoed is not None
    assert echoed > 0
    assert found["curve-echo", "W1"].said.startswith("not offered")
    assert "Made by: python -m benchmarks.peers --works W0,W1,W3,W4,W8" in done.stdout
    again = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", "--tabulate", lines],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert row(again.stdout, "multiprocessing") == row(done.stdout, "multiprocessing")
