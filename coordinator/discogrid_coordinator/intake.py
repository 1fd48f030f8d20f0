"""Takes in signed jobs: what is verified, present in full and durable becomes a job; everything else is refused."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from discogrid.blobs import BlobStore
from discogrid.bundle import (
    LEAF_BYTES_MAX,
    TASKS_MAX,
    Job,
    check_leaves,
    decode_leaf,
    job_id_candidates,
    open_job,
)
from discogrid.errors import SignatureRefused
from discogrid.merkle import Tree
from discogrid.trust import Roster
from discogrid.types import Digest, FileRef, JobId, NodeId
from discogrid.wire import pack_parts, unpack_parts

BLOBS_MISSING_MAX = 512  # named in one answer


@dataclass(frozen=True)
class Accepted:
    """A job of this coordinator with everything that its tasks travel with."""

    id: JobId
    job: Job
    leaves: Sequence[bytes]
    tree: Tree

    @cached_property
    def inputs(self) -> list[FileRef | None]:
        """Each task's input."""
        return [decode_leaf(leaf).input for leaf in self.leaves]

    def input_name(self, index: int) -> str | None:
        """The base name of one task's input."""
        file = self.inputs[index]
        return file.name if file else None

    def blobs(self) -> Iterator[FileRef]:
        """Everything that has to be there before a task can run."""
        yield from self.job.blobs()
        for file in self.inputs:
            if file is not None:
                yield file

    def parcel(self, start: int, stop: int) -> tuple[list[bytes], bytes]:
        """The leaves of these tasks and, packed, the proof that the submitter signed them."""
        return list(self.leaves[start:stop]), pack_parts(self.tree.prove(start, stop))


class Intake:
    """All accepted jobs, by id and by the digest of what was signed."""

    def __init__(self, roster: Roster, coordinator: NodeId, store: BlobStore) -> None:
        """`coordinator` is this node: jobs signed for another one are refused."""
        self._roster = roster
        self._coordinator = coordinator
        self._store = store
        self._jobs: dict[JobId, Accepted] = {}
        self._ids: dict[Digest, JobId] = {}

    def get(self, job: JobId) -> Accepted | None:
        """The accepted job of this id."""
        return self._jobs.get(job)

    def known(self, digest: Digest) -> JobId | None:
        """The id of a job that was accepted before."""
        return self._ids.get(digest)

    def verify(
        self, envelope: bytes, leaves: bytes, sender: NodeId, now: float
    ) -> tuple[Job, list[bytes], Tree]:
        """What a submitter signed and sent itself; SignatureRefused otherwise. `now` in seconds since 1970."""
        job = open_job(envelope, self._roster, audience=self._coordinator, now=now)
        if job.manifest.submitter != sender:
            raise SignatureRefused("the job was signed by another member than the one who sends it")
        parts = unpack_parts(leaves, part_bytes_max=LEAF_BYTES_MAX, parts_max=TASKS_MAX)
        return job, parts, check_leaves(job, parts)

    def missing(self, job: Job, leaves: Sequence[bytes]) -> list[Digest]:
        """Blobs that are not here yet, at most BLOBS_MISSING_MAX of them."""
        absent: dict[Digest, None] = {}
        files = [*job.blobs(), *(leaf.input for leaf in map(decode_leaf, leaves) if leaf.input is not None)]
        for file in files:
            if file.digest not in absent and not self._store.has(file.digest):
                absent[file.digest] = None
                if len(absent) == BLOBS_MISSING_MAX:
                    break
        return list(absent)

    def accept(self, job: Job, leaves: Sequence[bytes], tree: Tree) -> Accepted:
        """Give the job its id and keep its blobs from being dropped."""
        free = next(name for name in job_id_candidates(job.digest) if name not in self._jobs)
        return self._keep(Accepted(free, job, leaves, tree))

    def restore(self, id_: JobId, envelope: bytes, leaves: bytes) -> Accepted:
        """Take up a job that this coordinator had accepted before it was restarted."""
        job = open_job(envelope, self._roster, audience=self._coordinator, now=None)
        parts = unpack_parts(leaves, part_bytes_max=LEAF_BYTES_MAX, parts_max=TASKS_MAX)
        return self._keep(Accepted(id_, job, parts, check_leaves(job, parts)))

    def forget(self, job: JobId) -> None:
        """The job was removed."""
        if accepted := self._jobs.pop(job, None):
            self._ids.pop(accepted.job.digest, None)
            self._store.unpin(job)

    def release_inputs(self, job: JobId) -> None:
        """Nothing of the job will run any more: its inputs may make room for others."""
        self._store.unpin(job)

    def _keep(self, accepted: Accepted) -> Accepted:
        self._jobs[accepted.id] = accepted
        self._ids[accepted.job.digest] = accepted.id
        for file in accepted.blobs():
            self._store.pin(file.digest, accepted.id)
        return accepted
