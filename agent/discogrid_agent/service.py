"""The DEALER shell: sockets, timers, files and boxes of an agent; what to do with them is the machine's word.

Nothing a coordinator sends reaches the machine before this agent has checked it itself: the roster's owner, the
job's signature, each task's proof, every blob's digest.
"""

import asyncio
import contextlib
import logging
import platform
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import assert_never

from msgspec import structs

from discogrid import __version__, transport
from discogrid.alarm import Alarm
from discogrid.answers import KEPT_S, TaskAnswers, seal_answers
from discogrid.blobs import BlobStore
from discogrid.bundle import ResultBody, seal_result
from discogrid.channel import Channel, Received
from discogrid.envelope import ENVELOPE_BYTES_MAX
from discogrid.errors import DiscogridError, HandshakeRefused, SignatureRefused, WireError
from discogrid.grid import Grid
from discogrid.messages import (
    PROTOCOL,
    BlobSource,
    CancelTasks,
    FollowLogs,
    Goodbye,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    JobEnded,
    JobSpec,
    Message,
    PublishRoster,
    RecallTasks,
    Refused,
    Resync,
    RosterPushed,
    RunCalls,
    RunTasks,
    ServeBlob,
    TaskDone,
    TasksCommitted,
    TasksDiscarded,
    TasksReturned,
    Welcome,
)
from discogrid.pieces import Pieces
from discogrid.silence import Silence, rhythm
from discogrid.transfer import BlobClient, dial_blobs
from discogrid.trust.roster import Roster
from discogrid.types import Attempt, Digest, FileRef, JobId, Limits, Offer, Outcome, Role, Run, SandboxLevel
from discogrid.views import task_label
from discogrid.whereabouts import moved_to, remember
from discogrid_agent import events
from discogrid_agent.call_answers import Cargo, Packed, answers_of, calls_of, keep_log, pack_answers
from discogrid_agent.call_floor import Answered, CallFloor, CallScene
from discogrid_agent.call_worker import Place, Stage
from discogrid_agent.environments import FAILED_S, Environment, Environments, NoEnvironment
from discogrid_agent.ledger import Ledger
from discogrid_agent.live_logs import LiveLogs
from discogrid_agent.log_keeper import LogKeeper
from discogrid_agent.machine import Machine
from discogrid_agent.peer_blobs import PeerBlobs
from discogrid_agent.removal import remove_tree
from discogrid_agent.reports import Report, Reports
from discogrid_agent.rules import Refusal
from discogrid_agent.rules_file import CHECK_S, RulesFile
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.box import Box
from discogrid_agent.shelf import Owned, Shelf
from discogrid_agent.small_blobs import SmallBlobs
from discogrid_agent.task import Ended, Task, thread_variables
from discogrid_agent.terms import Terms
from discogrid_agent.work_folder import Placed

STORE_BYTES_MAX = 50 << 30
CALL_S_ENDLESS = 7 * 86400.0  # a call that may run for so long may run for as long as it likes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """An ended attempt with its signed result, kept until the coordinator has it."""

    ended: Ended
    envelope: bytes


@dataclass(frozen=True, slots=True)
class CallResult:
    """Answers to a task's calls, kept in the same way; `stored` are those that are blobs, `log` what was printed."""

    answers: TaskAnswers
    seconds: float
    stored: tuple[Digest, ...]
    log: Result | None


class Service:
    """One agent. Use `await Service(...).run()`; `stop` ends it."""

    def __init__(
        self,
        grid: Grid,
        endpoint: str,
        folder: Path,
        *,
        name: str,
        offer: Offer,
        limits: Limits,
        rules: RulesFile,
        box: Box,
        environments: Environments | None = None,
        peers: bool = True,
        proof: Callable[[], Awaitable[Offer]] | None = None,
    ) -> None:
        """`offer` is what the owner lends, `limits` the most that any task may use, whatever the `rules` allow.

        With `peers` it listens, and gets large blobs from other agents and they from it. `proof` is awaited once the agent
        has said hello: it makes the box what it is, and returns what is offered from then on.
        """
        self._grid = grid
        self._endpoint = endpoint
        self._folder = folder
        self._name = name
        self._offer = offer
        self._box = box
        self._limits = limits
        self._rules = rules
        self._environments = environments
        self._proof = proof
        self._session = secrets.token_hex(8)
        self._machine = Machine(offer)
        self._sending: dict[Attempt, asyncio.Task[None]] = {}
        self._fetching: dict[Digest, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._small = SmallBlobs()
        self._peers_wanted = peers
        self._peer_blobs: PeerBlobs | None = None
        self._blobs: BlobClient | None = None
        self._blobs_at = ""
        self._silent = False  # the coordinator, since it last welcomed this agent
        self._failure: Exception | None = None

    # -- life

    async def run(self) -> None:
        """Serve until stopped; HandshakeRefused when the grid does not want this agent."""
        self._grid.check_membership()
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._alarm = Alarm(lambda: self._tell(events.TimePassed()))
        self._context = transport.new_context()
        self._keys = transport.CurveKeys(self._grid.identity.curve_public, self._grid.identity.curve_secret)
        self._server_key = self._grid.roster.coordinator().curve
        coordinator = self._grid.roster.coordinator().id
        self._live_logs = LiveLogs(self._logs, self._send)
        self._runner = Runner(
            self._folder / "work", self._box, agent=self._name, on_log=self._live_logs.wrote
        )
        self._call_floor = CallFloor(
            self._runner.attempts, self._box, self._runner.watch, self._offer.slots, self._live_logs.wrote
        )
        self._scenes: dict[JobId, CallScene] = {}
        self._clear()
        self._store = BlobStore(self._folder / "blobs", STORE_BYTES_MAX)
        self._peer_blobs = self._open_peer_blobs()
        self._terms = Terms(self._rules, Ledger(self._folder / "ledger.sqlite"), lambda: self._grid.roster)
        trees = self._folder / "work" / "mounts"  # below the runner's folder, which the box can reach
        limits = self._limits.capped(self._terms.limits)
        self._shelf = Shelf(
            trees, self._grid.keeper, coordinator, limits, self._box.level, self._grid.identity.id
        )
        for number, mode in ((signal.SIGTERM, events.StopMode.NOW), (signal.SIGINT, events.StopMode.FINISH)):
            self._loop.add_signal_handler(number, partial(self._on_signal, mode))
        self._silence = Silence(self._loop.time())
        self._line_changed = asyncio.Event()
        self._dial()
        self._reports = Reports(self._send, lambda: self._machine.waiting > 0, self._seal_answers)
        forget = self._grid.keeper.on_change(self._roster_changed)
        beside = (self._listen_for_silence(), self._watch_terms())
        watching = [self._loop.create_task(work) for work in beside]
        try:
            self._tell(events.Connected())
            if self._proof is not None:
                self._spawn(self._prove(self._proof))
            await self._exited.wait()
        finally:
            forget()
            for task in (*watching, *self._tasks):
                task.cancel()
            await asyncio.gather(*watching, *self._tasks, return_exceptions=True)
            await self._call_floor.close()
            self._close()
        if self._failure is not None:
            raise self._failure

    def stop(self, mode: events.StopMode = events.StopMode.NOW) -> None:
        """End: now, or when what runs has ended and is committed."""
        self._tell(events.StopRequested(mode))

    def _on_signal(self, mode: events.StopMode) -> None:
        """The first interrupt lets tasks end, the second one does not."""
        if mode is events.StopMode.FINISH:
            self._loop.add_signal_handler(signal.SIGINT, partial(self._on_signal, events.StopMode.NOW))
            log.warning("finishing what runs; interrupt again to give it back at once")
        self.stop(mode)

    def _close(self) -> None:
        self._alarm.cancel()
        self._live_logs.close()
        self._channel.close()
        if self._blobs is not None:
            self._blobs.close()
        if self._peer_blobs is not None:
            self._peer_blobs.close()
        self._terms.close()
        self._clear()
        self._runner.close()
        self._context.destroy(linger=transport.LINGER_MS)

    def _dial(self) -> None:
        self._channel = Channel(
            lambda take: transport.dial(
                self._context, self._endpoint, self._keys, self._server_key, take, on_line=self._on_line
            ),
            self._receive,
        )

    def _send(self, message: Message, *payload: bytes) -> bool:
        return self._channel.send(message, *payload)

    def _clear(self) -> None:
        """Nothing of a job stays on the disk of an agent that does not run, however the last one here ended."""
        self._runner.sweep()
        remove_tree(self._folder / "blobs")

    async def _watch_terms(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            self._terms.book(time.time())
            if self._terms.changed():
                self.reconsider()

    def reconsider(self) -> None:
        """The owner's rules or the roster have changed: end what may not run any more, and be asked for the rest anew."""
        self._shelf.owner = self._limits.capped(self._terms.limits)
        for owned in self._shelf.jobs():
            refusal = self._terms.refusal(owned.job.manifest, time.time())
            if refusal is not None and refusal.until is None:
                log.warning("job %s is ended here: %s", owned.id, refusal.reason)
                self._tell(events.JobBarred(owned.id, refusal.reason))
        self._tell(events.TermsChanged())

    async def _prove(self, proof: Callable[[], Awaitable[Offer]]) -> None:
        """Learn what this machine can give, and offer that."""
        try:
            self._offer = await proof()
        except Exception as error:  # noqa: BLE001 (whatever it is: what waits for the box would wait for ever)
            self._failure = error
            self._exited.set()
            return
        self._shelf.box = self._box.level
        self._tell(events.TermsChanged())

    def _on_line(self, stands: bool) -> None:
        if stands:
            self._silence.stands()
        else:
            self._silence.broke(self._loop.time())
        self._line_changed.set()

    async def _until_silence(self) -> None:
        while (left_s := self._silence.due - self._loop.time()) > 0:
            self._line_changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._line_changed.wait()

    async def _listen_for_silence(self) -> None:
        while True:
            await self._until_silence()
            log.warning("the coordinator is silent; work goes on, results wait")
            self._silent = True
            self._tell(events.Disconnected())
            await self._look_around()
            # A new line, also to the old address: what waits on this one was meant for who was there before.
            self._channel.close(linger_ms=0)
            self._dial()
            self._silence.searched(self._loop.time())
            self._tell(events.Connected())

    async def _look_around(self) -> None:
        try:
            found = await moved_to(self._grid, self._endpoint)
        except Exception:  # only a hint: the address that is known is dialled in any case
            log.exception("the network could not be searched")
            return
        if found is not None:
            log.info("the coordinator answers at %s now", found)
            self._endpoint = found
            remember(self._grid, found)

    # -- messages in

    def _receive(self, batch: list[Received]) -> None:
        self._silence.heard(self._loop.time())
        for received in batch:
            try:
                self._hear(received)
            except (DiscogridError, IndexError) as error:
                log.warning("a %s of the coordinator was dropped: %s", type(received.message).__name__, error)
            except Exception:
                # What came with it in the same batch is not to be lost.
                log.exception("a %s of the coordinator was dropped", type(received.message).__name__)

    def _hear(self, received: Received) -> None:
        match received.message:
            case RunCalls(runs=runs):
                self._take_calls(runs, *received.payload[:3])
            case Welcome() as welcome:
                if self._silent:
                    self._silent = False
                    log.info("the coordinator is back")
                if newer := self._grid.keeper.exchange(received.payload, time.time()):
                    self._channel.send(PublishRoster(), newer)
                self._open_blobs(welcome.blob_endpoint)
                if self._peer_blobs is not None:
                    self._peer_blobs.welcomed(self._endpoint, welcome.protocol)
                beat_s = rhythm(welcome.heartbeat_s)
                self._silence.expect(beat_s)
                self._tell(events.Welcomed(welcome.lease, welcome.lease_s, beat_s))
                self._live_logs.begin_again()  # what was last said of them may have been lost with the line
            case Refused() as refused:
                self._failure = self._failure or HandshakeRefused(
                    refused.what, why=refused.why, fix=refused.fix
                )
                self._exited.set()
            case RosterPushed():
                self._grid.keeper.exchange(received.payload, time.time())
            case Resync():
                self._tell(events.Resynced())
            case JobSpec(job=job):
                self._take_job(job, received.payload[0], b"".join(received.payload[1:2]))
            case RunTasks(runs=runs):
                self._take_runs(
                    runs, received.payload[0], received.payload[1], b"".join(received.payload[2:3])
                )
            case TasksCommitted(attempts=attempts):
                self._tell(events.Committed(attempts))
            case TasksDiscarded(attempts=attempts):
                self._tell(events.Discarded(attempts))
            case RecallTasks(runs=runs, nonce=nonce):
                self._tell(events.RecallReceived(runs, nonce))
            case CancelTasks(runs=runs):
                self._tell(events.CancelReceived(runs))
            case JobEnded(job=job):
                if owned := self._shelf.get(job):
                    self._terms.job_ended(owned.job)
                self._tell(events.JobEnded(job))
            case FollowLogs(attempt=attempt, follow=follow):
                self._live_logs.follow(attempt, follow=follow)
            case BlobSource() as source if self._peer_blobs is not None:
                self._peer_blobs.named(source)
            case ServeBlob() as told if self._peer_blobs is not None:
                self._peer_blobs.serve(told)
            case HeartbeatSeen():
                pass
            case other:
                log.warning("the coordinator sent a %s, which is not for agents", type(other).__name__)

    def _roster_changed(self, *_: Roster) -> None:
        """Go by the newer roster at once: nothing runs on for who was put out of the grid."""
        try:
            self._grid.check_membership()
        except HandshakeRefused as refused:
            self._failure = refused
            self.stop()
        else:
            self.reconsider()

    def _take_job(self, job: JobId, envelope: bytes, riders: bytes) -> None:
        try:
            owned = self._shelf.put(job, envelope, time.time())
        except SignatureRefused as error:
            log.error("job %s was refused, nothing of it will run: %s", job, error)  # noqa: TRY400
            return
        manifest = owned.job.manifest
        self._small.keep(job, riders, owned.job.blobs())
        self._tell(events.JobVerified(job, manifest.requirements, owned.limits, tuple(owned.job.blobs())))

    def _take_runs(self, runs: tuple[Run, ...], leaves: bytes, proofs: bytes, riders: bytes) -> None:
        now = time.time()
        for run, tasks in self._shelf.check(runs, leaves, proofs, now).items():
            owned = self._shelf.get(run.job)
            if isinstance(tasks, SignatureRefused) or owned is None:
                why = tasks.what if isinstance(tasks, SignatureRefused) else "its job is not known here"
                log.error("tasks %d to %d of job %s were refused: %s", run.start, run.stop - 1, run.job, why)
                self._refuse(run, Refusal(why))
            elif refusal := self._terms.refusal(owned.job.manifest, now):
                log.info("tasks of job %s were refused: %s", run.job, refusal.reason)
                self._refuse(run, refusal)
            else:
                self._small.keep(run.job, riders, [task.input for task in tasks if task.input is not None])
                self._tell(events.RunReceived(run, tuple(task.input for task in tasks)))

    def _take_calls(
        self, runs: tuple[Run, ...], chunks: bytes = b"", proofs: bytes = b"", envelopes: bytes = b""
    ) -> None:
        for run, found in self._shelf.check_calls(runs, chunks, proofs, envelopes, time.time()).items():
            if isinstance(found, SignatureRefused):
                log.error(
                    "calls %d to %d of job %s were refused: %s", run.start, run.stop - 1, run.job, found
                )
                self._refuse(run, Refusal(found.what))
                continue
            batch, mine = found
            self._tell(
                events.RunReceived(
                    run,
                    inputs=(),
                    shared=tuple(batch.body.functions.values()),
                    more=tuple(tuple(chunk.large.values()) for chunk in mine),
                    cargo=tuple(Cargo(batch, chunk) for chunk in mine),
                )
            )

    def _refuse(self, run: Run, refusal: Refusal) -> None:
        for attempt in run.attempts():
            self._reports.ended(Report(_refused(attempt, refusal)))

    # -- the machine

    def _tell(self, event: events.Event) -> None:
        for action in self._machine.handle(event, self._loop.time()):
            self._perform(action)
        self._alarm.set(self._machine.deadline())

    def _perform(self, action: events.Action) -> None:
        match action:
            case events.Start(cargo=Cargo()):
                self._spawn(self._answer_calls(action))
            case events.SendStarted(runs):
                self._reports.started(runs, soon=not all(map(self._is_of_calls, runs)))
            case events.SendHello(holds):
                self._channel.send(self._hello(holds))
            case events.SendBeat(holds):
                self._channel.send(Heartbeat(holds=holds))
            case events.SendDone():
                self._send_done(action)
            case events.GiveBack(runs, leaving, nonce):
                self._reports.flush()  # what has started is known before it is missed
                self._channel.send(TasksReturned(runs=runs, leaving=leaving, nonce=nonce))
            case events.SendGoodbye():
                self._reports.flush()
                self._channel.send(Goodbye())
            case events.Fetch(file, passing):
                if self._small.get(file.digest) is not None:
                    self._loop.call_soon(self._tell, events.BlobReady(file.digest))
                else:
                    self._fetching[file.digest] = self._spawn(self._fetch(file, passing=passing))
            case events.StopFetch(digest):
                if fetching := self._fetching.pop(digest, None):
                    fetching.cancel()
            case events.Start():
                self._spawn(self._attempt(action))
            case events.Kill(attempt, reason):
                self._runner.kill(attempt, reason)
                self._call_floor.kill(attempt)
            case events.DropArchive(attempt):
                self._runner.drop(attempt)
                self._store.unpin(f"answer:{attempt}", remove=True)
            case events.DropBlobs(digests):
                if self._peer_blobs is not None:
                    self._peer_blobs.dropped(digests)
                for digest in digests:
                    self._small.drop(digest)
                    self._store.unpin(f"fetch:{digest}", remove=True)
            case events.ForgetJob(job):
                self._shelf.drop(job)
                self._small.forget(job)
                self._scenes.pop(job, None)
                self._call_floor.forget(job)
            case events.Exit():
                self._exited.set()
            case _:
                assert_never(action)

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- actions that take time

    def _hello(self, holds: tuple[Run, ...]) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            software=__version__,
            role=Role.AGENT,
            session=self._session,
            name=self._name,
            platform=sys.platform,
            python=platform.python_version(),
            clock=time.time(),
            slots=self._offer.slots,
            memory_bytes=self._offer.memory_bytes,
            gpus=self._offer.gpus,
            sandbox=self._offer.sandbox.value,
            network=self._offer.network and self._terms.network,
            no_network=self._offer.no_network,
            capabilities=tuple(sorted(self._offer.capabilities)),
            proving=self._offer.proving,
            holds=holds,
            roster=self._grid.roster.version,
            blob_port=self._peer_blobs.port if self._peer_blobs is not None else 0,
        )

    def _open_peer_blobs(self) -> PeerBlobs | None:
        """None where this agent is alone, or is to be left alone, or cannot listen."""
        if not self._peers_wanted or not self._endpoint.startswith("tcp:"):
            return None
        try:
            opened = PeerBlobs(self._context, self._grid, self._keys, self._store, self._send, self._endpoint)
        except DiscogridError as error:
            log.warning("large files come from the coordinator alone: %s", error.what)
            return None
        log.info("other agents get large files of common jobs at port %d", opened.port)
        return opened

    def _coordinators_blobs(self) -> BlobClient:
        if self._blobs is None:
            raise WireError("the coordinator has not said where its blobs are")
        return self._blobs

    def _open_blobs(self, endpoint: str) -> None:
        where = transport.dialled(endpoint, self._endpoint)
        if self._blobs is not None:
            if where == self._blobs_at:
                self._blobs.wake()  # what is on its way goes on
                return
            self._blobs.close()
        self._blobs_at = where
        self._blobs = dial_blobs(self._context, where, self._keys, self._server_key, self._store)

    def _source(self, digest: Digest) -> Path | bytes:
        """A blob that was fetched: its file, or itself when it came along with a message."""
        small = self._small.get(digest)
        return self._store.path(digest) if small is None else small

    def _path(self, digest: Digest) -> Path:
        """The file of a blob that was fetched."""
        if (small := self._small.get(digest)) is not None:
            self._store.put_bytes(small, digest)
        return self._store.path(digest)

    async def _fetch(self, file: FileRef, *, passing: bool) -> None:
        try:
            self._store.pin(file.digest, f"fetch:{file.digest}")
            if not self._store.has(file.digest):
                if self._peer_blobs is not None and not passing:
                    await self._peer_blobs.get(file, self._coordinators_blobs)
                else:
                    await self._coordinators_blobs().get(file.digest, file.size, passing=passing)
        except (DiscogridError, OSError) as error:
            self._fetching.pop(file.digest, None)
            reason = error.what if isinstance(error, DiscogridError) else f"it cannot be kept here: {error}"
            self._tell(events.BlobFailed(file.digest, reason))
        else:
            self._fetching.pop(file.digest, None)
            self._tell(events.BlobReady(file.digest))

    async def _attempt(self, start: events.Start) -> None:
        owned = self._shelf.get(start.attempt.job)
        assert owned is not None, "the machine starts tasks of verified jobs only"
        if refusal := self._terms.start(owned.job, start.attempt, time.time()):
            self._tell(events.AttemptEnded(start.attempt, Outcome.REFUSED, refusal.reason, refusal))
            return
        packages = owned.job.manifest.packages
        try:
            environment = await self._environment(packages)
        except NoEnvironment as error:
            self._terms.stop(start.attempt)
            refusal = Refusal(error.what, time.time() + FAILED_S)
            self._tell(events.AttemptEnded(start.attempt, Outcome.REFUSED, refusal.reason, refusal))
            return
        try:
            mounts = (
                await asyncio.to_thread(self._shelf.mounts, owned, self._path)
                if owned.job.manifest.mounts
                else ()
            )
            ended = await self._runner.run(
                self._task(start, owned, mounts, environment), partial(self._on_emptied, start.attempt)
            )
        except Exception as error:  # its slots must come back, whatever went wrong
            self._terms.stop(start.attempt)
            log.exception("the attempt %s could not be run", start.attempt)
            self._tell(events.AttemptEnded(start.attempt, Outcome.BOX_FAILED, str(error)))
            return
        finally:
            self._live_logs.ended(start.attempt)
            if environment is not None and self._environments is not None:
                self._environments.release(packages)
        envelope = seal_result(self._body(ended, owned), self._grid.identity)
        if len(envelope) > ENVELOPE_BYTES_MAX:  # nobody would take it
            reason = f"the names of its {len(ended.outputs)} files are too long to be signed together"
            ended = replace(ended, outcome=Outcome.LIMIT_EXCEEDED, reason=reason, retryable=False, outputs=())
            envelope = seal_result(self._body(ended, owned), self._grid.identity)
        result = Result(ended, envelope)
        self._tell(events.AttemptEnded(start.attempt, ended.outcome, ended.reason, result))

    # -- calls

    async def _answer_calls(self, start: events.Start) -> None:
        """Run calls of one or more tasks, which end however they end: only a worker that cannot be had fails a task."""
        owned = self._shelf.get(start.attempt.job)
        assert owned is not None, "the machine starts tasks of verified jobs only"
        tasks = self._accepted_calls(owned, [(start.attempt, start.cargo), *start.more])
        if not tasks:
            return
        attempts = [attempt for attempt, _ in tasks]
        try:
            scene = await self._scene(start, owned)
            if any(cargo.chunk.large for _, cargo in tasks):
                calls = await asyncio.to_thread(calls_of, tasks, self._arguments)
            else:
                calls = calls_of(tasks, self._arguments)
            answered = await self._call_floor.run(attempts, scene, Packed(tasks, self._content), calls)
        except asyncio.CancelledError:
            if self._exited.is_set():
                raise
            self._end_calls(attempts, Outcome.CANCELLED, "cancelled")
            return
        except Exception as error:  # its slot must come back, whatever went wrong
            if not isinstance(error, DiscogridError | OSError):
                log.exception("calls of %s could not be run", start.attempt)
            self._end_calls(attempts, Outcome.BOX_FAILED, str(error))
            return
        self._take_answers(owned, tasks, answered)

    def _accepted_calls(
        self, owned: Owned, tasks: Sequence[tuple[Attempt, object]]
    ) -> list[tuple[Attempt, Cargo]]:
        """Those that may run on this agent's terms; the others are refused."""
        accepted: list[tuple[Attempt, Cargo]] = []
        now = time.time()
        for attempt, cargo in tasks:
            assert isinstance(cargo, Cargo), "tasks of calls come with their chunks"
            if refusal := self._terms.start_calls(owned.job, attempt, now):
                self._tell(events.AttemptEnded(attempt, Outcome.REFUSED, refusal.reason, refusal))
            else:
                accepted.append((attempt, cargo))
        return accepted

    def _take_answers(self, owned: Owned, tasks: Sequence[tuple[Attempt, Cargo]], answered: Answered) -> None:
        """What can be forgotten once it has been said leaves at once; the rest is kept until the coordinator has it."""
        gone: list[Report] = []
        all_s = 0.0
        at = 0
        log_task = tasks[0][0].index if answered.printed else None
        for attempt, cargo in tasks:
            mine = answers_of(cargo.chunk, answered.answers, at)
            at += len(mine)
            seconds = sum(answer.seconds for answer in mine)
            answers, blobs = pack_answers(attempt.index, mine, log_task)
            holds = attempt.index == log_task
            ended = self._log_of(attempt, answered, seconds, owned) if holds else None
            result = CallResult(answers, seconds, tuple(blobs), ended)
            self._terms.stop(attempt)
            if seconds < KEPT_S and not blobs:
                gone.append(_answers_report(attempt, result))
                all_s += seconds
                continue
            for digest, content in blobs.items():
                self._store.keep(content, digest, passing=True)
                self._store.pin(digest, f"answer:{attempt}")
            self._tell(events.AttemptEnded(attempt, Outcome.SUCCEEDED, result=result))
        if gone:
            self._reports.answered(gone)
            self._tell(events.CallsAnswered(tuple(report.done.attempt for report in gone), all_s))

    def _end_calls(self, attempts: Sequence[Attempt], outcome: Outcome, reason: str) -> None:
        for attempt in attempts:
            self._terms.stop(attempt)
            self._live_logs.ended(attempt)
            self._tell(events.AttemptEnded(attempt, outcome, reason))

    def _log_of(self, attempt: Attempt, answered: Answered, seconds: float, owned: Owned) -> Result:
        self._live_logs.ended(attempt)
        label = task_label(owned.id, attempt.index)
        path = self._folder / "work" / "archives" / "calls.zip"
        level = self._level(owned)
        ended = keep_log(answered, attempt, seconds, label, self._name, owned.limits, level, path)
        return Result(ended, seal_result(self._body(ended, owned), self._grid.identity))

    async def _scene(self, start: events.Start, owned: Owned) -> CallScene:
        """What the workers of the job have in common; one object as long as that is the same."""
        known = self._scenes.get(owned.id)
        if known is not None and known.stage.limits == start.limits:
            return known
        manifest = owned.job.manifest
        calls = manifest.calls
        assert calls is not None, "a job of calls"
        mounts = await asyncio.to_thread(self._shelf.mounts, owned, self._path) if manifest.mounts else ()
        place = None
        if owned.bare:
            place = Place(Path(calls.folder), Path(calls.interpreter))
        threads = {} if owned.bare else thread_variables(start.cpus)
        stage = Stage(
            limits=start.limits,
            mounts=mounts,
            environment={**threads, **manifest.environment},
            network=manifest.requirements.network,
            submitter=manifest.submitter,
            place=place,
        )
        seconds = start.limits.seconds
        scene = self._scenes[owned.id] = CallScene(
            job=owned.id,
            stage=stage,
            initializer=self._content(manifest.script.digest),
            files=tuple(
                Placed(constant.name, self._source(constant.digest)) for constant in manifest.constants
            ),
            seconds=seconds if seconds < CALL_S_ENDLESS else None,
            calls_max=calls.calls_max or None,
            tries=calls.tries,
        )
        return scene

    def _is_of_calls(self, run: Run) -> bool:
        owned = self._shelf.get(run.job)
        return owned is not None and owned.job.manifest.calls is not None

    def _content(self, digest: Digest) -> bytes:
        """A blob that was fetched."""
        source = self._source(digest)
        return source.read_bytes() if isinstance(source, Path) else source

    def _arguments(self, digest: Digest) -> bytes | Pieces:
        """A blob that was fetched for one task, and passes."""
        if (small := self._small.get(digest)) is not None:
            return small
        source = self._store.source(digest)
        return source.read_bytes() if isinstance(source, Path) else source

    def _logs(self, attempt: Attempt) -> dict[str, LogKeeper]:
        return self._runner.logs(attempt) or self._call_floor.logs(attempt)

    def _level(self, owned: Owned) -> SandboxLevel:
        return SandboxLevel.NONE if owned.bare else self._box.level

    def _seal_answers(self, job: JobId, answers: Sequence[TaskAnswers]) -> tuple[bytes, bytes] | None:
        """None when the job is not known any more."""
        owned = self._shelf.get(job)
        if owned is None:
            return None
        return seal_answers(owned.job.digest, answers, self._grid.identity, self._level(owned), time.time())

    async def _environment(self, packages: tuple[str, ...]) -> Environment | None:
        """What the job's packages are installed in; None for a job without any."""
        if not packages:
            return None
        if self._environments is None:
            raise NoEnvironment("its owner has not allowed it to build environments")
        return await self._environments.get(packages)

    def _on_emptied(self, attempt: Attempt) -> None:
        self._terms.stop(attempt)
        self._tell(events.BoxEmptied(attempt))

    def _task(
        self,
        start: events.Start,
        owned: Owned,
        mounts: tuple[tuple[str, Path], ...],
        environment: Environment | None,
    ) -> Task:
        manifest = owned.job.manifest
        file = start.input
        return Task(
            attempt=start.attempt,
            label=task_label(owned.id, start.attempt.index),
            count=manifest.tasks,
            script=self._source(manifest.script.digest),
            script_name=manifest.script.name,
            input=self._source(file.digest) if file else None,
            input_name=file.name if file else None,
            constants=tuple(
                (constant.name, self._source(constant.digest)) for constant in manifest.constants
            ),
            mounts=mounts,
            arguments=manifest.arguments,
            environment=manifest.environment,
            cpus=start.cpus,
            limits=start.limits,
            network=manifest.requirements.network,
            submitter=manifest.submitter,
            interpreter=environment,
        )

    def _body(self, ended: Ended, owned: Owned) -> ResultBody:
        return ResultBody(
            job=owned.job.digest,
            index=ended.attempt.index,
            number=ended.attempt.number,
            lease=ended.attempt.lease,
            agent=self._grid.identity.id,
            sandbox=self._level(owned),
            outcome=ended.outcome,
            exit=ended.exit,
            started=ended.started,
            ended=ended.ended,
            seconds=ended.seconds,
            archive=ended.archive_digest,
            archive_bytes=ended.archive_size,
            outputs=ended.outputs,
        )

    # -- results out

    def _send_done(self, action: events.SendDone) -> None:
        result = action.result
        if isinstance(result, CallResult) and not result.stored:
            self._reports.answered([_answers_report(action.attempt, result)])
            self._sent(action.attempt)
        elif not isinstance(result, Result | CallResult):
            if isinstance(result, Refusal):
                done = _refused(action.attempt, result)
            else:
                done = TaskDone(attempt=action.attempt, outcome=action.outcome, reason=action.reason)
            self._reports.ended(Report(done))
            self._sent(action.attempt)
        elif action.attempt not in self._sending:
            if isinstance(result, CallResult):
                sending = self._spawn(self._deliver_answers(action.attempt, result))
            else:
                sending = self._spawn(self._deliver(action, result))
            self._sending[action.attempt] = sending
            sending.add_done_callback(lambda _: self._sending.pop(action.attempt, None))

    async def _deliver_answers(self, attempt: Attempt, result: CallResult) -> None:
        try:
            for digest in result.stored:
                source, size = self._store.source(digest), self._store.size(digest)
                assert size is not None, "it has just been seen"
                await self._coordinators_blobs().put(source, digest, size, passing=True)
        except (DiscogridError, OSError) as error:
            self._tell(events.SendFailed(attempt, str(error)))
            return
        self._reports.answered([_answers_report(attempt, result)])
        self._sent(attempt)

    async def _deliver(self, action: events.SendDone, result: Result) -> None:
        ended = result.ended
        archive: bytes | None = None
        try:
            if isinstance(ended.archive, bytes):
                archive = ended.archive
            else:
                await self._coordinators_blobs().put(ended.archive, ended.archive_digest, ended.archive_size)
        except (DiscogridError, OSError) as error:
            self._tell(events.SendFailed(action.attempt, str(error)))
            return
        done = _done(action.attempt, ended, inline=archive is not None)
        done = structs.replace(done, outcome=action.outcome, reason=action.reason)
        self._reports.ended(Report(done, result.envelope, archive))
        self._sent(action.attempt)

    def _sent(self, attempt: Attempt) -> None:
        self._loop.call_soon(self._tell, events.ResultSent(attempt))


def _answers_report(attempt: Attempt, result: CallResult) -> Report:
    if result.log is None:
        done = TaskDone(attempt=attempt, outcome=Outcome.SUCCEEDED, seconds=result.seconds)
        return Report(done, answers=result.answers, stored=result.stored)
    ended = result.log.ended
    assert isinstance(ended.archive, bytes), "logs of calls are small"
    done = _done(attempt, ended, inline=True)
    return Report(done, result.log.envelope, ended.archive, result.answers, result.stored)


def _done(attempt: Attempt, ended: Ended, *, inline: bool) -> TaskDone:
    return TaskDone(
        attempt=attempt,
        outcome=ended.outcome,
        reason=ended.reason,
        retryable=ended.retryable,
        exit=ended.exit,
        started=ended.started,
        ended=ended.ended,
        seconds=ended.seconds,
        archive=ended.archive_digest,
        archive_bytes=ended.archive_size,
        inline=inline,
    )


def _refused(attempt: Attempt, refusal: Refusal) -> TaskDone:
    again_s = None if refusal.until is None else max(0.0, refusal.until - time.time())
    return TaskDone(attempt=attempt, outcome=Outcome.REFUSED, reason=refusal.reason, again_s=again_s)
