"""A pool does what multiprocessing's does, and reads endless iterables."""

import gc
import itertools
import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from discogrid.calls.pool import AsyncResult, CallPool, PoolTerminated
from discogrid.errors import InputError
from tests.calls.local_line import LocalLine, local, local_pool


@pytest.fixture
def pool() -> Iterator[CallPool]:
    with CallPool(local(2)) as made:
        yield made
    made.join()


def line_of(pool: CallPool) -> LocalLine:
    line = pool._dispatcher._line
    assert isinstance(line, LocalLine)
    return line


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def test_map_gives_results_in_the_order_of_the_items(pool: CallPool) -> None:
    assert pool.map(square, range(1000)) == [number * number for number in range(1000)]
    assert pool.map(square, iter([2, 3])) == [4, 9]
    assert pool.map(square, []) == []
    assert pool.starmap(divmod, [(7, 2), (9, 4)]) == [(3, 1), (2, 1)]


def test_apply_takes_arguments_and_keywords(pool: CallPool) -> None:
    assert pool.apply(int, ("ff",), {"base": 16}) == 255
    assert pool.apply_async(square, (7,)).get(30) == 49


def test_imap_gives_results_in_order_and_unordered_all_of_them(pool: CallPool) -> None:
    assert list(pool.imap(square, range(100))) == [number * number for number in range(100)]
    assert sorted(pool.imap_unordered(square, range(100))) == [number * number for number in range(100)]
    assert list(pool.imap(square, [])) == []


def test_an_endless_iterable_is_read_as_its_results_are_taken(
    pool: CallPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discogrid.calls.pool.RESULTS_AHEAD_MAX", 100)
    read = itertools.count()
    results = pool.imap(square, read)
    assert list(itertools.islice(results, 1000)) == [number * number for number in range(1000)]
    assert next(read) < 1000 + 100 + 4096 * 4
    assert pool.apply(square, (3,)) == 9  # nobody waits for it


def test_an_exception_comes_back_where_it_belongs(pool: CallPool) -> None:
    with pytest.raises(ValueError, match="three"):
        pool.map(refuse, range(5))
    results = pool.imap(refuse, range(5))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert next(results) == 4
    with pytest.raises(StopIteration):
        next(results)


def test_an_iterable_that_fails_fails_its_own_results_alone(pool: CallPool) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("end")

    results = pool.imap(square, items())
    assert next(results) == 1
    with pytest.raises(KeyError):
        next(results)
    with pytest.raises(KeyError):
        pool.map(square, items())
    assert pool.apply(square, (2,)) == 4


def test_callbacks_are_called_with_what_there_is(pool: CallPool) -> None:
    found: list[Any] = []
    pool.map_async(square, [1, 2], callback=found.append).get(30)
    pool.apply_async(square, (3,), callback=found.append).get(30)
    failed = pool.apply_async(refuse, (3,), error_callback=found.append)
    failed.wait(30)
    assert failed.ready()
    assert not failed.successful()
    assert found[:2] == [[1, 4], 9]
    assert repr(found[2]) == "ValueError('three')"


def test_what_is_not_there_yet_is_waited_for_so_long(pool: CallPool) -> None:
    slow = pool.apply_async(time.sleep, (60,))
    with pytest.raises(multiprocessing.TimeoutError):
        slow.get(0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        pool.imap(time.sleep, [60]).next(0.01)
    with pytest.raises(ValueError, match="not ready"):
        slow.successful()


def test_whoever_waits_when_it_is_terminated_is_told() -> None:
    pool = CallPool(local(1))
    results: list[AsyncResult[Any]] = [pool.apply_async(time.sleep, (60,)) for _ in range(3)]
    results.append(pool.map_async(time.sleep, [60] * 1000))
    one_by_one = pool.imap(time.sleep, itertools.repeat(60))
    pool.terminate()
    pool.join()
    for result in results:
        with pytest.raises(PoolTerminated):
            result.get(30)
    with pytest.raises(PoolTerminated):
        one_by_one.next(30)
    pool.terminate()


def test_a_closed_pool_takes_no_more_and_ends_what_it_has() -> None:
    pool = CallPool(local(2))
    results = pool.imap(square, range(1000))
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.map(square, [1])
    with pytest.raises(ValueError, match="not running"), pool:
        pass
    pool.join()
    assert sum(results) == sum(number * number for number in range(1000))


def test_a_pool_that_is_left_to_the_collector_says_so_and_ends() -> None:
    pool = CallPool(local(1))
    pool.apply(square, (1,))
    line = line_of(pool)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    assert any("unclosed running" in str(one.message) for one in caught)
    line.join()


def test_the_initializer_runs_in_each_worker() -> None:
    def start() -> None:
        os.environ["STARTED"] = "yes"

    with CallPool(local(2, start)) as pool:
        assert set(pool.map(os.getenv, ["STARTED"] * 8)) == {"yes"}


def test_tiny_calls_travel_together_and_long_ones_alone(pool: CallPool) -> None:
    pool.map(square, range(20_000))
    assert len(line_of(pool).sent) < 200
    line_of(pool).sent.clear()
    for result in [pool.apply_async(square, (number,)) for number in range(2000)]:
        result.get(30)
    assert max(line_of(pool).sent) > 10
    line_of(pool).sent.clear()
    pool.map(time.sleep, [0.15] * 6)
    assert set(line_of(pool).sent) == {1}


def test_a_size_that_is_asked_for_is_kept(pool: CallPool) -> None:
    pool.map(square, range(20), chunksize=7)
    assert line_of(pool).sent == [7, 7, 6]
    with pytest.raises(ValueError, match="must be 1"):
        pool.imap(square, [1], chunksize=0)


def test_what_cannot_be_sent_is_an_error_of_its_own_call(pool: CallPool) -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        pool.apply(square, (lock,))
    with pytest.raises(InputError, match="cannot be sent"):
        pool.apply(lambda: lock)
    with pytest.raises(InputError, match="cannot be sent"):
        pool.map(lambda _: lock, range(3))
    with pytest.raises(InputError, match="cannot be sent"):
        next(pool.imap(lambda _: lock, range(3)))
    results = pool.imap(str, [1, lock, 3])
    assert next(results) == "1"
    with pytest.raises(TypeError):
        next(results)
    assert next(results) == "3"


def test_a_pool_stays_in_its_process(pool: CallPool) -> None:
    with pytest.raises(NotImplementedError, match="cannot be passed"):
        pool.apply(len, (pool,))
    assert "RUN" in repr(pool)


def test_arguments_that_are_too_large_are_an_error_of_their_call_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("discogrid.calls.dispatch.ARGUMENTS_BYTES_MAX", 1 << 20)
    with local_pool(1) as pool:
        large = pool.apply_async(len, (bytes(1 << 20),))
        with pytest.raises(InputError, match="can be sent"):
            large.get()
        assert pool.apply(len, (bytes(1 << 19),)) == 1 << 19


def test_large_arguments_of_quick_calls_are_no_row() -> None:
    contents = [bytes([at]) * (1 << 20) for at in range(40)]
    with local_pool(1) as pool:
        assert pool.map(len, range_of_bytes(200)) == [1] * 200
        assert pool.map(len, contents) == [1 << 20] * 40


def range_of_bytes(count: int) -> list[bytes]:
    return [b"x"] * count
