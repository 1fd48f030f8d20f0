"""Joins the pure scheduler to what it decides about: jobs, journal, books, blobs and the outbox.

The order is the law: events are handled, their actions performed, and what they leave behind is one batch: blobs to be
on the disk first, then the rows that name them, and only then the mail. Whatever an agent or a client is told has
therefore survived a kill of this process, and a power cut.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import msgspec

from discogrid import __version__
from discogrid.answers import KEPT_S
from discogrid.blobs import BlobStore
from discogrid.bundle import demands, kind_of, task_key
from discogrid.errors import BlobError, DiscogridError
from discogrid.grid import Grid
from discogrid.messages import (
    PROTOCOL,
    CallsDone,
    CallsLost,
    CallSlots,
    CallsOver,
    CancelTasks,
    FollowLogs,
    JobEnded,
    RecallTasks,
    Resync,
    TaskDone,
    TasksCommitted,
    TasksDiscarded,
    Welcome,
)
from discogrid.spans import SpanSet
from discogrid.types import (
    AgentId,
    Attempt,
    Counts,
    Digest,
    FileRef,
    JobId,
    JobState,
    Outcome,
    Run,
    TaskState,
)
from discogrid.views import JobView
from discogrid_coordinator import events, locality
from discogrid_coordinator.books import CHANGED_TASKS_MAX, Books
from discogrid_coordinator.call_job import CallJob
from discogrid_coordinator.intake import Accepted, Intake, Verified
from discogrid_coordinator.journal import JobRecord, Journal, ResultRecord, Write
from discogrid_coordinator.leaves import Names
from discogrid_coordinator.log_relay import LogRelay
from discogrid_coordinator.outbox import Kind, Line, Mail, Outbox, Send
from discogrid_coordinator.peers import Peer, Peers
from discogrid_coordinator.retention import FORGOTTEN_MAX, forgettable
from discogrid_coordinator.scheduler import Scheduler
from discogrid_coordinator.tracker import Tracker
from discogrid_coordinator.watches import Watches

FAILURES = (Outcome.SCRIPT_FAILED, Outcome.LIMIT_EXCEEDED)  # that are the task's own
RESTARTED = "the coordinator was started again"  # why a job of calls has ended
RESULTS_PREFIX = "results:"

_CHANGES_SLOTS = frozenset((events.AgentJoined, events.AgentLeft, events.AgentPaused, events.TimePassed))

log = logging.getLogger(__name__)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Pending:
    """A verified result between its arrival and the scheduler's word on it."""

    done: TaskDone
    envelope: bytes
    archive: bytes | None  # when it came inline


@dataclass(slots=True)
class Answered:
    """Answers to the calls of a task on the same way; `won` when they are the first."""

    kept: bool  # by the agent, until it hears that they have come
    won: bool = False


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A dropped job, whose blobs are removed once the rows that name them are gone."""

    job: JobId
    inputs: Sequence[Digest]

    def remove_blobs(self, store: BlobStore) -> None:
        """Those that no other job needs."""
        store.unpin(results_of(self.job), remove=True)
        for digest in self.inputs:
            store.remove(digest)


@dataclass(frozen=True, slots=True)
class Batch:
    """What becomes durable together, and the mail that waits for it."""

    blobs: Sequence[Digest]
    writes: Sequence[Write]
    mail: Mail
    ended: Sequence[JobId] = ()
    forgotten: Sequence[Forgotten] = ()


class Engine:
    """Everything a coordinator is, but for its sockets."""

    def __init__(
        self,
        grid: Grid,
        store: BlobStore,
        journal: Journal,
        *,
        lease: int,
        blob_endpoint: str,
        clock: Clock,
        wall: Clock,
    ) -> None:
        """`clock` runs evenly (seconds), `wall` is seconds since 1970; `lease` names this incarnation."""
        self.grid = grid
        self.store = store
        self.journal = journal
        self.peers = Peers()
        self.tracker = Tracker()
        self.intake = Intake(grid.keeper, grid.identity.id, store, journal.content)
        self.books = Books(_Shelf(self.intake, journal))
        self.outbox = Outbox(self.peers, self.intake.get, self._read)
        self.watches = Watches(self.outbox.put)
        self.log_relay = LogRelay(self.books, self.watches)
        self.scheduler = Scheduler(lease)
        self._blob_endpoint = blob_endpoint
        self._clock = clock
        self._wall = wall
        self._pending: dict[Attempt, Pending | Answered] = {}
        self._calls: dict[JobId, CallJob] = {}  # that are open
        self._calls_over: list[tuple[bytes, CallsOver]] = []  # of jobs that have ended, not said yet
        self._named: dict[Digest, None] = {}  # blobs that rows name which wait to be written
        self._ended: list[JobId] = []
        self._forgotten: list[Forgotten] = []
        self.news = (
            False  # a job has ended since the last push: whoever waits for it need not wait for the next one
        )
        self._restore()

    # -- what happens

    def tell(self, event: events.Event) -> None:
        """Hand an event to the scheduler and perform what it asks for."""
        now = self._wall()
        self.books.apply(event, now)
        for action in self.scheduler.handle(event, self._clock()):
            self._perform(action, now)
            self.books.apply(action, now)
        if self._calls_over and not self._pending:  # whose last answers are not passed on yet
            self.say_over()
        if self._calls and type(event) in _CHANGES_SLOTS:
            for job in self._calls.values():
                self.tell_slots(job)

    def accept(self, verified: Verified, *, hold: bool) -> JobId:
        """Take a verified job in whose blobs are all here."""
        accepted = self.intake.accept(verified)
        job, created = verified.job, self._wall()
        state = JobState.HELD if hold else JobState.QUEUED
        self.journal.add_job(
            JobRecord(accepted.id, job.digest, job.envelope, verified.leaves.packed, created, hold, state)
        )
        self._named.update(dict.fromkeys(file.digest for file in verified.blobs()))
        self._enter(accepted, state, created)
        expected = self._expected(accepted)
        event = _submitted(accepted, held=hold, weight=self._weight(accepted), expected=expected)
        if accepted.calls is not None:
            self._calls[accepted.id] = accepted.calls
        self.tell(self._placed(event, accepted))
        return accepted.id

    def answered(self, agent: AgentId, attempt: Attempt, seconds: float, *, stored: bool) -> bool:
        """The calls of a task have been answered by an agent, whose signature holds; whether nobody was faster.

        `stored`: the agent keeps it until it is confirmed, however fast it was, because answers came as blobs.
        """
        return self._heard(events.TaskSucceeded(agent, attempt, seconds), kept=stored or seconds >= KEPT_S)

    def misheard(self, agent: AgentId, attempt: Attempt, reason: str) -> None:
        """What an agent has said of the calls of a task cannot be used: the task runs again."""
        self._heard(events.TaskFailed(agent, attempt, Outcome.TRANSFER_FAILED, reason), kept=True)

    def _heard(self, event: events.TaskSucceeded | events.TaskFailed, *, kept: bool) -> bool:
        """Tell what has come of the calls of a task; whether it ran there and has not ended elsewhere."""
        answered = self._pending[event.attempt] = Answered(kept)
        self.tell(event)
        self._pending.pop(event.attempt, None)
        return answered.won

    def calls(self, job: JobId) -> CallJob | None:
        """What is kept of a job of calls that has not ended."""
        return self._calls.get(job)

    def calls_of(self, route: bytes) -> list[CallJob]:
        """Those of one client."""
        return [calls for calls in self._calls.values() if calls.route == route]

    def say_over(self) -> None:
        """Tell clients that their jobs of calls have ended, of which they have heard everything else."""
        for route, message in self._calls_over:
            self.outbox.put(route, message)
        self._calls_over.clear()

    def say(self, calls: CallJob, build: Callable[[int], CallsDone | CallsLost], *payload: bytes) -> int:
        """Tell the client of a job of calls something that it is to confirm; the number of it."""
        word = calls.done(build, payload)
        self.outbox.put(calls.route, word.message, word.payload)
        return word.message.number

    def tell_slots(self, calls: CallJob) -> None:
        """Let the client know how many of its calls can run at a time, unless it does."""
        slots = self.scheduler.slots(calls.id)
        if slots != calls.slots:
            calls.slots = slots
            self.outbox.put(calls.route, CallSlots(job=calls.id, slots=slots))

    def keep_log(self, record: ResultRecord, archive: bytes) -> None:
        """What the calls of a task have printed, with the agent's word on it."""
        self.journal.put_result(record, archive)
        self.books.note_result(record)

    def ended(self, agent: AgentId, pending: Pending) -> None:
        """An attempt has ended; its envelope and archive were verified."""
        done = pending.done
        self._pending[done.attempt] = pending
        if done.outcome is Outcome.SUCCEEDED:
            self.tell(events.TaskSucceeded(agent, done.attempt, done.seconds))
        else:
            self.tell(
                events.TaskFailed(
                    agent, done.attempt, done.outcome, done.reason, done.retryable, done.again_s
                )
            )
        self._pending.pop(done.attempt, None)
        self.say_over()

    def take(self) -> Batch:
        """All that has happened since the last time: to be made durable, then let be known."""
        named, self._named = self._named, {}
        ended, self._ended = self._ended, []
        forgotten, self._forgotten = self._forgotten, []
        return Batch(tuple(named), self.journal.take(), self.outbox.take(), ended, forgotten)

    def let_go(self, batch: Batch, send: Send) -> None:
        """The batch is durable: its mail leaves, and only then what has ended in it is read from the disk alone.

        Its mail may hold the last tasks of a job that has ended in it, which travel with what is in memory.
        """
        self.outbox.send(batch.mail, send)
        for job in batch.ended:
            self.intake.shelve(job)
            self.books.close(job)
        if batch.ended and not len(self.watches):
            self.books.skip()

    def forget(self, job: JobId) -> bool:
        """Drop an ended job with its results; False when it has not ended, or is not known."""
        view = self.books.job(job)
        if view is None or not view.state.ended:
            return False
        accepted = self.intake.get(job)
        inputs = [file.digest for file in accepted.blobs()] if accepted else []
        self.journal.drop_job(job)
        self.books.forget(job)
        self.intake.forget(job, view.digest)
        self._forgotten.append(Forgotten(job, inputs))
        return True

    def retire(self, keep_s: float) -> bool:
        """Forget what is old, or in the way; whether there may be more of it."""
        oldest = self.journal.oldest(FORGOTTEN_MAX)
        used, capacity = self.store.used_bytes, self.store.capacity_bytes
        old = forgettable(oldest, self._wall(), keep_s, used, capacity, self.intake.ended_jobs)
        gone = [job for job in old if self.forget(job)]
        if gone:
            log.info("%d old jobs are forgotten with their results: %s", len(gone), ", ".join(gone))
        return len(gone) == FORGOTTEN_MAX

    def push(self) -> bool:
        """Tell the watchers what has changed since the last push; True when there is more to tell."""
        self.news = False
        changes = self.books.drain()
        self.watches.changed(changes.jobs, changes.tasks, changes.agents)
        return len(changes.tasks) >= CHANGED_TASKS_MAX

    @property
    def busy(self) -> bool:
        """Whether a job still has something to run."""
        return any(job.state is not JobState.HELD for job in self.books.unended())

    # -- actions

    def _perform(self, action: events.Action, now: float) -> None:
        match action:  # first what comes with every task
            case events.Assign(agent, run):
                self.outbox.assign(agent, run)
            case events.Commit(agent, attempt):
                if self._commit(agent, attempt):
                    self._lines(agent, TasksCommitted, [attempt])
            case events.EndTasks(job, start, stop, state, reason):
                self._end_tasks(job, start, stop, state, reason)
            case events.ExtendJob():
                pass  # for the books alone
            case events.Welcome(agent, heartbeat_s, lease_s):
                self.journal.add_agent(agent)
                self._welcome(agent, heartbeat_s, lease_s, now)
            case events.Resync(agent):
                if peer := self.peers.agent(agent):
                    self.outbox.put(peer.route, Resync())
            case events.LoseAgent(agent, reason):
                self.journal.drop_agent(agent)
                log.warning("agent %s is lost: %s", agent, reason)
                if peer := self.peers.agent(agent):
                    self.peers.remove(peer)
            case events.Recall(agent, runs, nonce):
                if peer := self.peers.agent(agent):
                    self.outbox.put(peer.route, RecallTasks(runs=runs, nonce=nonce))
            case events.Cancel(agent, runs):
                self._lines(agent, CancelTasks, runs)
            case events.Discard(agent, attempt):
                self._lines(agent, TasksDiscarded, [attempt])
            case events.HoldJob(job, reason):
                self.news = True
                self.journal.hold_job(job, reason)
            case events.ReleaseJob(job):
                self.journal.release_job(job)
            case events.StartJob(job):
                self.journal.start_job(job, now)
            case events.EndJob(job, state, reason):
                self._end_job(job, state, reason, now)
            case events.Adopt(agent, run) | events.StartTasks(agent, run):
                self._ask_for_output(agent, run)
            case events.Requeue():
                pass  # for the books alone
            case _:
                assert_never(action)

    def _lines(self, agent: AgentId, kind: Kind, items: Sequence[Line]) -> None:
        self.outbox.tell(agent, kind, items)

    def _ask_for_output(self, agent: AgentId, run: Run) -> None:
        """Of what runs on an agent from now on, for those who have waited for it."""
        if peer := self.peers.agent(agent):
            for attempt in self.watches.followed(run):
                self.outbox.put(peer.route, FollowLogs(attempt=attempt))

    def _welcome(self, agent: AgentId, heartbeat_s: float, lease_s: float, now: float) -> None:
        if peer := self.peers.agent(agent):
            self.welcome(peer, heartbeat_s, lease_s, now)

    def welcome(self, peer: Peer, heartbeat_s: float, lease_s: float, now: float) -> None:
        """Tell a node that it has been let in, with the roster unless it goes by the same."""
        roster = self.grid.roster
        message = Welcome(
            protocol=PROTOCOL,
            software=__version__,
            name=peer.name,
            coordinator=self.grid.identity.id,
            lease=self.scheduler.lease,
            heartbeat_s=heartbeat_s,
            lease_s=lease_s,
            clock=now,
            blob_endpoint=self._blob_endpoint,
        )
        self.outbox.put(peer.route, message, () if peer.roster == roster.version else (roster.envelope,))

    def _commit(self, agent: AgentId, attempt: Attempt) -> bool:
        """Keep a result; whether its agent waits to hear of it."""
        pending = self._pending[attempt]
        if isinstance(pending, Answered):
            pending.won = True
            return pending.kept
        done = pending.done
        record = ResultRecord(
            attempt=attempt,
            agent=agent,
            outcome=done.outcome,
            exit=done.exit,
            started=done.started,
            ended=done.ended,
            seconds=done.seconds,
            reason=done.reason,
            archive=done.archive,
            archive_bytes=done.archive_bytes,
            envelope=pending.envelope,
            state=TaskState.DONE if done.outcome is Outcome.SUCCEEDED else None,
            failures=self.books.failures(attempt) + (done.outcome in FAILURES),
        )
        self.journal.put_result(record, pending.archive)
        if done.archive is not None and pending.archive is None:
            self.store.pin(done.archive, results_of(attempt.job))
            self._named[done.archive] = None
        self.books.note_result(record)
        if (
            record.state is TaskState.DONE
            and attempt.job not in self._calls
            and (accepted := self.intake.get(attempt.job)) is not None
        ):
            file = accepted.leaves.input(attempt.index)
            self.journal.learn(kind_of(accepted.job.manifest), task_key(attempt.index, file), done.seconds)
        return True

    def _expected(self, accepted: Accepted) -> tuple[float, ...]:
        """Seconds that each task took when it last ran, 0 for those that never did; empty when none is known."""
        known = self.journal.durations(kind_of(accepted.job.manifest))
        if not known:
            return ()
        inputs = accepted.leaves.inputs()
        return tuple(known.get(task_key(index, file), 0.0) for index, file in enumerate(inputs))

    def _placed(self, event: events.JobSubmitted, accepted: Accepted) -> events.JobSubmitted:
        """The event with what is known of where the job's blobs are already."""
        holders = self.tracker.holders
        shared = [file for file in accepted.job.blobs() if file.size >= locality.INPUT_BYTES_MIN]
        known: dict[int, tuple[int, Sequence[AgentId]]] = {}
        if len(self.tracker):
            for index, file in enumerate(accepted.leaves.inputs()):
                if file and file.size >= locality.INPUT_BYTES_MIN and (here := holders(file.digest)):
                    known[index] = (file.size, here)
        return msgspec.structs.replace(
            event,
            shared_bytes=sum(file.size for file in shared),
            shared_at=locality.with_all([holders(file.digest) for file in shared]),
            inputs_at=locality.at_home(known, event.expected),
        )

    def _weight(self, accepted: Accepted) -> float:
        """What its submitter's share of the grid weighs, by the roster of now."""
        member = self.grid.roster.member(accepted.job.manifest.submitter)
        return float(member.quotas.weight) if member else 1.0

    def _read(self, file: FileRef) -> bytes | None:
        try:
            return self.store.read(file.digest, 0, file.size)
        except BlobError:
            return None  # the agent will ask for it, and be told

    # -- jobs

    def _enter(self, accepted: Accepted, state: JobState, created: float, **more: float | str | None) -> None:
        manifest = accepted.job.manifest
        view = JobView(
            id=accepted.id,
            name=manifest.name,
            state=state,
            counts=Counts(),
            submitter=manifest.submitter,
            script=manifest.script.name,
            created=created,
            digest=accepted.job.digest,
            priority=manifest.priority,
            calls=manifest.calls is not None,
            **more,  # type: ignore[arg-type]  # started, ended and reason, as the journal has them
        )
        self.books.note_job(view, Names(accepted.leaves), manifest.requirements.cpus)

    def _restore(self) -> None:
        """Take up every job the journal holds; what had not ended is queued again."""
        for record in self.journal.jobs():
            if record.view is not None:
                self.intake.restore_ended(record.id, record.digest, record.view.submitter)
                self.books.note_ended(record.view)
                continue
            try:
                accepted = self.intake.restore(record.id, record.envelope, record.leaves)
            except DiscogridError:
                log.exception("job %s of the journal cannot be read any more; it is passed over", record.id)
                continue
            if accepted.calls is not None:
                self._end_calls(accepted, record)
                continue
            times = {"started": record.started, "ended": record.ended, "reason": record.reason}
            self._enter(accepted, record.state, record.created, **times)
            spans = {TaskState.DONE: SpanSet(), TaskState.FAILED: SpanSet()}
            ended = SpanSet()
            for result in self.journal.results(record.id):
                self.books.note_result(result)
                if result.state is not None:
                    index = result.attempt.index
                    ended.add(index, index + 1)
                    spans.setdefault(result.state, spans[TaskState.FAILED]).add(index, index + 1)
                    self._note_end(record, index, index + 1, result.state, result.reason)
            if record.state.ended:
                for start, stop in ended.gaps(len(accepted.leaves)):
                    self._note_end(record, start, stop, TaskState.CANCELLED, record.reason)
                self.intake.close(record.id)
                self._keep_end(record.id)
                continue
            done, failed = tuple(spans[TaskState.DONE]), tuple(spans[TaskState.FAILED])
            expected = self._expected(accepted)
            event = _submitted(
                accepted,
                held=record.held,
                weight=self._weight(accepted),
                restored=True,
                done=done,
                failed=failed,
                expected=expected,
            )
            self.tell(self._placed(event, accepted))
        for job, archive in self.journal.stored_archives():
            if self.store.has(archive):
                self.store.pin(archive, results_of(job))
        self.tell(events.Restarted(self.journal.agents()))

    def _end_calls(self, accepted: Accepted, record: JobRecord) -> None:
        """A job of calls does not outlive the coordinator: its client makes another one of what is left of it."""
        self._enter(accepted, record.state, record.created, started=record.started)
        self.tell(_submitted(accepted, held=False, weight=1.0))
        self.tell(events.JobCancelled(accepted.id, RESTARTED))

    def _note_end(self, job: JobRecord, start: int, stop: int, state: TaskState, reason: str) -> None:
        self.books.apply(events.EndTasks(job.id, start, stop, state, reason), job.ended or self._wall())

    def _end_tasks(self, job: JobId, start: int, stop: int, state: TaskState, reason: str) -> None:
        if (calls := self._calls.get(job)) is not None:
            for batch in calls.ended(start, stop):
                self.intake.drop_batch(job, batch)
            if state is TaskState.DONE:
                return
            self.say(
                calls, lambda number: CallsLost(job=job, number=number, start=start, stop=stop, reason=reason)
            )
        for index in range(start, stop):
            if state is not TaskState.DONE and state is not TaskState.CANCELLED:
                self.journal.end_task(job, index, state, reason)
            self.watches.ended(job, index, state)

    def _end_job(self, job: JobId, state: JobState, reason: str, now: float) -> None:
        self.news = True
        if (calls := self._calls.pop(job, None)) is not None:
            why = reason or "" if state is JobState.CANCELLED else ""
            self._calls_over.append((calls.route, CallsOver(job=job, reason=why)))
        for peer in self.peers.told(job):
            self._lines(peer.name, JobEnded, [job])
            peer.jobs_told.discard(job)
        self.intake.close(job)
        self._keep_end(job, state=state, reason=reason, ended=now)

    def _keep_end(self, job: JobId, **ended: JobState | str | float) -> None:
        """What is shown of a job that has ended goes to the disk; once it is there, the job leaves the memory."""
        view = self.books.job(job)
        assert view is not None, "a job ends once, and only then it can be forgotten"
        self.journal.end_job(replace(view, **ended))  # type: ignore[arg-type]  # each caller names fields of JobView
        self._ended.append(job)


class _Shelf:
    """Ended jobs, read from the disk."""

    def __init__(self, intake: Intake, journal: Journal) -> None:
        self._intake = intake
        self._journal = journal

    def inputs(self, job: JobId, start: int, stop: int) -> Sequence[str | None]:
        """What its submitter called the inputs; nothing where that cannot be read any more."""
        accepted = self._intake.get(job)
        named = accepted is not None and not accepted.job.manifest.calls
        return Names(accepted.leaves)[start:stop] if accepted and named else [None] * (stop - start)

    def results(self, job: JobId, start: int, stop: int) -> Iterable[ResultRecord]:
        """How its tasks ended."""
        return self._journal.results(job, start, stop)


def _submitted(
    accepted: Accepted,
    *,
    held: bool,
    weight: float,
    restored: bool = False,
    done: tuple[events.Span, ...] = (),
    failed: tuple[events.Span, ...] = (),
    expected: tuple[float, ...] = (),
) -> events.JobSubmitted:
    manifest = accepted.job.manifest
    return events.JobSubmitted(
        job=accepted.id,
        tasks=manifest.tasks,
        requirements=demands(manifest),
        retries=manifest.retries,
        priority=manifest.priority,
        held=held,
        done=done,
        failed=failed,
        submitter=manifest.submitter,
        weight=weight,
        repeatable=manifest.repeatable and not manifest.requirements.network,
        expected=expected,
        restored=restored,
        open=manifest.calls is not None,
    )


def results_of(job: JobId) -> str:
    """Who keeps a job's result archives from being dropped: they outlive its inputs."""
    return RESULTS_PREFIX + job


def job_of(owner: str) -> JobId:
    """The job behind whoever keeps a blob: the job itself for its inputs, `results_of` it for its results."""
    return JobId(owner.removeprefix(RESULTS_PREFIX).partition("/")[0])


def is_result(owner: str) -> bool:
    """Whether a blob is kept as a result."""
    return owner.startswith(RESULTS_PREFIX)
