"""The coordinator: the real scheduler, journal, peers and outbox in a simulated shell, as engine.py and the desks join them.

The order is theirs: events are handled, their actions performed, the journal commits, and only then the outbox leaves.
A crash takes all but the journal and the store.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import assert_never, cast

from discogrid import __version__
from discogrid.messages import (
    PROTOCOL,
    CancelTasks,
    Goodbye,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    JobEnded,
    Message,
    RecallTasks,
    Resync,
    TaskDone,
    TasksCommitted,
    TasksDiscarded,
    TasksDone,
    TasksReturned,
    TasksStarted,
    Welcome,
)
from discogrid.spans import SpanSet
from discogrid.types import (
    AgentId,
    Attempt,
    Digest,
    JobId,
    JobState,
    NodeId,
    Offer,
    Outcome,
    Role,
    SandboxLevel,
    TaskState,
)
from discogrid_coordinator import events
from discogrid_coordinator.intake import Accepted
from discogrid_coordinator.journal import JobRecord, Journal, ResultRecord
from discogrid_coordinator.outbox import Outbox
from discogrid_coordinator.peers import Peer, Peers
from tests.pure.referee import Referee
from tests.sim.books import Books
from tests.sim.jobs import Manifest, pack, unpack
from tests.sim.meter import Meter, MeteredScheduler
from tests.sim.network import Frame, Network
from tests.sim.world import World


class Pause(Message, frozen=True, kw_only=True, tag="pause"):
    """An owner is back, or gone again: what the scheduler knows and no real agent says yet."""

    paused: bool


class Hub:
    """One coordinator, whatever befalls it. `check_each`: the invariants are checked after one in so many events."""

    def __init__(self, world: World, network: Network, meter: Meter, *, check_each: int) -> None:
        self.books = Books()
        self.store: set[Attempt] = set()  # whose archives have arrived
        self.successes: set[Attempt] = set()  # that were told, archive and all
        self.to_agent: Callable[[Frame], None] = lambda _: None
        self._world = world
        self._network = network
        self._meter = meter
        self._check_each = check_each
        self._journal = _nameless_journal()
        self._lease = 0
        self._backlog: list[Callable[[], None]] | None = None  # of a frozen process
        self.up = False
        self.dies_at_commit = False
        self.events = 0
        self.boot()

    # What befalls it.

    def boot(self) -> None:
        """A new process, that knows what the journal has."""
        if self.up:
            return
        self.up = True
        self._lease += 1
        self._backlog = None
        self._peers = Peers()
        self._jobs: dict[JobId, Manifest] = {}  # that have not ended
        self._pending: dict[Attempt, TaskDone] = {}
        self._fresh: list[events.Action] = []  # since the last commit
        self._outcomes: dict[Attempt, Outcome] = {}
        self._woken: float | None = None
        self._outbox = Outbox(self._peers, self._accepted, lambda _: None)
        self._referee = Referee(MeteredScheduler(self._lease, self._meter), thorough=False)
        self.books.on_restart(self._journal)
        self._restore()
        self._settle()

    def crash(self) -> None:
        """The process is gone, and with it what was not committed."""
        self.up = False
        self.dies_at_commit = False
        self._journal.take()
        self._fresh.clear()
        self._outcomes.clear()

    def freeze(self) -> None:
        """SIGSTOP: messages wait."""
        if self.up and self._backlog is None:
            self._backlog = []

    def wake(self) -> None:
        """What has come is heard first: a beat in a buffer is a beat."""
        backlog, self._backlog = self._backlog, None
        lease = self._lease
        for act in backlog or ():
            if self.up and self._lease == lease:
                act()

    def reachable(self, agent: AgentId) -> bool:
        """Whether blobs can go to and fro."""
        return self.up and self._backlog is None and agent not in self._network.cut

    # What clients want. Each may be asked again, and must be until it shows.

    def submit(self, manifest: Manifest) -> None:
        if not self.up or self._backlog is not None:
            return
        if not any(record.id == manifest.id for record in self._journal.jobs()):
            state = JobState.HELD if manifest.held else JobState.QUEUED
            self._journal.add_job(
                JobRecord(
                    manifest.id,
                    Digest(f"digest of {manifest.id}"),
                    pack(manifest),
                    b"",
                    self._world.wall,
                    manifest.held,
                    state,
                )
            )
            self._jobs[manifest.id] = manifest
            self._tell(manifest.submitted(held=manifest.held, expected=self._expected(manifest)))
            self._settle()
        if self.up:
            self.books.on_accepted(manifest)

    def cancel(self, job: JobId) -> None:
        self._act(events.JobCancelled(job))

    def release(self, job: JobId) -> None:
        self._act(events.JobReleased(job))

    def _act(self, event: events.Event) -> None:
        if self.up and self._backlog is None:
            self._tell(event)
            self._settle()

    # What agents say.

    def take(self, frame: Frame) -> None:
        """A frame has arrived."""
        if not self.up:
            return
        if self._backlog is not None:
            self._backlog.append(lambda: self._receive(frame))
        else:
            self._receive(frame)

    def _receive(self, frame: Frame) -> None:
        peer = self._peers.get(frame.route)
        if isinstance(frame.message, Hello):
            self._greet(frame, frame.message)
        elif peer is None or peer.name != frame.agent:
            self._outbox.put(frame.route, Resync())
        else:
            self._hear(peer, frame.message)
        self._settle()

    def _greet(self, frame: Frame, hello: Hello) -> None:
        name = frame.agent
        peer = Peer(
            frame.route, NodeId(name), Role.AGENT, hello.session, name, self._world.now, hello.protocol
        )
        older = self._peers.add(peer)
        if older is not None and older.session != peer.session:
            self._tell(events.AgentLeft(name, "another process of the same agent has taken its place"))
            self._peers.add(peer)
        offer = Offer(hello.slots, hello.memory_bytes, SandboxLevel(hello.sandbox), protocol=hello.protocol)
        self._tell(events.AgentJoined(name, offer, hello.holds))

    def _hear(self, peer: Peer, message: Message) -> None:
        match message:
            case Heartbeat(holds=holds):
                self._tell(events.AgentBeat(peer.name, holds))
                self._outbox.put(peer.route, HeartbeatSeen())
            case TasksStarted(runs=runs):
                self._tell(events.TasksStarted(peer.name, runs))
            case TasksReturned(runs=runs, leaving=leaving, nonce=nonce):
                self._tell(events.TasksReturned(peer.name, runs, leaving, nonce))
            case TasksDone(tasks=tasks):
                for done in tasks:
                    self._ended(peer.name, self._checked(done))
            case Pause(paused=paused):
                self._tell(events.AgentPaused(peer.name, paused))
            case Goodbye():
                self._tell(events.AgentLeft(peer.name, "it said goodbye", goodbye=True))
                self._peers.remove(peer)
            case _:
                raise AssertionError(f"agents do not say {message}")

    @staticmethod
    def results(done: list[TaskDone]) -> TasksDone:
        return TasksDone(tasks=tuple(done))

    def _checked(self, done: TaskDone) -> TaskDone:
        """As the desk does with results whose bytes are not here."""
        if done.archive is None or done.again_s is not None or done.attempt in self.store:
            return done
        reason = "its result was not accepted: the archive has not arrived"
        return TaskDone(attempt=done.attempt, outcome=Outcome.TRANSFER_FAILED, reason=reason)

    def _ended(self, agent: AgentId, done: TaskDone) -> None:
        self._pending[done.attempt] = done
        if done.outcome is Outcome.SUCCEEDED:
            self.successes.add(done.attempt)
            self._tell(events.TaskSucceeded(agent, done.attempt, done.seconds))
        else:
            self._tell(
                events.TaskFailed(
                    agent, done.attempt, done.outcome, done.reason, done.retryable, done.again_s
                )
            )
        self._pending.pop(done.attempt, None)

    # The engine.

    def _tell(self, event: events.Event) -> None:
        self.events += 1
        actions = self._referee.tell(event, self._world.now)
        self._world.note(actions)
        if not self.events % self._check_each:
            self._referee.check()
        for action in actions:
            self._perform(action)
        self._fresh += actions

    def _perform(self, action: events.Action) -> None:
        journal, outbox = self._journal, self._outbox
        match action:
            case events.Welcome(agent, heartbeat_s, lease_s):
                journal.add_agent(agent)
                if peer := self._peers.agent(agent):
                    outbox.put(peer.route, self._welcome(peer, heartbeat_s, lease_s))
            case events.Resync(agent):
                if peer := self._peers.agent(agent):
                    outbox.put(peer.route, Resync())
            case events.LoseAgent(agent):
                journal.drop_agent(agent)
                if peer := self._peers.agent(agent):
                    self._peers.remove(peer)
            case events.Assign(agent, run):
                outbox.assign(agent, run)
            case events.Recall(agent, runs, nonce):
                if peer := self._peers.agent(agent):
                    outbox.put(peer.route, RecallTasks(runs=runs, nonce=nonce))
            case events.Cancel(agent, runs):
                outbox.tell(agent, CancelTasks, runs)
            case events.Commit(agent, attempt):
                self._commit(agent, attempt)
                outbox.tell(agent, TasksCommitted, [attempt])
            case events.Discard(agent, attempt):
                outbox.tell(agent, TasksDiscarded, [attempt])
            case events.EndTasks(job, start, stop, state, reason):
                if state is not TaskState.DONE and state is not TaskState.CANCELLED:
                    for index in range(start, stop):
                        journal.end_task(job, index, state, reason)
            case events.HoldJob(job, reason):
                journal.hold_job(job, reason)
            case events.ReleaseJob(job):
                journal.release_job(job)
            case events.StartJob(job):
                journal.start_job(job, self._world.wall)
            case events.EndJob(job, state, reason):
                view = self._referee.books.job(job)
                assert view is not None
                journal.end_job(replace(view, state=state, reason=reason, ended=self._world.wall))
                for peer in self._peers.told(job):
                    outbox.tell(peer.name, JobEnded, [job])
                    peer.jobs_told.discard(job)
                self._jobs.pop(job, None)
            case events.Adopt() | events.StartTasks() | events.Requeue() | events.ExtendJob():
                pass
            case _:
                assert_never(action)

    def _commit(self, agent: AgentId, attempt: Attempt) -> None:
        done = self._pending[attempt]
        self._outcomes[attempt] = done.outcome
        succeeded = done.outcome is Outcome.SUCCEEDED
        record = ResultRecord(
            attempt,
            agent,
            done.outcome,
            done.exit,
            done.started,
            done.ended,
            done.seconds,
            done.reason,
            done.archive,
            done.archive_bytes,
            b"",
            TaskState.DONE if succeeded else None,
        )
        self._journal.put_result(record, None)
        if succeeded:
            manifest = self._jobs[attempt.job]
            self._journal.learn(manifest.kind, str(attempt.index), done.seconds)

    def _welcome(self, peer: Peer, heartbeat_s: float, lease_s: float) -> Welcome:
        return Welcome(
            protocol=PROTOCOL,
            software=__version__,
            name=peer.name,
            coordinator=NodeId("hub"),
            lease=self._lease,
            heartbeat_s=heartbeat_s,
            lease_s=lease_s,
            clock=self._world.wall,
            blob_endpoint="tcp://*:1",
        )

    def _settle(self) -> None:
        """Make everything durable, then let it be known; or die between the two, or before."""
        if self.dies_at_commit:
            self.crash()
            return
        self._journal.commit()
        fresh, self._fresh = self._fresh, []
        self.books.on_durable(fresh, self._outcomes)
        self._outcomes.clear()
        self._outbox.send(self._outbox.take_prompt(), self._send)
        self._outbox.send(self._outbox.take(), self._send)
        self._mind_the_time()

    def _send(self, route: bytes, message: Message, payload: Sequence[bytes]) -> None:
        agent = AgentId(route.rpartition(b"/")[0].decode())
        self._network.send(Frame(agent, route, message, payload), self.to_agent, up=False)

    def _accepted(self, job: JobId) -> Accepted | None:
        """A job as far as the outbox looks at it: its manifest travels, and its tasks need no proof here."""
        manifest = self._jobs.get(job)
        if manifest is None:
            return None
        signed = SimpleNamespace(envelope=pack(manifest), blobs=list)
        leaves = SimpleNamespace(inputs=lambda *_: ())
        stand_in = SimpleNamespace(id=job, job=signed, leaves=leaves, parcel=lambda *_: ([], b""), calls=None)
        return cast("Accepted", stand_in)

    def _expected(self, manifest: Manifest) -> tuple[float, ...]:
        known = self._journal.durations(manifest.kind)
        return tuple(known.get(str(index), 0.0) for index in range(manifest.tasks)) if known else ()

    def _restore(self) -> None:
        """Take up every job the journal holds; what had not ended is queued again."""
        for record in self._journal.jobs():
            if record.state.ended:
                continue
            manifest = unpack(record.envelope)
            done, failed = SpanSet(), SpanSet()
            for result in self._journal.results(record.id):
                if result.state is not None:
                    index = result.attempt.index
                    (done if result.state is TaskState.DONE else failed).add(index, index + 1)
            self._jobs[record.id] = manifest
            self._tell(
                manifest.submitted(
                    held=record.held,
                    restored=True,
                    done=tuple(done),
                    failed=tuple(failed),
                    expected=self._expected(manifest),
                )
            )
        self._tell(events.Restarted(self._journal.agents()))

    # Its clock.

    def held_jobs(self) -> list[JobId]:
        """Jobs of which nothing starts, as far as clients can see."""
        if not self.up:
            return []
        return [record.id for record in self._journal.jobs() if record.held and not record.state.ended]

    def check(self) -> None:
        """Every invariant."""
        if self.up:
            self._referee.check()

    def _mind_the_time(self) -> None:
        due = self._referee.scheduler.deadline()
        if due is not None and (self._woken is None or due < self._woken):
            self._woken = due
            lease = self._lease
            self._world.after(max(0.0, due - self._world.now), lambda: self._look(lease, due))

    def _look(self, lease: int, due: float) -> None:
        if not self.up or self._lease != lease or self._woken != due:
            return
        if self._backlog is not None:
            self._backlog.append(lambda: self._look(lease, due))
            return
        self._woken = None
        deadline = self._referee.scheduler.deadline()
        if deadline is not None and deadline <= self._world.now:
            self._tell(events.TimePassed())
        self._settle()


def _nameless_journal() -> Journal:
    """A real one whose files have no name any more, so that they end with it; no power fails here, so no disk is waited for."""
    with TemporaryDirectory(prefix="discogrid-sim-") as folder:
        journal = Journal(Path(folder, "journal.sqlite"))
        journal._writer.execute("pragma synchronous=off")
        journal.agents()  # both connections have all their files open from here on
    return journal
