"""What a call raised comes back as itself, and nothing of an attacker's choice runs on the way."""

import pickle
import subprocess
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]
from typing import Any

import msgspec
import pytest

from discogrid.calls import codec
from discogrid.calls.exceptions import Raised, RemoteError, pack, unpack
from discogrid.errors import InputError, TaskTimeout, WireError, WorkerLost

HERE = (__name__,)
MADE: list[str] = []


class Own(Exception):
    """With a constructor that wants more than its args."""

    def __init__(self, first: int, second: int) -> None:
        MADE.append("Own")
        self.second = second
        super().__init__(f"{first} and {second}")


class Plain(ValueError):
    pass


def raised(error: BaseException) -> bytes:
    try:
        raise error  # noqa: TRY301
    except BaseException as caught:  # noqa: BLE001
        return pack(caught)


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        ZeroDivisionError(),
        KeyError("a"),
        Plain("own", 2),
        OSError(2, "No such file", "x.txt"),
        FileNotFoundError(2, "No such file", "x.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration(5),
        ModuleNotFoundError("No module named 'x'", name="x"),
        subprocess.CalledProcessError(1, ["ls"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_comes_back_as_itself(error: BaseException, trusted: bool) -> None:
    back = unpack(raised(error), trusted=trusted, modules=HERE, note="on attic")
    assert type(back) is type(error)
    assert back.args == error.args
    for name in ("errno", "filename", "code", "start"):
        assert getattr(back, name, None) == getattr(error, name, None)
    assert back.__notes__ == ["on attic"]
    assert type(back.__cause__) is RemoteTraceback
    assert "raise error" in str(back.__cause__)


def test_notes_travel_and_are_not_doubled() -> None:
    error = ValueError("no")
    error.add_note("a note")
    for trusted in (True, False):
        assert unpack(raised(error), trusted=trusted, note="b").__notes__ == ["a note", "b"]


def test_the_traceback_shows_where_it_was_raised_and_what_caused_that() -> None:
    def deep() -> None:
        try:
            int("x")
        except ValueError as error:
            raise InputError("cannot") from error

    with pytest.raises(InputError) as caught:
        deep()
    text = str(unpack(pack(caught.value), trusted=False).__cause__)
    assert "invalid literal for int()" in text
    assert "The above exception was the direct cause" in text
    assert "in deep" in text


def test_one_whose_constructor_wants_more_comes_back_without_it() -> None:
    raw = raised(Own(1, 2))
    MADE.clear()
    for trusted in (False, True):
        back = unpack(raw, trusted=trusted, modules=HERE)
        assert (type(back), back.args) == (Own, ("1 and 2",))
    unsafe = unpack(raw, trusted=False, modules=HERE)
    assert not hasattr(unsafe, "second")


def test_nothing_of_the_class_runs_for_who_is_not_trusted() -> None:
    raw = raised(Own(1, 2))
    MADE.clear()
    unpack(raw, trusted=False, modules=HERE)
    assert MADE == []


def test_one_of_a_class_that_is_not_known_here_says_its_name_and_text() -> None:
    said = Raised("elsewhere", "Broken", codec.dumps((1,)), "it broke", "Traceback", (), b"")
    back = unpack(msgspec.msgpack.encode(said), trusted=True)
    assert (type(back), str(back)) == (RemoteError, "elsewhere.Broken: it broke")


def test_what_cannot_be_sent_leaves_the_text() -> None:
    import threading

    back = unpack(raised(ValueError("bad", threading.Lock())), trusted=True)
    assert type(back) is ValueError
    assert back.args[0].startswith("('bad', <unlocked")


def test_one_that_cannot_even_say_what_it_is_comes_back() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    back = unpack(raised(Mute()), trusted=False)
    assert isinstance(back, RemoteError)


class Bomb:
    def __reduce__(self) -> Any:
        return MADE.append, ("bomb",)


@pytest.mark.parametrize("trusted", [True, False])
def test_an_error_of_ours_says_all_of_it_elsewhere(trusted: bool) -> None:
    error = WorkerLost("it died", why="a crash", fix="look", exit_status=-11)
    back = unpack(pack(error), trusted=trusted)
    assert isinstance(back, WorkerLost)
    assert (back.what, back.why, back.fix, back.exit_status) == ("it died", "a crash", "look", -11)
    assert str(back) == "it died\na crash\nlook"
    other = unpack(pack(TaskTimeout("late", fix="wait")), trusted=trusted)
    assert isinstance(other, TaskTimeout)
    assert (str(other), other.why, WorkerLost("it died").exit_status) == ("late\nwait", "", None)


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "eval"), ("subprocess", "Popen"), ("os", "system"), ("builtins", "type"), ("os", "path")],
)
def test_what_is_no_exception_is_not_made_into_one(module: str, name: str) -> None:
    said = Raised(module, name, codec.dumps(("echo",)), "text", "", (), b"")
    assert type(unpack(msgspec.msgpack.encode(said), trusted=False)) is RemoteError


def test_pickle_of_an_attacker_is_not_opened() -> None:
    MADE.clear()
    bomb = codec.PICKLED + pickle.dumps(Bomb())
    said = Raised("builtins", "ValueError", bomb, "text", "", (), bomb)
    back = unpack(msgspec.msgpack.encode(said), trusted=False)
    assert (type(back), back.args, MADE) == (ValueError, ("text",), [])


def test_pickle_that_is_no_exception_is_passed_over() -> None:
    said = Raised("builtins", "ValueError", codec.dumps((1,)), "text", "", (), codec.dumps(5))
    assert unpack(msgspec.msgpack.encode(said), trusted=True).args == (1,)


@pytest.mark.parametrize("args", [codec.dumps([1]), codec.dumps((1,))[:-1], b"zzz"])
def test_args_that_are_none_become_the_text(args: bytes) -> None:
    said = Raised("builtins", "ValueError", args, "text", "", (), b"")
    assert unpack(msgspec.msgpack.encode(said), trusted=True).args == ("text",)


def test_args_that_python_s_own_class_refuses_leave_the_text() -> None:
    said = Raised("builtins", "UnicodeDecodeError", codec.dumps((1,)), "text", "", (), b"")
    back = unpack(msgspec.msgpack.encode(said), trusted=False)
    assert isinstance(back, BaseException)


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x90", b"\x97\xa1a\xa1b\xa0\xa0\xa0\x90\xa0"])
def test_what_is_no_exception_s_bytes_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        unpack(raw, trusted=True)
