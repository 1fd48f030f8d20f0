"""One job of Python calls on a grid, as its client holds it: what has left, what is not answered, what is to be sent again.

The coordinator keeps calls in memory alone. While it lives, a line that breaks costs nothing: the job is taken up where it
was. When it was started again, or has let the job go, another job takes the calls that have no answer yet.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from msgspec import structs

from discogrid.answers import Answer, Answers, TaskAnswers, open_answers
from discogrid.batches import (
    BATCH_CHUNKS_MAX,
    BATCH_LARGE_MAX,
    Batch,
    Chunk,
    encode_chunk,
    seal_batch,
)
from discogrid.blobs import digest_of
from discogrid.bundle import Job, Manifest, seal_job
from discogrid.calls.frames import Call, Part, Raised, whole
from discogrid.channel import Received
from discogrid.errors import (
    BlobError,
    CallLost,
    DiscogridError,
    GridError,
    IntegrityError,
    JobGone,
    JobOver,
    UsageError,
)
from discogrid.grid import Grid
from discogrid.messages import (
    Act,
    AddCalls,
    BlobsMissing,
    CallsDone,
    CallsLost,
    CallSlots,
    CallsOver,
    CallsSeen,
    CancelCalls,
    JobAccepted,
    Message,
    SubmitJob,
)
from discogrid.session import Session
from discogrid.submission import VALID_S
from discogrid.transfer import pack_small
from discogrid.types import Digest, FileRef, JobId
from discogrid.wire import pack_parts

LARGE_BYTES = 256 << 10  # of one call's arguments, which travel as a blob
BATCH_BYTES_MAX = 2 << 20  # of the chunks of one batch
BATCH_LARGE_BYTES_MAX = (
    16 << 20
)  # of its large arguments: the first calls run while those of the next ones travel
SEEN_EVERY = 32  # messages, after which the coordinator hears that they have come
SEEN_S = 0.5  # or after so long
AGAIN_S = 0.02  # before a line that is full is tried again
CLOSE_S = 5.0  # for the coordinator to hear that a job is over

log: Final = logging.getLogger(__name__)


class Owner(Protocol):
    """Whose calls these are. Its methods are called on the loop's thread and must not block."""

    def answered(self, answers: Answers, job: JobId, agent: str, then: Callable[[], object]) -> None:
        """An agent has answered tasks of the job. `then` is to be called in the loop once all of it is at home."""

    def lost(self, calls: Sequence[Call], error: DiscogridError) -> None:
        """These calls have ended without an answer."""

    def slots_changed(self, slots: int) -> None:
        """So many calls can run at a time now."""

    def over(self, error: DiscogridError) -> None:
        """No call will be answered any more."""


@dataclass(slots=True)
class _Sent:
    """A batch of which something is not answered."""

    batch: Batch
    leaves: list[bytes]
    blobs: dict[Digest, bytes]
    left: int


@dataclass(slots=True)
class _Run:
    """One job, as far as it has come."""

    job: Job
    id: JobId
    next: int = 0  # task
    seen: int = 0  # number of the last word that is at home, with all before it
    ahead: set[int] = field(default_factory=set)  # numbers of words that are at home, and not all before them
    told: int = 0  # of `seen`, what the coordinator knows
    heard: int = 0  # number of the last word that came
    sent: dict[int, _Sent] = field(default_factory=dict)  # by start
    of: dict[int, int] = field(default_factory=dict)  # start of the batch of a task that is not answered
    functions: dict[int, FileRef] = field(default_factory=dict)  # that the coordinator has
    behind: bool = (
        False  # not all of what was sent has left: the line is broken, and will be greeted on again
    )
    given_up: bool = False  # its calls are to be made in another one


class CallSession:
    """The calls of one owner, on a session that is open. Everything is for the loop's thread."""

    def __init__(
        self, session: Session, grid: Grid, manifest: Manifest, initializer: bytes, owner: Owner
    ) -> None:
        """`manifest` is signed anew for each job; its script is `initializer`."""
        self._session = session
        self._grid = grid
        self._manifest = manifest
        self._constants: dict[Digest, bytes] = {manifest.script.digest: initializer}
        self._owner = owner
        self._functions: dict[int, bytes] = {}
        self._references: dict[int, FileRef] = {}
        self._calls: dict[int, Sequence[Call]] = {}  # of tasks that are not answered
        self._loop = asyncio.get_running_loop()
        self._run: _Run | None = None
        self._sending = asyncio.Lock()
        self._greeting: asyncio.Task[None] | None = None
        self._again = False  # it is to be taken up
        self._confirming: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._closing = False

    @property
    def job(self) -> JobId:
        """The id of the job that the calls are of now."""
        assert self._run is not None, "after `begin`"
        return self._run.id

    @property
    def ended(self) -> asyncio.Event:
        """Set when the job is over, and nothing is asked of it any more."""
        return self._ended

    @property
    def idle(self) -> bool:
        """Whether every call that was sent is answered."""
        return not self._calls

    def add_file(self, digest: Digest, content: bytes) -> None:
        """A constant of the manifest."""
        self._constants[digest] = content

    def add_function(self, number: int, content: bytes) -> None:
        """What calls name by this number."""
        self._functions[number] = content
        self._references[number] = FileRef(f"function-{number}", digest_of(content), len(content))

    async def begin(self) -> None:
        """Open the job; DiscogridError when the grid does not want it."""
        async with self._sending:
            self._run = await self._new_job()

    async def send(self, chunks: Sequence[Sequence[Call]]) -> None:
        """Make these calls, each chunk of them one task."""
        async with self._sending:
            await self._send(chunks)

    def end(self, number: int) -> None:
        """The answer to this call is not wanted any more; where it travelled alone, it is not run on."""
        run = self._run
        if run is None:
            return
        for index, calls in self._calls.items():
            if calls[0].number == number and len(calls) == 1:
                self._taken(run, index)
                self._session.send(CancelCalls(job=run.id, index=index))
                return

    async def close(self) -> None:
        """No more calls are made: the job ends with the last of them."""
        async with self._sending:
            self._closing = True
            await self._say_close()

    async def cancel(self) -> None:
        """End everything at once."""
        self._closing = True
        if self._run is not None and not self._ended.is_set():
            job = self._run.id
            self._session.listen(job, None)
            with contextlib.suppress(DiscogridError):
                await self._session.ask(
                    lambda request: Act(request=request, what="cancel", job=job), timeout=CLOSE_S
                )
        self._ended.set()

    def leave(self) -> None:
        """The session ends: nothing is said any more."""
        if self._run is not None:
            self._session.listen(self._run.id, None)
        if self._greeting is not None:
            self._greeting.cancel()
        if self._confirming is not None:
            self._confirming.cancel()
        self._run = None

    # -- what comes

    def told(self, received: Received) -> None:
        """See CallListener."""
        run, message = self._run, received.message
        if run is None:
            return
        match message:
            case CallSlots(slots=slots):
                self._owner.slots_changed(slots)
            case CallsOver(reason=reason):
                self._over(run, reason)
            case CallsDone(number=number) | CallsLost(number=number) if number <= run.heard:
                self._confirm(run)  # it was sent again, and had come
            case CallsDone(number=number, agent=agent):
                run.heard = number
                self._done(run, number, agent, received.payload)
            case CallsLost(number=number, start=start, stop=stop, reason=reason):
                run.heard = number
                calls = [call for index in range(start, stop) for call in self._taken(run, index)]
                self._owner.lost(calls, _lost(run.id, reason))
                self._home(run, number)
            case _:
                pass

    def greeted(self) -> None:
        """See CallListener."""
        self._again = True
        if self._greeting is None or self._greeting.done():
            self._greeting = self._loop.create_task(self._take_up())

    def put_out(self, error: DiscogridError) -> None:
        """See CallListener."""
        self._end(error)

    def _done(self, run: _Run, number: int, agent: str, payload: Sequence[bytes]) -> None:
        try:
            packed, envelope = _two(payload)
            answers = open_answers(packed, envelope, run.job.digest, self._grid.roster)
            if answers.body.sandbox.rank < run.job.manifest.requirements.sandbox.rank:
                raise IntegrityError(
                    f"calls ran in the box {answers.body.sandbox.value!r}, a weaker one than their job demands"
                )
        except DiscogridError as error:
            # Which tasks it is of is not proven: its calls stay open, and their job makes way for another one.
            log.warning("answers of agent %s were not used: %s", agent, error.what)
            self._home(run, number)
            self._begin_again(run)
            return
        unanswered: list[Call] = []
        fresh = []
        for task in answers.tasks:
            if calls := self._taken(run, task.index):
                kept, missing = _settled(calls, task.answers)
                unanswered += missing
                fresh.append(TaskAnswers(task.index, tuple(kept), task.log))
        if unanswered:
            why = CallLost(f"the agent {agent} has not answered a call that it was given")
            self._owner.lost(unanswered, why)
        self._owner.answered(Answers(answers.body, fresh), run.id, agent, lambda: self._home(run, number))

    def _taken(self, run: _Run, index: int) -> Sequence[Call]:
        """The calls of a task that has ended; none when it had ended before."""
        start = run.of.pop(index, None)
        if start is None:
            return ()
        sent = run.sent[start]
        sent.left -= 1
        if not sent.left:
            del run.sent[start]
        return self._calls.pop(index)

    def _home(self, run: _Run, number: int) -> None:
        """A word of the coordinator and all that belongs to it is here."""
        run.ahead.add(number)
        while run.seen + 1 in run.ahead:
            run.seen += 1
            run.ahead.discard(run.seen)
        if run.seen - run.told >= SEEN_EVERY:
            self._confirm(run)
        elif run.seen > run.told and self._confirming is None:
            self._confirming = self._loop.call_later(SEEN_S, self._confirm, run)

    def _confirm(self, run: _Run) -> None:
        if self._confirming is not None:
            self._confirming.cancel()
            self._confirming = None
        if run is self._run and self._session.send(CallsSeen(job=run.id, number=run.seen)):
            run.told = run.seen

    def _over(self, run: _Run, reason: str) -> None:
        if self._calls and not reason:
            self._begin_again(run)
        elif self._calls or not self._closing:
            self._end(_lost(run.id, reason or "its job has ended"))
        else:
            self._ended.set()

    def _end(self, error: DiscogridError) -> None:
        self._ended.set()
        self._owner.over(error)

    # -- what leaves

    async def _send(self, chunks: Sequence[Sequence[Call]]) -> None:
        run = self._run
        assert run is not None, "after `begin`"
        at = 0
        while at < len(chunks) and not self._ended.is_set():
            sent, at = self._batch(run, chunks, at)
            run.sent[sent.batch.body.start] = sent
            if not run.behind:
                await self._offer(run, sent)

    def _batch(self, run: _Run, chunks: Sequence[Sequence[Call]], at: int) -> tuple[_Sent, int]:
        """As many of the chunks as may travel together, signed; and where the next one begins."""
        start = run.next
        leaves: list[bytes] = []
        blobs: dict[Digest, bytes] = {}
        large: dict[Digest, FileRef] = {}
        functions: dict[int, FileRef] = {}
        size = large_bytes = 0
        while at < len(chunks) and len(leaves) < BATCH_CHUNKS_MAX and size < BATCH_BYTES_MAX:
            if leaves and (
                len(large) + len(chunks[at]) > BATCH_LARGE_MAX or large_bytes >= BATCH_LARGE_BYTES_MAX
            ):
                break
            chunk, heavy = self._chunk(run.next, chunks[at])
            for file, content in heavy:
                large[file.digest] = file
                blobs[file.digest] = content
                large_bytes += file.size
            for number in {call.function for call in chunks[at]}:
                functions[number] = self._references[number]
            leaves.append(encode_chunk(chunk))
            size += len(leaves[-1])
            self._calls[run.next] = chunks[at]
            run.of[run.next] = start
            run.next += 1
            at += 1
        batch = seal_batch(run.job, start, leaves, functions, self._grid.identity, list(large.values()))
        return _Sent(batch, leaves, blobs, len(leaves)), at

    def _chunk(self, index: int, calls: Sequence[Call]) -> tuple[Chunk, list[tuple[FileRef, bytes]]]:
        """A chunk with its large arguments taken out."""
        heavy: list[tuple[FileRef, bytes]] = []
        large: dict[int, FileRef] = {}
        kept: list[Call] = []
        for place, call in enumerate(map(whole, calls)):
            if len(call.arguments) <= LARGE_BYTES:
                kept.append(call)
                continue
            file = FileRef("arguments", digest_of(call.arguments), len(call.arguments))
            heavy.append((file, call.arguments))
            large[place] = file
            kept.append(structs.replace(call, arguments=b""))
        return Chunk(index, tuple(kept), large), heavy

    async def _offer(self, run: _Run, sent: _Sent) -> None:
        """Let the coordinator have a batch; what is wrong with the line is mended when it greets again."""
        body = sent.batch.body
        payload = [sent.batch.envelope, pack_parts(sent.leaves)]
        if body.functions.items() <= run.functions.items() and not body.large:
            while not self._session.send(AddCalls(job=run.id), *payload):
                await asyncio.sleep(AGAIN_S)
                if self._again:
                    run.behind = True
                    return
            return
        content = {
            **sent.blobs,
            **{file.digest: self._functions[number] for number, file in body.functions.items()},
        }
        riders = pack_small(sent.batch.blobs(), lambda file: content[file.digest])
        try:
            await self._ask(
                lambda request: AddCalls(request=request, job=run.id),
                payload,
                riders,
                content,
                passing=sent.blobs.keys(),
            )
        except JobGone:
            run.behind = True
            self.greeted()
        except JobOver as over:
            self._over(run, over.why or over.what)
        except (GridError, BlobError):
            run.behind = True
        except DiscogridError as error:
            self._end(error)
        else:
            run.functions.update(body.functions)

    async def _ask(
        self,
        build: Callable[[int], Message],
        payload: Sequence[bytes],
        riders: bytes,
        content: dict[Digest, bytes],
        *,
        passing: Collection[Digest] = (),
    ) -> Received:
        """The answer to what needs blobs, once the coordinator has them; those of `passing` are needed once, and soon."""
        while True:
            reply = await self._session.ask(build, *payload, riders)
            if not isinstance(reply.message, BlobsMissing):
                return reply
            missing = reply.message.digests
            if not content.keys() >= set(missing):
                raise IntegrityError(
                    "the coordinator asks for what does not belong to these calls; nothing was sent"
                )
            blobs = self._session.blobs(None)
            failed: BaseExceptionGroup[DiscogridError] | None = None
            try:
                async with asyncio.TaskGroup() as group:
                    for digest in missing:
                        one = content[digest]
                        group.create_task(blobs.put(one, digest, len(one), passing=digest in passing))
            except* DiscogridError as errors:
                failed = errors
            if failed is not None:
                raise failed.exceptions[0]  # what came of one came of all: the line is broken

    # -- jobs

    async def _new_job(self) -> _Run:
        now = time.time()
        manifest = _signed_now(self._manifest, now)
        job = seal_job(manifest, self._grid.identity)
        run = _Run(job, JobId(""))
        await self._submit(run)
        return run

    async def _submit(self, run: _Run) -> int:
        """Let the coordinator know of the job, for the first time or again; how many tasks it has been given."""
        blobs = run.job.blobs()
        riders = pack_small(blobs, lambda file: self._constants[file.digest])
        reply = await self._ask(
            lambda request: SubmitJob(request=request, seen=run.seen),
            (run.job.envelope, b""),
            riders,
            self._constants,
        )
        if not isinstance(reply.message, JobAccepted):
            raise GridError(
                f"the coordinator answered with a {type(reply.message).__name__} to a pool of calls"
            )
        if not run.id:
            run.id = reply.message.job
        self._session.listen(run.id, self)
        return reply.message.tasks

    async def _take_up(self) -> None:
        """The coordinator greets again: go on with the job if it has it, else with another one."""
        while self._again:
            self._again = False
            async with self._sending:
                await self._go_on()

    async def _go_on(self) -> None:
        run = self._run
        if run is None or self._ended.is_set():
            return
        run.behind = False
        try:
            if run.given_up or not await self._taken_up(run):
                await self._move(run)
            if self._closing:
                await self._say_close()
        except JobOver as over:
            self._over(run, over.why or over.what)
        except (GridError, BlobError):
            run.behind = True  # the line is gone again
        except DiscogridError as error:
            self._end(error)

    async def _taken_up(self, run: _Run) -> bool:
        """Whether the coordinator has the job, and by now all of its calls."""
        try:
            tasks = await self._submit(run)
        except JobGone:
            return False
        if tasks < min(run.sent, default=0):
            return False
        for start, sent in sorted(run.sent.items()):
            if start >= tasks:
                await self._offer(run, sent)
        return True

    def _begin_again(self, run: _Run) -> None:
        """Have the calls that have no answer made in another job."""
        run.given_up = True
        self.greeted()

    async def _move(self, run: _Run) -> None:
        """Make the calls that have no answer in another job; where there is none to be had now, later."""
        log.warning("job %s is gone; %d tasks of calls begin again in another one", run.id, len(self._calls))
        self._session.listen(run.id, None)
        if run.given_up:
            with contextlib.suppress(UsageError, JobOver):  # it has ended by itself
                await self._session.ask(lambda request: Act(request=request, what="cancel", job=run.id))
        fresh = await self._new_job()
        left = [self._calls[index] for index in sorted(self._calls)]
        self._calls.clear()
        self._run = fresh
        await self._send(left)

    async def _say_close(self) -> None:
        run = self._run
        if run is None or self._ended.is_set():
            return
        with contextlib.suppress(GridError):  # said again when the line is back
            await self._session.ask(lambda request: Act(request=request, what="close", job=run.id))


def _settled(calls: Sequence[Call], answers: Sequence[Answer]) -> tuple[list[Answer], list[Call]]:
    """Those of a task's answers that are to its calls, each once and whole; and the calls that have none."""
    left = {call.number: call.count or 1 for call in calls}
    rows = {call.number: call.count for call in calls if call.count}
    kept: list[Answer] = []
    for answer in answers:
        number = answer.number
        if not left.get(number):
            continue
        if isinstance(answer, Part):
            if answer.offset != rows.get(number, 0) - left[number] or not 1 <= answer.count <= left[number]:
                continue
            left[number] -= answer.count
        elif number in rows and not isinstance(answer, Raised):
            continue
        else:
            left[number] = 0
        kept.append(answer)
    unanswered = [call for call in calls if left[call.number]]
    return [answer for answer in kept if not left[answer.number]] if unanswered else kept, unanswered


def _two(payload: Sequence[bytes]) -> tuple[bytes, bytes]:
    if len(payload) != 2:
        raise IntegrityError("answers came without their envelope")
    return payload[0], payload[1]


def _lost(job: JobId, reason: str) -> CallLost:
    return CallLost(
        f"calls of job {job} were not answered: {reason}",
        fix=f"discogrid why {job} says what is known of it.",
    )


def _signed_now(manifest: Manifest, now: float) -> Manifest:
    return structs.replace(manifest, nonce=secrets.token_bytes(16), issued=now, expires=now + VALID_S)
