"""The verified jobs an agent has work of: manifests it checked itself, and their mount trees, unpacked once a job."""

import shutil
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from discogrid.archive import unpack_tree
from discogrid.batches import (
    CHUNK_BYTES_MAX,
    TASKS_OPEN_JOB_MAX,
    Batch,
    Chunk,
    check_chunks,
    open_batch,
)
from discogrid.bundle import LEAF_BYTES_MAX, TASKS_MAX, Job, Leaf, check_tasks, is_id_of, open_job
from discogrid.envelope import ENVELOPE_BYTES_MAX
from discogrid.errors import SignatureRefused, WireError
from discogrid.merkle import HASH_BYTES
from discogrid.messages import PROTOCOL
from discogrid.mounts import check_mount_targets
from discogrid.trust.keeper import RosterKeeper
from discogrid.trust.roster import Roster
from discogrid.types import Digest, JobId, Limits, NodeId, Role, Run, SandboxLevel
from discogrid.wire import unpack_parts

BATCHES_MAX = 64  # of calls, of which it is remembered that their signature held
REFUSED_MAX = 256  # jobs of which it is remembered why they were refused


@dataclass(frozen=True, slots=True)
class Owned:
    """A verified job under this agent's name for it; `limits` are its own under the owner's."""

    id: JobId
    job: Job
    limits: Limits
    bare: bool = False  # its calls run without a box


class Shelf:
    """Jobs by id. Nothing gets on it that a submitter of this grid did not sign for this coordinator."""

    def __init__(
        self,
        folder: Path,
        keeper: RosterKeeper,
        coordinator: NodeId,
        owner: Limits,
        box: SandboxLevel,
        me: NodeId,
    ) -> None:
        """`folder` takes the mount trees; what another process left there goes away. `box` is what tasks run in.

        `me` is this node: without a box, only what its own key has signed may run.
        """
        self._me = me
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        folder.chmod(0o711)  # a task of another uid passes through to its own tree
        self._folder = folder
        self._keeper = keeper
        self._coordinator = coordinator
        self.owner = owner  # may be exchanged: for jobs that come from then on
        self.box = box  # may be exchanged: for jobs that come from then on
        self._unpacking = threading.Lock()  # the first tasks of a job start at the same time
        self._jobs: dict[JobId, Owned] = {}
        self._batches: OrderedDict[tuple[Digest, bytes], Batch] = (
            OrderedDict()
        )  # whose signature held, by envelope
        self._refused: OrderedDict[JobId, str] = OrderedDict()  # why; for their tasks, which follow

    def get(self, job: JobId) -> Owned | None:
        """The verified job of this id."""
        return self._jobs.get(job)

    def jobs(self) -> list[Owned]:
        """Every verified job of which there may be work."""
        return list(self._jobs.values())

    def put(self, id_: JobId, envelope: bytes, now: float) -> Owned:
        """Verify a job and keep it; SignatureRefused otherwise. `now` in seconds since 1970."""
        try:
            return self._put(id_, envelope, now)
        except SignatureRefused as error:
            self._refused[id_] = error.what
            if len(self._refused) > REFUSED_MAX:
                self._refused.popitem(last=False)
            raise

    def _put(self, id_: JobId, envelope: bytes, now: float) -> Owned:
        job = open_job(envelope, self._keeper.current, audience=self._coordinator, now=now)
        if not is_id_of(id_, job.digest):
            raise SignatureRefused("the coordinator calls the job by a name that is not its own")
        known = self._jobs.get(id_)
        if known is not None and known.job.digest != job.digest:
            # Tasks of one would be run with the script of the other: what nobody has signed.
            raise SignatureRefused("the coordinator calls two jobs by one name")
        if reason := check_mount_targets([mount.target for mount in job.manifest.mounts]):
            raise SignatureRefused(reason)
        if job.manifest.requirements.protocol > PROTOCOL:
            raise SignatureRefused("the job demands what only a newer version of discogrid can keep")
        needed = job.manifest.requirements.sandbox
        if needed.rank > self.box.rank:
            raise SignatureRefused(
                f"the job demands the box {needed.value!r}, this agent's is {self.box.value!r}"
            )
        if (calls := job.manifest.calls) is not None and not self._runs_bare(job):
            here = (sys.version_info[0], sys.version_info[1])
            if calls.python != here:
                theirs, ours = (".".join(map(str, version)) for version in (calls.python, here))
                raise SignatureRefused(f"its calls are of Python {theirs}, and this agent runs Python {ours}")
        if self.box is SandboxLevel.NONE and job.manifest.submitter != self._me:
            raise SignatureRefused("this agent has no box, so that it runs what its own key has signed alone")
        owned = Owned(id_, job, job.manifest.limits.capped(self.owner), bare=self._runs_bare(job))
        self._jobs[id_] = owned
        return owned

    def _runs_bare(self, job: Job) -> bool:
        """Whether its calls run without a box: this node's own key has asked for that."""
        manifest = job.manifest
        none = manifest.requirements.sandbox is SandboxLevel.NONE
        asked = manifest.calls is not None and manifest.calls.bare
        return asked and none and manifest.submitter == self._me

    def check_calls(
        self, runs: Sequence[Run], chunks: bytes, proofs: bytes, envelopes: bytes, now: float
    ) -> dict[Run, tuple[Batch, list[Chunk]] | SignatureRefused]:
        """For each run of calls its batch and proven chunks, or why nothing of it may run; WireError as for `check`."""
        if not all(0 <= run.start < run.stop <= TASKS_OPEN_JOB_MAX for run in runs):
            raise WireError("a run is empty, turned round or beyond every job's end")
        packed = unpack_parts(chunks, part_bytes_max=CHUNK_BYTES_MAX, parts_max=TASKS_MAX)
        proof_parts = unpack_parts(proofs, part_bytes_max=4096, parts_max=len(runs))
        batches = unpack_parts(envelopes, part_bytes_max=ENVELOPE_BYTES_MAX, parts_max=len(runs))
        if len(packed) != sum(map(len, runs)) or not len(proof_parts) == len(batches) == len(runs):
            raise WireError("runs, chunks, proofs and batches are not equal in number")
        checked: dict[Run, tuple[Batch, list[Chunk]] | SignatureRefused] = {}
        at = 0
        for run, proof, envelope in zip(runs, proof_parts, batches, strict=True):
            mine = packed[at : at + len(run)]
            at += len(run)
            try:
                checked[run] = self._proven_calls(run, mine, proof, envelope, now)
            except (SignatureRefused, WireError) as error:
                checked[run] = SignatureRefused(error.what)
        return checked

    def _proven_calls(
        self, run: Run, chunks: Sequence[bytes], proof: bytes, envelope: bytes, now: float
    ) -> tuple[Batch, list[Chunk]]:
        owned = self._jobs.get(run.job)
        if owned is None and run.job in self._refused:
            raise SignatureRefused(self._refused[run.job])
        if owned is None or not owned.job.manifest.calls:
            raise SignatureRefused("its job is not known here, or is none of calls")
        _check_submitter(owned, self._keeper.current, now)
        key = (owned.job.digest, envelope)
        batch = self._batches.pop(key, None)
        if batch is None:
            batch = open_batch(envelope, owned.job, self._keeper.current, now=now)
        self._batches[key] = batch  # the newest last
        if len(self._batches) > BATCHES_MAX:
            self._batches.popitem(last=False)
        siblings = unpack_parts(proof, part_bytes_max=HASH_BYTES)
        return batch, check_chunks(batch, run.start, chunks, siblings)

    def check(
        self, runs: Sequence[Run], leaves: bytes, proofs: bytes, now: float
    ) -> dict[Run, list[Leaf] | SignatureRefused]:
        """For each run its proven tasks, or why nothing of it may run; WireError when the payload is not of these runs.

        `now` in seconds since 1970: a job may have expired since it was put here.
        """
        if not all(0 <= run.start < run.stop <= TASKS_MAX for run in runs):
            raise WireError("a run is empty, turned round or beyond every job's end")
        packed = unpack_parts(leaves, part_bytes_max=LEAF_BYTES_MAX, parts_max=TASKS_MAX)
        proof_parts = unpack_parts(proofs, part_bytes_max=4096, parts_max=len(runs))
        if len(packed) != sum(map(len, runs)) or len(proof_parts) != len(runs):
            raise WireError("runs, tasks and proofs are not equal in number")
        checked: dict[Run, list[Leaf] | SignatureRefused] = {}
        at = 0
        for run, proof in zip(runs, proof_parts, strict=True):
            mine = packed[at : at + len(run)]
            at += len(run)
            owned = self._jobs.get(run.job)
            try:
                if owned is None and run.job in self._refused:
                    raise SignatureRefused(self._refused[run.job])  # noqa: TRY301
                checked[run] = _proven(owned, self._keeper.current, run, mine, proof, now)
            except (SignatureRefused, WireError) as error:
                checked[run] = SignatureRefused(error.what)
        return checked

    def mounts(self, owned: Owned, blob: Callable[[Digest], Path]) -> tuple[tuple[str, Path], ...]:
        """The job's trees on this disk, unpacked at the first call; reads and writes files."""
        folder = self._folder / owned.job.digest.removeprefix("blake3:")
        mounts = []
        with self._unpacking:
            for number, mount in enumerate(owned.job.manifest.mounts):
                tree = folder / str(number)
                if not tree.exists():
                    draft = folder / f".{number}"
                    shutil.rmtree(draft, ignore_errors=True)
                    draft.mkdir(parents=True)
                    unpack_tree(blob(mount.tree.digest), draft)
                    draft.rename(tree)
                mounts.append((mount.target, tree))
        return tuple(mounts)

    def drop(self, job: JobId) -> None:
        """Forget a job and remove its trees."""
        if owned := self._jobs.pop(job, None):
            shutil.rmtree(self._folder / owned.job.digest.removeprefix("blake3:"), ignore_errors=True)


def _proven(
    owned: Owned | None, roster: Roster, run: Run, leaves: Sequence[bytes], proof: bytes, now: float
) -> list[Leaf]:
    if owned is None:
        raise SignatureRefused("its job is not known here, or was refused")
    _check_submitter(owned, roster, now)
    return check_tasks(owned.job, run.start, leaves, unpack_parts(proof, part_bytes_max=HASH_BYTES))


def _check_submitter(owned: Owned, roster: Roster, now: float) -> None:
    roster.check_time(now)
    if not roster.may(owned.job.manifest.submitter, Role.SUBMITTER):
        raise SignatureRefused("its submitter was put out of the grid")
    if now > owned.job.manifest.expires:
        raise SignatureRefused("its job has expired", fix="Submit it again.")
