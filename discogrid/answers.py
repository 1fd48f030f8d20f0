"""What has come of the calls of some tasks, signed by the agent that ran them: where a result comes from decides how far it is read.

One signature is for all tasks that ended at about the same time. The coordinator passes it on as it came; the client, whose
calls they are, opens it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from discogrid.blobs import digest_of
from discogrid.bundle import EVER
from discogrid.calls.chunks import CHUNK_CALLS_MAX
from discogrid.calls.frames import Part, Raised, Returned, Stored
from discogrid.envelope import unseal
from discogrid.errors import IntegrityError, SignatureRefused
from discogrid.keys import Identity
from discogrid.trust.roster import Roster
from discogrid.types import Digest, NodeId, Role, SandboxLevel

ANSWERS_TYPE = "discogrid/answers/1"
ANSWERED_TASKS_MAX = 512  # that one signature is for
KEPT_S = 1.0
"""Answers of a task whose calls ran for less are not kept by its agent until the coordinator has them, nor confirmed to it:
if a line breaks just then, the coordinator misses the task, and it runs again."""
ANSWERS_BYTES_MAX = 32 << 20  # of one message; what is larger travels as a blob

Answer = Returned | Raised | Part | Stored


class TaskAnswers(msgspec.Struct, frozen=True, array_like=True):
    """The answers to a task's calls, in their order."""

    index: int
    answers: Annotated[tuple[Answer, ...], msgspec.Meta(max_length=CHUNK_CALLS_MAX)]
    log: int | None = None  # the task whose log holds what was printed: the first of those that ran together


class AnswersBody(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent signs of them."""

    version: int = 1
    job: Digest
    agent: NodeId
    sandbox: SandboxLevel
    ended: float  # seconds since 1970
    digest: Digest  # of the answers


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers whose signature held."""

    body: AnswersBody
    tasks: Sequence[TaskAnswers]


_decode = msgspec.msgpack.Decoder(
    Annotated[tuple[TaskAnswers, ...], msgspec.Meta(max_length=ANSWERED_TASKS_MAX)]
)


def seal_answers(
    job: Digest, tasks: Sequence[TaskAnswers], identity: Identity, sandbox: SandboxLevel, now: float
) -> tuple[bytes, bytes]:
    """The answers as they travel, and the envelope that says whose they are."""
    packed = msgspec.msgpack.encode(tasks)
    body = AnswersBody(job=job, agent=identity.id, sandbox=sandbox, ended=now, digest=digest_of(packed))
    return packed, identity.seal(ANSWERS_TYPE, msgspec.msgpack.encode(body))


def open_answers(packed: bytes, envelope: bytes, job: Digest, roster: Roster) -> Answers:
    """The answers, proven to be what an agent of this grid signed for calls of this job; SignatureRefused or IntegrityError otherwise."""
    opened = unseal(envelope, ANSWERS_TYPE, lambda signer: roster.signing_key(signer, Role.AGENT, EVER))
    try:
        body = msgspec.msgpack.decode(opened.payload, type=AnswersBody)
    except msgspec.MsgspecError as error:
        raise SignatureRefused(f"signed answers cannot be read: {error}") from None
    if body.version != 1:
        raise SignatureRefused(f"answers are of version {body.version}; this software reads version 1")
    if body.agent != opened.signer:
        raise SignatureRefused("answers name another agent than the one who signed them")
    if body.job != job:
        raise SignatureRefused("answers were signed for calls of another job")
    if not roster.vouches(opened.signer, Role.AGENT, body.ended):
        raise SignatureRefused("the agent that signed the answers was put out of the grid before it did")
    if digest_of(packed) != body.digest:
        raise IntegrityError("answers are not the ones that were signed")
    try:
        return Answers(body, _decode.decode(packed))
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"signed answers cannot be read: {error}") from None
