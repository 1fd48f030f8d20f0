"""What an agent does with the tasks it is given. Pure: events in, actions out; no socket, clock, file, thread or log.

Tasks start in the order in which they came, each when its blobs are here and what it needs is free; one whose
blobs are still under way may be overtaken. Results are kept until the coordinator acknowledges them. A coordinator
that is silent changes nothing: work goes on.

Its place is prepared, not filled: an owner who comes back freezes and later vacates the machine. Then `_start`
begins nothing, running boxes are frozen in place, and vacating is what `_stop_now` does without the goodbye.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import assert_never

from discogrid.spans import SpanSet
from discogrid.types import (
    Attempt,
    Digest,
    FileRef,
    JobId,
    Limits,
    Offer,
    Outcome,
    Requirements,
    Run,
)
from discogrid_agent.events import (
    Action,
    AttemptEnded,
    BlobFailed,
    BlobReady,
    BoxEmptied,
    CallsAnswered,
    CancelReceived,
    Committed,
    Connected,
    Discarded,
    Disconnected,
    DropArchive,
    DropBlobs,
    Event,
    Exit,
    ForgetJob,
    GiveBack,
    JobBarred,
    JobEnded,
    JobVerified,
    Kill,
    RecallReceived,
    ResultSent,
    Resynced,
    RunReceived,
    SendBeat,
    SendFailed,
    SendGoodbye,
    SendHello,
    SendStarted,
    Start,
    StopMode,
    StopRequested,
    TermsChanged,
    TimePassed,
    Welcomed,
)
from discogrid_agent.fetches import Fetches, User
from discogrid_agent.outbox import Outbox

HELLO_S = 5.0
"""A hello that is not answered for so long is said again."""
STOP_S = 5.0
"""What killed boxes and unacknowledged results get of an agent that is to stop now."""
PACKING_MAX = 8
"""Results being packed; with more of them the disk is behind, and new tasks would only make it worse."""
HELD_MAX = 1024
"""Tasks queued or running; what comes beyond is given back at once."""
TOGETHER_S = 0.02
"""Tasks of calls that run for so long together are given to one worker at once: the way to it takes a part of a millisecond."""
TOGETHER_MAX = 128
"""But no more of them."""
MEAN_WEIGHT = 0.5
"""Of the newest tasks of calls in the mean run time of their job."""


@dataclass(slots=True)
class _Job:
    requirements: Requirements
    limits: Limits
    shared: tuple[FileRef, ...]
    keeps: list[Digest] = field(default_factory=list)  # shared blobs, pinned from its first task to its end
    work: int = 0  # its tasks queued, running or being killed
    seen: dict[tuple[int, int], SpanSet] = field(default_factory=dict)  # indices, by number and lease
    waiting: int = 0  # of those, that do not run yet
    mean_s: float | None = None  # of its tasks, where they are of calls
    ended: bool = False
    barred: bool = False  # until it is shown again

    @property
    def over(self) -> bool:
        """Whether nothing of it is taken any more, and it is forgotten with the last of its work."""
        return self.ended or self.barred


@dataclass(slots=True, eq=False)
class _Place:
    """What one task takes of the machine, or several of calls one after the other."""

    left: int  # tasks


@dataclass(slots=True)
class _Work:
    """A task queued, running or being killed."""

    job: _Job
    input: FileRef | None
    cargo: object
    needs: list[Digest]
    missing: int  # of its blobs
    place: _Place | None = None  # once it runs
    packing: bool = False  # nothing of it runs any more, its result is being packed
    killed: bool = False
    barred: str = ""  # why it is refused after all

    @property
    def running(self) -> bool:
        """Whether it has started."""
        return self.place is not None


class Machine:
    """One agent, whatever its line does. `offer` is what its owner lends."""

    def __init__(self, offer: Offer) -> None:
        self._slots = offer.slots
        self._memory = offer.memory_bytes
        self._gpus = offer.gpus
        self._packing = 0
        self._offer = offer
        self._connected = False
        self._welcomed = False
        self._lease: int | None = None
        self._heartbeat_s = 0.0
        self._next_word: float | None = None  # when to beat, or to say hello again
        self._jobs: dict[JobId, _Job] = {}
        self._work: dict[Attempt, _Work] = {}  # oldest first
        self._fetches = Fetches()
        self._outbox = Outbox()
        self._stopping: StopMode | None = None
        self._stop_at: float | None = None
        self._exited = False
        self._actions: list[Action] = []

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in what happened at `now` (seconds of any clock that never goes back) and say what to do, in order."""
        self._actions = []
        if self._exited:
            return self._actions
        match event:
            case RunReceived():
                self._on_run(event)
            case CallsAnswered(attempts, seconds):
                self._on_answered(attempts, seconds)
            case Connected():
                self._connected = True
                self._say_hello(now)
            case Welcomed(lease, _, heartbeat_s):
                self._on_welcomed(lease, heartbeat_s, now)
            case Disconnected():
                self._connected = self._welcomed = False
                self._next_word = None
            case Resynced() | TermsChanged():
                self._say_hello(now)
            case JobVerified():
                self._on_job(event)
            case BlobReady(digest):
                self._on_blob(digest)
            case BlobFailed(digest, reason):
                self._on_blob_failed(digest, reason, now)
            case BoxEmptied(attempt):
                self._on_emptied(attempt)
            case AttemptEnded():
                self._on_ended(event)
            case ResultSent(attempt):
                self._outbox.on_sent(attempt, now)
            case SendFailed(attempt, reason):
                self._actions += self._outbox.on_send_failed(attempt, reason, now)
            case Committed(attempts) | Discarded(attempts):
                for attempt in attempts:
                    self._actions += self._outbox.drop(attempt)
            case RecallReceived(runs, nonce):
                self._on_recalled(runs, nonce)
            case CancelReceived(runs):
                self._on_cancel(runs)
            case JobEnded(job_id):
                self._on_job_ended(job_id)
            case JobBarred(job_id, reason):
                self._on_barred(job_id, reason)
            case StopRequested(mode):
                self._on_stop(mode, now)
            case TimePassed():
                pass  # what is due is done below
            case _:
                assert_never(event)
        self._go_on(now)
        return self._actions

    @property
    def waiting(self) -> int:
        """Tasks that are here and do not run yet."""
        return sum(job.waiting for job in self._jobs.values())

    def deadline(self) -> float | None:
        """When the next TimePassed is due; None: not before another event."""
        if self._exited:
            return None
        dues = [self._next_word, self._stop_at, self._fetches.deadline()]
        if self._welcomed:
            dues.append(self._outbox.deadline())
        return min((due for due in dues if due is not None), default=None)

    # The line.

    def _say_hello(self, now: float) -> None:
        if not self._connected:
            return
        self._welcomed = False
        self._outbox.on_line_lost()
        # A new session gets the manifests again, so jobs that left nothing to do here need not be remembered.
        unsent = {attempt.job for attempt in self._outbox.attempts()}
        for job_id in [job_id for job_id, job in self._jobs.items() if not job.work and job_id not in unsent]:
            self._forget(job_id)
        self._next_word = now + HELLO_S
        self._actions.append(SendHello(self._holds()))

    def _on_welcomed(self, lease: int, heartbeat_s: float, now: float) -> None:
        if not self._connected:
            return
        self._welcomed = True
        self._lease = lease
        self._heartbeat_s = heartbeat_s
        self._next_word = now + heartbeat_s
        running = _runs(attempt for attempt, work in self._work.items() if work.running and not work.killed)
        if running:
            self._actions.append(SendStarted(running))
        if self._stopping:
            self._actions.append(GiveBack((), leaving=True))

    def _holds(self) -> tuple[Run, ...]:
        live = [attempt for attempt, work in self._work.items() if not work.killed]
        return _runs([*live, *self._outbox.attempts()])

    # Work comes.

    def _on_job(self, event: JobVerified) -> None:
        known = self._jobs.get(event.job)
        if known is None:
            self._jobs[event.job] = _Job(event.requirements, event.limits, event.shared)
        else:
            known.limits = event.limits  # the owner may have laid down others
            known.barred = False

    def _on_run(self, event: RunReceived) -> None:
        run = event.run
        job = self._jobs.get(run.job)
        if job is None or job.over or run.lease != self._lease:
            return
        seen = job.seen.setdefault((run.number, run.lease), SpanSet())
        fresh = [
            (Attempt(run.job, index, run.number, run.lease), index - run.start)
            for index in range(run.start, run.stop)
            if index not in seen
        ]
        if event.shared:
            self._share(job, event)
        kept = 0 if self._stopping else min(len(fresh), HELD_MAX - len(self._work))
        misfit = self._misfit(job.requirements)
        for attempt, place in fresh[:kept]:
            seen.add(attempt.index, attempt.index + 1)
            if misfit:
                self._outbox.put(attempt, Outcome.REFUSED, misfit)
            else:
                self._queue(attempt, job, event, place)
        back = _runs(attempt for attempt, _ in fresh[kept:])
        if back and self._welcomed:
            self._actions.append(GiveBack(back, leaving=self._stopping is not None))

    def _misfit(self, need: Requirements) -> str:
        for what, needed, lent in (
            ("slots", need.cpus, self._offer.slots),
            ("bytes of memory", need.memory_bytes, self._offer.memory_bytes),
            ("gpus", need.gpus, self._offer.gpus),
        ):
            if needed > lent:
                return f"the task needs {needed} {what}, this agent lends {lent}"
        return ""

    def _share(self, job: _Job, event: RunReceived) -> None:
        """All tasks of the job from these on need more."""
        known = {file.digest for file in job.shared}
        fresh = {file.digest: file for file in event.shared if file.digest not in known}
        job.shared = (*job.shared, *fresh.values())
        if job.keeps:
            job.keeps += fresh
            for file in fresh.values():
                self._fetches.need(file, event.run.job)

    def _queue(self, attempt: Attempt, job: _Job, event: RunReceived, place: int) -> None:
        file = event.inputs[place] if event.inputs else None
        more = event.more[place] if event.more else ()
        cargo = event.cargo[place] if event.cargo else None
        job.work += 1
        job.waiting += 1
        if not job.keeps:
            job.keeps = list(dict.fromkeys(shared.digest for shared in job.shared))
            for shared in job.shared:
                self._fetches.need(shared, attempt.job)
        kept = cargo is not None and all(map(self._fetches.here, job.keeps))  # by the job, to its end
        kept_by_all = () if kept else job.shared
        files = {ref.digest: ref for ref in (*kept_by_all, *([file] if file else []), *more)}
        own = {ref.digest for ref in more}
        here = [self._fetches.need(ref, attempt, passing=ref.digest in own) for ref in files.values()]
        self._work[attempt] = _Work(job, file, cargo, list(files), here.count(False))

    def _on_blob(self, digest: Digest) -> None:
        users = self._fetches.on_ready(digest)
        if users is None:
            self._actions.append(DropBlobs((digest,)))
            return
        for user in users:
            if isinstance(user, Attempt):
                self._work[user].missing -= 1

    def _on_blob_failed(self, digest: Digest, reason: str, now: float) -> None:
        for user in self._fetches.on_failed(digest, now):
            if isinstance(user, Attempt):
                self._remove(user)
                self._outbox.put(user, Outcome.TRANSFER_FAILED, reason)

    # Work ends.

    def _on_emptied(self, attempt: Attempt) -> None:
        work = self._work.get(attempt)
        if work is not None and work.running and not work.packing:
            work.packing = True
            self._packing += 1
            self._use(work.job.requirements, -1)

    def _on_ended(self, event: AttemptEnded) -> None:
        work = self._work.get(event.attempt)
        if work is None or not work.running:
            return
        # Killed, but it had succeeded before: nobody throws away volunteers' work but the coordinator.
        wanted = not work.job.ended and (not work.killed or event.outcome is Outcome.SUCCEEDED)
        self._remove(event.attempt)
        if work.job.over and not work.job.work:
            self._forget(event.attempt.job)
        if wanted:
            self._outbox.put(event.attempt, event.outcome, event.reason, event.result)
            return
        if event.result is not None:
            self._actions.append(DropArchive(event.attempt))
        if work.barred and not work.job.ended:
            self._outbox.put(event.attempt, Outcome.REFUSED, work.barred)

    def _on_answered(self, attempts: tuple[Attempt, ...], seconds: float) -> None:
        for attempt in attempts:
            work = self._work.get(attempt)
            if work is None or not work.running:
                continue
            job = work.job
            mean = seconds / len(attempts)
            job.mean_s = mean if job.mean_s is None else job.mean_s + MEAN_WEIGHT * (mean - job.mean_s)
            self._remove(attempt)
            if job.over and not job.work:
                self._forget(attempt.job)

    def _on_recalled(self, runs: tuple[Run, ...], nonce: int) -> None:
        if not self._welcomed:
            return  # the hello on its way says that these are here
        waiting = [attempt for attempt, work in self._work.items() if not work.running]
        back = [attempt for attempt in waiting if any(_covers(run, attempt) for run in runs)]
        for attempt in back:
            self._remove(attempt)
        self._actions.append(GiveBack(_runs(back), leaving=self._stopping is not None, nonce=nonce))

    def _on_cancel(self, runs: tuple[Run, ...]) -> None:
        for run in runs:
            for attempt in [attempt for attempt in self._work if _covers(run, attempt)]:
                self._cancel(attempt, "cancelled by the coordinator")

    def _on_job_ended(self, job_id: JobId) -> None:
        job = self._jobs.get(job_id)
        if job is None or job.ended:
            return
        job.ended = True
        for attempt in [attempt for attempt in self._work if attempt.job == job_id]:
            self._cancel(attempt, "its job has ended")
        for attempt in [attempt for attempt in self._outbox.attempts() if attempt.job == job_id]:
            self._actions += self._outbox.drop(attempt)
        if not job.work:
            self._forget(job_id)

    def _on_barred(self, job_id: JobId, reason: str) -> None:
        job = self._jobs.get(job_id)
        if job is None or job.over:
            return
        job.barred = True
        for attempt in [attempt for attempt in self._work if attempt.job == job_id]:
            work = self._work[attempt]
            work.barred = "" if work.killed else reason
            self._cancel(attempt, reason)
            if not work.running:
                self._outbox.put(attempt, Outcome.REFUSED, reason)
        if not job.work:
            self._forget(job_id)

    def _cancel(self, attempt: Attempt, reason: str) -> None:
        work = self._work[attempt]
        if not work.running:
            self._remove(attempt)
        elif not work.killed:
            work.killed = True
            self._actions.append(Kill(attempt, reason))

    def _remove(self, attempt: Attempt) -> None:
        """The task needs nothing any more: no slot, no blob."""
        work = self._work.pop(attempt)
        if work.packing:
            self._packing -= 1
        elif work.place is not None:
            work.place.left -= 1
            if not work.place.left:
                self._use(work.job.requirements, -1)
        else:
            work.job.waiting -= 1
        if work.needs:
            self._actions += self._fetches.release(work.needs, attempt)
        work.job.work -= 1

    def _forget(self, job_id: JobId) -> None:
        job = self._jobs.pop(job_id)
        self._actions += self._fetches.release(job.keeps, job_id)
        self._actions.append(ForgetJob(job_id))

    # The end.

    def _on_stop(self, mode: StopMode, now: float) -> None:
        if self._stopping in (mode, StopMode.NOW):
            return
        self._stopping = mode
        back = [attempt for attempt, work in self._work.items() if not work.running]
        if mode is StopMode.NOW:
            self._stop_at = now + STOP_S
            back += self._kill_all()
        for attempt in back:
            if not self._work[attempt].running:
                self._remove(attempt)
        if self._welcomed:
            self._actions.append(GiveBack(_runs(back), leaving=True))

    def _kill_all(self) -> list[Attempt]:
        running = [attempt for attempt, work in self._work.items() if work.running and not work.killed]
        for attempt in running:
            self._cancel(attempt, "the agent stops")
        return running

    def _may_exit(self, now: float) -> bool:
        if self._stopping is None:
            return False
        if self._stop_at is not None and self._stop_at <= now:
            return True
        waits = self._stopping is StopMode.FINISH or self._welcomed
        return not self._work and not (waits and len(self._outbox))

    # What follows from the state, after each event.

    def _go_on(self, now: float) -> None:
        if self._may_exit(now):
            self._exited = True
            if self._welcomed:
                self._actions.append(SendGoodbye())
            self._actions.append(Exit())
            return
        self._start()
        self._actions += self._fetches.step(now)
        if self._welcomed:
            self._actions += self._outbox.step(now)
        if self._next_word is not None and self._next_word <= now:
            if self._welcomed:
                self._next_word = now + self._heartbeat_s
                self._actions.append(SendBeat(self._holds()))
            else:
                self._say_hello(now)

    def _start(self) -> None:
        started: list[Attempt] = []
        ready = (pair for pair in self._work.items() if not pair[1].running and not pair[1].missing)
        pair = next(ready, None)
        while pair is not None and self._packing < PACKING_MAX:
            attempt, work = pair
            job, need = work.job, work.job.requirements
            if need.cpus > self._slots or need.memory_bytes > self._memory or need.gpus > self._gpus:
                break  # nothing overtakes a task that only waits for room, or it might wait for ever
            together = self._together(job)
            self._use(need, 1)
            place = _Place(0)
            more: list[tuple[Attempt, object]] = []
            while pair is not None and pair[1].job is job and place.left < together:
                pair[1].place = place
                place.left += 1
                job.waiting -= 1
                more.append((pair[0], pair[1].cargo))
                pair = next(ready, None)
            started += [one for one, _ in more]
            self._actions.append(
                Start(attempt, need.cpus, job.limits, work.input, work.cargo, tuple(more[1:]))
            )
        if started and self._welcomed:
            self._actions.append(SendStarted(_runs(started)))

    def _together(self, job: _Job) -> int:
        """How many tasks of the job, from the next one on, run in one place."""
        if job.mean_s is None or job.mean_s * 2 > TOGETHER_S:
            return 1
        places = max(1, self._slots // job.requirements.cpus)
        fitting = TOGETHER_MAX if job.mean_s * TOGETHER_MAX <= TOGETHER_S else int(TOGETHER_S / job.mean_s)
        return min(fitting, -(-job.waiting // places))

    def _use(self, need: Requirements, count: int) -> None:
        self._slots -= need.cpus * count
        self._memory -= need.memory_bytes * count
        self._gpus -= need.gpus * count

    def check(self) -> None:
        """Every invariant, for tests and for `--paranoid`."""
        using = [work for work in self._work.values() if work.running and not work.packing]
        places = {work.place: work.job.requirements for work in using}
        running = list(places.values())
        assert self._packing == sum(work.packing for work in self._work.values())
        assert self._slots == self._offer.slots - sum(need.cpus for need in running) >= 0
        assert self._memory == self._offer.memory_bytes - sum(need.memory_bytes for need in running) >= 0
        assert self._gpus == self._offer.gpus - sum(need.gpus for need in running) >= 0
        assert len(self._work) <= HELD_MAX
        users: dict[User, list[Digest]] = {job_id: job.keeps for job_id, job in self._jobs.items()}
        for attempt, work in self._work.items():
            assert attempt not in self._outbox, "a task has ended and has not"
            assert self._jobs[attempt.job] is work.job, "a task outlives its job"
            assert work.running or not (work.killed or self._stopping), "a queued task stays behind"
            assert not (work.running and work.missing), "a task runs without its blobs"
            assert work.running or not work.packing, "a task that never ran is packed"
            users[attempt] = work.needs
        for job_id, job in self._jobs.items():
            mine = [work for attempt, work in self._work.items() if attempt.job == job_id]
            assert job.work == len(mine)
            assert job.waiting == sum(not work.running for work in mine)
            assert job.work or not job.over, "an ended job is kept for nothing"
        self._fetches.check(users)
        self._outbox.check()


def _covers(run: Run, attempt: Attempt) -> bool:
    same = (run.job, run.number, run.lease) == (attempt.job, attempt.number, attempt.lease)
    return same and run.start <= attempt.index < run.stop


def _runs(attempts: Iterable[Attempt]) -> tuple[Run, ...]:
    """The attempts as few runs as they fill."""
    runs: list[Run] = []
    for attempt in sorted(attempts, key=lambda one: (one.job, one.lease, one.number, one.index)):
        last = runs[-1] if runs else None
        if last and _covers(Run(last.job, last.stop, last.stop + 1, last.number, last.lease), attempt):
            runs[-1] = Run(last.job, last.start, attempt.index + 1, last.number, last.lease)
        else:
            runs.append(Run.of(attempt))
    return tuple(runs)
