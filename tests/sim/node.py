"""An agent: the real machine in a simulated shell, on a computer that its owner, the weather and time are hard on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from discogrid import __version__
from discogrid.messages import (
    PROTOCOL,
    CancelTasks,
    Goodbye,
    Heartbeat,
    Hello,
    JobEnded,
    JobSpec,
    Message,
    RecallTasks,
    Resync,
    RunTasks,
    TaskDone,
    TasksCommitted,
    TasksDiscarded,
    TasksReturned,
    TasksStarted,
    Welcome,
)
from discogrid.silence import Silence, rhythm
from discogrid.types import (
    GIB,
    AgentId,
    Attempt,
    Digest,
    JobId,
    Limits,
    Offer,
    Outcome,
    Role,
    Run,
    SandboxLevel,
)
from discogrid_agent import events
from discogrid_agent.machine import Machine
from tests.pure.keeper import Keeper
from tests.sim.hub import Hub, Pause
from tests.sim.jobs import Manifest, unpack
from tests.sim.meter import Meter, MeteredMachine
from tests.sim.network import Frame, Network
from tests.sim.world import World

FETCH_S = (0.01, 3.0)
PACK_S = (0.01, 0.5)
KILL_S = 0.2
UPLOAD_S = (0.01, 2.0)
AGAIN_S = 5.0  # after which an owner who refused a task may be asked again
RECONNECT_S = (0.1, 4.0)
AWAY_S = (0.5, 60.0)  # of an agent that was stopped in order
CHECK_STEPS = 64
"""On a large grid a machine's invariants are checked after one in so many of its events."""


@dataclass
class Luck:
    """Which share of what an agent tries goes wrong."""

    fetch: float = 0.0
    upload: float = 0.0
    vanish: float = 0.0  # uploads that are taken for done and are not
    script: float = 0.0
    box: float = 0.0
    limit: float = 0.0
    refuse: float = 0.0


@dataclass(frozen=True)
class Result:
    """What the shell keeps of an ended attempt."""

    seconds: float
    retryable: bool = True
    again_s: float | None = None  # of a refusal


@dataclass
class Box:
    """A running attempt: work of a speed-1 agent that is left since then, and how it will end."""

    left: float
    since: float
    begun: float
    outcome: Outcome
    reason: str
    retryable: bool
    plan: int = 0  # the newest entry in the agenda; older ones are void


@dataclass
class Life:
    """One process: what a crash takes along."""

    keeper: Keeper
    silence: Silence
    session: str
    boxes: dict[Attempt, Box] = field(default_factory=dict)
    shelf: dict[JobId, Manifest] = field(default_factory=dict)
    sending: set[Attempt] = field(default_factory=set)
    woken: float | None = None  # when the agenda looks at its timers next


class Node:
    """One computer with an agent on it. `luck` is shared by all, so that it can turn."""

    def __init__(
        self,
        world: World,
        network: Network,
        hub: Hub,
        name: AgentId,
        *,
        slots: int,
        speed: float,
        luck: Luck,
        meter: Meter,
        thorough: bool,
    ) -> None:
        self.name = name
        self.slots = slots
        self.offer = Offer(slots, 8 * GIB, SandboxLevel.STRICT, protocol=PROTOCOL)
        self._world = world
        self._network = network
        self._hub = hub
        self._speed = speed
        self._luck = luck
        self._meter = meter
        self._thorough = thorough
        self._lives = 0
        self._lines = 0
        self._drag = 1.0
        self._paused = False
        self._was_paused = False  # in this life: then each beat tells
        self._backlog: list[Callable[[], None]] | None = None  # of a frozen process
        self._life: Life | None = None

    # What befalls it.

    def boot(self) -> None:
        """A new process under the old name."""
        if self._life is not None:
            return
        self._lives += 1
        machine: Machine = MeteredMachine(self.offer, self._meter)
        keeper = Keeper(machine, self.slots, self._world.now, thorough=self._thorough)
        self._life = Life(keeper, Silence(self._world.now), f"{self.name}/{self._lives}")
        self._lines += 1
        self._paused = self._was_paused = False
        self._tell(events.Connected())

    def crash(self) -> None:
        """The process, its boxes and all it kept are gone."""
        self._life = None
        self._backlog = None

    def freeze(self) -> None:
        """SIGSTOP, or a lid that is shut: nothing of it goes on."""
        if self._life is not None and self._backlog is None:
            self._pace()
            self._backlog = []
            self._pace()

    def wake(self) -> None:
        """All that has come meanwhile is met at once."""
        backlog, self._backlog = self._backlog, None
        self._pace()
        life = self._life
        for act in backlog or ():
            if self._life is life:
                act()

    def drag(self, factor: float) -> None:
        """It is so many times slower from now on."""
        self._pace()
        self._drag = factor
        self._pace()

    def pause(self, *, paused: bool) -> None:
        """Its owner is back: boxes stand still (or go on). Told now and with each beat, since words get lost."""
        if self._life is None or self._backlog is not None:
            return
        self._pace()
        self._paused = paused
        self._was_paused = True
        self._pace()
        self._send(Pause(paused=paused))

    def cut_line(self) -> None:
        """The connection breaks, and what is under way on it is lost; soon there is another."""
        self._lines += 1
        if (life := self._life) is None:
            return
        life.silence.broke(self._world.now)
        self._later(self._world.random.uniform(*RECONNECT_S), life.silence.stands)
        self._mind_the_time()

    def stop(self, mode: events.StopMode) -> None:
        """Its owner ends it."""
        if self._life is not None and self._backlog is None:
            self._tell(events.StopRequested(mode))

    @property
    def at_rest(self) -> bool:
        """Whether nothing runs here and nothing is kept."""
        life = self._life
        return life is None or not (life.boxes or life.keeper.running or life.keeper.archives)

    @property
    def up(self) -> bool:
        return self._life is not None

    # What it hears.

    def _take(self, frame: Frame) -> None:
        self._as_long_as_it_lives(lambda: self._hear(frame))()

    def _hear(self, frame: Frame) -> None:
        life = self._life
        if life is None or frame.route != self._route:
            return
        life.silence.heard(self._world.now)
        match frame.message:
            case Welcome(lease=lease, lease_s=lease_s, heartbeat_s=heartbeat_s):
                beat_s = rhythm(heartbeat_s)
                life.silence.expect(beat_s)
                self._tell(events.Welcomed(lease, lease_s, beat_s))
            case Resync():
                self._tell(events.Resynced())
            case JobSpec(job=job):
                manifest = life.shelf[job] = unpack(frame.payload[0])
                self._tell(
                    events.JobVerified(job, manifest.requirements, Limits(), (manifest.script,)),
                )
            case RunTasks(runs=runs):
                for run in runs:
                    self._take_run(life, run)
            case TasksCommitted(attempts=attempts):
                for attempt in attempts:
                    if attempt in life.keeper.archives:
                        self._hub.books.on_acknowledged(attempt)
                self._tell(events.Committed(attempts))
            case TasksDiscarded(attempts=attempts):
                for attempt in attempts:
                    if attempt in life.keeper.archives and attempt in self._hub.successes:
                        self._hub.books.on_discarded(attempt)
                self._tell(events.Discarded(attempts))
            case RecallTasks(runs=runs, nonce=nonce):
                self._tell(events.RecallReceived(runs, nonce))
            case CancelTasks(runs=runs):
                self._tell(events.CancelReceived(runs))
            case JobEnded(job=job):
                self._tell(events.JobEnded(job))
            case _:
                pass

    def _take_run(self, life: Life, run: Run) -> None:
        manifest = life.shelf.get(run.job)
        if manifest is None:
            refused = Outcome.REFUSED
            done = [
                TaskDone(attempt=one, outcome=refused, reason="its job is not known here")
                for one in run.attempts()
            ]
            self._send(self._hub.results(done))
        else:
            self._tell(events.RunReceived(run, tuple(map(manifest.input, range(run.start, run.stop)))))

    # Its machine.

    def _tell(self, event: events.Event) -> None:
        life = self._life
        if life is None:
            return
        keeper = life.keeper
        actions = keeper.tell(event, self._world.now)
        self._world.note(actions)
        if not self._thorough and not self._meter.events % CHECK_STEPS and not keeper.exited:
            keeper.machine.check()
        for action in actions:
            self._perform(life, action)
        self._mind_the_time()

    def _perform(self, life: Life, action: events.Action) -> None:
        random = self._world.random
        match action:
            case events.SendHello(holds):
                self._was_paused = self._paused
                self._send(self._hello(life, holds))
            case events.SendBeat(holds):
                self._send(Heartbeat(holds=holds))
                if self._was_paused:
                    self._send(Pause(paused=self._paused))
            case events.SendStarted(runs):
                self._send(TasksStarted(runs=runs))
            case events.GiveBack(runs, leaving, nonce):
                self._send(TasksReturned(runs=runs, leaving=leaving, nonce=nonce))
            case events.SendGoodbye():
                self._send(Goodbye())
            case events.SendDone():
                self._send_done(life, action)
            case events.Fetch(file):
                self._later(random.uniform(*FETCH_S), lambda: self._fetched(life, file.digest))
            case events.Start():
                self._start(life, action)
            case events.Kill(attempt):
                if box := life.boxes.get(attempt):
                    box.plan += 1
                    self._later(KILL_S, lambda: self._emptied(life, attempt, Outcome.CANCELLED))
            case events.ForgetJob(job):
                life.shelf.pop(job, None)
            case events.Exit():
                if self._life is life:
                    self.crash()
                    self._world.after(random.uniform(*AWAY_S), self.boot)
            case events.StopFetch() | events.DropArchive() | events.DropBlobs():
                pass  # the keeper watches these
            case _:
                assert_never(action)

    def _fetched(self, life: Life, digest: Digest) -> None:
        if digest not in life.keeper.fetching:
            return
        if self._world.chance(self._luck.fetch) or not self._hub.reachable(self.name):
            self._tell(events.BlobFailed(digest, "it did not come"))
        else:
            self._tell(events.BlobReady(digest))

    # Its boxes.

    def _start(self, life: Life, start: events.Start) -> None:
        world, luck = self._world, self._luck
        attempt = start.attempt
        manifest = life.shelf[attempt.job]
        outcome, reason, retryable = Outcome.SUCCEEDED, "", True
        if world.chance(luck.refuse):
            self._later(
                0.0,
                lambda: self._tell(
                    events.AttemptEnded(
                        attempt, Outcome.REFUSED, "not at this hour", Result(0.0, again_s=AGAIN_S)
                    )
                ),
            )
            return
        if attempt.index in manifest.doomed:
            outcome, reason, retryable = (
                Outcome.SCRIPT_FAILED,
                "ValueError: no such frame",
                not manifest.final,
            )
        elif world.chance(luck.script):
            outcome, reason = Outcome.SCRIPT_FAILED, f"exit {world.random.randint(1, 9)}"
        elif world.chance(luck.box):
            outcome, reason = Outcome.BOX_FAILED, "the box died"
        elif world.chance(luck.limit):
            outcome, reason = Outcome.LIMIT_EXCEEDED, "limit_exceeded:memory"
        work = manifest.duration(attempt.index)
        life.boxes[attempt] = Box(work, world.now, world.now, outcome, reason, retryable)
        self._plan(life, attempt)

    @property
    def _rate(self) -> float:
        return 0.0 if self._paused or self._backlog is not None else self._speed / self._drag

    def _pace(self) -> None:
        """Before the rate changes, and again after."""
        if self._life is None:
            return
        for attempt, box in self._life.boxes.items():
            box.left -= (self._world.now - box.since) * self._rate
            box.since = self._world.now
            self._plan(self._life, attempt)

    def _plan(self, life: Life, attempt: Attempt) -> None:
        box = life.boxes[attempt]
        box.plan += 1
        plan = box.plan
        if attempt in life.keeper.killed or not self._rate:
            return

        def end() -> None:
            if life.boxes.get(attempt) is box and box.plan == plan:
                self._emptied(life, attempt, box.outcome)

        self._world.after(max(0.0, box.left) / self._rate, self._as_long_as_it_lives(end))

    def _emptied(self, life: Life, attempt: Attempt, outcome: Outcome) -> None:
        box = life.boxes.pop(attempt, None)
        if box is None:
            return
        if outcome is Outcome.BOX_FAILED:
            self._tell(events.AttemptEnded(attempt, outcome, box.reason))
            return
        reason = "killed" if outcome is Outcome.CANCELLED else box.reason
        result = Result(self._world.now - box.begun, box.retryable)
        self._tell(events.BoxEmptied(attempt))
        self._later(
            self._world.random.uniform(*PACK_S),
            lambda: self._tell(events.AttemptEnded(attempt, outcome, reason, result)),
        )

    # Its results.

    def _send_done(self, life: Life, action: events.SendDone) -> None:
        result = action.result
        if not isinstance(result, Result) or result.again_s is not None:
            self._report(action, result if isinstance(result, Result) else Result(0.0))
        elif action.attempt not in life.sending:
            life.sending.add(action.attempt)
            self._later(self._world.random.uniform(*UPLOAD_S), lambda: self._uploaded(life, action, result))

    def _uploaded(self, life: Life, action: events.SendDone, result: Result) -> None:
        life.sending.discard(action.attempt)
        if self._world.chance(self._luck.upload) or not self._hub.reachable(self.name):
            self._tell(events.SendFailed(action.attempt, "it did not arrive"))
            return
        if not self._world.chance(self._luck.vanish):
            self._hub.store.add(action.attempt)
        self._report(action, result)

    def _report(self, action: events.SendDone, result: Result) -> None:
        done = TaskDone(
            attempt=action.attempt,
            outcome=action.outcome,
            reason=action.reason,
            retryable=result.retryable,
            seconds=result.seconds,
            archive=None if action.result is None else Digest(f"result of {action.attempt}"),
            again_s=result.again_s,
        )
        self._send(self._hub.results([done]))
        self._later(0.0, lambda: self._tell(events.ResultSent(action.attempt)))

    # Its line and its clock.

    @property
    def _route(self) -> bytes:
        return f"{self.name}/{self._lines}".encode()

    def _send(self, message: Message) -> None:
        self._network.send(Frame(self.name, self._route, message), self._hub.take, up=True)

    def _hello(self, life: Life, holds: tuple[Run, ...]) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            software=__version__,
            role=Role.AGENT,
            session=life.session,
            name=self.name,
            platform="linux",
            python="3.11",
            clock=self._world.wall,
            slots=self.offer.slots,
            memory_bytes=self.offer.memory_bytes,
            sandbox=self.offer.sandbox.value,
            holds=holds,
        )

    def hear_from(self, frame: Frame) -> None:
        """A frame of the coordinator has arrived at this computer."""
        self._take(frame)

    def _mind_the_time(self) -> None:
        """Be woken when the machine's or the line's time is up; a later entry that is there already serves too."""
        life = self._life
        if life is None:
            return
        deadline = life.keeper.machine.deadline()
        due = life.silence.due if deadline is None else min(deadline, life.silence.due)
        if life.woken is None or due < life.woken:
            life.woken = due

            def look() -> None:
                if life.woken == due:
                    life.woken = None
                    self._look(life)

            self._world.after(max(0.0, due - self._world.now), self._as_long_as_it_lives(look))

    def _look(self, life: Life) -> None:
        now = self._world.now
        deadline = life.keeper.machine.deadline()
        if deadline is not None and deadline <= now:
            self._tell(events.TimePassed())
        if self._life is life and life.silence.due <= now:
            self._tell(events.Disconnected())
            self._lines += 1
            life.silence.searched(now)
            self._tell(events.Connected())
        self._mind_the_time()

    def _later(self, delay: float, act: Callable[[], None]) -> None:
        self._world.after(delay, self._as_long_as_it_lives(act))

    def _as_long_as_it_lives(self, act: Callable[[], None]) -> Callable[[], None]:
        """Not after a crash of the process as it is now; in a frozen one, when it wakes."""
        life = self._life

        def due() -> None:
            if self._life is not life or life is None:
                return
            if self._backlog is not None:
                self._backlog.append(act)
            else:
                act()

        return due
