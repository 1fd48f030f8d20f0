"""A process that holds functions and runs calls of them, one after the other, until its pipe ends.

Each result leaves when it is there, or with those that follow it within HOLD_S, and lies on a slate until then: a process that
dies has lost the one call that it ran. What a call prints goes where this process prints. Start it with
`python -m discogrid.calls.worker INBOX OUTBOX [SLATE [TRAY TRAY]]`, two named pipes and files, which it removes: below the
folder of temporary files, unless the names are absolute.
"""

import contextlib
import gc
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from discogrid.calls import codec, exceptions, functions, rows
from discogrid.calls.arguments import unpack_arguments
from discogrid.calls.frames import (
    ANSWER_BYTES_MAX,
    Call,
    Calls,
    Laid,
    LaidCall,
    Open,
    Part,
    Raised,
    Returned,
    Start,
    Started,
    Taken,
    frame,
    read_all,
    to_worker,
    write_all,
)
from discogrid.calls.parts import Content, Packed, joined, size_of
from discogrid.calls.slate import Slate
from discogrid.calls.tray import LAID_BYTES_MIN, Lying, Tray, open_tray
from discogrid.errors import DiscogridError
from discogrid.kept_memory import keep_memory

LOOK_S = 0.01  # between two looks at a row that runs
HOLD_S = 0.001  # that an answer waits for those that follow it
RESULT_BYTES_MAX = ANSWER_BYTES_MAX - (1 << 20)


class ResultTooLarge(DiscogridError):
    """A call returned more than can be sent back."""


class Functions:
    """What calls may name. A function that cannot be opened is an error of each call that names it, and of no other."""

    def __init__(self) -> None:
        self._packed: dict[int, bytes] = {}
        self._open: dict[int, Callable[..., Any]] = {}

    def add(self, said: Open) -> None:
        """Keep one for its first call."""
        self._packed[said.function] = said.content

    def get(self, number: int) -> Callable[..., Any]:
        """The function of this number; whatever its modules raise when they are imported."""
        function = self._open.get(number)
        if function is None:
            function = self._open[number] = functions.unpack(functions.read(self._packed[number]))
        return function


class Answers:
    """Those that leave together: a system call for each would cost more than many a call."""

    def __init__(self, outbox: int, slate: str | None) -> None:
        """They leave by `outbox`; without a slate each for itself."""
        self._outbox = outbox
        self._slate = None if slate is None else Slate(slate, partial(write_all, outbox))
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._left = time.monotonic()
        self._watching = False
        self._row: Row | None = None  # that runs

    def put(self, answer: bytes) -> None:
        """One more, a frame."""
        if self._slate is None:
            write_all(self._outbox, answer)
            return
        now = time.monotonic()
        with self._lock:
            self._slate.put(answer)
            if now - self._left < HOLD_S:
                if not self._some.is_set():
                    self._some.set()
                    self._watch()
                return
            self._leave()

    def leave(self) -> None:
        """Nothing follows for now."""
        with self._lock:
            self._leave()

    def _leave(self) -> None:
        if self._slate is not None:
            self._slate.leave()
            self._left = time.monotonic()

    def _watch(self) -> None:
        """The next call may take its time, and no answer is to wait for it."""
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._look, daemon=True).start()

    def watch(self, row: "Row | None") -> None:
        """A row begins, of which any call may take its time; or none runs any more."""
        self._row = row
        if row is not None:
            self._some.set()
            self._watch()

    def _look(self) -> None:
        while True:
            self._some.wait()
            time.sleep(HOLD_S)
            self._some.clear()
            while (row := self._row) is not None:
                row.part()
                self.leave()
                time.sleep(LOOK_S)
            self.leave()


def serve(
    inbox: int,
    outbox: int,
    slate: str | None = None,
    trays: tuple[int, int] | None = None,
    *,
    keeps_memory: bool = False,
) -> None:
    """Run whatever comes through `inbox`, and say what came of it through `outbox`, with a slate of this name.

    `trays` are those for arguments and for results; with `keeps_memory`, that of large values is kept for the next ones.
    """
    known = Functions()
    answers = Answers(outbox, slate)
    tray = None if trays is None else Tray(trays[1])
    for body in read_all(inbox):
        match to_worker(body):
            case Start(initializer):
                raised = _started(initializer)
                write_all(outbox, frame(Started(raised)))
                if raised:
                    return
            case Open() as said:
                known.add(said)
            case Calls(calls):
                for call in calls:
                    if call.count:
                        run_row(known, call, answers)
                    else:
                        arguments = call.arguments
                        answers.put(frame(run(known, call.number, call.function, arguments, tray)))
                answers.leave()
            case LaidCall(number, function, start, size) if trays is not None:
                if keeps_memory:
                    keep_memory()
                content = Lying(trays[0], start, size)
                answers.put(frame(run(known, number, function, content, tray)))
                answers.leave()
            case Taken(count) if tray is not None:
                for _ in range(count):
                    tray.taken()


class Row:
    """The answers to a row of calls as they come, in parts that leave when HOLD_S is over, whichever call runs then."""

    def __init__(self, call: Call, answers: Answers) -> None:
        """None has come."""
        self._number = call.number
        self._count = call.count
        self._answers = answers
        self._values: list[Any] = []
        self._raised: dict[int, bytes] = {}
        self._sent = 0
        self._began = time.perf_counter()
        self._lock = threading.Lock()  # parts are made by who looks, too

    def put(self, value: Any) -> None:
        """The next call returned this."""
        self._values.append(value)

    def fail(self, error: BaseException) -> None:
        """The next call raised this."""
        self._raised[len(self._values)] = exceptions.pack(error)
        self._values.append(None)

    def part(self) -> None:
        """Let go what has come since the last part, if anything has."""
        with self._lock:
            start, stop = self._sent, len(self._values)
            if start == stop:
                return
            now = time.perf_counter()
            values = self._values[start:stop]
            raised = {
                place - start: self._raised[place] for place in list(self._raised) if start <= place < stop
            }
            try:
                packed = rows.pack_values(values)
            except Exception:  # noqa: BLE001 (which of them it is, is looked for now)
                packed = rows.pack_values([_checked(value, at, raised) for at, value in enumerate(values)])
            last = stop == self._count
            part = Part(self._number, start, stop - start, now - self._began, last, packed, raised)
            self._sent = stop
            self._began = now
            self._answers.put(frame(part))


def run_row(known: Functions, call: Call, answers: Answers) -> None:
    """Run the calls of a row, whatever they do."""
    row = Row(call, answers)
    try:
        function = known.get(call.function)
        arguments = unpack_arguments(call.arguments)
    except BaseException as error:  # noqa: BLE001 (the caller's own modules)
        for _ in range(call.count):
            row.fail(error)
        row.part()
        return
    answers.watch(row)
    due = time.perf_counter() + HOLD_S
    for one in arguments:
        try:
            row.put(function(*one))
        except BaseException as error:  # noqa: BLE001 (SystemExit and KeyboardInterrupt are results like others)
            row.fail(_without_us(error, run_row))
        if (now := time.perf_counter()) >= due:
            _flush()
            row.part()
            due = now + HOLD_S
    answers.watch(None)
    _flush()
    row.part()


def _checked(value: Any, place: int, raised: dict[int, bytes]) -> Any:
    """The value, if it can be sent; else nothing, and why not."""
    try:
        _said(value)
    except Exception as error:  # noqa: BLE001 (the caller's own object)
        raised[place] = exceptions.pack(error)
        return None
    return value


def run(
    known: Functions, number: int, called: int, content: bytes | Content, tray: Tray | None = None
) -> Returned | Raised | Laid:
    """Run one call, whatever it does; what is large of what it returns is laid on the tray, if there is one."""
    start = time.perf_counter()
    try:
        function = known.get(called)
        arguments, keywords = unpack_arguments(content)
        start = time.perf_counter()
        value = function(*arguments, **keywords)
        seconds = time.perf_counter() - start
        said = _said(value)
        size = size_of(said)
        if size > RESULT_BYTES_MAX:
            raise ResultTooLarge(  # noqa: TRY301
                f"a call returned {size} bytes; {RESULT_BYTES_MAX} can be sent back",
                fix="Return less at a time, or run a script: what it writes may be of any size.",
            )
    except BaseException as error:  # noqa: BLE001 (SystemExit and KeyboardInterrupt are results like others)
        seconds = time.perf_counter() - start
        return Raised(number, seconds, exceptions.pack(_without_us(error, run)))
    finally:
        _flush()
    if tray is not None and size >= LAID_BYTES_MIN and (place := tray.put(said)) is not None:
        return Laid(number, seconds, *place)
    return Returned(number, seconds, joined(said))


def _said(value: object) -> Packed:
    try:
        return codec.pack(value)
    except Exception as error:
        from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]  # what programs look for

        raise MaybeEncodingError(error, value) from error


def _started(initializer: bytes) -> bytes:
    """What the initializer raised, packed; empty when it raised nothing."""
    if initializer:
        try:
            functions.unpack(functions.read(initializer))()
        except BaseException as error:  # noqa: BLE001 (the caller's code, which may raise anything)
            return exceptions.pack(error)
        finally:
            _flush()
    gc.freeze()  # what was imported stays
    return b""


def _without_us(error: BaseException, ours: Callable[..., object]) -> BaseException:
    """The traceback begins where the caller's own code does, which `ours` has called."""
    here = error.__traceback__
    if here is not None and here.tb_frame.f_code is ours.__code__ and here.tb_next is not None:
        return error.with_traceback(here.tb_next)
    return error


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a call may have closed or replaced it
            stream.flush()


def main() -> None:
    """Serve the two pipes named on the command line."""
    names = sys.argv[1:]
    if not all(map(os.path.isabs, names)):
        import tempfile  # with which much else is loaded, and a worker without a box needs none of it

        names = [os.path.join(tempfile.gettempdir(), name) for name in names]
    inbox, outbox = (
        os.open(names[0], os.O_RDONLY),
        os.open(names[1], os.O_WRONLY),
    )  # nobody whom a call starts has them
    for name in names[:2]:
        if stat.S_ISFIFO(os.lstat(name).st_mode):
            os.unlink(name)  # calls are to find an empty folder
    sys.argv = [""]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the agent's business
    trays = (open_tray(names[3]), open_tray(names[4])) if len(names) > 4 else None
    serve(inbox, outbox, names[2] if len(names) > 2 else None, trays)


if __name__ == "__main__":
    # The module of that name is for what is the caller's main program: nothing of ours may be in the way of its names.
    from discogrid.calls import worker  # noqa: PLW0406

    worker.main()
