"""Takes in signed jobs: what is verified, present in full and durable becomes a job; everything else is refused."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from discogrid.batches import Batch
from discogrid.blobs import BlobStore, digest_of
from discogrid.bundle import (
    Job,
    check_leaves,
    decode_leaf,
    job_id_candidates,
    open_job,
)
from discogrid.errors import DiscogridError, SignatureRefused
from discogrid.merkle import Tree
from discogrid.transfer import unpack_small
from discogrid.trust.keeper import RosterKeeper
from discogrid.types import Digest, FileRef, JobId, NodeId
from discogrid.wire import pack_parts
from discogrid_coordinator.call_job import CallJob
from discogrid_coordinator.leaves import Leaves, unpack_leaves
from discogrid_coordinator.quotas import Load, Usage

BLOBS_MISSING_MAX = 512  # named in one answer
AWAITED_MAX = 16 * BLOBS_MISSING_MAX  # of one member, whose programs may submit side by side
RECALLED_MAX = 8  # ended jobs that are at hand, and not on the disk alone
RECENT_MAX = 4  # verified jobs that wait for their blobs and need not be checked from the start again

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verified:
    """A signed job with exactly the tasks that were signed. `leaves` and `inputs` are in order of index."""

    job: Job
    leaves: Leaves
    inputs: Sequence[FileRef | None]
    tree: Tree

    @cached_property
    def load(self) -> Load:
        """What the job weighs in its submitter's quota."""
        return Load(len(self.leaves), sum({file.digest: file.size for file in self.blobs()}.values()))

    def blobs(self) -> Iterator[FileRef]:
        """Everything that has to be there before all of its tasks can run."""
        yield from self.job.blobs()
        for file in self.inputs:
            if file is not None:
                yield file


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job of this coordinator with everything that its tasks travel with."""

    id: JobId
    job: Job
    leaves: Leaves
    tree: Tree | None  # None once it has ended: none of its tasks travels any more
    calls: CallJob | None = None  # of a job of calls that is open

    def blobs(self) -> Iterator[FileRef]:
        """Everything that its tasks need or needed."""
        yield from self.job.blobs()
        yield from filter(None, self.leaves.inputs())

    def parcel(self, start: int, stop: int) -> tuple[list[bytes], bytes]:
        """The leaves of these tasks and, packed, the proof that the submitter signed them."""
        assert self.tree is not None, "the tasks of a job that has ended go nowhere"
        return self.leaves[start:stop], pack_parts(self.tree.prove(start, stop))


class Intake:
    """All accepted jobs, by id and by the digest of what was signed: the open ones as a whole, of others who sent them."""

    def __init__(
        self,
        keeper: RosterKeeper,
        coordinator: NodeId,
        store: BlobStore,
        recall: Callable[[JobId], tuple[bytes, bytes] | None],
    ) -> None:
        """`coordinator` is this node: jobs signed for another one are refused; `recall` finds envelope and leaves of a kept job."""
        self.usage = Usage()
        self._keeper = keeper
        self._coordinator = coordinator
        self._store = store
        self._recall = recall
        self._jobs: dict[JobId, Accepted] = {}
        self._ended: dict[JobId, NodeId] = {}  # and who submitted it
        self._recalled: dict[JobId, Accepted] = {}  # of those, what somebody asked for last
        self._ids: dict[Digest, JobId] = {}
        self._recent: dict[tuple[Digest, Digest], Verified] = {}
        self._awaited: dict[NodeId, dict[Digest, int]] = {}  # with their sizes, longest awaited first

    def get(self, job: JobId) -> Accepted | None:
        """The accepted job of this id; one that has ended is read from the disk."""
        if (accepted := self._jobs.get(job) or self._recalled.get(job)) is not None:
            return accepted
        if job not in self._ended or (content := self._recall(job)) is None:
            return None
        envelope, packed = content
        try:
            signed = open_job(envelope, self._keeper.current, audience=self._coordinator, now=None)
            accepted = Accepted(job, signed, Leaves(packed), None)
        except DiscogridError:
            log.exception("job %s of the journal cannot be read any more", job)
            return None
        self._recalled[job] = accepted
        if len(self._recalled) > RECALLED_MAX:
            del self._recalled[next(iter(self._recalled))]
        return accepted

    def submitter(self, job: JobId) -> NodeId | None:
        """Who submitted the accepted job of this id."""
        accepted = self._jobs.get(job)
        return self._ended.get(job) if accepted is None else accepted.job.manifest.submitter

    @property
    def ended_jobs(self) -> int:
        """How many jobs have ended and are kept."""
        return len(self._ended)

    def known(self, digest: Digest) -> JobId | None:
        """The id of a job that was accepted before."""
        return self._ids.get(digest)

    def verify(self, envelope: bytes, packed: bytes, sender: NodeId, now: float) -> Verified:
        """What a submitter signed and sent itself; SignatureRefused otherwise. `now` in seconds since 1970."""
        job = open_job(envelope, self._keeper.current, audience=self._coordinator, now=now)
        if job.manifest.submitter != sender:
            raise SignatureRefused("the job was signed by another member than the one who sends it")
        # A job comes again after each round of uploads; 100,000 tasks take more than a second to check.
        key = (job.digest, digest_of(packed))
        verified = self._recent.pop(key, None) or _verified(job, packed)
        self._recent[key] = verified
        if len(self._recent) > RECENT_MAX:
            del self._recent[next(iter(self._recent))]
        return verified

    def take_small(self, blobs: Iterable[FileRef], riders: bytes) -> None:
        """Keep those of the blobs that came along; WireError or BlobError when they cannot be."""
        wanted = {file.digest: file for file in blobs if not self._store.has(file.digest)}
        for digest, content in unpack_small(riders, wanted).items():
            self._store.put_bytes(content, digest)

    def missing(self, blobs: Iterable[FileRef], submitter: NodeId) -> list[Digest]:
        """Those that are not here yet, at most BLOBS_MISSING_MAX of them; from now on they are taken from this member."""
        absent: dict[Digest, None] = {}
        for file in blobs:
            if file.digest not in absent and not self._store.has(file.digest):
                absent[file.digest] = None
                self._await(submitter, file)
                if len(absent) == BLOBS_MISSING_MAX:
                    break
        return list(absent)

    def awaits(self, node: NodeId, digest: Digest, size: int) -> bool:
        """Whether a job that this member signed waits for this blob."""
        return self._awaited.get(node, {}).get(digest) == size

    def _await(self, node: NodeId, file: FileRef) -> None:
        awaited = self._awaited.setdefault(node, {})
        awaited.pop(file.digest, None)
        awaited[file.digest] = file.size
        if len(awaited) > AWAITED_MAX:
            del awaited[next(iter(awaited))]

    def accept(self, verified: Verified) -> Accepted:
        """Give the job its id and keep its blobs from being dropped."""
        free = next(name for name in job_id_candidates(verified.job.digest) if self.submitter(name) is None)
        self._recent = {key: other for key, other in self._recent.items() if other is not verified}
        return self._keep(free, verified)

    def restore(self, id_: JobId, envelope: bytes, leaves: bytes) -> Accepted:
        """Take up a job that this coordinator had accepted before it was restarted."""
        job = open_job(envelope, self._keeper.current, audience=self._coordinator, now=None)
        return self._keep(id_, _verified(job, leaves))

    def restore_ended(self, job: JobId, digest: Digest, submitter: NodeId) -> None:
        """Know of a job that had ended before this coordinator was restarted."""
        self._ended[job] = submitter
        self._ids[digest] = job

    def close(self, job: JobId) -> None:
        """Nothing of the job will run any more: its inputs may make room for others."""
        self.usage.end(job)
        self._store.unpin(job)

    def shelve(self, job: JobId) -> None:
        """The job, which is closed, is on the disk with its end: from now on it is read there. Unknown ones are passed over."""
        if accepted := self._jobs.pop(job, None):
            self._ended[job] = accepted.job.manifest.submitter

    def forget(self, job: JobId, digest: Digest) -> None:
        """The job, which is closed, is dropped: signed and sent once more, it would be a new one."""
        self._ids.pop(digest, None)
        for known in (self._jobs, self._ended, self._recalled):
            known.pop(job, None)

    def keep_batch(self, accepted: Accepted, batch: Batch) -> None:
        """Keep the blobs of a batch of calls: its functions as long as the job is open, large arguments as long as itself."""
        owners = [
            (batch.body.functions.values(), accepted.id),
            (batch.body.large, batch_of(accepted.id, batch)),
        ]
        for files, owner in owners:
            for file in files:
                self._store.pin(file.digest, owner)
                self._awaited.get(accepted.job.manifest.submitter, {}).pop(file.digest, None)

    def drop_batch(self, job: JobId, batch: Batch) -> None:
        """None of its calls will run any more."""
        if batch.body.large:
            self._store.unpin(batch_of(job, batch), remove=True)

    def _keep(self, job: JobId, verified: Verified) -> Accepted:
        calls = CallJob(job) if verified.job.manifest.calls else None
        accepted = Accepted(job, verified.job, verified.leaves, verified.tree, calls)
        submitter = verified.job.manifest.submitter
        self._jobs[job] = accepted
        self.usage.add(submitter, job, verified.load)
        self._ids[verified.job.digest] = job
        for file in verified.blobs():
            self._store.pin(file.digest, job)
            self._awaited.get(submitter, {}).pop(file.digest, None)
        return accepted


def batch_of(job: JobId, batch: Batch) -> str:
    """Who keeps the large arguments of a batch."""
    return f"{job}/{batch.body.start}"


def _verified(job: Job, packed: bytes) -> Verified:
    parts = unpack_leaves(packed)
    tree = check_leaves(job, parts)
    tasks = [decode_leaf(leaf) for leaf in parts]
    if [task.index for task in tasks] != list(range(len(tasks))):
        raise SignatureRefused("the job's tasks are not in order")
    return Verified(job, Leaves(packed, parts), [task.input for task in tasks], tree)
