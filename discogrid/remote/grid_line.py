"""The line from a dispatcher to a grid: a thread that speaks with the coordinator, and one on which answers come home.

What a caller does with an answer may take its time, and must not keep the coordinator waiting for a sign of life.
"""

import asyncio
import contextlib
import itertools
import logging
import queue
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Final, Protocol, assert_never

from msgspec import structs

from discogrid.answers import Answers
from discogrid.blobs import BlobStore
from discogrid.bundle import Manifest
from discogrid.calls import exceptions
from discogrid.calls.dispatch import Answer, Lies
from discogrid.calls.frames import Call, Part, Raised, Returned, Stored
from discogrid.calls.parts import Content, InFile
from discogrid.errors import CallLost, DiscogridError
from discogrid.grid import Grid
from discogrid.remote.call_session import CallSession
from discogrid.remote.prospects import Prospects
from discogrid.session import Session
from discogrid.types import Digest, JobId
from discogrid.views import task_label

STORE_BYTES_MAX = 16 << 30  # of large answers on their way home
STARVED_S = 10.0  # that calls wait while no agent can run any, until it is said

log: Final = logging.getLogger(__name__)


class Home(Protocol):
    """Where answers are brought: a dispatcher, or what stands before one. Everything is called on one thread, but what is quick."""

    def quick(self, answers: Sequence[object]) -> bool:
        """See Dispatcher."""

    def answered(self, answers: Sequence[Answer], *, trusted: bool, note: Callable[[int], str] = ...) -> None:
        """See Dispatcher."""

    def slots_changed(self) -> None:
        """See Dispatcher."""

    def terminate(self, error: BaseException) -> None:
        """No call will be answered any more."""


class GridLine:
    """See Line. Made on any thread but an event loop's, which it would hold up until the grid has answered."""

    def __init__(
        self,
        home: Home,
        grid: Grid,
        manifest: Manifest,
        files: Sequence[bytes],
        prospects: Prospects,
        *,
        processes: int | None,
    ) -> None:
        """Open a job of this manifest; `files` are its script and constants, in this order. DiscogridError when it cannot be."""
        self.slots: int = 0
        self._receiver = home
        self._grid = grid
        self._manifest = manifest
        self._files = files
        self._prospects = prospects
        self._starving: asyncio.Task[None] | None = None  # as long as no call can run
        self._processes = processes
        self._many = False  # more slots than calls may run at a time
        self._lock = threading.Lock()
        self._waiting: list[Sequence[Call]] = []
        self._functions: list[tuple[int, bytes]] = []
        self._ending: list[int] = []  # numbers of calls
        self._woken = False
        self._closed = False
        self._terminated = False
        self._failure: BaseException | None = None
        self._opened = threading.Event()
        self._answers: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._store: BlobStore | None = None
        self._owners = itertools.count()  # of what lies in it
        self._closing = contextlib.ExitStack()
        self._loop = asyncio.new_event_loop()
        self._news = asyncio.Event()
        self._fetching: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._serve, name="discogrid-grid", daemon=True)
        self._home = threading.Thread(target=self._bring_home, name="discogrid-answers", daemon=True)
        self._thread.start()
        self._opened.wait()
        self._check_opened()
        self._home.start()

    def _check_opened(self) -> None:
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    @property
    def most(self) -> int | None:
        """See Line: a grid with more slots than calls may run gets no chunk ahead."""
        return self._processes if self._many else None

    @property
    def job(self) -> JobId:
        """The job that the calls are of."""
        return self._calls.job

    def open(self, function: int, content: bytes) -> None:
        """See Line."""
        with self._lock:
            self._functions.append((function, content))

    def send(self, chunks: Sequence[Sequence[Call]]) -> None:
        """See Line."""
        with self._lock:
            self._waiting += chunks
        self._wake()

    def end(self, number: int) -> None:
        """See EndsCalls."""
        with self._lock:
            self._ending.append(number)
        self._wake()

    def close(self) -> None:
        """See Line."""
        self._closed = True
        self._wake()

    def terminate(self) -> None:
        """See Line."""
        self._terminated = True
        self._wake()

    def join(self) -> None:
        """See Line."""
        self._thread.join()
        if self._home is not threading.current_thread():
            self._home.join()

    def _wake(self) -> None:
        with self._lock:
            if self._woken:
                return
            self._woken = True
        self._in_loop(self._news.set)

    def _in_loop(self, what: Callable[[], object]) -> None:
        """Have it done on the thread that speaks with the coordinator, unless that is over."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)

    # -- the thread that speaks with the coordinator

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
        except Exception as error:  # noqa: BLE001 (whoever waits is told of it, whatever it is)
            self._failure = error
            if self._opened.is_set():
                self._receiver.terminate(error)
        finally:
            self._loop.close()
            self._closing.close()
            self._answers.put(None)
            self._opened.set()

    async def _live(self) -> None:
        async with Session(self._grid, self._manifest.script.name) as session:
            self._session = session
            self._calls = CallSession(session, self._grid, self._manifest, self._files[0], self)
            for file, content in zip(self._manifest.constants, self._files[1:], strict=True):
                self._calls.add_file(file.digest, content)
            await self._calls.begin()
            try:
                said = await self._prospects.check(session, self._calls.job)
                self._opened.set()
                self._see_slots(said)
                await self._talk()
            finally:
                self._stop_starving()
                if not self._calls.ended.is_set():
                    await self._calls.cancel()
                self._calls.leave()

    async def _talk(self) -> None:
        ended = asyncio.create_task(self._calls.ended.wait())
        ended.add_done_callback(lambda _: self._news.set())
        closed = False
        while not ended.done():
            await self._news.wait()
            self._news.clear()
            with self._lock:
                self._woken = False
                functions, self._functions = self._functions, []
                chunks, self._waiting = self._waiting, []
                ending, self._ending = self._ending, []
            if self._terminated:
                break
            for number, content in functions:
                self._calls.add_function(number, content)
            if ending:
                chunks = [calls for calls in chunks if len(calls) > 1 or calls[0].number not in ending]
            if chunks:
                await self._calls.send(chunks)
            for number in ending:
                self._calls.end(number)
            if self._closed and not closed:
                closed = True
                await self._calls.close()
        ended.cancel()

    # -- when nothing can run

    def _see_slots(self, said: str = "") -> None:
        if self.slots:
            self._stop_starving()
        elif self._starving is None:
            self._starving = self._loop.create_task(self._starve(said))

    def _stop_starving(self) -> None:
        if self._starving is not None:
            self._starving.cancel()
            self._starving = None

    async def _starve(self, said: str) -> None:
        """Who waits for calls hears why, and again where that changes."""
        while True:
            await asyncio.sleep(STARVED_S)
            if not self._calls.idle and not self._calls.ended.is_set():
                with contextlib.suppress(DiscogridError):  # of a coordinator that is away the session speaks
                    said = await self._prospects.explain(self._session, self._calls.job, said)

    # -- what the call session says

    def answered(self, answers: Answers, job: JobId, agent: str, then: Callable[[], object]) -> None:
        """See Owner."""
        said = [answer for task in answers.tasks for answer in task.answers]
        large = dict(filter(None, map(_blob_of, said)))
        if large:
            fetching = self._loop.create_task(self._fetch(answers, large, job, agent, then))
            self._fetching.add(fetching)
            fetching.add_done_callback(self._fetching.discard)
        elif self._receiver.quick(said):
            self._deliver(answers, {}, job, agent)
            then()
        else:
            self._answers.put(lambda: self._bring(answers, {}, job, agent, then))

    def lost(self, calls: Sequence[Call], error: DiscogridError) -> None:
        """See Owner."""
        raised = [Raised(call.number, 0.0, exceptions.pack(error)) for call in calls]
        self._answers.put(lambda: self._receiver.answered(raised, trusted=True))

    def slots_changed(self, slots: int) -> None:
        """See Owner."""
        self._many = self._processes is not None and slots > self._processes
        self.slots = min(slots, self._processes) if self._processes is not None else slots
        if self._opened.is_set():
            self._see_slots()
        self._answers.put(self._receiver.slots_changed)

    def over(self, error: DiscogridError) -> None:
        """See Owner."""
        self._answers.put(lambda: self._receiver.terminate(error))

    async def _fetch(
        self, answers: Answers, large: dict[Digest, int], job: JobId, agent: str, then: Callable[[], object]
    ) -> None:
        """Bring large answers home; what does not come is an error of its own call."""
        content: dict[Digest, Content | DiscogridError] = {}
        store = self._large_answers()
        blobs = self._session.blobs(store)
        owner = f"answers-{next(self._owners)}"  # that keeps them until they are delivered

        async def fetch(digest: Digest, size: int) -> None:
            store.pin(digest, owner)
            try:
                await blobs.get(digest, size, passing=True)
                source = store.source(digest)
                content[digest] = InFile(source) if isinstance(source, Path) else source
            except (DiscogridError, OSError) as error:
                content[digest] = CallLost(
                    f"the {size} bytes that a call returned did not come from the coordinator: {error}"
                )

        async with asyncio.TaskGroup() as group:
            for digest, size in large.items():
                group.create_task(fetch(digest, size))
        self._answers.put(lambda: self._bring(answers, content, job, agent, then, owner))

    def _large_answers(self) -> BlobStore:
        """Where they lie until they are read."""
        if self._store is None:
            folder = self._closing.enter_context(tempfile.TemporaryDirectory(prefix="discogrid-"))
            self._store = BlobStore(Path(folder), STORE_BYTES_MAX)
        return self._store

    # -- the thread on which answers come home

    def _bring_home(self) -> None:
        while (deliver := self._answers.get()) is not None:
            try:
                deliver()
            except Exception:  # what a caller's own callback raises ends no other call
                log.exception("an answer could not be delivered")

    def _bring(
        self,
        answers: Answers,
        content: dict[Digest, Content | DiscogridError],
        job: JobId,
        agent: str,
        then: Callable[[], object],
        owner: str = "",
    ) -> None:
        """What `owner` keeps of large answers is not needed afterwards."""
        try:
            self._deliver(answers, content, job, agent)
        finally:
            for file in content.values():
                if isinstance(file, InFile):
                    file.close()
            if content:
                self._in_loop(partial(self._large_answers().unpin, owner, remove=True))
        self._in_loop(then)

    def _deliver(
        self, answers: Answers, content: dict[Digest, Content | DiscogridError], job: JobId, agent: str
    ) -> None:
        member = self._grid.roster.member(answers.body.agent)
        mine = answers.body.agent == self._grid.identity.id
        trusted = mine or (member is not None and member.trusted)
        here = [_at_home(answer, content) for task in answers.tasks for answer in task.answers]

        def note(number: int) -> str:
            begun = ((one.number, task) for task in answers.tasks for one in task.answers)
            # Of a row of calls the first number is named.
            _, task = max((one for one in begun if one[0] <= number), key=itemgetter(0))
            if task.log is None:
                return f"It ran on {agent}, and printed nothing."
            return f"It ran on {agent}; what it printed: discogrid logs {task_label(job, task.log)}"

        self._receiver.answered(here, trusted=trusted, note=note)


def _blob_of(answer: Returned | Raised | Part | Stored) -> tuple[Digest, int] | None:
    """Where its value is, and of how many bytes, if that is too large for a message."""
    match answer:
        case Stored(digest=digest, size=size):
            return digest, size
        case Part(stored=stored, size=size):
            return None if stored is None else (stored, size)
        case Returned() | Raised():
            return None
        case _:
            assert_never(answer)


def _at_home(
    answer: Returned | Raised | Part | Stored, content: dict[Digest, Content | DiscogridError]
) -> Answer:
    where = _blob_of(answer)
    found = None if where is None else content[where[0]]
    if isinstance(found, DiscogridError):
        return Raised(answer.number, answer.seconds, exceptions.pack(found))
    match answer:
        case Stored(number=number, seconds=seconds):
            assert found is not None, "it says where it is"
            return Lies(number, seconds, found)
        case Part() if found is not None:
            return structs.replace(answer, values=found.read(0, found.size), stored=None)
        case Part() | Returned() | Raised():
            return answer
        case _:
            assert_never(answer)
