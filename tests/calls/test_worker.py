"""A worker runs calls of a function that came over a pipe, whatever they do to it."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from discogrid.calls import codec, exceptions, functions
from discogrid.calls.frames import (
    FRAME_BYTES_MAX,
    Call,
    Calls,
    FromWorker,
    Open,
    Raised,
    Reader,
    Returned,
    Start,
    Started,
    frame,
    from_worker,
    to_worker,
    write_all,
)
from discogrid.errors import WireError

HERE = (__name__,)


class Worker:
    """A real process, and what it has said so far."""

    def __init__(self, folder: Path) -> None:
        inbox, self.to = os.pipe()
        self.back, outbox = os.pipe()
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "discogrid.calls.worker", f"/dev/fd/{inbox}", f"/dev/fd/{outbox}"],
            pass_fds=(inbox, outbox),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            text=True,
        )
        os.close(inbox)
        os.close(outbox)
        self.frames = self._frames()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        for pipe in (self.to, self.back):
            if pipe >= 0:
                os.close(pipe)

    def _frames(self) -> Iterator[FromWorker]:
        reader = Reader()
        while piece := os.read(self.back, 1 << 16):
            for body in reader.feed(piece):
                yield from_worker(body)

    def open(self, function: Callable[..., Any], initializer: Callable[[], object] | None = None) -> Started:
        packed = functions.pack(initializer) if initializer else b""
        with contextlib.suppress(BrokenPipeError):  # of one whose initializer has failed
            write_all(self.to, frame(Start(packed)) + frame(Open(0, functions.pack(function))))
        answer = next(self.frames)
        assert isinstance(answer, Started)
        return answer

    def send(self, *arguments: tuple[Any, ...]) -> None:
        calls = tuple(Call(number, 0, pickle.dumps((values, {}))) for number, values in enumerate(arguments))
        write_all(self.to, frame(Calls(calls)))

    def results(self, *arguments: tuple[Any, ...]) -> list[Any]:
        self.send(*arguments)
        found = []
        for number in range(len(arguments)):
            said = next(self.frames)
            assert isinstance(said, Returned | Raised)
            assert said.number == number
            assert said.seconds >= 0
            if isinstance(said, Returned):
                found.append(codec.loads(said.value, trusted=True, modules=HERE))
            else:
                found.append(exceptions.unpack(said.error, trusted=True, modules=HERE))
        return found

    def printed(self) -> str:
        """All of it, once it has ended."""
        os.close(self.to)
        self.to = -1
        assert self.process.stdout is not None
        text = self.process.stdout.read()
        self.process.wait(30)
        return text


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path) as started:
        yield started


def double(number: int) -> int:
    return 2 * number


def test_calls_come_back_in_order_with_what_they_returned(worker: Worker) -> None:
    assert worker.open(double) == Started()
    assert worker.results((1,), (2,), ("a",)) == [2, 4, "aa"]
    assert worker.results((5,)) == [10]
    assert worker.printed() == ""
    assert worker.process.returncode == 0


def test_what_a_call_raises_comes_back_and_the_next_one_runs(worker: Worker) -> None:
    def work(number: int) -> int:
        if number == 1:
            sys.exit(3)
        if number == 2:
            raise KeyboardInterrupt
        return 10 // number

    worker.open(work)
    zero, left, stopped, five = worker.results((0,), (1,), (2,), (2 + 3,))
    assert [type(error) for error in (zero, left, stopped)] == [
        ZeroDivisionError,
        SystemExit,
        KeyboardInterrupt,
    ]
    assert five == 2
    text = str(zero.__cause__)
    assert "return 10 // number" in text
    assert "calls/worker.py" not in text


def test_what_a_call_prints_is_in_the_log_and_not_among_the_results(worker: Worker) -> None:
    def work(number: int) -> int:
        print("call", number)
        os.write(1, b"by the number\n")
        print("error", number, file=sys.stderr)
        return number

    worker.open(work)
    assert worker.results((1,), (2,)) == [1, 2]
    lines = worker.printed().splitlines()
    assert sorted(lines) == ["by the number"] * 2 + ["call 1", "call 2", "error 1", "error 2"]


def test_a_call_that_closes_what_it_prints_to_does_not_end_the_worker(worker: Worker) -> None:
    def work(number: int) -> int:
        sys.stdout.close()
        return number

    worker.open(work)
    assert worker.results((1,)) == [1]


def test_a_worker_that_dies_has_given_all_results_before_that(worker: Worker) -> None:
    def work(number: int) -> int:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    worker.open(work)
    worker.send((0,), (1,), (2,), (3,))
    assert [said.number for said in worker.frames if isinstance(said, Returned)] == [0, 1]
    assert worker.process.wait(30) == -signal.SIGKILL


def test_what_a_call_starts_does_not_hold_the_pipes(worker: Worker) -> None:
    def work(_: int) -> int:
        return subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid

    worker.open(work)
    [sleeper] = worker.results((0,))
    try:
        worker.process.kill()
        assert list(worker.frames) == []  # the pipe has ended
    finally:
        os.kill(sleeper, signal.SIGKILL)


def test_a_pool_of_its_own_runs_in_a_call(worker: Worker) -> None:
    def work(number: int) -> list[int]:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(abs, range(-number, 0))

    worker.open(work)
    assert worker.results((4,)) == [[4, 3, 2, 1]]


def test_the_initializer_runs_once_before_all_calls(worker: Worker) -> None:
    def start() -> None:
        import builtins

        builtins.started = getattr(builtins, "started", 0) + 1  # type: ignore[attr-defined]

    def work(_: int) -> Any:
        import builtins

        return builtins.started  # type: ignore[attr-defined]

    assert worker.open(work, start) == Started()
    assert worker.results((0,), (0,)) == [1, 1]


def test_an_initializer_that_fails_is_told_and_ends_the_worker(worker: Worker) -> None:
    def start() -> None:
        raise ValueError("no start")

    error = exceptions.unpack(worker.open(double, start).raised, trusted=True)
    assert repr(error) == "ValueError('no start')"
    assert worker.process.wait(30) == 0


def test_a_function_that_cannot_be_opened_is_an_error_of_its_calls_alone(worker: Worker) -> None:
    worker.open(double)
    broken = functions.Parcel((3, 11), "work", b"\x80\x05cno_such_module\nwork\n.", {}, {})
    write_all(worker.to, frame(Open(1, msgspec.msgpack.encode(broken))))
    arguments = pickle.dumps(((4,), {}))
    calls = tuple(Call(number, function, arguments) for number, function in enumerate((1, 0, 1, 2)))
    write_all(worker.to, frame(Calls(calls)))
    first, second, third, unknown = (next(worker.frames) for _ in calls)
    for failed in (first, third):
        assert isinstance(failed, Raised)
        assert isinstance(exceptions.unpack(failed.error, trusted=False), ModuleNotFoundError)
    assert isinstance(second, Returned)
    assert codec.loads(second.value, trusted=False) == 8
    assert isinstance(unknown, Raised)


def test_modules_of_the_caller_come_along(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "only_here.py").write_text(textwrap.dedent("def add(a, b):\n    return a + b\n"))
    monkeypatch.syspath_prepend(str(project))
    import only_here  # type: ignore[import-not-found]

    worker.open(only_here.add)
    assert worker.results((1, 2)) == [3]
    del sys.modules["only_here"]


def test_keywords_and_large_values_go_both_ways(worker: Worker) -> None:
    def work(content: bytes, *, times: int) -> bytes:
        return content * times

    worker.open(work)
    content = os.urandom(1 << 20)
    write_all(worker.to, frame(Calls((Call(7, 0, pickle.dumps(((content,), {"times": 3}))),))))
    said = next(worker.frames)
    assert isinstance(said, Returned)
    assert (said.number, codec.loads(said.value, trusted=False)) == (7, content * 3)


def test_what_cannot_be_sent_back_is_an_error_of_that_call_alone(worker: Worker) -> None:
    def work(number: int) -> Any:
        import threading

        return threading.Lock() if number else number

    worker.open(work)
    bad, good = worker.results((1,), (0,))
    assert type(bad).__name__ == "MaybeEncodingError"
    assert "lock" in str(bad)
    assert good == 0


def test_a_frame_comes_together_from_any_pieces() -> None:
    said: list[FromWorker] = [Started(), Returned(1, 0.5, b"x" * 1000), Raised(2, 0.1, b"y")]
    content = b"".join(frame(one) for one in said)
    for size in (1, 3, 700, len(content)):
        reader = Reader()
        pieces = [content[at : at + size] for at in range(0, len(content), size)]
        assert [from_worker(body) for piece in pieces for body in reader.feed(piece)] == said


def test_a_worker_that_lies_is_refused() -> None:
    with pytest.raises(WireError, match="over"):
        list(Reader().feed((FRAME_BYTES_MAX + 1).to_bytes(4, "little")))
    for body in (b"", b"\xc1", b"\x90", frame(Calls(()))[4:], b"\x94\xa8returned\xa1x\x00\xc4\x00"):
        with pytest.raises(WireError):
            from_worker(body)
    with pytest.raises(WireError):
        to_worker(frame(Started())[4:])


def test_a_pool_that_a_call_makes_finds_what_is_of_the_main_program(worker: Worker) -> None:
    source = "import multiprocessing\ndef run(x):\n    return x + 1\n"
    source += "def work(n):\n    with multiprocessing.get_context('fork').Pool(2) as pool:\n"
    source += "        return pool.map(run, range(n))\n"
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(source, names)
    worker.open(names["work"])
    assert worker.results((3,)) == [[1, 2, 3]]
