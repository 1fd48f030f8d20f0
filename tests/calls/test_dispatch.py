"""Which results may be handed over by the thread that hears them, which must never wait for a caller's code."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from discogrid.calls import codec
from discogrid.calls.dispatch import Dispatcher
from discogrid.calls.executor import CallExecutor
from discogrid.calls.frames import Call, Raised, Returned
from discogrid.calls.pool import CallPool


class HeldLine:
    """Takes calls, of which the test says what they return."""

    slots = 1
    most = None

    def __init__(self, _: Dispatcher) -> None:
        self.calls: list[Call] = []

    def open(self, function: int, content: bytes) -> None:
        pass

    def send(self, chunks: Sequence[Sequence[Call]]) -> None:
        self.calls += [call for chunk in chunks for call in chunk]

    def close(self) -> None:
        pass

    def terminate(self) -> None:
        pass

    def join(self) -> None:
        pass


class Desk:
    def __init__(self) -> None:
        self.lines: list[HeldLine] = []
        self.dispatcher = Dispatcher(self._line)
        self.pool = CallPool(self.dispatcher)

    def _line(self, dispatcher: Dispatcher) -> HeldLine:
        self.lines.append(HeldLine(dispatcher))
        return self.lines[0]

    def returned(self, value: Any) -> Returned:
        """The newest call has returned this."""
        return Returned(self.lines[0].calls[-1].number, 0.0, codec.dumps(value))


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.pool.terminate()


def test_a_plain_result_that_somebody_only_waits_for_is_quick(desk: Desk) -> None:
    result = desk.pool.apply_async(abs, (-1,))
    answer = desk.returned([1, "one"])
    assert desk.dispatcher.quick([answer])
    desk.dispatcher.answered([answer], trusted=False)
    assert result.get(0) == [1, "one"]
    assert not desk.dispatcher.quick([answer])  # nobody waits for it any more


def test_a_result_that_is_long_to_read_or_makes_objects_is_not(desk: Desk) -> None:
    desk.pool.apply_async(abs, (-1,))
    assert not desk.dispatcher.quick([desk.returned("x" * codec.QUICK_BYTES_MAX)])
    assert not desk.dispatcher.quick([desk.returned((1, 2))])
    assert not desk.dispatcher.quick([desk.returned(HeldLine)])


def test_neither_is_an_exception_nor_more_than_one_result(desk: Desk) -> None:
    desk.pool.apply_async(abs, (-1,))
    answer = desk.returned(1)
    assert not desk.dispatcher.quick([Raised(answer.number, 0.0, b"")])
    assert not desk.dispatcher.quick([answer, answer])


def test_nor_is_anything_that_calls_the_caller_back(desk: Desk) -> None:
    desk.pool.apply_async(abs, (-1,), callback=print)
    assert not desk.dispatcher.quick([desk.returned(1)])
    CallExecutor(desk.dispatcher).submit(abs, -1)
    assert not desk.dispatcher.quick([desk.returned(1)])
