"""Calls that a job gets while it runs: a batch of chunks, signed by the job's submitter, each with the proof that it is of it.

A job's manifest cannot name calls that do not exist yet. So its submitter signs each batch, under the job: where its
chunks stand among the job's tasks, the functions that they name, and the root of a Merkle tree over them. Agents call
`open_batch` and `check_chunks`: a coordinator, which only passes batches on, cannot add a call, change one, or move it to
another place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from discogrid import merkle
from discogrid.bundle import EVER, NUMBER_MAX, Job, check_file
from discogrid.calls.chunks import CHUNK_CALLS_MAX
from discogrid.calls.frames import Call
from discogrid.envelope import unproven, unseal
from discogrid.errors import SignatureRefused
from discogrid.keys import Identity
from discogrid.trust.roster import Roster
from discogrid.types import Digest, FileRef, Role

BATCH_TYPE = "discogrid/calls/1"
BATCH_CHUNKS_MAX = 4096
BATCH_FUNCTIONS_MAX = 1024  # that one batch names
BATCH_LARGE_MAX = 1024  # arguments of one batch that travel as blobs
CHUNK_BYTES_MAX = 4 << 20  # of a chunk with its arguments; larger ones travel as blobs
TASKS_OPEN_JOB_MAX = 1 << 31  # chunks of one job in all its life


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """What one task of the job runs: calls, in this order, and its place. `large` are arguments that are blobs, by call."""

    index: int
    calls: Annotated[tuple[Call, ...], msgspec.Meta(min_length=1, max_length=CHUNK_CALLS_MAX)]
    large: Annotated[dict[int, FileRef], msgspec.Meta(max_length=CHUNK_CALLS_MAX)] = {}


class BatchBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the job's submitter signs of a batch. `functions` are those that its calls name, by their number in the job."""

    version: int = 1
    job: Digest
    start: int  # the place of its first chunk among the job's tasks
    chunks: int
    functions: Annotated[dict[int, FileRef], msgspec.Meta(max_length=BATCH_FUNCTIONS_MAX)] = {}
    large: Annotated[tuple[FileRef, ...], msgspec.Meta(max_length=BATCH_LARGE_MAX)] = ()  # of its chunks
    root: bytes  # of the Merkle tree over the chunks


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch whose signature held."""

    body: BatchBody
    envelope: bytes

    def blobs(self) -> list[FileRef]:
        """What has to be there before all of its calls can run."""
        return [*self.body.functions.values(), *self.body.large]

    @property
    def stop(self) -> int:
        """The place after its last chunk."""
        return self.body.start + self.body.chunks


def encode_chunk(chunk: Chunk) -> bytes:
    """The bytes that are hashed into the tree and travel with the task."""
    return msgspec.msgpack.encode(chunk)


def seal_batch(
    job: Job,
    start: int,
    chunks: Sequence[bytes],
    functions: dict[int, FileRef],
    identity: Identity,
    large: Sequence[FileRef] = (),
) -> Batch:
    """Sign these chunks as the job's tasks from `start` on."""
    root = merkle.root([merkle.leaf_hash(chunk) for chunk in chunks])
    body = BatchBody(
        job=job.digest, start=start, chunks=len(chunks), functions=functions, large=tuple(large), root=root
    )
    return Batch(body, identity.seal(BATCH_TYPE, msgspec.msgpack.encode(body)))


def open_batch(envelope: bytes, job: Job, roster: Roster, *, now: float | None) -> Batch:
    """The batch in an envelope that the job's own submitter signed for this job; SignatureRefused otherwise.

    `now` is in seconds since 1970, for who is to run it: a job that has expired gets no more calls. Who only reads what
    has run passes None.
    """
    if now is not None:
        roster.check_time(now)
        if now > job.manifest.expires:
            raise SignatureRefused("the job has expired", fix="Make a new pool.")
    at = EVER if now is None else None
    opened = unseal(envelope, BATCH_TYPE, lambda signer: roster.signing_key(signer, Role.SUBMITTER, at))
    if opened.signer != job.manifest.submitter:
        raise SignatureRefused("a batch was signed by another member than the job that it is to belong to")
    return Batch(_sound(opened.payload, job), envelope)


def unproven_batch(envelope: bytes, job: Job) -> Batch:
    """What an envelope says of a batch, whoever signed it: for who only passes it on to those that open it."""
    return Batch(_sound(unproven(envelope, BATCH_TYPE), job), envelope)


def _sound(payload: bytes, job: Job) -> BatchBody:
    try:
        body = msgspec.msgpack.decode(payload, type=BatchBody)
    except msgspec.MsgspecError as error:
        raise SignatureRefused(f"a batch of calls cannot be read: {error}") from None
    if body.version != 1:
        raise SignatureRefused(f"a batch is of version {body.version}; this software reads version 1")
    if body.job != job.digest:
        raise SignatureRefused("a batch was signed for another job")
    sound = (
        body.start >= 0
        and 1 <= body.chunks <= BATCH_CHUNKS_MAX
        and body.start + body.chunks <= TASKS_OPEN_JOB_MAX
        and all(0 <= number <= NUMBER_MAX for number in body.functions)
    )
    if not sound:
        raise SignatureRefused("a number of a batch is out of all bounds")
    for file in (*body.functions.values(), *body.large):
        check_file(file)
    return body


def check_chunks(batch: Batch, start: int, leaves: Sequence[bytes], proof: Sequence[bytes]) -> list[Chunk]:
    """The chunks from the job's task `start` on, proven to be the signed ones; SignatureRefused otherwise."""
    body = batch.body
    if any(len(leaf) > CHUNK_BYTES_MAX for leaf in leaves):
        raise SignatureRefused(f"a chunk of calls is longer than {CHUNK_BYTES_MAX} bytes")
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    if not merkle.verify(body.root, body.chunks, start - body.start, hashes, list(proof)):
        raise SignatureRefused("a chunk of calls is not one that the job's submitter signed")
    chunks = [_chunk_of(leaf) for leaf in leaves]
    if [chunk.index for chunk in chunks] != list(range(start, start + len(leaves))):
        raise SignatureRefused("a chunk of calls stands at another place than it says")
    if any(call.function not in body.functions for chunk in chunks for call in chunk.calls):
        raise SignatureRefused("a call names a function that its batch does not")
    named = set(body.large)
    if any(not named.issuperset(chunk.large.values()) for chunk in chunks if chunk.large):
        raise SignatureRefused("a call names a blob that its batch does not")
    return chunks


def _chunk_of(leaf: bytes) -> Chunk:
    try:
        return msgspec.msgpack.decode(leaf, type=Chunk)
    except msgspec.MsgspecError as error:
        raise SignatureRefused(f"a chunk of calls cannot be read: {error}") from None
