"""Brings calls to whoever runs them, in chunks, and their answers to whoever waits for them.

One thread takes calls from where they come from, in the order in which these were handed in, and no faster than they are
run: an endless iterable is read as its results are taken. Answers come on the line's own thread.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary, WeakSet

from discogrid.calls import codec, exceptions, functions, rows
from discogrid.calls.arguments import Arguments, pack_arguments
from discogrid.calls.chunks import CHUNK_CALLS_MAX, Chunker
from discogrid.calls.frames import FRAME_BYTES_MAX, Call, LargeCall, Part, Raised, Returned
from discogrid.calls.parts import Content, Packed, Parts, size_of
from discogrid.errors import InputError

CHUNKS_MAX = 512  # that are made at once, where the caller has said how many calls are in one

ARGUMENTS_BYTES_MAX = FRAME_BYTES_MAX - (1 << 20)  # of one call
ROW_CALLS_MIN = 8  # fewer are not worth a row
ROW_S = 0.001  # calls that run for less go in rows


@dataclass(frozen=True, slots=True)
class Lies:
    """What a call returned after so many seconds lies where `content` reads it, until this answer is delivered."""

    number: int
    seconds: float
    content: Content


Answer = Returned | Raised | Part | Lies


class Line(Protocol):
    """What carries chunks to workers. It says what came of them by `Dispatcher.answered`, on a thread of its own."""

    @property
    def slots(self) -> int:
        """How many calls run at a time there, as far as is known now; 0: it is not."""

    @property
    def most(self) -> int | None:
        """How many chunks may be there at a time; None: as many as keep its slots busy."""

    def open(self, function: int, content: bytes) -> None:
        """A function, as `functions` packs it, before the first call of it."""

    def send(self, chunks: Sequence[Sequence[Call]]) -> None:
        """Chunks of calls of one function, each to be run in its order."""

    def close(self) -> None:
        """No more chunks; what is under way goes on."""

    def terminate(self) -> None:
        """End everything at once. Nothing is answered from now on."""

    def join(self) -> None:
        """Wait until everything there has ended."""


@runtime_checkable
class EndsCalls(Protocol):
    """A line that can end single calls."""

    def end(self, number: int) -> None:
        """End the process that runs this call, if one does, or do not start it. Nobody waits for an answer."""


class Sink(Protocol):
    """Who waits for answers. Its methods are called on the line's thread or the feeding one, and must not block."""

    @property
    def quick(self) -> bool:
        """Whether it takes a result on any thread, in no time, and runs nothing of the caller's for it."""

    def room(self, made: int) -> int:
        """How many more calls may be made, after so many, before some of their answers are taken."""

    def returned(self, index: int, value: Any) -> None:
        """What the call of this index returned."""

    def raised(self, index: int, error: BaseException) -> None:
        """What the call of this index raised."""

    def exhausted(self, calls: int, error: BaseException | None) -> None:
        """There are so many calls in all; `error` is what ended the iterable they came from before its end."""


@runtime_checkable
class TakesMany(Protocol):
    """A sink that takes results together, faster than one by one."""

    def returned_many(self, start: int, values: Sequence[Any]) -> None:
        """What the calls from this index on returned."""


@dataclass(slots=True, eq=False)
class Source:
    """Where calls of one function come from. `length` is how many are left, None where nobody knows."""

    function: Callable[..., Any]
    arguments: Iterator[Arguments | Packed]  # as `pack_arguments` makes them, or to be packed
    sink: Sink
    length: int | None = None
    size: int | None = None  # of a chunk, where the caller has said so
    packed: bytes = b""  # the function, where the caller has packed it
    made: int = 0  # calls

    @property
    def bound(self) -> bool:
        """Whether its first argument is what is called."""
        return self.function is functions.call

    def is_like(self, other: "Source") -> bool:
        """Whether its calls may travel with those of the other one."""
        return self.function is other.function and self.size == other.size and self.room > 0

    @property
    def room(self) -> int:
        """How many calls may be made now."""
        return self.sink.room(self.made)


@dataclass(slots=True, eq=False)
class _Function:
    """A function that is known at the other side."""

    number: int
    modules: tuple[str, ...]
    chunkers: dict[int | None, Chunker] = field(default_factory=dict)  # by the size that was asked for

    def chunker(self, size: int | None) -> Chunker:
        return self.chunkers.setdefault(size, Chunker(size))


@dataclass(slots=True, eq=False)
class _Chunk:
    """Calls that left together."""

    chunker: Chunker
    function: _Function
    calls: int
    left: int
    seconds: float = 0.0
    bytes: int = 0  # of large arguments and results


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call that has left, or a row of them, and who waits for it."""

    sink: Sink
    index: int  # for its sink, of the first call
    row: Sequence[tuple[Any, ...]] = ()  # the arguments of a row's calls
    got: int = 0  # answers to a row
    chunk: _Chunk | None = None

    @property
    def calls(self) -> int:
        """How many."""
        return len(self.row) or 1

    def said_of(self, place: int, more: str) -> str:
        """What is added to what one of its calls raised: which of the caller's items it was of, if it was of many, and `more`."""
        if not isinstance(self.sink, TakesMany):
            return more
        return f"It was item {self.index + place}, counted from 0. {more}".rstrip()


class Dispatcher:
    """Everything is for any thread."""

    def __init__(self, line: Callable[["Dispatcher"], Line]) -> None:
        """`line` makes the line for this dispatcher."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._settled = threading.Condition(self._lock)  # some calls have been answered, or will not be
        self._sources: deque[Source] = deque()
        self._functions: WeakKeyDictionary[Callable[..., Any], _Function] = WeakKeyDictionary()
        self._opened = 0  # functions
        self._pending: dict[int, _Waiting] = {}
        self._withdrawn: WeakSet[Sink] = WeakSet()
        self._calls = 0
        self._under_way = 0  # chunks
        self._feeding = False  # the thread has taken calls that have not left yet
        self._closed = False
        self._over: BaseException | None = None
        self._line = line(self)
        self._thread = threading.Thread(target=self._feed, name="discogrid-calls", daemon=True)
        self._thread.start()

    def put(self, source: Source) -> None:
        """Make these calls, after all that were handed in before. RuntimeError when it is closed."""
        if not functions.is_plain(source.function):
            source.arguments = _bound(source.function, source.arguments)
            source.function = functions.call
        with self._changed:
            if self._closed:
                raise RuntimeError("no more calls are taken")
            self._sources.append(source)
            alone = not (self._under_way or self._feeding) and len(self._sources) == 1 and source.length == 1
            due = self._due() if alone else None  # the thread that feeds need not be woken for a single call
            if due is None:
                self._changed.notify_all()
                return
            self._feeding = True
        self._take_and_tell(due)

    @property
    def closed(self) -> bool:
        """Whether no more calls are taken."""
        return self._closed

    @property
    def job(self) -> str:
        """The id of the job on the grid whose tasks the calls are; empty where the line has none."""
        return str(getattr(self._line, "job", ""))

    def slots(self, patience_s: float = 0.0) -> int:
        """How many calls run at a time there, waiting up to `patience_s` seconds for the first to be known; 0: it is not."""
        with self._changed:
            self._changed.wait_for(lambda: self._line.slots > 0 or self._over is not None, patience_s)
            return self._line.slots

    def knows(self, function: Callable[..., Any]) -> bool:
        """Whether the function has been sent, so that nobody has to pack it again."""
        return function in self._functions

    def withdraw(self, sink: Sink, *, end: bool = False) -> None:
        """Nobody waits for the answers of this sink any more: its calls that have not left never will.

        `end`: and those that run are ended with their processes, where the line can do that. The sink hears no more.
        """
        with self._changed:
            self._withdrawn.add(sink)
            for source in [source for source in self._sources if source.sink is sink]:
                self._sources.remove(source)
            numbers = [number for number, one in self._pending.items() if one.sink is sink]
            for number in numbers:
                one = self._pending.pop(number)
                self._settle(one, one.calls - one.got, 0.0)
            self._tell()
        if end and isinstance(self._line, EndsCalls):
            for number in numbers:
                self._line.end(number)

    def cancel(self, sink: Sink, error: BaseException) -> None:
        """Make no more calls of this sink than have left; after their answers it is told of this error, if there were more."""
        with self._changed:
            sources = [source for source in self._sources if source.sink is sink]
            for source in sources:
                self._sources.remove(source)
            self._tell()
        for source in sources:
            sink.exhausted(source.made, error)

    def took(self) -> None:
        """Somebody has taken answers: there is room for more calls."""
        with self._changed:
            self._changed.notify_all()

    def slots_changed(self) -> None:
        """The line runs more or fewer calls at a time than before."""
        self.took()

    def close(self) -> None:
        """Take no more calls; those that were handed in are made, whether or not their answers are taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def terminate(self, error: BaseException) -> None:
        """End everything; whoever waits is told of this error."""
        with self._changed:
            if self._over is not None:
                return
            self._closed, self._over = True, error
            waiting = list(self._pending.values())
            sources = list(self._sources)
            self._pending.clear()
            self._sources.clear()
            self._tell()
        self._line.terminate()
        for one in waiting:
            _raise(one, error)
        for source in sources:
            source.sink.exhausted(source.made, error)

    def drain(self) -> None:
        """Wait until all calls are answered."""
        with self._settled:
            self._settled.wait_for(lambda: self._over is not None or self._idle)

    def join(self) -> None:
        """Wait until all calls are answered and the line has ended. Only once it is closed or terminated."""
        self.drain()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._line.join()

    def quick(self, answers: Sequence[object]) -> bool:
        """Whether to take these takes no time, and runs nothing of the caller's: any thread of the line may do it."""
        if len(answers) != 1 or not isinstance(answers[0], Returned):
            return False
        one = self._pending.get(answers[0].number)
        return one is not None and one.sink.quick and codec.is_quick(answers[0].value)

    def answered(
        self, answers: Sequence[Answer], *, trusted: bool, note: Callable[[int], str] = lambda _: ""
    ) -> None:
        """From the line: what has come of some calls. An answer that nobody waits for is passed over.

        `trusted`: they come from where pickle may be opened; `note` is added to what the call of this number raised.
        """
        with self._lock:
            known = [(answer, one) for answer in answers if (one := self._take_answer(answer)) is not None]
        for answer, one in known:
            match answer:
                case Part():
                    self._deliver_part(answer, one, trusted=trusted, note=note)
                case Raised() if one.row:
                    self._one_by_one(one)
                case _:
                    self._deliver(answer, one, trusted=trusted, note=note)
        with self._lock:
            self._tell()

    def _take_answer(self, answer: Answer) -> _Waiting | None:
        """Whose answer it is, which is counted; None when nobody waits for it, or has it already."""
        one = self._pending.get(answer.number)
        if one is None:
            return None
        if isinstance(answer, Part):
            if answer.offset != one.got or one.got + answer.count > one.calls:
                return None
            one.got += answer.count
            self._settle(one, answer.count, answer.seconds)
            if one.got == one.calls:
                del self._pending[answer.number]
            return one
        del self._pending[answer.number]
        if isinstance(answer, Lies) and one.chunk is not None:
            one.chunk.bytes += answer.content.size
        self._settle(one, one.calls - one.got, answer.seconds)
        return one

    def _settle(self, one: _Waiting, calls: int, seconds: float) -> None:
        """So many of its calls are over, after so many seconds."""
        chunk = one.chunk
        assert chunk is not None, "what has left is of a chunk"
        chunk.left -= calls
        chunk.seconds += seconds
        if not chunk.left and calls:
            self._under_way -= 1
            chunk.chunker.returned(chunk.calls, chunk.seconds, chunk.bytes)

    @staticmethod
    def _deliver(answer: Answer, one: _Waiting, *, trusted: bool, note: Callable[[int], str]) -> None:
        assert one.chunk is not None, "what has left is of a chunk"
        modules = one.chunk.function.modules
        try:
            if isinstance(answer, Returned):
                value = codec.loads(answer.value, trusted=trusted, modules=modules)
            elif isinstance(answer, Lies):
                value = codec.loads(answer.content, trusted=trusted, modules=modules)
            elif isinstance(answer, Raised):
                said = one.said_of(0, note(answer.number))
                error = exceptions.unpack(answer.error, trusted=trusted, modules=modules, note=said)
                one.sink.raised(one.index, error)
                return
        except Exception as error:  # noqa: BLE001 (a class of the caller's may refuse to be unpickled)
            one.sink.raised(one.index, error)
            return
        one.sink.returned(one.index, value)

    @staticmethod
    def _deliver_part(part: Part, one: _Waiting, *, trusted: bool, note: Callable[[int], str]) -> None:
        assert one.chunk is not None, "what has left is of a chunk"
        start = one.index + part.offset
        modules = one.chunk.function.modules

        def said(number: int) -> str:
            return one.said_of(number - part.number, note(number))

        try:
            values = rows.open_part(part, trusted=trusted, modules=modules, note=said)
        except Exception as error:  # noqa: BLE001 (damaged on the way: each of its calls has to say so)
            values = [rows.Error(error)] * part.count
        if (
            not part.raised
            and isinstance(one.sink, TakesMany)
            and not any(isinstance(value, rows.Error) for value in values)
        ):
            one.sink.returned_many(start, values)
            return
        for index, value in enumerate(values, start):
            if isinstance(value, rows.Error):
                one.sink.raised(index, value.error)
            else:
                one.sink.returned(index, value)

    def _one_by_one(self, row: _Waiting) -> None:
        """A row has fallen, with the process that ran it or for the time that it took: the rest of its calls go by themselves."""
        assert row.chunk is not None, "what has left is of a chunk"
        function = row.chunk.function
        made = _Made()
        for place in range(row.got, row.calls):
            self._pack_call(function, (row.row[place], {}), _Waiting(row.sink, row.index + place), made)
        if made.calls:
            self._send(row.chunk.chunker, function, made, size=1)

    def _tell(self) -> None:
        """Calls have ended: wake the thread that feeds if it has something to do, and who waits for the last of them."""
        if self._sources or self._closed:
            self._changed.notify_all()
        self._settled.notify_all()

    # -- the thread that feeds

    @property
    def _idle(self) -> bool:
        return not self._sources and not self._pending and not self._feeding

    def _feed(self) -> None:
        while True:
            with self._changed:
                due = None
                while self._over is None and (self._feeding or (due := self._due()) is None):
                    if self._closed and self._idle:
                        break
                    self._changed.wait()
                if due is None or self._over is not None:
                    break
                self._feeding = True
            self._take_and_tell(due)
        if self._over is None:
            self._line.close()

    def _due(self) -> tuple[Source, int, int] | None:
        """Whose calls go next, how many, and how many to a chunk: of the first source whose sink has room, and those behind it that are alike."""
        most = CHUNKS_MAX if self._line.most is None else self._line.most - self._under_way
        if most <= 0:
            return None
        for place, source in enumerate(self._sources):
            room = CHUNK_CALLS_MAX if self._closed else source.room
            if room > 0:
                waiting, more = self._waiting(place)
                chunker = self._chunker(source)
                size = min(chunker.next(waiting, self._line.slots, more=more), room)
                if not size:
                    return None
                if source.size is None:
                    return source, size, size
                chunks = min(chunker.room(self._line.slots), most)
                return source, min(waiting, room, size * chunks), size
        return None

    def _waiting(self, place: int) -> tuple[int, bool]:
        """How many calls of one function wait from this source on, as far as it matters, and whether there may be more."""
        first = self._sources[place]
        most = CHUNK_CALLS_MAX * max(1, self._line.slots)
        waiting = 0
        for source in islice(self._sources, place, None):
            if waiting >= most or not (source is first or source.is_like(first)):
                break
            if source.length is None:
                return most, True
            waiting += source.length
        return waiting, False

    def _chunker(self, source: Source) -> Chunker:
        known = self._functions.get(source.function)
        return Chunker(source.size) if known is None else known.chunker(source.size)

    def _take_and_tell(self, due: tuple[Source, int, int]) -> None:
        try:
            self._take(*due)
        finally:
            with self._lock:
                self._feeding = False
                self._tell()

    def _take(self, source: Source, count: int, size: int) -> None:
        """Make up to `count` calls, of this source and, where it ends, of the next ones, `size` to a chunk."""
        function = self._known(source)
        if function is None:
            return
        made = _Made()
        chunker = function.chunker(source.size)
        whole = source.size is None
        while self._pull(source, function, count - made.count, made):
            following = self._follow(source)
            if following is None or made.count >= count:
                break
            source = following
        if made.calls:
            self._send(chunker, function, made, size=len(made.calls) if whole else size)

    def _follow(self, source: Source) -> Source | None:
        """The source has ended; one that may share its chunk."""
        with self._lock:
            if source not in self._sources:
                return None  # everything has been ended meanwhile
            first = self._sources[0] is source
            self._sources.remove(source)
            following = self._sources[0] if first and self._sources else None
            return following if following is not None and following.is_like(source) else None

    def _pull(self, source: Source, function: _Function, count: int, made: "_Made") -> bool:
        """Take calls out of one source; whether it has no more."""
        taken: list[Arguments | Packed] = []
        ended: BaseException | None = None
        try:
            for one in islice(source.arguments, count):
                taken.append(one)  # noqa: PERF402 (what came before an exception is to be kept)
        except Exception as error:  # noqa: BLE001 (the caller's own iterable)
            ended = error
        index = source.made
        source.made += len(taken)
        if not self._pack_row(source, function, taken, made):
            for place, one in enumerate(taken, index):
                self._pack_call(function, one, _Waiting(source.sink, place), made, bound=source.bound)
        if ended is not None:
            source.sink.exhausted(source.made, ended)
            return True
        if source.length is not None:
            source.length -= len(taken)
        if len(taken) < count or source.length == 0:
            source.sink.exhausted(source.made, None)
            return True
        return False

    def _pack_row(
        self, source: Source, function: _Function, taken: Sequence[Arguments | Packed], made: "_Made"
    ) -> bool:
        """As one row, if they are worth it and can be."""
        mean_s = function.chunker(source.size).mean_s
        if source.size is not None or len(taken) < ROW_CALLS_MIN or mean_s is None or mean_s >= ROW_S:
            return False
        plain = [one for one in taken if not isinstance(one, bytes | Parts)]
        if len(plain) < len(taken) or any(keywords for _, keywords in plain):
            return False
        row = [arguments for arguments, _ in plain]
        packed = rows.pack_row(row)
        if not packed:
            return False
        number = self._calls + 1
        self._calls += len(row)
        made.add(
            Call(number, function.number, packed, len(row)),
            _Waiting(source.sink, source.made - len(row), row),
        )
        return True

    def _pack_call(
        self,
        function: _Function,
        arguments: Arguments | Packed,
        waiting: _Waiting,
        made: "_Made",
        *,
        bound: bool = False,
    ) -> None:
        try:
            packed = (
                arguments if isinstance(arguments, bytes | Parts) else pack_arguments(*arguments, bound=bound)
            )
            if (size := size_of(packed)) > ARGUMENTS_BYTES_MAX:
                raise InputError(  # noqa: TRY301
                    f"the arguments of a call are {size} bytes; {ARGUMENTS_BYTES_MAX} can be sent",
                    fix="Give less at a time, or send a file along (`const=`).",
                )
        except Exception as error:  # noqa: BLE001 (the caller's own objects)
            waiting.sink.raised(waiting.index, error)
            return
        with self._lock:
            self._calls += 1
            number = self._calls
        if isinstance(packed, Parts):
            made.add(LargeCall(number, function.number, b"", parts=packed), waiting)
        else:
            made.add(Call(number, function.number, packed), waiting)

    def _known(self, source: Source) -> _Function | None:
        """The function, sent if it is a new one; None, and all of its calls have failed, where it cannot be."""
        known = self._functions.get(source.function)
        if known is not None:
            return known
        try:
            content = source.packed or functions.pack(source.function)
            functions.warn_when_heavy(source.function, content)
        except Exception as error:  # noqa: BLE001 (the caller's own objects, or a warning that is to be an error)
            self._fail(source, error)
            return None
        parcel = functions.read(content)
        modules = ("__main__", *parcel.modules, getattr(source.function, "__module__", None) or "__main__")
        with self._lock:
            known = self._functions[source.function] = _Function(self._opened, modules)
            self._opened += 1
        self._line.open(known.number, content)
        return known

    def _fail(self, source: Source, error: BaseException) -> None:
        self._follow(source)
        if source.length is not None:
            for index in range(source.made, source.made + source.length):
                source.sink.raised(index, error)
            source.sink.exhausted(source.made + source.length, None)
        else:
            source.sink.exhausted(source.made, error)

    def _send(self, chunker: Chunker, function: _Function, made: "_Made", *, size: int) -> None:
        with self._lock:
            if self._withdrawn:
                made = made.without(self._withdrawn)
            if not made.calls:
                return
            chunks = [made.calls[at : at + size] for at in range(0, len(made.calls), size)]
            over = self._over
            if over is None:
                chunker.sent(len(chunks))
                self._under_way += len(chunks)
                waiting = iter(made.waiting)
                for part in chunks:
                    count = sum(call.count or 1 for call in part)
                    large = sum(call.parts.size for call in part if isinstance(call, LargeCall))
                    chunk = _Chunk(chunker, function, count, count, bytes=large)
                    for call in part:
                        one = self._pending[call.number] = next(waiting)
                        one.chunk = chunk
        if over is None:
            self._line.send(chunks)
            return
        for one in made.waiting:
            _raise(one, over)


@dataclass(slots=True)
class _Made:
    """Calls that are ready to leave, and who waits for each."""

    calls: list[Call] = field(default_factory=list)
    waiting: list[_Waiting] = field(default_factory=list)
    count: int = 0

    def add(self, call: Call, waiting: _Waiting) -> None:
        self.calls.append(call)
        self.waiting.append(waiting)
        self.count += waiting.calls

    def without(self, sinks: WeakSet[Sink]) -> "_Made":
        """But for what is for these."""
        kept = _Made()
        for call, waiting in zip(self.calls, self.waiting, strict=True):
            if waiting.sink not in sinks:
                kept.add(call, waiting)
        return kept


def _raise(one: _Waiting, error: BaseException) -> None:
    """Tell whoever waits for what has no answer yet."""
    for place in range(one.got, one.calls):
        one.sink.raised(one.index + place, error)


def _bound(function: Callable[..., Any], arguments: Iterator[Arguments | Packed]) -> Iterator[Arguments]:
    """What `functions.call` is called with, so that this function is."""
    for one in arguments:
        assert not isinstance(one, bytes | Parts), (
            "what is bound is to be among the arguments before these are packed"
        )
        yield (function, *one[0]), one[1]
