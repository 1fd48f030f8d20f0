"""Hears agents: checks what they say against the session, the roster and the job, and tells the engine."""

import logging
from collections.abc import Sequence
from math import isfinite

from msgspec import structs

from discogrid.batches import TASKS_OPEN_JOB_MAX
from discogrid.blobs import digest_of
from discogrid.bundle import NUMBER_MAX, TASKS_MAX, ResultBody, open_results
from discogrid.channel import Received
from discogrid.envelope import ENVELOPE_BYTES_MAX
from discogrid.errors import DiscogridError, IntegrityError, SignatureRefused
from discogrid.messages import (
    BlobNews,
    CallsAnswered,
    Goodbye,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    LogChunk,
    TaskDone,
    TasksDone,
    TasksReturned,
    TasksStarted,
    WantBlob,
)
from discogrid.transport import CHUNK_BYTES_MAX
from discogrid.types import Attempt, Offer, Outcome, Run, SandboxLevel
from discogrid.wire import unpack_parts
from discogrid_coordinator import events
from discogrid_coordinator.blob_desk import BlobDesk
from discogrid_coordinator.books import AgentNoted
from discogrid_coordinator.call_desk import CallDesk
from discogrid_coordinator.engine import Engine, Pending
from discogrid_coordinator.peers import Peer

SLOTS_MAX = 4096
REASON_CHARACTERS_MAX = 1000  # of what an agent says of an attempt or of itself

log = logging.getLogger(__name__)


class AgentDesk:
    """Everything an agent may say."""

    def __init__(self, engine: Engine, blobs: BlobDesk, calls: CallDesk) -> None:
        """Speak for this engine; what agents say of blobs and of calls is passed on."""
        self._engine = engine
        self._calls = calls
        self._blobs = blobs

    def hello(self, peer: Peer, hello: Hello) -> None:
        """An agent has come, for the first time or again."""
        engine = self._engine
        if not _sound(hello.holds):
            log.warning("agent %s says it holds what cannot be; it was not let in", peer.name)
            return
        older = engine.peers.add(peer)
        if older is not None and older.session != peer.session:
            engine.tell(events.AgentLeft(peer.name, "another process of the same agent has taken its place"))
            engine.peers.add(peer)
        self._blobs.hello(peer)
        noted = AgentNoted(peer.name, peer.node, hello.platform, hello.python, hello.software)
        engine.books.note_agent(noted)
        engine.tell(events.AgentJoined(peer.name, _offer(hello), hello.holds))

    def hear(self, peer: Peer, received: Received) -> None:
        """One message of an agent that has said hello."""
        engine = self._engine
        match received.message:
            case CallsAnswered() as answered:
                self._calls.answered(peer, answered, received.payload)
            case Heartbeat(holds=runs) | TasksStarted(runs=runs) | TasksReturned(runs=runs) if not _sound(
                runs
            ):
                log.warning("agent %s speaks of tasks that cannot be", peer.name)
            case Heartbeat(holds=holds):
                engine.tell(events.AgentBeat(peer.name, holds))
                engine.outbox.put(peer.route, HeartbeatSeen())
            case TasksStarted(runs=runs):
                engine.tell(events.TasksStarted(peer.name, runs))
            case TasksReturned(runs=runs, leaving=leaving, nonce=nonce):
                engine.tell(events.TasksReturned(peer.name, runs, leaving, nonce))
            case TasksDone(tasks=tasks):
                self._done(peer, tasks, received.payload)
            case LogChunk() as chunk:
                if told := engine.log_relay.hear(peer, chunk, b"".join(received.payload[:1])):
                    engine.outbox.put(peer.route, told)
            case WantBlob() as want:
                self._blobs.want(peer, want)
            case BlobNews() as news:
                self._blobs.news(peer, news)
            case Goodbye(reason=reason):
                said = reason[:REASON_CHARACTERS_MAX] or "it said goodbye"
                engine.tell(events.AgentLeft(peer.name, said, goodbye=True))
                engine.peers.remove(peer)
            case other:
                log.warning(
                    "agent %s sent a %s, which is not for agents to say", peer.name, type(other).__name__
                )

    def _done(self, peer: Peer, tasks: tuple[TaskDone, ...], payload: list[bytes]) -> None:
        try:
            envelopes = unpack_parts(payload[0], part_bytes_max=ENVELOPE_BYTES_MAX)
            archives = unpack_parts(payload[1], part_bytes_max=CHUNK_BYTES_MAX)
            if len(envelopes) != len(tasks) or len(archives) != sum(task.inline for task in tasks):
                raise IntegrityError("results and envelopes are not equal in number")
        except (DiscogridError, IndexError) as error:
            log.warning("agent %s sent results that cannot be read: %s", peer.name, error)
            return
        inline = iter(archives)
        for task, envelope in zip(tasks, envelopes, strict=True):
            archive = next(inline) if task.inline else None
            said = structs.replace(task, reason=task.reason[:REASON_CHARACTERS_MAX])
            self._engine.ended(peer.name, self._checked(peer, said, envelope, archive))

    def _checked(self, peer: Peer, task: TaskDone, envelope: bytes, archive: bytes | None) -> Pending:
        """What the agent says, as far as its signature and the bytes bear it out; the machine's failure otherwise."""
        try:
            self._verify(peer, task, envelope, archive)
        except DiscogridError as error:
            log.warning("agent %s: the result of %s was not accepted: %s", peer.name, task.attempt, error)
            reason = f"its result was not accepted: {error.what}"
            return Pending(
                TaskDone(attempt=task.attempt, outcome=Outcome.TRANSFER_FAILED, reason=reason), b"", None
            )
        return Pending(task, envelope, archive)

    def _verify(self, peer: Peer, task: TaskDone, envelope: bytes, archive: bytes | None) -> None:
        if not _keepable(task):
            raise IntegrityError("a number in it is out of all bounds")
        if not envelope:
            if task.outcome in (Outcome.SUCCEEDED, Outcome.SCRIPT_FAILED, Outcome.LIMIT_EXCEEDED):
                raise SignatureRefused("it is not signed")
            return  # nothing ran: there is nothing to sign
        body = self._body(envelope, task.attempt)
        said = (body.agent, body.outcome, body.archive, body.archive_bytes, body.exit)
        if said != (peer.node, task.outcome, task.archive, task.archive_bytes, task.exit):
            raise SignatureRefused("the message says something else than the signed result")
        if archive is not None:
            if len(archive) != body.archive_bytes or digest_of(archive) != body.archive:
                raise IntegrityError("the archive is not the one that was signed")
        elif not self._engine.store.has(body.archive):
            raise IntegrityError("the archive has not arrived")

    def _body(self, envelope: bytes, attempt: Attempt) -> ResultBody:
        accepted = self._engine.intake.get(attempt.job)
        for body in open_results(envelope, self._engine.grid.roster):
            same = (body.index, body.number, body.lease) == (attempt.index, attempt.number, attempt.lease)
            if same and accepted is not None and body.job == accepted.job.digest:
                return body
        raise SignatureRefused("the signed result belongs to another attempt")


def _sound(runs: Sequence[Run]) -> bool:
    """Whether these can be runs of a job: what is turned round or endless would cost whoever counts through it."""
    return all(
        0 <= run.start < run.stop <= TASKS_OPEN_JOB_MAX and run.stop - run.start <= TASKS_MAX for run in runs
    )


def _keepable(task: TaskDone) -> bool:
    """Whether the journal can hold all of its numbers."""
    attempt = task.attempt
    whole = (attempt.index, attempt.number, attempt.lease, task.archive_bytes, abs(task.exit or 0))
    times = (task.seconds, task.started or 0.0, task.ended or 0.0, task.again_s or 0.0)
    return all(0 <= number <= NUMBER_MAX for number in whole) and all(map(isfinite, times))


def _offer(hello: Hello) -> Offer:
    try:
        sandbox = SandboxLevel(hello.sandbox)
    except ValueError:
        sandbox = SandboxLevel.NONE
    return Offer(
        slots=max(0, min(hello.slots, SLOTS_MAX)),
        memory_bytes=max(0, hello.memory_bytes),
        sandbox=sandbox,
        gpus=max(0, hello.gpus),
        network=hello.network,
        no_network=hello.no_network[:REASON_CHARACTERS_MAX],
        capabilities=frozenset(hello.capabilities),
        protocol=hello.protocol,
        proving=hello.proving,
    )
