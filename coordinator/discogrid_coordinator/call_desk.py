"""Hears of Python calls: clients that add them to their jobs, agents that answer them.

Their chunks and answers pass through memory alone. What a coordinator that goes down has of them is lost with it, and its
clients, which hold their calls until they are answered, make them again; a large answer that was on its way home is lost.
"""

import logging
from collections.abc import Sequence
from functools import partial
from math import isfinite

from discogrid.answers import ANSWERED_TASKS_MAX, ANSWERS_BYTES_MAX
from discogrid.batches import BATCH_CHUNKS_MAX, CHUNK_BYTES_MAX, unproven_batch
from discogrid.blobs import digest_of, is_digest
from discogrid.bundle import ResultBody, open_results
from discogrid.envelope import ENVELOPE_BYTES_MAX
from discogrid.errors import DiscogridError, IntegrityError, SignatureRefused
from discogrid.messages import (
    AddCalls,
    Answer,
    BlobsMissing,
    CallsAnswered,
    CallsDone,
    CallsSeen,
    Refused,
    TaskDone,
)
from discogrid.transport import CHUNK_BYTES_MAX as ARCHIVE_BYTES_MAX
from discogrid.types import Attempt, JobId, Outcome, TaskState
from discogrid.wire import unpack_parts
from discogrid_coordinator import events
from discogrid_coordinator.call_job import CallJob
from discogrid_coordinator.engine import RESTARTED, Engine, results_of
from discogrid_coordinator.intake import Accepted
from discogrid_coordinator.journal import ResultRecord
from discogrid_coordinator.peers import Peer

log = logging.getLogger(__name__)


class CallDesk:
    """Everything that is said of calls, but for how their jobs begin."""

    def __init__(self, engine: Engine) -> None:
        """Speak for this engine."""
        self._engine = engine
        self._keeping: dict[
            JobId, CallJob
        ] = {}  # that have had large answers, ended or not, until their client leaves

    # -- clients

    def attach(self, peer: Peer, accepted: Accepted, seen: int) -> bool:
        """The client of the job is here, for the first time or again; False when the job has ended."""
        calls = accepted.calls
        if calls is None or self._engine.calls(accepted.id) is not calls:
            return False
        calls.route = peer.route
        self._unpin(calls, calls.seen(seen))
        for word in calls.unseen():
            self._engine.outbox.put(peer.route, word.message, word.payload)
        calls.slots = -1
        self._engine.tell_slots(calls)
        return True

    def add(self, peer: Peer, message: AddCalls, payload: list[bytes], accepted: Accepted) -> None:
        """More calls of a job whose submitter this is: its line says so, and what it has signed is proven by who runs them."""
        engine, calls = self._engine, accepted.calls
        if calls is None or engine.calls(accepted.id) is not calls:
            self._refuse(peer, message, self.over(message.request, accepted), accepted)
            return
        try:
            batch = unproven_batch(payload[0], accepted.job)
            chunks = unpack_parts(payload[1], part_bytes_max=CHUNK_BYTES_MAX, parts_max=BATCH_CHUNKS_MAX)
            if batch.body.start > calls.tasks:
                # What was to come before it was lost with a line; the client sends both when it comes again.
                log.info("calls for job %s came before their time", accepted.id)
                return
            tree = calls.check(batch, chunks)
            blobs = [file for file in batch.blobs() if file.digest not in calls.functions]
            if blobs:
                engine.intake.take_small(blobs, b"".join(payload[2:3]))
        except (DiscogridError, IndexError) as error:
            said = (
                error
                if isinstance(error, DiscogridError)
                else SignatureRefused("a batch of calls came in part")
            )
            refused = Refused(
                request=message.request, code="signature", what=said.what, why=said.why, fix=said.fix
            )
            self._refuse(peer, message, refused, accepted)
            return
        if blobs and (missing := engine.intake.missing(blobs, peer.node)):
            engine.outbox.put(peer.route, BlobsMissing(request=message.request, digests=tuple(missing)))
            return
        if blobs:
            engine.intake.keep_batch(accepted, batch)
            calls.functions.update(file.digest for file in batch.body.functions.values())
        calls.add(batch, chunks, tree)
        if message.request:
            engine.outbox.put(peer.route, Answer(request=message.request))
        engine.tell(events.TasksAdded(accepted.id, len(chunks)))

    def over(self, request: int, accepted: Accepted) -> Refused:
        """Why a job of calls takes no more."""
        view = self._engine.books.job(accepted.id)
        reason = view.reason if view is not None else ""
        code = "gone" if reason == RESTARTED else "over"
        return Refused(request=request, code=code, what=f"job {accepted.id} has ended", why=reason)

    def _refuse(self, peer: Peer, message: AddCalls, refused: Refused, accepted: Accepted) -> None:
        """Say no to who asked; who did not ask hears it as the end of the job."""
        if message.request:
            self._engine.outbox.put(peer.route, refused)
        else:
            log.warning("calls for job %s of %s were refused: %s", accepted.id, peer.name, refused.what)
            self._engine.tell(events.JobCancelled(accepted.id, refused.what))

    def seen(self, message: CallsSeen, accepted: Accepted) -> None:
        """The client has so much: none of it need be kept for it."""
        if accepted.calls is not None:
            self._unpin(accepted.calls, accepted.calls.seen(message.number))

    def close(self, accepted: Accepted) -> None:
        """No more calls come."""
        if accepted.calls is not None:
            accepted.calls.closed = True
            self._engine.tell(events.JobClosed(accepted.id))

    def leave(self, peer: Peer) -> None:
        """The client is gone: nobody waits for what is left of its calls, nor takes what it has not confirmed."""
        for calls in self._engine.calls_of(peer.route):
            self._engine.tell(
                events.JobCancelled(calls.id, "its program has ended or is not heard of any more")
            )
        for calls in [calls for calls in self._keeping.values() if calls.route == peer.route]:
            del self._keeping[calls.id]
            self._unpin(calls, [word.message.number for word in calls.unseen()])

    def _unpin(self, calls: CallJob, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._engine.store.unpin(_answers_of(calls, number), remove=True)

    # -- agents

    def answered(self, peer: Peer, message: CallsAnswered, payload: list[bytes]) -> None:
        """Tasks of one job have ended; their answers are passed on when one of them is the first of its task."""
        engine = self._engine
        attempts = [attempt for run in message.runs for attempt in run.attempts()]
        try:
            accepted, answers, logs = self._opened(peer, message, attempts, payload)
        except (DiscogridError, IndexError) as error:
            log.warning("agent %s: answers were not accepted: %s", peer.name, error)
            for attempt in attempts:
                engine.misheard(peer.name, attempt, "its answers were not accepted by the coordinator")
            self._let_go(message)
            return
        won = [
            attempt
            for attempt, seconds in zip(attempts, message.seconds, strict=True)
            if engine.answered(peer.name, attempt, seconds, stored=bool(message.stored))
        ]
        if won and accepted.calls is not None:
            self._pass_on(peer, message, accepted, accepted.calls, answers)
            self._keep_logs(peer, logs, won)
        else:
            self._let_go(message)
        engine.say_over()

    def _pass_on(
        self, peer: Peer, message: CallsAnswered, accepted: Accepted, calls: CallJob, answers: Sequence[bytes]
    ) -> None:
        engine = self._engine
        build = partial(CallsDone, job=accepted.id, agent=peer.name)
        number = engine.say(calls, lambda number: build(number=number), *answers)
        for digest in message.stored:
            engine.store.pin(digest, _answers_of(calls, number))
            self._keeping[calls.id] = calls
        if calls.full:
            why = "its program does not take the answers to its calls"
            engine.tell(events.JobCancelled(accepted.id, why))

    def _let_go(self, message: CallsAnswered) -> None:
        """Nobody takes these answers, nor those of them that are blobs, unless another needs such a one, too."""
        for digest in message.stored:
            if is_digest(digest):
                self._engine.store.remove(digest)

    def _keep_logs(
        self, peer: Peer, logs: Sequence[tuple[TaskDone, bytes, bytes]], won: Sequence[Attempt]
    ) -> None:
        for done, envelope, archive in logs:
            if done.attempt in won:
                self._engine.keep_log(_record(peer, done, envelope), archive)

    def _opened(
        self, peer: Peer, message: CallsAnswered, attempts: Sequence[Attempt], payload: list[bytes]
    ) -> tuple[Accepted, list[bytes], list[tuple[TaskDone, bytes, bytes]]]:
        """The job, the answers with their envelope, and the logs, each as its agent signed it."""
        if len({attempt.job for attempt in attempts}) != 1 or len(attempts) != len(message.seconds):
            raise IntegrityError("they are not of one job, or not each with its run time")
        if len(attempts) > ANSWERED_TASKS_MAX or not all(
            isfinite(seconds) and seconds >= 0 for seconds in message.seconds
        ):
            raise IntegrityError("they are too many, or a run time is none")
        accepted = self._engine.intake.get(attempts[0].job)
        if accepted is None or not accepted.job.manifest.calls:
            raise SignatureRefused("they are of no job of calls")
        answers = unpack_parts(payload[0], part_bytes_max=ANSWERS_BYTES_MAX, parts_max=2)
        if len(answers) != 2:
            raise IntegrityError("they come without their envelope")
        if not all(self._engine.store.has(digest) for digest in message.stored):
            raise IntegrityError("large answers have not arrived")
        if not message.logs:
            return accepted, answers, []
        envelopes = unpack_parts(payload[1], part_bytes_max=ENVELOPE_BYTES_MAX)
        archives = unpack_parts(payload[2], part_bytes_max=ARCHIVE_BYTES_MAX)
        logs = list(zip(message.logs, envelopes, archives, strict=False))
        if len(logs) != len(message.logs) or len(envelopes) != len(archives):
            raise IntegrityError("logs and their envelopes are not equal in number")
        for done, envelope, archive in logs:
            bodies = open_results(envelope, self._engine.grid.roster)
            if not any(_is_of(body, done, peer, accepted, archive) for body in bodies):
                raise SignatureRefused("the message says something else of a log than its signature")
        return accepted, answers, logs


def _is_of(body: ResultBody, done: TaskDone, peer: Peer, accepted: Accepted, archive: bytes) -> bool:
    attempt = done.attempt
    return (
        (body.job, body.index, body.number, body.lease)
        == (accepted.job.digest, attempt.index, attempt.number, attempt.lease)
        and (body.agent, body.archive, body.archive_bytes) == (peer.node, done.archive, len(archive))
        and digest_of(archive) == body.archive
    )


def _record(peer: Peer, done: TaskDone, envelope: bytes) -> ResultRecord:
    return ResultRecord(
        attempt=done.attempt,
        agent=peer.name,
        outcome=Outcome.SUCCEEDED,
        exit=0,
        started=done.started,
        ended=done.ended,
        seconds=done.seconds,
        reason="",
        archive=done.archive,
        archive_bytes=done.archive_bytes,
        envelope=envelope,
        state=TaskState.DONE,
    )


def _answers_of(calls: CallJob, number: int) -> str:
    """Who keeps large answers until the client has them."""
    return f"{results_of(calls.id)}/{number}"
