"""discogrid.Executor has the arguments of ProcessPoolExecutor, and a map that reads as results are taken."""

import concurrent.futures
import itertools
import multiprocessing
import os
import time
from concurrent.futures import CancelledError, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from discogrid import Executor
from tests.calls.mortal_line import Openings


def note(key: str, value: str) -> None:
    os.environ[key] = value


def wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def refuse(number: int) -> int:
    if number == 2:
        raise multiprocessing.TimeoutError("two")
    if number == 3:
        raise StopIteration(number)
    return number


def test_futures_are_real_ones(openings: Openings) -> None:
    with Executor(2, initializer=note, initargs=("GREETING", "hello"), max_tasks_per_child=100) as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        futures = [executor.submit(abs, -number) for number in range(20)]
        assert sorted(future.result() for future in concurrent.futures.as_completed(futures)) == list(
            range(20)
        )
        assert executor.submit(os.getenv, "GREETING").result() == "hello"
    assert (openings.options[0].processes, openings.options[0].calls_max) == (2, 100)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": -1}, ValueError),
        ({"initializer": 3}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
        ({"max_tasks_per_child": "2"}, TypeError),
    ],
)
def test_what_the_standard_library_refuses_is_refused_in_its_words(
    arguments: dict[str, Any], error: type[Exception], openings: Openings
) -> None:
    with pytest.raises(error) as theirs:
        ProcessPoolExecutor(**arguments)
    with pytest.raises(error) as ours:
        Executor(**arguments)
    assert str(ours.value) == str(theirs.value)
    assert not openings.options


def test_map_takes_several_iterables_and_sizes(openings: Openings) -> None:
    with Executor(2) as executor:
        assert list(executor.map(pow, [2, 3, 4], [3, 2])) == [8, 9]
        assert list(executor.map(abs, range(20), chunksize=7)) == list(range(20))
        assert list(executor.map(abs, [])) == []
        with pytest.raises(ValueError, match="chunksize must be >= 1"):
            executor.map(abs, [1], chunksize=0)
        with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
            executor.map(abs, [1], size=2)
    assert 7 in openings.line().sent
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(abs, [1])


def test_map_reads_an_endless_iterable_as_its_results_are_taken(
    openings: Openings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discogrid.calls.pool.RESULTS_AHEAD_MAX", 100)
    read = itertools.count()
    with Executor(2) as executor:
        results = executor.map(abs, read)
        assert list(itertools.islice(results, 500)) == list(range(500))
        results.close()  # type: ignore[attr-defined]  # a generator: nobody takes the rest
        assert executor.submit(abs, -1).result() == 1
    assert next(read) < 500 + 100 + 4096 * 4


def test_map_begins_at_once_and_its_results_stay_after_the_end(openings: Openings, tmp_path: Path) -> None:
    executor = Executor(1)
    results = executor.map(Path.touch, [tmp_path / "one", tmp_path / "two"])
    executor.shutdown()
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]
    assert list(results) == [None, None]


def test_a_result_that_is_late_is_an_error(openings: Openings, tmp_path: Path) -> None:
    with Executor(1) as executor:
        executor.submit(abs, -1).result()
        try:
            results = executor.map(wait_for, [tmp_path, tmp_path / "go"], timeout=2.0)
            assert next(results) is None
            with pytest.raises(TimeoutError):
                next(results)
        finally:
            (tmp_path / "go").touch()


def test_what_a_call_of_a_map_raises_is_raised_there(openings: Openings) -> None:
    with Executor(1) as executor:
        results = executor.map(refuse, [1, 2])
        assert next(results) == 1
        with pytest.raises(multiprocessing.TimeoutError, match="two"):
            next(results)
        with pytest.raises(RuntimeError, match="StopIteration"):  # as generators have it
            next(executor.map(refuse, [3]))


def test_what_of_a_map_has_not_left_is_cancelled_with_the_futures(openings: Openings, tmp_path: Path) -> None:
    executor = Executor(1)
    results = executor.map(wait_for, [tmp_path / "go"] * 100)
    waiting = executor.submit(abs, -1)
    executor.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    executor.shutdown()
    assert waiting.cancelled()
    taken: list[None] = []
    with pytest.raises(CancelledError):
        taken.extend(results)
    assert len(taken) < 10
