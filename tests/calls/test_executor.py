"""An executor gives real futures; CPython's own tests of executors are in test_cpython."""

import concurrent.futures
import functools
import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from discogrid.calls.executor import CallExecutor, ExecutorShutDown
from discogrid.errors import InputError
from tests.calls.local_line import local


@pytest.fixture
def executor() -> Iterator[CallExecutor]:
    with CallExecutor(local(2)) as made:
        yield made


def refuse(number: int) -> int:
    raise ValueError(number)


def test_futures_have_what_the_calls_returned_or_raised(executor: CallExecutor) -> None:
    good, bad = executor.submit(divmod, 7, 2), executor.submit(refuse, 5)
    assert good.result(30) == (3, 1)
    assert executor.submit(int, "ff", base=16).result(30) == 255
    assert repr(bad.exception(30)) == "ValueError(5)"
    assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]


def test_many_futures_are_waited_for_with_the_standard_library(executor: CallExecutor) -> None:
    futures = [executor.submit(abs, -number) for number in range(500)]
    done, left = concurrent.futures.wait(futures, 60)
    assert (len(done), left) == (500, set())
    assert [future.result() for future in futures] == list(range(500))
    assert {future.result() for future in concurrent.futures.as_completed(futures)} == set(range(500))


def test_a_future_can_be_cancelled_until_its_call_has_left() -> None:
    executor = CallExecutor(local(1))
    slow = [executor.submit(time.sleep, 0.2) for _ in range(10)]
    assert slow[-1].cancel()
    slow[0].result(30)
    executor.shutdown(cancel_futures=True)
    assert sum(future.cancelled() for future in slow) >= 5
    assert all(future.done() for future in slow)
    assert slow[0].result() is None
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)


def test_whoever_waits_when_it_is_terminated_is_told() -> None:
    executor = CallExecutor(local(1))
    futures = [executor.submit(time.sleep, 60) for _ in range(10)]
    executor.terminate()
    executor.shutdown()
    assert {type(future.exception(30)) for future in futures} == {ExecutorShutDown}


def test_what_cannot_be_sent_is_the_exception_of_its_future(executor: CallExecutor) -> None:
    lock = threading.Lock()
    assert isinstance(executor.submit(repr, lock).exception(30), TypeError)
    assert isinstance(executor.submit(lambda: lock).exception(30), InputError)


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def add(self, number: int) -> int:
        return self.start + number


def test_what_a_bound_method_is_bound_to_is_free_when_its_call_is_over(executor: CallExecutor) -> None:
    counter = Counter(3)
    gone = weakref.ref(counter)
    assert executor.submit(counter.add, 4).result(30) == 7
    assert executor.submit([5, 6].index, 6).result(30) == 1
    assert executor.submit(functools.partial(pow, 2), 3).result(30) == 8
    del counter
    executor.submit(abs, 1).result(30)
    gc.collect()
    assert gone() is None
