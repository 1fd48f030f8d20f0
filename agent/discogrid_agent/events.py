"""What the agent machine is told (events, past tense) and what it asks for (actions, imperative).

Law of the file: frozen values only. A reader of the two unions at the end knows everything that can
enter and leave the machine.
"""

from dataclasses import dataclass
from enum import StrEnum

from discogrid.types import Attempt, Digest, FileRef, JobId, Limits, Outcome, Requirements, Run


class StopMode(StrEnum):
    """How an agent is asked to end."""

    FINISH = "finish"  # running tasks may end and are committed first
    NOW = "now"  # running tasks are killed


# Events.


@dataclass(frozen=True, slots=True)
class Connected:
    """The line to the coordinator is up; nothing has been said yet."""


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The coordinator took our hello. `lease` is its incarnation: runs of another one are not ours to start."""

    lease: int
    lease_s: float
    heartbeat_s: float


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The line is down. Work goes on, results wait."""


@dataclass(frozen=True, slots=True)
class Resynced:
    """The coordinator does not know us (any more): say hello again."""


@dataclass(frozen=True, slots=True)
class JobVerified:
    """The job's signature holds. `limits` are its own under the owner's; `shared` is what every task needs."""

    job: JobId
    requirements: Requirements
    limits: Limits
    shared: tuple[FileRef, ...] = ()


@dataclass(frozen=True, slots=True)
class RunReceived:
    """Verified tasks of a verified job; `inputs[i]` belongs to index `run.start + i`, None where a task has none.

    Of calls, `shared` is what these and later tasks of the job need, and of each task `more` what it needs beside that,
    and `cargo` what the shell wants back in its Start.
    """

    run: Run
    inputs: tuple[FileRef | None, ...]
    shared: tuple[FileRef, ...] = ()
    more: tuple[tuple[FileRef, ...], ...] = ()
    cargo: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class BlobReady:
    """The blob is on disk, verified and pinned until DropBlobs."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class BlobFailed:
    """One fetch of the blob failed; the machine counts and repeats."""

    digest: Digest
    reason: str


@dataclass(frozen=True, slots=True)
class BoxEmptied:
    """Nothing of the attempt runs any more: what it used is free while its result is packed. AttemptEnded follows."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The runner is through with it, its box is gone. `result` is the shell's own, handed back in SendDone."""

    attempt: Attempt
    outcome: Outcome
    reason: str = ""
    result: object = None


@dataclass(frozen=True, slots=True)
class CallsAnswered:
    """Tasks of calls of one job are over and their answers have left, of which nothing is kept; `seconds` ran all together."""

    attempts: tuple[Attempt, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class ResultSent:
    """SendDone was carried out: archive uploaded, message on its way."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class SendFailed:
    """SendDone could not be carried out (the upload failed); the machine counts and repeats."""

    attempt: Attempt
    reason: str


@dataclass(frozen=True, slots=True)
class Committed:
    """The coordinator has made these results durable."""

    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Discarded:
    """The coordinator does not need these results."""

    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class RecallReceived:
    """Somebody has nothing to do: the coordinator wants these back, as far as they have not started."""

    runs: tuple[Run, ...]
    nonce: int


@dataclass(frozen=True, slots=True)
class CancelReceived:
    """The coordinator does not want these to start or to run on."""

    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class JobEnded:
    """Nothing of the job will be asked for any more."""

    job: JobId


@dataclass(frozen=True, slots=True)
class JobBarred:
    """Nothing of the job may run here any more: its submitter has left the roster, or the owner refuses it."""

    job: JobId
    reason: str


@dataclass(frozen=True, slots=True)
class TermsChanged:
    """What this agent refuses may be other tasks than before: it says hello, so that it is asked again."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The owner, a signal or the service wants the agent to end."""

    mode: StopMode


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The deadline has come."""


Event = (
    Connected
    | Welcomed
    | Disconnected
    | Resynced
    | JobVerified
    | RunReceived
    | BlobReady
    | BlobFailed
    | BoxEmptied
    | AttemptEnded
    | CallsAnswered
    | ResultSent
    | SendFailed
    | Committed
    | Discarded
    | RecallReceived
    | CancelReceived
    | JobEnded
    | JobBarred
    | TermsChanged
    | StopRequested
    | TimePassed
)


# Actions.


@dataclass(frozen=True, slots=True)
class SendHello:
    """Introduce ourselves; `holds` is all that is queued, running or unacknowledged."""

    holds: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class SendBeat:
    """The heartbeat."""

    holds: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class SendStarted:
    """Say which tasks run now."""

    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class SendDone:
    """Upload what `result` holds, then report the outcome; answer with ResultSent or SendFailed.

    The same attempt may be asked for again (no acknowledgement came, or the line broke): the newest asking counts.
    """

    attempt: Attempt
    outcome: Outcome
    reason: str
    result: object


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Return these tasks to the coordinator. `leaving`: and send no more of any."""

    runs: tuple[Run, ...]
    leaving: bool = False
    nonce: int = 0  # of the recall that this answers


@dataclass(frozen=True, slots=True)
class SendGoodbye:
    """Tell the coordinator that we leave."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get the blob from the grid, verify it and pin it; answer with BlobReady or BlobFailed."""

    file: FileRef


@dataclass(frozen=True, slots=True)
class StopFetch:
    """The blob is not needed any more; no answer is awaited and a late one does no harm."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Start:
    """Run the attempt in a box; answer with AttemptEnded.

    Of calls that take no time it is the first of several that run one after the other in one place: `more` are the others,
    with their cargo. Each is answered, together in CallsAnswered or for itself.
    """

    attempt: Attempt
    cpus: int
    limits: Limits
    input: FileRef | None
    cargo: object = None
    more: tuple[tuple[Attempt, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Kill:
    """End the attempt's box; AttemptEnded still comes."""

    attempt: Attempt
    reason: str


@dataclass(frozen=True, slots=True)
class DropArchive:
    """The attempt's result may leave the disk."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class DropBlobs:
    """Unpin these blobs: nothing here needs them now."""

    digests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class ForgetJob:
    """Nothing of the job is left here: its manifest may leave the memory and the disk."""

    job: JobId


@dataclass(frozen=True, slots=True)
class Exit:
    """Nothing is left to do."""


Action = (
    SendHello
    | SendBeat
    | SendStarted
    | SendDone
    | GiveBack
    | SendGoodbye
    | Fetch
    | StopFetch
    | Start
    | Kill
    | DropArchive
    | DropBlobs
    | ForgetJob
    | Exit
)
