"""Hears clients: takes jobs in, answers questions, lets them watch."""

import logging
import re
import time
from collections.abc import Sequence

from discogrid.channel import Received
from discogrid.errors import DiscogridError, WireError
from discogrid.messages import (
    Act,
    AddCalls,
    Answer,
    BlobsMissing,
    CallsSeen,
    CancelCalls,
    FollowLogs,
    GetJob,
    GetResults,
    Goodbye,
    Heartbeat,
    HeartbeatSeen,
    JobAccepted,
    JobContent,
    LogPushed,
    Query,
    Refused,
    Results,
    SubmitJob,
    TellRunTimes,
    Unwatch,
    Watch,
    WatchLogs,
)
from discogrid.run_times import unpack_run_times
from discogrid.types import Attempt, JobId, TaskState
from discogrid.views import TaskView
from discogrid.wire import pack_parts
from discogrid_coordinator import events
from discogrid_coordinator.call_desk import CallDesk
from discogrid_coordinator.engine import Engine
from discogrid_coordinator.intake import Accepted
from discogrid_coordinator.pages import PAGE_VIEWS, first_page
from discogrid_coordinator.peers import Peer
from discogrid_coordinator.permits import Permits
from discogrid_coordinator.watches import Follower, Watcher

KIND = re.compile("[0-9a-f]{32}")
RESULTS_BYTES_PAGE = 4 << 20  # envelopes and small archives in one answer

log = logging.getLogger(__name__)


class ClientDesk:
    """Everything a client may say."""

    def __init__(self, engine: Engine, permits: Permits, calls: CallDesk) -> None:
        """Speak for this engine, as far as `permits` lets a member; what is said of calls is passed on."""
        self._engine = engine
        self._calls = calls
        self._permits = permits

    def hear(self, peer: Peer, received: Received) -> None:
        """One message of a client that has said hello."""
        message = received.message
        match message:
            case AddCalls(request=request, job=job):
                if accepted := self._owned(peer, request, job):
                    self._calls.add(peer, message, received.payload, accepted)
            case Heartbeat():
                self._engine.outbox.put(peer.route, HeartbeatSeen())
            case Goodbye():
                self.leave(peer)
            case SubmitJob():
                self._submit(peer, message, received.payload)
            case CancelCalls(job=job, index=index):
                if (accepted := self._engine.intake.get(job)) and self._permits.owns(peer.node, accepted):
                    self._engine.tell(events.TaskCancelled(job, index))
            case CallsSeen(job=job):
                if (accepted := self._engine.intake.get(job)) and self._permits.owns(peer.node, accepted):
                    self._calls.seen(message, accepted)
            case TellRunTimes():
                self._learn(peer, message, received.payload)
            case Query():
                self._query(peer, message)
            case Act():
                self._act(peer, message)
            case GetResults():
                self._results(peer, message)
            case GetJob(request=request, job=job):
                if accepted := self._owned(peer, request, job):
                    payload = (accepted.job.envelope, accepted.leaves.packed)
                    self._engine.outbox.put(peer.route, JobContent(request=request, job=job), payload)
            case Watch():
                self._watch(peer, message)
            case WatchLogs():
                self._watch_logs(peer, message)
            case Unwatch(request=request):
                if follower := self._engine.watches.end(peer.route, request):
                    self._unfollow(follower)
            case other:
                log.warning(
                    "client %s sent a %s, which is not for clients to say", peer.name, type(other).__name__
                )

    def leave(self, peer: Peer) -> None:
        """The client is gone; its jobs go on."""
        for follower in self._engine.watches.leave(peer.route):
            self._unfollow(follower)
        self._calls.leave(peer)
        self._engine.peers.remove(peer)

    # -- jobs

    def _submit(self, peer: Peer, message: SubmitJob, payload: list[bytes]) -> None:
        engine = self._engine
        request = message.request
        if len(payload) not in (2, 3):
            self._refuse(
                peer, request, "usage", "a job comes with its envelope, its tasks and its small blobs"
            )
            return
        try:
            verified = engine.intake.verify(payload[0], payload[1], peer.node, time.time())
            if len(payload) == 3:
                engine.intake.take_small(verified.blobs(), payload[2])
        except DiscogridError as error:
            self._refuse(peer, request, "signature", error.what, error.why, error.fix)
            return
        if (known := engine.intake.known(verified.job.digest)) is not None:
            self._again(peer, message, known)
        elif refusal := self._permits.over_quota(request, verified):
            engine.outbox.put(peer.route, refusal)
        elif missing := engine.intake.missing(verified.blobs(), peer.node):
            engine.outbox.put(peer.route, BlobsMissing(request=request, digests=tuple(missing)))
        else:
            id_ = engine.accept(verified, hold=message.hold)
            engine.outbox.put(peer.route, JobAccepted(request=request, job=id_))
            if verified.job.manifest.calls and (accepted := engine.intake.get(id_)):
                self._calls.attach(peer, accepted, message.seen)

    def _again(self, peer: Peer, message: SubmitJob, known: JobId) -> None:
        """The job was accepted before; of calls it goes on, if it has not ended, with the client that comes now."""
        accepted = self._engine.intake.get(known)
        calls = accepted is not None and accepted.job.manifest.calls is not None
        if accepted is not None and calls and not self._calls.attach(peer, accepted, message.seen):
            self._engine.outbox.put(peer.route, self._calls.over(message.request, accepted))
        else:
            tasks = accepted.calls.tasks if accepted is not None and accepted.calls is not None else 0
            self._engine.outbox.put(peer.route, JobAccepted(request=message.request, job=known, tasks=tasks))

    def _learn(self, peer: Peer, message: TellRunTimes, payload: list[bytes]) -> None:
        if len(payload) != 2 or not KIND.fullmatch(message.kind):
            self._refuse(peer, message.request, "usage", "a kind comes with its tasks and their durations")
            return
        try:
            run_times = unpack_run_times(*payload)
        except WireError as error:
            self._refuse(peer, message.request, "usage", error.what)
            return
        for task, seconds in run_times.items():
            self._engine.journal.learn(message.kind, task, seconds)
        self._engine.outbox.put(peer.route, Answer(request=message.request))

    def _act(self, peer: Peer, message: Act) -> None:
        accepted = self._owned(peer, message.request, message.job)
        if accepted is None:
            return
        match message.what:
            case "cancel":
                self._engine.tell(events.JobCancelled(message.job))
            case "close":
                self._calls.close(accepted)
            case "release":
                self._engine.tell(events.JobReleased(message.job))
            case "prune":
                if not self._engine.forget(message.job):
                    self._refuse(peer, message.request, "usage", f"job {message.job} has not ended")
                    return
            case other:
                self._refuse(peer, message.request, "usage", f"this coordinator cannot {other} a job")
                return
        self._engine.outbox.put(peer.route, Answer(request=message.request))

    # -- questions

    def _query(self, peer: Peer, query: Query) -> None:
        engine = self._engine
        start, count = max(0, query.start), max(1, min(query.count, PAGE_VIEWS))
        match query.what:
            case "jobs":
                page = first_page(engine.books.jobs(start, start + count))
                more = start + len(page) < engine.books.job_count()
                answer = Answer(request=query.request, jobs=tuple(page), more=more)
            case "agents":
                agents = engine.books.agents()
                lenders = first_page(agents[start : start + count])
                answer = Answer(
                    request=query.request, agents=tuple(lenders), more=start + len(lenders) < len(agents)
                )
            case "job" | "tasks" | "why":
                if (accepted := self._accepted(peer, query.request, query.job or JobId(""))) is None:
                    return
                answer = self._about(query, accepted, start, count)
            case other:
                self._refuse(
                    peer, query.request, "usage", f"this coordinator does not know what {other!r} are"
                )
                return
        engine.outbox.put(peer.route, answer)

    def _about(self, query: Query, accepted: Accepted, start: int, count: int) -> Answer:
        books = self._engine.books
        if query.what == "job":
            job = books.job(accepted.id)
            return Answer(request=query.request, jobs=(job,) if job else ())
        if query.what == "why":
            reasons = [
                (str(agent), why) for agent, why in self._engine.scheduler.explain(accepted.id).items()
            ]
            said = first_page(reasons[start : start + count])
            return Answer(
                request=query.request,
                reasons=dict(said),
                placeable=self._engine.scheduler.can_place(accepted.id),
                more=start + len(said) < len(reasons),
            )
        tasks = first_page(books.tasks(accepted.id, start, start + count))
        return Answer(
            request=query.request, tasks=tuple(tasks), more=start + len(tasks) < self._count(accepted)
        )

    def _count(self, accepted: Accepted) -> int:
        """How many tasks a job has by now."""
        if not accepted.job.manifest.calls:
            return len(accepted.leaves)
        job = self._engine.books.job(accepted.id)
        return job.counts.total if job else 0

    def _results(self, peer: Peer, message: GetResults) -> None:
        engine = self._engine
        if self._owned(peer, message.request, message.job) is None:
            return
        indices: list[int] = []
        envelopes: list[bytes] = []
        archives: list[bytes] = []
        room = RESULTS_BYTES_PAGE
        for index in message.indices:
            record = engine.journal.result(message.job, index)
            if record is None or not record.envelope or record.archive is None:
                continue
            archive = engine.journal.archive(record.archive) or b""
            room -= len(record.envelope) + len(archive)
            if room < 0 and indices:
                break
            indices.append(index)
            envelopes.append(record.envelope)
            archives.append(archive)
        answer = Results(request=message.request, job=message.job, indices=tuple(indices))
        engine.outbox.put(peer.route, answer, (pack_parts(envelopes), pack_parts(archives)))

    # -- watching

    def _watch(self, peer: Peer, message: Watch) -> None:
        engine = self._engine
        if engine.watches.full:
            self._refuse(peer, message.request, "busy", "too many clients watch this coordinator already")
            return
        engine.push()  # what happened before the picture belongs to the picture
        tasks: Sequence[TaskView] = ()
        if message.job is None:
            jobs = engine.books.jobs()
        else:
            if self._accepted(peer, message.request, message.job) is None:
                return
            job = engine.books.job(message.job)
            jobs = [job] if job else []
            tasks = engine.books.tasks(message.job) if message.tasks else ()
        watcher = Watcher(peer.route, message.request, message.job, message.tasks)
        engine.watches.watch(watcher, jobs, tasks, engine.books.agents() if message.job is None else ())

    def _watch_logs(self, peer: Peer, message: WatchLogs) -> None:
        engine = self._engine
        accepted = self._owned(peer, message.request, message.job)
        if accepted is None:
            return
        if not 0 <= message.index < self._count(accepted):
            self._refuse(
                peer, message.request, "unknown-job", f"job {message.job} has no task {message.index}"
            )
            return
        task = engine.books.tasks(message.job, message.index, message.index + 1)[0]
        if task.state.ended:
            engine.outbox.put(peer.route, LogPushed(request=message.request, state=task.state))
            return
        if engine.watches.full:
            self._refuse(peer, message.request, "busy", "too many clients watch this coordinator already")
            return
        engine.watches.follow(Follower(peer.route, message.request, message.job, message.index))
        self.follow(task)

    def follow(self, task: TaskView) -> None:
        """Ask the agent that runs the task for its output."""
        if task.state is TaskState.RUNNING and task.agent and (peer := self._engine.peers.agent(task.agent)):
            attempt = Attempt(task.job, task.index, task.attempt, self._engine.scheduler.lease)
            self._engine.outbox.put(peer.route, FollowLogs(attempt=attempt))

    def _unfollow(self, follower: Follower) -> None:
        if not self._engine.watches.followers(follower.job, follower.index):
            task = self._engine.books.tasks(follower.job, follower.index, follower.index + 1)[0]
            if task.agent and (peer := self._engine.peers.agent(task.agent)):
                attempt = Attempt(task.job, task.index, task.attempt, self._engine.scheduler.lease)
                self._engine.outbox.put(peer.route, FollowLogs(attempt=attempt, follow=False))

    # -- refusals

    def _accepted(self, peer: Peer, request: int, job: JobId) -> Accepted | None:
        accepted = self._engine.intake.get(job)
        if accepted is None:
            self._refuse(
                peer,
                request,
                "unknown-job",
                f"this grid has no job {job}",
                fix="`discogrid ls` lists the jobs.",
            )
        return accepted

    def _owned(self, peer: Peer, request: int, job: JobId) -> Accepted | None:
        """The job, when this member may steer it and read what is in it."""
        accepted = self._accepted(peer, request, job)
        if accepted is None or self._permits.owns(peer.node, accepted):
            return accepted
        name = self._engine.grid.roster.name_of(accepted.job.manifest.submitter)
        self._refuse(
            peer,
            request,
            "permission",
            f"job {job} was submitted by {name}, not by this member of the grid",
            fix="Do it as that member, or ask the owner to make this one an admin.",
        )
        return None

    def _refuse(self, peer: Peer, request: int, code: str, what: str, why: str = "", fix: str = "") -> None:
        self._engine.outbox.put(peer.route, Refused(code=code, what=what, why=why, fix=fix, request=request))
