"""What a user can ask of a grid: submit, watch, cancel, read results. See `download` for what is kept on disk."""

import asyncio
import difflib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from discogrid import transport
from discogrid.blobs import BlobStore, digest_of
from discogrid.bundle import (
    LEAF_BYTES_MAX,
    Job,
    ResultBody,
    check_leaves,
    decode_leaf,
    is_id_of,
    kind_of,
    open_job,
    open_results,
)
from discogrid.envelope import ENVELOPE_BYTES_MAX
from discogrid.errors import (
    GridError,
    InputError,
    IntegrityError,
    UsageError,
)
from discogrid.grid import Grid
from discogrid.keys import ROTATION_TYPE, Identity
from discogrid.messages import (
    Act,
    Answer,
    BlobsMissing,
    Changed,
    GetJob,
    GetResults,
    JobAccepted,
    JobContent,
    LogPushed,
    Message,
    PublishRoster,
    Query,
    Results,
    RotateKeys,
    SubmitJob,
    TellRunTimes,
    Watch,
    WatchLogs,
    Welcome,
)
from discogrid.run_times import pack_run_times
from discogrid.session import ANSWER_S, Session
from discogrid.submission import Prepared
from discogrid.transfer import pack_small
from discogrid.types import Digest, JobId
from discogrid.views import AgentView, JobView, TaskView
from discogrid.wire import PACKED_BYTES_MAX, pack_parts, unpack_parts

UPLOADS_AT_ONCE = 16
PAGE_TASKS = 256
RESULTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Result:
    """A task's signed result, checked against the roster and the job. `archive` is there when it was small."""

    body: ResultBody
    envelope: bytes
    archive: bytes | None


class AsyncClient:
    """One connection to a grid's coordinator. Use `async with AsyncClient(grid) as client`."""

    def __init__(self, grid: Grid, *, program: str = "discogrid") -> None:
        """`program` is the name that the coordinator's log shows."""
        self.grid = grid
        self._session = Session(grid, program)
        self._jobs: dict[JobId, Job] = {}

    @property
    def welcome(self) -> Welcome | None:
        """What the coordinator said of itself; None before it did."""
        return self._session.welcome

    async def __aenter__(self) -> Self:
        """Connect; GridError after CONNECT_S without an answer, HandshakeRefused when the grid says no."""
        await self._session.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye; jobs go on."""
        await self._session.__aexit__(kind, error, trace)

    # -- jobs

    async def submit(
        self, prepared: Prepared, *, hold: bool = False, on_uploaded: Callable[[int], None] = lambda _: None
    ) -> JobId:
        """Send a signed job with the blobs the coordinator lacks; `on_uploaded` gets the bytes of each finished blob.

        When this returns, the coordinator keeps the job whatever happens to this process.
        """
        leaves = pack_parts(prepared.leaves)
        if len(leaves) > PACKED_BYTES_MAX:
            raise InputError(
                f"the names of {len(prepared.leaves):,} inputs are together too long for one job",
                fix="Submit them as several jobs, or give them shorter names.",
            )
        await self._tell_run_times(prepared)
        riders = pack_small(prepared.refs(), lambda file: prepared.files[file.digest].read_bytes())
        while True:
            reply = await self._session.ask(
                lambda request: SubmitJob(request=request, hold=hold),
                prepared.job.envelope,
                leaves,
                riders,
                timeout=ANSWER_S * 4,
            )
            match reply.message:
                case JobAccepted(job=job):
                    if not is_id_of(job, prepared.job.digest):
                        raise IntegrityError("the coordinator answered with the id of another job")
                    self._jobs[job] = prepared.job
                    return job
                case BlobsMissing(digests=digests):
                    riders = b""
                    await self._upload(prepared, digests, on_uploaded)
                case other:
                    raise _unexpected(other)

    async def _tell_run_times(self, prepared: Prepared) -> None:
        """Before the job, so that it is known when the job comes; an older coordinator does without."""
        welcome = self._session.welcome
        if prepared.run_times and welcome is not None and welcome.protocol >= TellRunTimes.since:
            kind = kind_of(prepared.job.manifest)
            await self._session.ask(
                lambda request: TellRunTimes(request=request, kind=kind), *pack_run_times(prepared.run_times)
            )

    async def jobs(self) -> list[JobView]:
        """All jobs, oldest first."""
        found: list[JobView] = []
        while True:
            query = partial(Query, what="jobs", start=len(found), count=PAGE_TASKS)
            answer = await self._query(lambda request: query(request=request))  # noqa: B023 - awaited here
            found.extend(answer.jobs)
            if not answer.more or not answer.jobs:
                return found

    async def job(self, job: JobId) -> JobView:
        """One job."""
        answer = await self._query(lambda request: Query(request=request, what="job", job=job))
        return answer.jobs[0]

    async def tasks(self, job: JobId, start: int = 0, stop: int | None = None) -> list[TaskView]:
        """The tasks `start <= index < stop` of a job, all when `stop` is None."""
        found: list[TaskView] = []
        while True:
            first = start + len(found)
            count = PAGE_TASKS if stop is None else min(PAGE_TASKS, stop - first)
            query = partial(Query, what="tasks", job=job, start=first, count=count)
            answer = await self._query(lambda request: query(request=request))  # noqa: B023 - awaited here
            found.extend(answer.tasks)
            if not answer.more or not answer.tasks or (stop is not None and start + len(found) >= stop):
                return found

    async def agents(self) -> list[AgentView]:
        """All agents that have been seen."""
        found: list[AgentView] = []
        while True:
            start = len(found)
            answer = await self._query(
                lambda request: Query(request=request, what="agents", start=start)  # noqa: B023
            )
            found.extend(answer.agents)
            if not answer.more or not answer.agents:
                return found

    async def placeable(self, job: JobId) -> bool:
        """Whether any agent now on the grid could run the job, were it free."""
        return (await self._query(lambda request: Query(request=request, what="why", job=job))).placeable

    async def why(self, job: JobId) -> dict[str, str]:
        """For each agent, why it runs nothing (more) of the job."""
        found: dict[str, str] = {}
        while True:
            start = len(found)
            answer = await self._query(
                lambda request: Query(request=request, what="why", job=job, start=start)  # noqa: B023
            )
            found.update(answer.reasons)
            if not answer.more or not answer.reasons:
                return found

    async def cancel(self, job: JobId) -> None:
        """Stop what runs of the job and drop what waits."""
        await self._query(lambda request: Act(request=request, what="cancel", job=job))

    async def release(self, job: JobId) -> None:
        """Let a held job run."""
        await self._query(lambda request: Act(request=request, what="release", job=job))

    async def prune(self, job: JobId) -> None:
        """Have the coordinator forget an ended job with its results."""
        await self._query(lambda request: Act(request=request, what="prune", job=job))

    async def publish(self, envelope: bytes) -> None:
        """Bring the coordinator a newer roster; it tells everybody. SignatureRefused when the owner did not sign it."""
        await self._session.ask(lambda request: PublishRoster(request=request), envelope)

    async def rotate(self, fresh: Identity) -> None:
        """Exchange this node's keys for `fresh` ones, which count from now on; this connection ends.

        SignatureRefused when the grid's owner key does not lie with the coordinator.
        """
        sealed = self.grid.identity.seal(ROTATION_TYPE, fresh.statement())
        await self._session.ask(lambda request: RotateKeys(request=request), sealed)

    async def resolve(self, text: str) -> JobId:
        """The job meant by an id, a prefix of one, a unique name or `@last`; UsageError when none or several fit."""
        return resolve(text, await self.jobs())

    async def content(self, job: JobId) -> tuple[Job, list[bytes]]:
        """The job's manifest, its signature checked here, and its leaves, proven to be the signed ones."""
        reply = await self._session.ask(lambda request: GetJob(request=request, job=job))
        if not isinstance(reply.message, JobContent) or len(reply.payload) != 2:
            raise _unexpected(reply.message)
        opened = self._open(job, reply.payload[0])
        leaves = unpack_parts(reply.payload[1], part_bytes_max=LEAF_BYTES_MAX)
        check_leaves(opened, leaves)
        return opened, leaves

    async def inputs(self, job: JobId) -> list[str | None]:
        """The base name of each task's input."""
        _, leaves = await self.content(job)
        return [leaf.input.name if leaf.input else None for leaf in map(decode_leaf, leaves)]

    # -- pushes

    @asynccontextmanager
    async def watch(
        self, job: JobId | None = None, *, tasks: bool = True
    ) -> AsyncIterator[AsyncIterator[Changed]]:
        """Changes of one job or of everything, after a complete first picture; GridError when the coordinator is gone."""
        async with self._session.pushed(
            lambda request: Watch(request=request, job=job, tasks=tasks)
        ) as pushes:

            async def changes() -> AsyncIterator[Changed]:
                async for push in pushes:
                    if isinstance(push.message, Changed):
                        yield push.message

            yield changes()

    @asynccontextmanager
    async def logs(self, job: JobId, index: int) -> AsyncIterator[AsyncIterator[tuple[LogPushed, bytes]]]:
        """The output of a task while it runs; a LogPushed with `state` set is the last one."""
        async with self._session.pushed(
            lambda request: WatchLogs(request=request, job=job, index=index)
        ) as pushes:

            async def chunks() -> AsyncIterator[tuple[LogPushed, bytes]]:
                async for push in pushes:
                    if isinstance(push.message, LogPushed):
                        yield push.message, push.payload[0] if push.payload else b""

            yield chunks()

    # -- results

    async def results(self, job: JobId, indices: list[int]) -> list[Result]:
        """The signed results of these tasks, each checked: agent, job, task, archive digest. Tasks without one are left out."""
        if job not in self._jobs:
            await self.content(job)
        found: list[Result] = []
        for first in range(0, len(indices), RESULTS_AT_ONCE):
            wanted = indices[first : first + RESULTS_AT_ONCE]
            while wanted:
                got = await self._results(job, wanted)
                answered = {result.body.index for result in got}
                found.extend(got)
                rest = [index for index in wanted if index not in answered]
                if not got or len(rest) == len(wanted):
                    break
                wanted = rest
        return found

    async def blob(self, digest: Digest, size: int, store: BlobStore) -> Path:
        """A blob of a job, verified."""
        await self._session.blobs(store).get(digest, size)
        return store.path(digest)

    async def _results(self, job: JobId, wanted: list[int]) -> list[Result]:
        reply = await self._session.ask(
            lambda request: GetResults(request=request, job=job, indices=tuple(wanted))
        )
        if not isinstance(reply.message, Results) or len(reply.payload) != 2:
            raise _unexpected(reply.message)
        envelopes = unpack_parts(reply.payload[0], part_bytes_max=ENVELOPE_BYTES_MAX)
        archives = unpack_parts(reply.payload[1], part_bytes_max=transport.CHUNK_BYTES_MAX)
        if not len(envelopes) == len(archives) == len(reply.message.indices):
            raise IntegrityError("the coordinator's answer does not hold what it says")
        if not set(reply.message.indices) <= set(wanted):
            raise IntegrityError("the coordinator answered with results of other tasks than were asked for")
        return [
            checked_result(self.grid, self._jobs[job], index, envelope, archive)
            for index, envelope, archive in zip(reply.message.indices, envelopes, archives, strict=True)
        ]

    async def _query(self, build: Callable[[int], Message]) -> Answer:
        reply = await self._session.ask(build)
        if not isinstance(reply.message, Answer):
            raise _unexpected(reply.message)
        return reply.message

    async def _upload(
        self, prepared: Prepared, digests: tuple[Digest, ...], on_uploaded: Callable[[int], None]
    ) -> None:
        unknown = [digest for digest in digests if digest not in prepared.files]
        if unknown:
            raise IntegrityError(
                "the coordinator asks for files that do not belong to this job; nothing was sent"
            )
        blobs = self._session.blobs(None)
        gate = asyncio.Semaphore(UPLOADS_AT_ONCE)

        async def upload(digest: Digest) -> None:
            async with gate:
                await blobs.put(prepared.files[digest], digest, prepared.sizes[digest])
                on_uploaded(prepared.sizes[digest])

        async with asyncio.TaskGroup() as group:
            for digest in digests:
                group.create_task(upload(digest))

    def _open(self, job: JobId, envelope: bytes) -> Job:
        opened = open_job(envelope, self.grid.roster, audience=self.grid.roster.coordinator().id, now=None)
        if not is_id_of(job, opened.digest):
            raise IntegrityError("the coordinator answered with another job than the one that was asked for")
        known = self._jobs.setdefault(job, opened)
        if known.digest != opened.digest:  # a short id can be the beginning of two digests
            raise IntegrityError("the coordinator answered with two different jobs of one id")
        return opened


def resolve(text: str, jobs: list[JobView]) -> JobId:
    """The job meant by an id, a prefix of one, a unique name or `@last`; UsageError when none or several fit."""
    if text == "@last" and jobs:
        return max(jobs, key=lambda job: job.created).id
    exact = [job.id for job in jobs if job.id == text]
    fitting = exact or [job.id for job in jobs if job.id.startswith(text.lower()) or job.name == text]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UsageError(
            f"{text!r} fits {len(fitting)} jobs: {', '.join(fitting[:8])}", fix="Write more of the id."
        )
    nearest = difflib.get_close_matches(text, [name for job in jobs for name in (job.id, job.name)], 1)
    raise UsageError(
        f"there is no job {text!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else ""),
        fix="`discogrid ls` lists the jobs.",
    )


def checked_result(grid: Grid, job: Job, index: int, envelope: bytes, archive: bytes) -> Result:
    """The result of one task in its agent's envelope, proven to belong to the job, its box and the archive."""
    for body in open_results(envelope, grid.roster):
        if body.job == job.digest and body.index == index:
            if body.sandbox.rank < job.manifest.requirements.sandbox.rank:
                raise IntegrityError(
                    f"task {index} ran in the box {body.sandbox.value!r}, a weaker one than its job demands",
                    fix="Ask the owner of that machine; it was not used.",
                )
            if archive and digest_of(archive) != body.archive:
                raise IntegrityError(
                    f"the archive of task {index} is not the one its agent signed; it was not used"
                )
            return Result(body, envelope, archive or None)
    raise IntegrityError(f"the signed result of task {index} belongs to another task or job; it was not used")


def _unexpected(message: Message) -> GridError:
    return GridError(
        f"the coordinator answered with a {type(message).__name__}, which does not fit the question"
    )
