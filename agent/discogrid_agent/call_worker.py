"""A worker of Python calls in its box: a process that lives as long as its job has calls for it.

It is fed and heard over two named pipes in its folder. Whatever runs there may write to them, and die at any moment: this
side believes no more than that a call of its own making was answered with some bytes.
"""

import asyncio
import os
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import discogrid
from discogrid.calls.frames import (
    ANSWER_BYTES_MAX,
    READ_BYTES,
    Call,
    FromWorker,
    Laid,
    Open,
    Part,
    Raised,
    Reader,
    Returned,
    Start,
    Started,
    frame,
    from_worker,
)
from discogrid.calls.slate import make_slate, unsent
from discogrid.calls.trays import Trays
from discogrid.errors import WireError
from discogrid.private_files import new_file
from discogrid.types import Limits
from discogrid_agent.sandbox.box import Box, Boxed, BoxEnd, Scene
from discogrid_agent.verdict import Exceeded
from discogrid_agent.work_folder import WorkFolder

INBOX: Final = ".discogrid-calls"
OUTBOX: Final = ".discogrid-results"
SLATE: Final = ".discogrid-slate"
TRAYS: Final = (".discogrid-arguments", ".discogrid-values")
Answer = Returned | Raised | Part
HEARD_MAX: Final = 1024  # answers that wait here to be taken; then its pipe fills, and it waits
STOP_S: Final = 2.0  # that a worker without calls has to end by itself


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker without a box is: in its submitter's own folder, under the submitter's own interpreter."""

    folder: Path
    interpreter: Path


@dataclass(frozen=True, slots=True)
class Stage:
    """What the workers of one job see, beside their own folders, and may use."""

    limits: Limits = Limits()
    mounts: tuple[tuple[str, Path], ...] = ()  # (target, tree), read-only
    environment: Mapping[str, str] = field(default_factory=dict)
    network: bool = False
    submitter: str = ""
    place: Place | None = None

    def python(self, box: Box) -> Path:
        """The interpreter that its calls run in."""
        return box.python if self.place is None else self.place.interpreter


class CallWorker:
    """One process in one box. One task of the event loop uses it at a time."""

    def __init__(self, boxed: Boxed, inbox: int, outbox: int, slate: int, trays: Trays) -> None:
        """Use `start`."""
        self._boxed = boxed
        self._trays = trays
        self._slate = slate
        self._last: FromWorker | None = None  # of what it said
        self._inbox = inbox
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(ANSWER_BYTES_MAX)
        self._heard: deque[FromWorker] = deque()
        self._over = False  # its pipe has ended, or what it says cannot be read
        self._news = asyncio.Event()
        self._listening = False
        self._first = b""
        self.stopped: Exceeded | None = None  # for what it used more than it may of
        self._listen()
        boxed.ended.add_done_callback(lambda _: self._hang_up())

    @classmethod
    def start(
        cls, box: Box, work: WorkFolder, stage: Stage, stdout: int, stderr: int, initializer: bytes = b""
    ) -> "CallWorker":
        """Start one in a folder that is laid out; on the event loop's own thread. SandboxError, or OSError of the folder."""
        owner = None if box.owner is None else (box.owner.uid, box.owner.gid)
        names: tuple[str, ...] = (INBOX, OUTBOX, SLATE, *TRAYS)
        if stage.place is not None:  # whose variables may say otherwise where temporary files are
            names = tuple(str(work.temporary / name) for name in names)
        with ExitStack() as closing:
            slate = make_slate(work.temporary / SLATE, owner)
            closing.callback(os.close, slate)
            trays = []
            for name in TRAYS:
                trays.append(new_file(work.temporary / name, owner))
                closing.callback(os.close, trays[-1])
            inbox, outbox = _pipes(work.temporary, owner)
            closing.callback(os.close, inbox)
            closing.callback(os.close, outbox)
            scene = Scene(
                work=work.work if stage.place is None else stage.place.folder,
                temporary=work.temporary,
                mounts=stage.mounts,
                command=(str(stage.python(box)), "-P", "-m", "discogrid.calls.worker", *names),
                environment=stage.environment,
                limits=stage.limits,
                stdout=stdout,
                stderr=stderr,
                shown=_shown(box),
                network=stage.network,
                submitter=stage.submitter,
            )
            worker = cls(box.start(scene), inbox, outbox, slate, Trays(trays))
            closing.pop_all()
        worker._first = frame(Start(initializer))
        return worker

    @property
    def ended(self) -> "asyncio.Future[BoxEnd]":
        """Done when it and all that it has started are dead."""
        return self._boxed.ended

    async def ready(self) -> Started | None:
        """How it has started; None when it has died of that."""
        await self._send(self._first)
        answer = await self._next()
        return answer if isinstance(answer, Started) else None

    def give(self, functions: Sequence[Open], calls: Sequence[Call]) -> Coroutine[None, None, None] | None:
        """Let it have these; what is to be awaited where its pipe has not taken all of them at once.

        One that has died takes everything.
        """
        content = [frame(said) for said in (*self._trays.news(), *functions, *self._trays.lay(calls))]
        left = self._write(memoryview(b"".join(content)))
        return self._send(left) if left else None

    async def answer(self) -> Answer | None:
        """Its next answer to a call; None when it is dead, or speaks nonsense, and there are no more."""
        said = await self._next()
        return said if isinstance(said, Answer) else None

    @property
    def boxed(self) -> Boxed:
        """The box that it runs in."""
        return self._boxed

    def stop_for(self, exceeded: Exceeded) -> None:
        """End it at a limit; the first reason is kept."""
        self.stopped = self.stopped or exceeded
        self._boxed.kill()

    def take(self) -> Answer | None:
        """Its next answer, if that is here already."""
        if not self._heard or not isinstance(self._heard[0], Answer | Laid):
            return None
        said = self._brought(self._heard.popleft())
        if not self._listening and len(self._heard) < HEARD_MAX:
            self._listen()
        return said if isinstance(said, Answer) else None

    def kill(self) -> None:
        """End it and all that it has started, at once."""
        self._boxed.kill()

    async def stop(self) -> BoxEnd:
        """No more calls: it may end by itself, and is ended after STOP_S."""
        self._close_inbox()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    return await asyncio.shield(self._boxed.ended)
            self._boxed.kill()
            return await self._boxed.ended
        finally:
            self._trays.close()

    # -- the pipes

    async def _send(self, content: bytes | memoryview) -> None:
        left = self._write(memoryview(content))
        while left:
            await self._writable()
            left = self._write(left)

    def _write(self, left: memoryview) -> memoryview:
        """As much of it as the pipe takes now; what is left of it. Nobody reads what is for one that has died."""
        try:
            while left and self._inbox >= 0 and not self._boxed.ended.done():
                left = left[os.write(self._inbox, left) :]
        except BlockingIOError:
            return left
        except BrokenPipeError:
            pass
        return memoryview(b"")

    async def _writable(self) -> None:
        """Until the pipe takes more, or nobody will read it any more."""
        ready = self._loop.create_future()
        self._loop.add_writer(self._inbox, _settle, ready)
        try:
            await asyncio.wait((ready, self._boxed.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._inbox >= 0:
                self._loop.remove_writer(self._inbox)

    async def _next(self) -> FromWorker | None:
        while not self._heard:
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        said = self._heard.popleft()
        if len(self._heard) < HEARD_MAX:
            self._listen()
        return self._brought(said)

    def _brought(self, said: FromWorker) -> FromWorker | None:
        """The same, with what lies on a tray, which is read no sooner than it is wanted; None, and it is ended, where nothing does."""
        if not isinstance(said, Started):
            self._trays.answered(said.number)
        if not isinstance(said, Laid):
            return said
        try:
            if said.size > ANSWER_BYTES_MAX:
                raise WireError(f"a result of {said.size} bytes is over {ANSWER_BYTES_MAX}")  # noqa: TRY301
            value = self._trays.result(said).read(0, said.size)
        except WireError:
            self._boxed.kill()
            self._hang_up()
            return None
        self._trays.have_read(1)
        return Returned(said.number, said.seconds, value)

    def _listen(self) -> None:
        if not self._listening and self._outbox >= 0:
            self._loop.add_reader(self._outbox, self._read)
            self._listening = True

    def _read(self) -> None:
        try:
            piece = os.read(self._outbox, READ_BYTES)
        except BlockingIOError:
            return
        if not piece:
            self._hang_up()
            return
        self._take(piece)

    def _take(self, piece: bytes) -> None:
        try:
            self._hear(piece)
        except WireError:
            self._boxed.kill()
            self._hang_up()
            return
        self._news.set()
        if len(self._heard) >= HEARD_MAX and self._listening:
            self._loop.remove_reader(self._outbox)
            self._listening = False

    def _hear(self, piece: bytes) -> None:
        said = [from_worker(body) for body in self._reader.feed(piece)]
        self._heard += said
        if said:
            self._last = said[-1]

    def _hang_up(self) -> None:
        """It will say nothing more: what it said before is still to be taken."""
        if self._over:
            return
        self._over = True
        if self._listening:
            self._loop.remove_reader(self._outbox)
            self._listening = False
        with suppress(BlockingIOError, WireError):
            while piece := os.read(self._outbox, READ_BYTES):
                self._hear(piece)
        self._heard += unsent(self._slate, self._last)
        os.close(self._slate)
        os.close(self._outbox)
        self._outbox = -1
        self._close_inbox()
        self._news.set()

    def _close_inbox(self) -> None:
        if self._inbox >= 0:
            self._loop.remove_writer(self._inbox)
            os.close(self._inbox)
            self._inbox = -1


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


def _pipes(folder: Path, owner: tuple[int, int] | None) -> tuple[int, int]:
    """Two named pipes, and this side's ends of them: to write, to read."""
    flags = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    for name in (INBOX, OUTBOX):
        os.mkfifo(folder / name, 0o600)
        if owner is not None:
            os.chown(folder / name, *owner, follow_symlinks=False)
    # Open for both, so that neither side waits for the other one to come.
    inbox = os.open(folder / INBOX, os.O_RDWR | flags)
    try:
        return inbox, os.open(folder / OUTBOX, os.O_RDONLY | flags)
    except BaseException:
        os.close(inbox)
        raise


def _shown(box: Box) -> tuple[Path, ...]:
    """What of discogrid itself a box has to show: nothing where it is installed beside what a task may import."""
    package = Path(discogrid.__file__).parent
    beside = package.parent.name == "site-packages"
    return () if beside or box.level.rank == 0 else (package,)
