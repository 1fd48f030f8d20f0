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

from discogrid.calls import codec, exceptions, functions
from discogrid.calls.arguments import Arguments, pack_arguments
from discogrid.calls.chunks import CHUNK_CALLS_MAX, Chunker
from discogrid.calls.frames import Call, Raised, Returned

CHUNKS_MAX = 512  # that are made at once, where the caller has said how many calls are in one

Answer = Returned | Raised


class Line(Protocol):
    """What carries chunks to workers. It says what came of them by `Dispatcher.answered`, on a thread of its own."""

    @property
    def slots(self) -> int:
        """How many calls run at a time there, as far as is known now."""

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

    def room(self, made: int) -> int:
        """How many more calls may be made, after so many, before some of their answers are taken."""

    def returned(self, index: int, value: Any) -> None:
        """What the call of this index returned."""

    def raised(self, index: int, error: BaseException) -> None:
        """What the call of this index raised."""

    def exhausted(self, calls: int, error: BaseException | None) -> None:
        """There are so many calls in all; `error` is what ended the iterable they came from before its end."""


@dataclass(slots=True, eq=False)
class Source:
    """Where calls of one function come from. `length` is how many are left, None where nobody knows."""

    function: Callable[..., Any]
    arguments: Iterator[Arguments | bytes]  # bytes: as `pack_arguments` makes them
    sink: Sink
    length: int | None = None
    size: int | None = None  # of a chunk, where the caller has said so
    packed: bytes = b""  # the function, where the caller has packed it
    made: int = 0  # calls

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
    calls: int
    left: int
    modules: tuple[str, ...]
    seconds: float = 0.0


class Dispatcher:
    """Everything is for any thread."""

    def __init__(self, line: Callable[["Dispatcher"], Line]) -> None:
        """`line` makes the line for this dispatcher."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._sources: deque[Source] = deque()
        self._functions: WeakKeyDictionary[Callable[..., Any], _Function] = WeakKeyDictionary()
        self._opened = 0  # functions
        self._pending: dict[int, tuple[Sink, int, _Chunk]] = {}
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
            numbers = [number for number, (whose, _, _) in self._pending.items() if whose is sink]
            for number in numbers:
                self._settle(self._pending.pop(number)[2], 0.0)
            self._changed.notify_all()
        if end and isinstance(self._line, EndsCalls):
            for number in numbers:
                self._line.end(number)

    def cancel(self, sink: Sink, error: BaseException) -> None:
        """Make no more calls of this sink than have left; after their answers it is told of this error, if there were more."""
        with self._changed:
            sources = [source for source in self._sources if source.sink is sink]
            for source in sources:
                self._sources.remove(source)
            self._changed.notify_all()
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
            self._changed.notify_all()
        self._line.terminate()
        for sink, index, _ in waiting:
            sink.raised(index, error)
        for source in sources:
            source.sink.exhausted(source.made, error)

    def drain(self) -> None:
        """Wait until all calls are answered."""
        with self._changed:
            self._changed.wait_for(lambda: self._over is not None or self._idle)

    def join(self) -> None:
        """Wait until all calls are answered and the line has ended. Only once it is closed or terminated."""
        self.drain()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._line.join()

    def answered(
        self, answers: Sequence[Answer], *, trusted: bool, note: Callable[[int], str] = lambda _: ""
    ) -> None:
        """From the line: what has come of some calls. An answer that nobody waits for is passed over.

        `trusted`: they come from where pickle may be opened; `note` is added to what the call of this number raised.
        """
        with self._lock:
            waiting = [self._pending.pop(answer.number, None) for answer in answers]
            for answer, one in zip(answers, waiting, strict=True):
                if one is not None:
                    self._settle(one[2], answer.seconds)
        for answer, one in zip(answers, waiting, strict=True):
            if one is not None:
                sink, index, chunk = one
                self._deliver(answer, sink, index, chunk.modules, trusted=trusted, note=note)
        with self._changed:
            self._changed.notify_all()

    def _settle(self, chunk: _Chunk, seconds: float) -> None:
        """One of its calls is over, after so many seconds."""
        chunk.left -= 1
        chunk.seconds += seconds
        if not chunk.left:
            self._under_way -= 1
            chunk.chunker.returned(chunk.calls, chunk.seconds)

    @staticmethod
    def _deliver(
        answer: Answer,
        sink: Sink,
        index: int,
        modules: tuple[str, ...],
        *,
        trusted: bool,
        note: Callable[[int], str],
    ) -> None:
        try:
            if isinstance(answer, Returned):
                value = codec.loads(answer.value, trusted=trusted, modules=modules)
            else:
                error = exceptions.unpack(
                    answer.error, trusted=trusted, modules=modules, note=note(answer.number)
                )
                sink.raised(index, error)
                return
        except Exception as error:  # noqa: BLE001 (a class of the caller's may refuse to be unpickled)
            sink.raised(index, error)
            return
        sink.returned(index, value)

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
            with self._changed:
                self._feeding = False
                if self._sources or self._closed:
                    self._changed.notify_all()

    def _take(self, source: Source, count: int, size: int) -> None:
        """Make up to `count` calls, of this source and, where it ends, of the next ones, `size` to a chunk."""
        function = self._known(source)
        if function is None:
            return
        calls: list[Call] = []
        waiting: list[tuple[Sink, int]] = []
        chunker = function.chunker(source.size)
        while self._pull(source, function, count - len(calls), calls, waiting):
            following = self._follow(source)
            if following is None or len(calls) >= count:
                break
            source = following
        if calls:
            self._send(chunker, function, calls, waiting, size)

    def _follow(self, source: Source) -> Source | None:
        """The source has ended; one that may share its chunk."""
        with self._lock:
            if source not in self._sources:
                return None  # everything has been ended meanwhile
            first = self._sources[0] is source
            self._sources.remove(source)
            following = self._sources[0] if first and self._sources else None
            return following if following is not None and following.is_like(source) else None

    def _pull(
        self,
        source: Source,
        function: _Function,
        count: int,
        calls: list[Call],
        waiting: list[tuple[Sink, int]],
    ) -> bool:
        """Take calls out of one source; whether it has no more."""
        taken = 0
        try:
            for arguments in islice(source.arguments, count):
                taken += 1
                index = source.made
                source.made += 1
                try:
                    packed = self._packed(source, arguments)
                except Exception as error:  # noqa: BLE001 (the caller's own objects)
                    source.sink.raised(index, error)
                    continue
                self._calls += 1
                calls.append(Call(self._calls, function.number, packed))
                waiting.append((source.sink, index))
        except Exception as error:  # noqa: BLE001 (the caller's own iterable)
            source.sink.exhausted(source.made, error)
            return True
        if source.length is not None:
            source.length -= taken
        if taken < count or source.length == 0:
            source.sink.exhausted(source.made, None)
            return True
        return False

    @staticmethod
    def _packed(source: Source, arguments: Arguments | bytes) -> bytes:
        if isinstance(arguments, bytes):
            return arguments
        return pack_arguments(*arguments, bound=source.function is functions.call)

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

    def _send(
        self,
        chunker: Chunker,
        function: _Function,
        calls: list[Call],
        waiting: list[tuple[Sink, int]],
        size: int,
    ) -> None:
        with self._lock:
            if self._withdrawn:
                kept = [place for place, (sink, _) in enumerate(waiting) if sink not in self._withdrawn]
                calls, waiting = [calls[place] for place in kept], [waiting[place] for place in kept]
            if not calls:
                return
            chunks = [calls[at : at + size] for at in range(0, len(calls), size)]
            over = self._over
            if over is None:
                chunker.sent(len(chunks))
                self._under_way += len(chunks)
                sinks = iter(waiting)
                for part in chunks:
                    chunk = _Chunk(chunker, len(part), len(part), function.modules)
                    for call in part:
                        sink, index = next(sinks)
                        self._pending[call.number] = (sink, index, chunk)
        if over is None:
            self._line.send(chunks)
            return
        for sink, index in waiting:
            sink.raised(index, over)


def _bound(function: Callable[..., Any], arguments: Iterator[Arguments | bytes]) -> Iterator[Arguments]:
    """What `functions.call` is called with, so that this function is."""
    for one in arguments:
        assert not isinstance(one, bytes), (
            "what is bound is to be among the arguments before these are packed"
        )
        yield (function, *one[0]), one[1]
