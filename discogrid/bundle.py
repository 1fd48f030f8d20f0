"""A task bundle: a job's signed manifest and the leaf and proof with which one of its tasks travels.

One signature covers all tasks of a job: the manifest holds the root of a Merkle tree whose leaves name each task's
input. Coordinator and agents both call `open_job` and `check_tasks`, each with its own roster, and trust nothing else.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import msgspec
from blake3 import blake3

from discogrid import merkle
from discogrid.envelope import unseal
from discogrid.errors import SignatureRefused, WireError
from discogrid.keys import Identity
from discogrid.packages import check_packages
from discogrid.trust.roster import Roster
from discogrid.types import (
    Digest,
    FileRef,
    JobId,
    Limits,
    Mount,
    NodeId,
    Outcome,
    Requirements,
    Role,
    SandboxLevel,
)
from discogrid.wire import unpack

JOB_TYPE = "discogrid/job/1"
RESULT_TYPE = "discogrid/result/1"
MANIFEST_BYTES_MAX = 256 * 1024
RESULT_BYTES_MAX = 1 << 20
LEAF_BYTES_MAX = 1024
TASKS_MAX = 100_000  # of one job
NAME_BYTES_MAX = 255
NUMBER_MAX = 1 << 53  # bytes, files, processes: what every language and kernel on the way can hold
CPUS_MAX = 4096  # of one task, and gpus
RETRIES_MAX = 1000
PRIORITY_MAX = 1 << 31
VALID_S_MAX = 7 * 86400.0  # a job's signature is good for at most this long
CLOCK_SKEW_S_MAX = 300.0
JOB_ID_CHARACTERS = 4  # at least

_NO_BASE_NAME = re.compile(r"[/\\\0]")
KIND_BYTES = 16  # of what names a kind of task
_DIGEST = re.compile(r"blake3:[0-9a-f]{64}")
EVER = float("-inf")  # a time before every revocation


PACKAGES_SINCE = 2  # the protocol that brought them
CALLS_SINCE = 5  # and jobs of calls


class CallTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a job one of Python calls: it begins without tasks and gets them in signed batches, see batches.py.

    Its script is what each worker calls first, packed as functions are; empty: nothing. The limit of time is that of
    one call. What is said of a place counts only where its calls run without a box: on its submitter's own machine.
    """

    python: tuple[int, int]  # that can read its calls
    calls_max: int = 0  # after which a worker ends and another takes its place; 0: never
    tries: int = 2  # of a call under which its worker dies
    bare: bool = False  # without a box, where the submitter's own key is the agent's
    folder: str = ""  # the working directory
    interpreter: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a submitter signs: everything that decides what runs, for whom, where and until when."""

    version: int = 1
    grid: NodeId
    audience: NodeId  # the coordinator
    nonce: bytes
    issued: float  # seconds since 1970
    expires: float
    submitter: NodeId
    name: str
    script: FileRef
    constants: tuple[FileRef, ...] = ()
    mounts: tuple[Mount, ...] = ()
    arguments: tuple[str, ...] = ()  # what follows the input
    environment: dict[str, str] = {}
    packages: tuple[str, ...] = ()  # of an environment of its own, as packages.py writes them
    limits: Limits = Limits()
    requirements: Requirements = Requirements()
    retries: int = 1
    priority: int = 0
    repeatable: bool = True  # a task may run twice at a time, and only one result counts
    tasks: int
    root: bytes  # of the Merkle tree over the leaves
    calls: CallTerms | None = None


class Leaf(msgspec.Struct, frozen=True, array_like=True):
    """One task: its index and its input, if it has one."""

    index: int
    input: FileRef | None


class ResultBody(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent signs of one attempt."""

    version: int = 1
    job: Digest
    index: int
    number: int
    lease: int
    agent: NodeId
    sandbox: SandboxLevel
    outcome: Outcome
    exit: int | None
    started: float
    ended: float
    seconds: float
    archive: Digest
    archive_bytes: int
    outputs: tuple[FileRef, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A manifest whose signature held. `digest` is that of the signed bytes and is the job's identity."""

    manifest: Manifest
    digest: Digest
    envelope: bytes

    def blobs(self) -> list[FileRef]:
        """What every task of the job needs."""
        shared = [self.manifest.script, *self.manifest.constants]
        return [*shared, *(mount.tree for mount in self.manifest.mounts)]


def demands(manifest: Manifest) -> Requirements:
    """What an agent must have, and be able to read, so that it keeps all that was signed."""
    needs = manifest.requirements
    since = CALLS_SINCE if manifest.calls else PACKAGES_SINCE if manifest.packages else 1
    return replace(needs, protocol=since) if needs.protocol < since else needs


def encode_leaf(leaf: Leaf) -> bytes:
    """The bytes that are hashed into the tree and travel with the task."""
    return msgspec.msgpack.encode(leaf)


def decode_leaf(raw: bytes) -> Leaf:
    """The leaf in these bytes; SignatureRefused when they are none."""
    try:
        leaf = msgspec.convert(unpack(raw, limit=LEAF_BYTES_MAX), Leaf)
    except (msgspec.ValidationError, WireError) as error:
        raise SignatureRefused(f"a task cannot be read: {error}") from None
    if leaf.input is not None:
        check_file(leaf.input)
    return leaf


def seal_job(manifest: Manifest, identity: Identity) -> Job:
    """Sign a job."""
    payload = msgspec.msgpack.encode(manifest)
    return Job(manifest, digest_of_payload(payload), identity.seal(JOB_TYPE, payload))


def open_job(envelope: bytes, roster: Roster, *, audience: NodeId, now: float | None) -> Job:
    """The job in an envelope that a submitter of this grid signed for this coordinator; SignatureRefused otherwise.

    `now` is in seconds since 1970: an expired job is refused, and so is every job under an expired roster. Who only
    reads what has run passes None: then a submitter may have left the grid meanwhile.
    """
    if now is not None:
        roster.check_time(now)
    at = EVER if now is None else None
    opened = unseal(envelope, JOB_TYPE, lambda signer: roster.signing_key(signer, Role.SUBMITTER, at))
    try:
        manifest = msgspec.convert(unpack(opened.payload, limit=MANIFEST_BYTES_MAX), Manifest)
    except (msgspec.ValidationError, WireError) as error:
        raise SignatureRefused(f"the job cannot be read: {error}") from None
    if manifest.version != 1:
        raise SignatureRefused(f"the job is of version {manifest.version}; this software reads version 1")
    if manifest.submitter != opened.signer:
        raise SignatureRefused("the job names another submitter than the one who signed it")
    if manifest.grid != roster.grid:
        raise SignatureRefused("the job was signed for another grid")
    if manifest.audience != audience:
        raise SignatureRefused("the job was signed for another coordinator")
    if now is not None:
        _check_times(manifest, now)
    if manifest.calls is not None:
        _check_calls(manifest, manifest.calls)
    elif not 1 <= manifest.tasks <= TASKS_MAX:
        raise SignatureRefused(f"a job has 1 to {TASKS_MAX} tasks, not {manifest.tasks}")
    for file in (manifest.script, *manifest.constants, *(mount.tree for mount in manifest.mounts)):
        check_file(file)
    _check_texts(manifest)
    _check_numbers(manifest)
    if reason := check_packages(manifest.packages):
        raise SignatureRefused(f"the job's packages cannot be used: {reason}")
    return Job(manifest, digest_of_payload(opened.payload), envelope)


def check_leaves(job: Job, leaves: Sequence[bytes]) -> merkle.Tree:
    """The tree over all of a job's leaves; SignatureRefused unless they are exactly what was signed."""
    tree = merkle.Tree([merkle.leaf_hash(leaf) for leaf in leaves])
    root = b"" if job.manifest.calls and not leaves else tree.root
    if len(leaves) != job.manifest.tasks or root != job.manifest.root:
        raise SignatureRefused("the job's tasks are not the ones that were signed")
    return tree


def check_tasks(job: Job, start: int, leaves: Sequence[bytes], proof: Sequence[bytes]) -> list[Leaf]:
    """The tasks from `start` on, proven to be the signed ones; SignatureRefused otherwise."""
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    if not merkle.verify(job.manifest.root, job.manifest.tasks, start, hashes, list(proof)):
        raise SignatureRefused("a task is not one that the job's submitter signed")
    tasks = [decode_leaf(leaf) for leaf in leaves]
    if [task.index for task in tasks] != list(range(start, start + len(leaves))):
        raise SignatureRefused("a task stands at another place than it says")
    return tasks


def seal_result(body: ResultBody, identity: Identity) -> bytes:
    """The result envelope: beside the archive it is the proof of who made it, in which box."""
    return identity.seal(RESULT_TYPE, msgspec.msgpack.encode([body]))


def open_results(envelope: bytes, roster: Roster) -> list[ResultBody]:
    """The results in an envelope that an agent of this grid signed; SignatureRefused otherwise.

    An agent that was put out of the grid meanwhile counts for what it ended before the time its owner said.
    """
    opened = unseal(envelope, RESULT_TYPE, lambda signer: roster.signing_key(signer, Role.AGENT, EVER))
    try:
        bodies = msgspec.convert(unpack(opened.payload, limit=RESULT_BYTES_MAX), list[ResultBody])
    except (msgspec.ValidationError, WireError) as error:
        raise SignatureRefused(f"the result cannot be read: {error}") from None
    if any(body.agent != opened.signer for body in bodies):
        raise SignatureRefused("the result names another agent than the one who signed it")
    if not all(roster.vouches(opened.signer, Role.AGENT, body.ended) for body in bodies):
        raise SignatureRefused(
            "the agent that signed the result was put out of the grid before it ended",
            why="The grid's owner says that its key may have been in other hands since then.",
            fix="Run the task again: discogrid submit the same job.",
        )
    return bodies


def digest_of_payload(payload: bytes) -> Digest:
    """A job's identity: the tagged digest of its signed bytes."""
    return Digest("blake3:" + blake3(payload).hexdigest())


def job_id_candidates(digest: Digest) -> list[JobId]:
    """Prefixes of the digest in base32, shortest first: the coordinator takes the first free one."""
    text = base64.b32encode(bytes.fromhex(digest.removeprefix("blake3:"))).decode().rstrip("=").lower()
    return [JobId(text[:length]) for length in range(JOB_ID_CHARACTERS, len(text) + 1)]


def is_id_of(job: JobId, digest: Digest) -> bool:
    """Whether a coordinator may call this job so: an id is bound to what was signed."""
    candidates = job_id_candidates(digest)
    return len(job) >= JOB_ID_CHARACTERS and candidates[-1].startswith(job)


def check_base_name(name: str) -> str | None:
    """Why a file of this name cannot be placed in a task's folder; None when it can."""
    if not name or name in (".", "..") or len(name.encode(errors="surrogateescape")) > NAME_BYTES_MAX:
        return "it is empty, special or longer than 255 bytes"
    if _NO_BASE_NAME.search(name) is not None or name[1:2] == ":":  # a drive, on Windows
        return "it holds a path separator or a NUL"
    if name == "run-result":
        return "the task writes its results into a folder of that name"
    return None


def _check_times(manifest: Manifest, now: float) -> None:
    if not 0 < manifest.expires - manifest.issued <= VALID_S_MAX or manifest.issued > now + CLOCK_SKEW_S_MAX:
        raise SignatureRefused(
            "the job's validity is impossible",
            why="The clocks of the submitter and of this machine differ by more than five minutes.",
        )
    if now > manifest.expires:
        raise SignatureRefused("the job has expired", fix="Submit it again.")


def check_file(file: FileRef) -> None:
    """SignatureRefused when no task can be given such a file."""
    if (reason := check_base_name(file.name)) is not None:
        raise SignatureRefused(f"the file name {file.name!r} cannot be used: {reason}")
    if not 0 <= file.size <= NUMBER_MAX or _DIGEST.fullmatch(file.digest) is None:
        raise SignatureRefused(f"the file {file.name!r} has no digest or size that this software knows")


def kind_of(manifest: Manifest) -> str:
    """What jobs have in common whose tasks take alike long: script, constants and arguments."""
    parts = [manifest.script.digest, *(file.digest for file in manifest.constants), *manifest.arguments]
    return blake3("\0".join(parts).encode()).hexdigest(KIND_BYTES)


def task_key(index: int, file: FileRef | None) -> str:
    """What tasks of one kind have in common that take alike long, in whatever job."""
    return str(index) if file is None else file.digest


def _check_calls(manifest: Manifest, calls: CallTerms) -> None:
    if manifest.tasks or manifest.root or manifest.packages:
        raise SignatureRefused("a job of calls begins with tasks or packages of its own, which none can have")
    if (
        not 0 <= calls.calls_max <= NUMBER_MAX
        or not 1 <= calls.tries <= RETRIES_MAX
        or not all(0 <= part < 1000 for part in calls.python)
    ):
        raise SignatureRefused("a number of a job of calls is out of all bounds")


def _check_texts(manifest: Manifest) -> None:
    if not 0 < len(manifest.name.encode()) <= NAME_BYTES_MAX:
        raise SignatureRefused(f"the job's name is empty or longer than {NAME_BYTES_MAX} bytes")
    if any(
        "\0" in text for text in (*manifest.arguments, *manifest.environment, *manifest.environment.values())
    ):
        raise SignatureRefused(
            "an argument or variable of the job holds a NUL, which no program can be given"
        )


def _check_numbers(manifest: Manifest) -> None:
    """A limit that is not a number would be under no owner's limit, a negative need would make room out of nothing."""
    needs = manifest.requirements
    limits = [
        getattr(manifest.limits, field.name) for field in fields(manifest.limits) if field.name != "seconds"
    ]
    sound = (
        manifest.limits.seconds > 0
        and all(0 <= number <= NUMBER_MAX for number in (*limits, needs.memory_bytes))
        and 1 <= needs.cpus <= CPUS_MAX
        and 0 <= needs.gpus <= CPUS_MAX
        and 0 <= manifest.retries <= RETRIES_MAX
        and abs(manifest.priority) <= PRIORITY_MAX
    )
    if not sound:
        raise SignatureRefused("a limit, need, retry count or priority of the job is out of all bounds")
