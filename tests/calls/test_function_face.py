"""@discogrid.function leaves a function what it is, and lets it run elsewhere."""

import itertools
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import discogrid
from discogrid.errors import OutOfMemory, TaskTimeout, WorkerLost
from tests.calls.mortal_line import Openings

REPOSITORY = Path(__file__).parents[2]
LOCK = threading.Lock()  # of the module, which does not travel


@discogrid.function
def square(number: int) -> int:
    """The square of a number."""
    return number * number


@discogrid.function(cpus=2, timeout="90s", needs="numpy", name="powers")
def power(base: int, *, exponent: int = 2) -> int:
    with LOCK:
        return int(base**exponent)


def worker() -> int:
    return os.getpid()


def fails_until(file: Path, tries: int, kind: str) -> int:
    """Fails so many times before it returns how often it was tried."""
    with file.open("a") as log:
        log.write("x")
    tried = file.stat().st_size
    if tried <= tries:
        if kind == "dies":
            os._exit(3)
        errors: dict[str, Exception] = {
            "memory": OutOfMemory("too much"),
            "time": TaskTimeout("too long"),
            "own": ValueError("mine"),
            "connection": ConnectionResetError("theirs"),
        }
        raise errors[kind]
    return tried


def wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def test_it_is_still_the_function(openings: Openings) -> None:
    assert (square(3), square.local(4)) == (9, 16)
    assert (square.__name__, square.__doc__) == ("square", "The square of a number.")
    assert "square" in repr(square)
    assert not openings.options


def test_it_runs_elsewhere(openings: Openings) -> None:
    assert square.remote(3) == 9
    assert square.spawn(4).result() == 16
    assert list(square.map(range(100))) == [number * number for number in range(100)]
    assert power.remote(2, exponent=5) == 32
    assert list(discogrid.function(pow).starmap([(2, 3), (3, 2)])) == [8, 9]
    assert discogrid.function(worker).remote() != os.getpid()
    default, powers = openings.options
    assert (default.cpus, default.name) == (1, "")
    assert (powers.cpus, powers.timeout, powers.needs, powers.name) == (2, 90.0, ("numpy",), "powers")


def test_a_map_begins_at_once_and_reads_on_as_results_are_taken(
    openings: Openings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discogrid.remote_function.CALLS_AHEAD", 50)
    read = itertools.count()
    results = square.map(read)
    assert next(read) == 50
    assert list(itertools.islice(results, 100)) == [
        number * number for number in [*range(50), *range(51, 101)]
    ]
    assert 100 <= next(read) <= 160


def test_who_stops_taking_results_cancels_the_rest(openings: Openings, tmp_path: Path) -> None:
    waits = discogrid.function(wait_for)
    results = waits.map(itertools.chain([tmp_path], itertools.repeat(tmp_path / "go", 100)))
    assert next(results) is None
    results.close()  # type: ignore[attr-defined]  # a generator
    (tmp_path / "go").touch()
    openings.dispatchers[0].drain()
    assert sum(openings.line().sent) < 50


@pytest.mark.parametrize("kind", ["dies", "memory", "time"])
def test_a_call_that_was_lost_is_made_again(kind: str, openings: Openings, tmp_path: Path) -> None:
    tried = discogrid.function(retries=2)(fails_until)
    assert tried.remote(tmp_path / "file", 2, kind) == 3
    with pytest.raises((WorkerLost, OutOfMemory, TaskTimeout)):
        tried.remote(tmp_path / "other", 3, kind)
    assert (tmp_path / "other").stat().st_size == 3
    with pytest.raises((WorkerLost, OutOfMemory, TaskTimeout)):
        discogrid.function(fails_until).remote(tmp_path / "third", 1, kind)


def test_what_it_raises_itself_is_tried_again_when_asked(openings: Openings, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"):
        discogrid.function(retries=5)(fails_until).remote(tmp_path / "one", 1, "own")
    asked = discogrid.function(retries=5, retry_on=ValueError)(fails_until)
    assert asked.remote(tmp_path / "two", 1, "own") == 2
    assert list(asked.starmap([(tmp_path / "three", 3, "own")])) == [4]
    with pytest.raises(ConnectionResetError):
        asked.remote(tmp_path / "four", 1, "connection")
    several = discogrid.function(retries=1, retry_on=(ValueError, OSError))(fails_until)
    assert several.remote(tmp_path / "five", 1, "connection") == 2


@pytest.mark.parametrize("retries", [0, 1])
def test_a_future_is_cancelled_until_its_call_has_left(
    retries: int, openings: Openings, tmp_path: Path
) -> None:
    waits = discogrid.function(retries=retries)(wait_for)
    futures = [waits.spawn(tmp_path / "go") for _ in range(20)]
    assert futures[-1].cancel()
    (tmp_path / "go").touch()
    done, left = wait(futures, 60)
    assert (len(done), left) == (20, set())
    with pytest.raises(CancelledError):
        futures[-1].result()
    assert futures[0].result() is None


def test_a_call_that_is_not_taken_any_more_is_not_tried_again(openings: Openings, tmp_path: Path) -> None:
    future = discogrid.function(retries=3)(fails_until).spawn(tmp_path / "file", 3, "dies")
    openings.dispatchers[0].close()
    with pytest.raises(WorkerLost):
        future.result(60)


class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    @discogrid.function
    def times(self, number: int) -> int:
        return self.factor * number


def test_a_method_is_bound_to_its_object(openings: Openings) -> None:
    assert Scale(3).times(4) == 12
    assert Scale(3).times.remote(4) == 12
    assert isinstance(Scale.times, discogrid.remote_function.RemoteFunction)


def test_of_a_module_it_goes_by_name_and_of_nobody_by_value() -> None:
    assert pickle.loads(pickle.dumps(square)) is square
    made = cloudpickle.loads(
        cloudpickle.dumps(discogrid.function(retries=2, cpus=3)(lambda number: number + 1))
    )
    assert made(2) == 3
    assert (made._retries, made._options.cpus) == (2, 3)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"retries": -1}, ValueError),
        ({"retries": "2"}, ValueError),
        ({"cpus": 0}, ValueError),
        ({"cpu": 1}, TypeError),
    ],
)
def test_an_option_that_means_nothing_is_refused_where_it_is_written(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        discogrid.function(**options)
    with pytest.raises(TypeError, match="wants a function"):
        discogrid.function(3)  # type: ignore[call-overload]  # that is the point


def test_of_the_main_program_it_is_used_within_others_and_recursively(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        textwrap.dedent(
            """
            import threading
            import discogrid
            lock = threading.Lock()
            @discogrid.function(retries=1)
            def twice(n):
                with lock:
                    return 2 * n
            """
        )
    )
    (tmp_path / "program.py").write_text(
        textwrap.dedent(
            """
            import pytest
            from tests.calls.mortal_line import in_place_of_a_grid
            openings = in_place_of_a_grid(pytest.MonkeyPatch())
            import discogrid
            import own

            @discogrid.function
            def factorial(n):
                return n * factorial(n - 1) if n else 1

            @discogrid.function(cpus=2)
            def work(n):
                return factorial.local(n) + factorial(n) + own.twice(n)

            @discogrid.function
            def nested(n):
                return work

            print(work.remote(4), list(own.twice.map([1, 2])), factorial.remote(5), nested.remote(3)(1))
            work.spawn(3)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("56 [2, 4] 120 4\n", "")
