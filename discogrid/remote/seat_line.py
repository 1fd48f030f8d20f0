"""The line from a dispatcher to workers on this machine's own grid: the grid gives it seats, and calls go straight to these.

A seat is a call that the grid runs like any other, in a slot of its own, and that connects back (see calls/seat.py). It is
given up when there is nothing for it to do. What a worker dies of is known by the order of its answers: the first call that
has none.
"""

import contextlib
import logging
import os
import pickle
import secrets
import selectors
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from discogrid.calls import exceptions, functions
from discogrid.calls.dispatch import Answer, Dispatcher, Lies
from discogrid.calls.frames import (
    Call,
    FromWorker,
    Laid,
    Open,
    Part,
    Raised,
    Reader,
    Returned,
    Started,
    frame,
    from_worker,
)
from discogrid.calls.seat import NUMBER_BYTES, TICKET_BYTES, give_trays, private_folder, sit
from discogrid.calls.slate import make_slate, unsent
from discogrid.calls.trays import Trays
from discogrid.errors import CallLost, DiscogridError, TaskTimeout, WireError, WorkerLost
from discogrid.remote.grid_line import GridLine

log: Final = logging.getLogger(__name__)

IDLE_S = 1.0  # after which a seat without calls is given up, and its slot is anybody's
TRIES_MAX = 2  # of a call under which its worker dies
AHEAD_CALLS_SLOW = (
    1  # at a seat: what waits at one may not be taken back from it, and the way there takes 0.1 ms
)
AHEAD_CALLS = 256  # at a seat, of calls that run for next to no time
TINY_S = 0.001  # which is less than this
READ_BYTES = 1 << 18
SEND_BYTES = 1 << 20  # that a seat's line takes before it is read
SIT = 0  # the number of the function that is a seat

_Said = Returned | Raised | Part | Laid  # of a seat that answers
MakeGrid = Callable[["Seats"], GridLine]


@dataclass(slots=True, eq=False)
class _Seat:
    """A worker that has connected."""

    line: socket.socket
    trays: Trays = field(default_factory=Trays)
    number: int = -1  # once it has said so
    hello: bytes = b""
    reader: Reader = field(default_factory=Reader)
    functions: set[int] = field(default_factory=set)
    given: deque[Call] = field(default_factory=deque)  # without an answer, in order
    made: int = 0  # calls, in all
    last: FromWorker | None = None  # the newest answer
    unsent: bytearray = field(default_factory=bytearray)
    idle_since: float = 0.0
    began: float = 0.0  # when the first of `given` may have begun


class SeatLine:
    """See Line."""

    def __init__(
        self, dispatcher: Dispatcher, grid: MakeGrid, *, timeout: float | None, calls_max: int | None
    ) -> None:
        """`grid` makes the line by which seats are asked for; a call may run for `timeout` seconds, a seat answer `calls_max` calls."""
        self._dispatcher = dispatcher
        self._timeout = timeout
        self._calls_max = calls_max
        self._lock = threading.RLock()
        self._functions: dict[int, bytes] = {}
        self._waiting: deque[Call] = deque()
        self._seats: dict[int, _Seat] = {}  # by the number of their call
        self._asked: dict[int, None] = {}  # numbers of seats that the grid is to give
        self._slates: dict[int, int] = {}  # descriptors, by the number of their seat
        self._verdicts: dict[
            int, Answer
        ] = {}  # how the call of a seat has ended whose line is not read to its end
        self._dying: dict[
            int, Call
        ] = {}  # what a seat was at when its line broke, until the grid says how it ended
        self._tries: dict[int, int] = {}  # by call, of those under which a worker has died
        self._ending: dict[int, DiscogridError] = {}  # by seat: why it is ended
        self._lost: list[Answer] = []  # of which the caller is to be told
        self._left: list[Trays] = []  # to be closed when it has been
        self._numbers = 0
        self._mean_s = 0.0  # of a call
        self._closed = self._terminated = False
        self._grid: GridLine | None = None
        self._folder = private_folder()
        self._ticket = secrets.token_bytes(TICKET_BYTES)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(os.path.join(self._folder, "seats"))
        self._door.listen(128)
        self._door.setblocking(False)
        self._bell, self._ringer = os.pipe()
        os.set_blocking(self._bell, False)
        self._rung = False
        self._thread = threading.Thread(target=self._run, name="discogrid-seats", daemon=True)
        try:
            self._grid = grid(Seats(self))
        except BaseException:
            self._clean_up()
            raise
        self._grid.open(SIT, functions.pack(sit))
        self._thread.start()
        with self._lock:
            self._ask()  # the first seat, so that it is there when it is wanted

    @property
    def slots(self) -> int:
        """See Line."""
        return self._grid.slots if self._grid is not None else 0

    @property
    def most(self) -> int | None:
        """See Line: no more calls run at a time than there are seats."""
        return None

    @property
    def job(self) -> str:
        """The job whose tasks the seats are."""
        return "" if self._grid is None else self._grid.job

    def open(self, function: int, content: bytes) -> None:
        """See Line."""
        with self._lock:
            self._functions[function] = content

    def send(self, chunks: Sequence[Sequence[Call]]) -> None:
        """See Line."""
        with self._lock:
            for calls in chunks:
                self._waiting += calls
            self._share()

    def end(self, number: int) -> None:
        """See EndsCalls."""
        with self._lock:
            self._waiting = deque(call for call in self._waiting if call.number != number)
            for seat in list(self._seats.values()):
                if seat.given and seat.given[0].number == number:
                    self._end_seat(seat, CallLost("it was ended"))
                elif any(call.number == number for call in seat.given):
                    continue  # it will be answered, and nobody waits for that

    def close(self) -> None:
        """See Line."""
        with self._lock:
            self._closed = True
        self._ring()

    def terminate(self) -> None:
        """See Line."""
        with self._lock:
            self._terminated = True
            self._waiting.clear()
        if self._grid is not None:
            self._grid.terminate()
        self._ring()

    def join(self) -> None:
        """See Line."""
        if self._thread is not threading.current_thread():
            self._thread.join()
        if self._grid is not None:
            self._grid.join()

    # -- what the grid says of the seats

    def seats_over(self, answers: Sequence[Answer]) -> None:
        """These have ended."""
        lost: list[Answer] = []
        with self._lock:
            for answer in answers:
                lost += self._over(answer.number, answer)
                self._asked.pop(answer.number, None)
            self._share()
        self._ring()
        if lost:
            self._tell(lost)

    def slots_changed(self) -> None:
        """There are more seats to be had, or fewer."""
        self._dispatcher.slots_changed()

    def no_more_seats(self, error: BaseException) -> None:
        """The grid will give none any more."""
        self._dispatcher.terminate(error)

    def _over(self, number: int, answer: Answer) -> list[Answer]:
        """The call that was this seat has ended; what to tell of the call that it was at, if it is lost with it."""
        if number in self._seats:
            self._verdicts[number] = answer  # what it has said before that is still to be read
            return []
        culprit = self._dying.pop(number, None)
        if culprit is not None:
            return self._judge(culprit, answer)
        if number in self._asked and isinstance(answer, Raised) and self._waiting:
            # It never came: its initializer has failed, or no worker could be had. Somebody has to hear of it.
            return [Raised(self._waiting.popleft().number, 0.0, answer.error)]
        return []

    def _judge(self, culprit: Call, answer: Answer) -> list[Answer]:
        """Its worker has ended so; what to tell of it, unless it is tried again."""
        error: BaseException = CallLost("its worker has ended")
        if isinstance(answer, Raised):
            error = exceptions.unpack(answer.error, trusted=True)
            tries = self._tries[culprit.number] = self._tries.get(culprit.number, 0) + 1
            if isinstance(error, WorkerLost) and tries < TRIES_MAX and not culprit.count:
                log.warning("call %d is made again: %s", culprit.number, error.what)
                self._waiting.appendleft(culprit)
                return []
        self._tries.pop(culprit.number, None)
        return [Raised(culprit.number, 0.0, exceptions.pack(error))]

    # -- seats and calls

    def _share(self) -> None:
        """Give calls to seats, those that have least first; ask for seats where there are calls without one."""
        if self._terminated:
            return
        while self._waiting:
            seat = min(self._seats.values(), key=_load, default=None)
            if seat is None or not (room := self._room(seat)):
                break
            self._give(seat, room)
        if self._waiting or any(len(seat.given) > 1 for seat in self._seats.values()):
            self._ask()

    def _ask(self) -> None:
        want = min(self.slots, len(self._waiting) + sum(bool(seat.given) for seat in self._seats.values()))
        fresh: list[Sequence[Call]] = []
        while len(self._seats.keys() | self._asked.keys()) < max(1, want):
            self._numbers += 1
            self._asked[self._numbers] = None
            slate = os.path.join(self._folder, f"slate-{self._numbers}")
            self._slates[self._numbers] = make_slate(Path(slate))
            arguments = (os.path.join(self._folder, "seats"), self._ticket, self._numbers, slate)
            fresh.append([Call(self._numbers, SIT, pickle.dumps((arguments, {})))])
        if fresh and self._grid is not None:
            self._grid.send(fresh)

    def _room(self, seat: _Seat) -> int:
        """How many more calls the seat is to have now."""
        tiny = 0.0 < self._mean_s < TINY_S and not self._waiting[0].count
        most = AHEAD_CALLS if tiny else AHEAD_CALLS_SLOW
        if self._calls_max is not None:
            most = min(most, self._calls_max - seat.made + len(seat.given))
        seats = max(len(self._seats), min(self.slots, len(self._seats) + len(self._asked)))
        fair = -(-len(self._waiting) // max(1, seats))
        return max(0, min(most - len(seat.given), max(fair, 1)))

    def _give(self, seat: _Seat, count: int) -> None:
        calls = [self._waiting.popleft()]
        while len(calls) < count and self._waiting:
            calls.append(self._waiting.popleft())
        said = [frame(one) for one in seat.trays.news()]
        for number in {call.function for call in calls} - seat.functions:
            said.append(frame(Open(number, self._functions[number])))
            seat.functions.add(number)
        said += map(frame, seat.trays.lay(calls))
        if not seat.given:
            seat.began = time.monotonic()
        seat.given += calls
        seat.made += sum(max(1, call.count) for call in calls)
        seat.unsent += b"".join(said)
        self._flush(seat)
        if seat.unsent or self._timeout is not None:
            self._ring()

    def _flush(self, seat: _Seat) -> None:
        """As much as its line takes now; a broken one is found when it is read."""
        with contextlib.suppress(BlockingIOError, OSError):
            while seat.unsent:
                del seat.unsent[: seat.line.send(seat.unsent)]

    def _end_seat(self, seat: _Seat, reason: DiscogridError) -> None:
        """End its worker, for what it is at; the grid says when it has."""
        self._ending[seat.number] = reason
        if self._grid is not None:
            self._grid.end(seat.number)

    def _leave(self, seat: _Seat) -> Call | None:
        """Its line is broken: what it was at, while all others of its calls go to other seats."""
        if self._seats.get(seat.number) is seat:
            del self._seats[seat.number]
        given = list(seat.given)
        seat.given.clear()
        self._waiting.extendleft(reversed(given[1:]))
        return given[0] if given else None

    def _tell(self, answers: Sequence[Answer]) -> None:
        self._dispatcher.answered(answers, trusted=True, note=self._note)

    def _note(self, number: int) -> str:  # noqa: ARG002
        log = "" if self._grid is None else f"; what calls print: discogrid logs {self._grid.job}"
        return f"It ran on this machine{log}"

    # -- the thread that hears the seats

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            if not self._rung:
                self._rung = True
                os.write(self._ringer, b"!")

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # whoever waits is told of it, whatever it is
            self._dispatcher.terminate(error)
            raise
        finally:
            if self._grid is not None and not self._terminated:
                self._grid.close()
            self._clean_up()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._door, selectors.EVENT_READ)
            selector.register(self._bell, selectors.EVENT_READ)
            while not self._done():
                for key, _ in selector.select(self._patience()):
                    self._hear(key.fileobj, key.data, selector)
                with self._lock:
                    self._look_after(selector)
                    lost, self._lost = self._lost, []
                    left, self._left = self._left, []
                if lost:
                    self._tell(lost)
                for trays in left:
                    trays.close()

    def _done(self) -> bool:
        with self._lock:
            busy = (
                self._waiting or self._dying or self._lost or any(seat.given for seat in self._seats.values())
            )
            return self._terminated or (self._closed and not busy)

    def _patience(self) -> float:
        return IDLE_S / 2 if self._timeout is None else min(IDLE_S, self._timeout) / 4

    def _hear(self, what: Any, seat: _Seat | None, selector: selectors.BaseSelector) -> None:
        if what is self._door:
            with contextlib.suppress(OSError):
                line, _ = self._door.accept()
                line.setblocking(False)
                line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
                selector.register(line, selectors.EVENT_READ, _Seat(line))
        elif seat is None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell, 4096)
            self._rung = False
        else:
            self._read(seat, selector)

    def _read(self, seat: _Seat, selector: selectors.BaseSelector) -> None:
        try:
            piece = seat.line.recv(READ_BYTES)
        except BlockingIOError:
            self._flush_locked(seat)
            return
        except OSError:
            piece = b""
        answers: list[_Said] = []
        with self._lock:
            self._flush(seat)
            if not piece:
                self._broken(seat, selector)
                return
            if seat.number < 0 and not (piece := self._greeted(seat, piece)):
                return
            try:
                answers = self._taken(seat, [from_worker(body) for body in seat.reader.feed(piece)])
            except WireError:
                self._broken(seat, selector)
            self._share()
        if answers:
            self._tell([_brought(seat, answer) for answer in answers])
            with self._lock:
                seat.trays.have_read(sum(isinstance(answer, Laid) for answer in answers))

    def _taken(self, seat: _Seat, said: Sequence[FromWorker]) -> list[_Said]:
        """The answers among them, each to the next of its calls."""
        answers: list[_Said] = []
        for one in said:
            if isinstance(one, Started) or not seat.given or seat.given[0].number != one.number:
                continue
            answers.append(one)
            if not isinstance(one, Part) or one.last:
                seat.given.popleft()
                self._tries.pop(one.number, None)
                seat.trays.answered(one.number)
        if answers:
            seat.last = answers[-1]
            seat.began = seat.idle_since = time.monotonic()
            calls = sum(answer.count if isinstance(answer, Part) else 1 for answer in answers)
            newest = sum(answer.seconds for answer in answers) / max(1, calls)
            self._mean_s = newest if not self._mean_s else 0.7 * self._mean_s + 0.3 * newest
        return answers

    def _flush_locked(self, seat: _Seat) -> None:
        with self._lock:
            self._flush(seat)

    def _greeted(self, seat: _Seat, piece: bytes) -> bytes:
        """What has come after its first words, which say which seat it is; nobody else is heard."""
        seat.hello += piece
        if len(seat.hello) < TICKET_BYTES + NUMBER_BYTES:
            return b""
        if not secrets.compare_digest(seat.hello[:TICKET_BYTES], self._ticket):
            seat.line.shutdown(socket.SHUT_RDWR)
            return b""
        rest = seat.hello[TICKET_BYTES + NUMBER_BYTES :]
        seat.number = int.from_bytes(seat.hello[TICKET_BYTES : TICKET_BYTES + NUMBER_BYTES], "little")
        seat.idle_since = time.monotonic()
        self._asked.pop(seat.number, None)
        if (culprit := self._dying.pop(seat.number, None)) is not None:
            self._waiting.appendleft(
                culprit
            )  # the grid has given the seat to another worker: nobody is to blame
        self._seats[seat.number] = seat
        seat.trays = Trays.in_memory()
        with contextlib.suppress(OSError):  # a broken line is found when it is read
            give_trays(seat.line, seat.trays.descriptors)
        self._share()
        return rest

    def _broken(self, seat: _Seat, selector: selectors.BaseSelector) -> None:
        """Its line has ended: its worker is dead, or has been given up."""
        selector.unregister(seat.line)
        seat.line.close()
        if seat.number < 0:
            return
        known = self._seats.get(seat.number) is seat
        slate = self._slates.pop(seat.number, None)
        if slate is not None:
            self._lost += [_brought(seat, answer) for answer in self._taken(seat, unsent(slate, seat.last))]
            os.close(slate)
        self._left.append(seat.trays)
        culprit = self._leave(seat)
        reason = self._ending.pop(seat.number, None)  # then the grid will say nothing of it any more
        verdict = self._verdicts.pop(seat.number, None)
        if culprit is not None:
            if reason is not None:
                self._lost.append(Raised(culprit.number, 0.0, exceptions.pack(reason)))
            elif verdict is not None:
                self._lost += self._judge(culprit, verdict)
            elif known:
                self._dying[seat.number] = culprit
            else:
                self._waiting.appendleft(culprit)
        self._share()

    def _look_after(self, selector: selectors.BaseSelector) -> None:
        """End what runs too long, give up what is idle or worn out, wait for lines that are full."""
        now = time.monotonic()
        for seat in list(self._seats.values()):
            if seat.unsent:
                selector.modify(seat.line, selectors.EVENT_READ | selectors.EVENT_WRITE, seat)
            elif selector.get_key(seat.line).events & selectors.EVENT_WRITE:
                selector.modify(seat.line, selectors.EVENT_READ, seat)
            worn = self._calls_max is not None and seat.made >= self._calls_max
            late = self._timeout is not None and now - seat.began > self._timeout
            if seat.given and late and seat.number not in self._ending:
                what = f"the call ran longer than {self._timeout:g} s, and was ended"
                self._end_seat(seat, TaskTimeout(what, fix="Give it more time, or less to do."))
            elif not seat.given and (worn or (now - seat.idle_since > IDLE_S and not self._waiting)):
                self._broken(seat, selector)

    def _clean_up(self) -> None:
        self._door.close()
        for seat in self._seats.values():
            seat.line.close()
            seat.trays.close()
        for trays in self._left:
            trays.close()
        for end in (self._bell, self._ringer, *self._slates.values()):
            os.close(end)
        shutil.rmtree(self._folder, ignore_errors=True)


def _load(seat: _Seat) -> int:
    return len(seat.given)


def _brought(seat: _Seat, said: _Said) -> Answer:
    """As it is for the dispatcher, which reads what lies on a tray when it is told of it."""
    return Lies(said.number, said.seconds, seat.trays.result(said)) if isinstance(said, Laid) else said


class Seats:
    """What the grid's line tells of seats, which are calls to it. See Home."""

    def __init__(self, line: SeatLine) -> None:
        """Pass it on to this line."""
        self._line = line

    def quick(self, answers: Sequence[object]) -> bool:  # noqa: ARG002
        """See Home: what follows from them may be more."""
        return False

    def answered(
        self,
        answers: Sequence[Answer],
        *,
        trusted: bool,  # noqa: ARG002 (it is this machine)
        note: Callable[[int], str] = lambda _: "",  # noqa: ARG002
    ) -> None:
        """See Home."""
        self._line.seats_over(answers)

    def slots_changed(self) -> None:
        """See Home."""
        self._line.slots_changed()

    def terminate(self, error: BaseException) -> None:
        """See Home."""
        self._line.no_more_seats(error)
