"""What lives on one machine is refused by name, with what to do instead; what only looks like it is not."""

import io
import multiprocessing
import multiprocessing.shared_memory
import queue
import socket
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from typing import Any

import pytest

from discogrid.calls import functions
from discogrid.calls.arguments import pack_arguments
from discogrid.calls.pool import CallPool
from discogrid.calls.refusals import Unshareable, find
from discogrid.errors import InputError
from tests.calls.local_line import local

KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "multiprocessing.Queue": (multiprocessing.Queue, "imap_unordered"),
    "multiprocessing.SimpleQueue": (multiprocessing.SimpleQueue, "Return the value"),
    "multiprocessing.JoinableQueue": (multiprocessing.JoinableQueue, "Return the value"),
    "multiprocessing.Lock": (multiprocessing.Lock, "share no memory"),
    "multiprocessing.RLock": (multiprocessing.RLock, "share no memory"),
    "multiprocessing.Semaphore": (multiprocessing.Semaphore, "share no memory"),
    "multiprocessing.Condition": (multiprocessing.Condition, "share no memory"),
    "multiprocessing.Event": (multiprocessing.Event, "terminate"),
    "multiprocessing.Barrier": (lambda: multiprocessing.Barrier(1), "share no memory"),
    "multiprocessing.Value": (lambda: multiprocessing.Value("i"), "return what has become"),
    "multiprocessing.Array": (lambda: multiprocessing.Array("i", 3), "return what has become"),
    "connection of a pipe": (lambda: multiprocessing.Pipe()[0], "Return the value"),
    "threading.Lock": (threading.Lock, "share no memory"),
    "threading.RLock": (threading.RLock, "share no memory"),
    "threading.Condition": (threading.Condition, "share no memory"),
    "threading.Event": (threading.Event, "terminate"),
    "threading.local": (threading.local, "inside of the function"),
    "threading.Thread": (threading.Thread, "inside of the function"),
    "queue.Queue": (queue.Queue, "Return the value"),
    "queue.SimpleQueue": (queue.SimpleQueue, "Return the value"),
    "socket": (socket.socket, "network=True"),
    "open file": (lambda: open(__file__), "const="),  # noqa: SIM115 (the fixture closes it)
    "open file, of bytes": (lambda: open(__file__, "rb"), "const="),  # noqa: SIM115
    "open file, to be written": (tempfile.TemporaryFile, "const="),
    "connection to a database": (lambda: sqlite3.connect(":memory:"), "what it answers"),
    "generator": (lambda: (number for number in [1]), "list"),
    "Future": (Future, "result"),
}


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any, str]]:
    """One of each kind: what it is called, itself, and what is to be said of it."""
    make, said = KINDS[request.param]
    value = make()
    yield request.param.partition(",")[0], value, said
    if hasattr(value, "close"):
        value.close()


def test_each_kind_is_named_with_what_to_do_instead(kept: tuple[str, Any, str]) -> None:
    name, value, said = kept
    with pytest.raises(Unshareable, match=rf"^argument 2 is an? {name}, which cannot be shared") as raised:
        pack_arguments((1, value), {})
    assert said in raised.value.fix
    with pytest.raises(Unshareable, match=rf"^argument lines holds an? {name}"):
        pack_arguments((1,), {"lines": [{"deep": (value,)}]})
    with pytest.raises(InputError, match=rf"<lambda> cannot be sent: its variable value is an? {name}"):
        functions.pack(lambda: value)


def test_what_pickle_said_is_the_cause() -> None:
    lines = multiprocessing.Queue()  # type: ignore[var-annotated]  # it carries nothing
    with pytest.raises(Unshareable) as raised:
        pack_arguments((lines,), {})
    assert "through inheritance" in str(raised.value.__cause__)
    with pytest.raises(Unshareable) as raised:
        functions.pack(lambda: lines)
    assert "through inheritance" in str(raised.value.__cause__)


def test_a_manager_s_proxies_are_refused_though_pickle_takes_them() -> None:
    with multiprocessing.Manager() as manager:
        kept: list[Any] = [
            manager.list(),
            manager.dict(),
            manager.Queue(),
            manager.Lock(),
            manager.Namespace(),
        ]
        for value in kept:
            with pytest.raises(Unshareable, match="argument 1 holds a manager's proxy"):
                pack_arguments(([value],), {})
            with pytest.raises(Unshareable, match="its variable value is a manager's proxy"):
                functions.pack(_closure(value))
        with pytest.raises(Unshareable, match="a default of its arguments holds a manager's proxy"):
            functions.pack(lambda value=kept[0]: value)


def _closure(value: Any) -> Callable[[], Any]:
    return lambda: value


def test_shared_memory_is_refused_though_pickle_takes_it() -> None:
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=10)
    with closing(memory), pytest.raises(Unshareable, match=r"a multiprocessing\.SharedMemory"):
        pack_arguments((memory,), {})
    memory.unlink()


class Counter:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def count(self) -> None:
        """Nothing."""


def test_the_object_whose_method_is_called_is_named() -> None:
    with (
        CallPool(local(1)) as pool,
        pytest.raises(Unshareable, match=r"^what is called holds a threading\.Lock"),
    ):
        pool.apply(Counter().count)


class Clever(threading.local):
    """It has a way of its own to travel."""

    def __reduce__(self) -> Any:
        return Clever, ()


def test_what_knows_a_way_to_travel_travels() -> None:
    assert find([Clever()]) is None
    assert pack_arguments((Clever(),), {})


def test_what_only_names_multiprocessing_travels() -> None:
    assert pack_arguments(("multiprocessing", multiprocessing.TimeoutError(), io.StringIO("text")), {})
    assert functions.pack(lambda: (multiprocessing.Queue, io.StringIO))
    assert functions.pack(lambda: print("text", file=sys.stderr))


def test_what_is_no_matter_of_ours_says_what_it_says() -> None:
    class Stubborn:
        def __reduce__(self) -> str:
            raise ValueError("stays here")

    with pytest.raises(ValueError, match="stays here"):
        pack_arguments((Stubborn(),), {})
