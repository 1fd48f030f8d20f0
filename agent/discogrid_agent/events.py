"""What the agent machine is told (events, past tense) and what it asks for (actions, imperative).

Law of the file: frozen values only. A reader of the two unions at the end knows everything that can
enter and leave the machine.
"""

from enum import StrEnum

import msgspec

from discogrid.types import Attempt, Digest, FileRef, JobId, Limits, Outcome, Requirements, Run


class StopMode(StrEnum):
    """How an agent is asked to end."""

    FINISH = "finish"  # running tasks may end and are committed first
    NOW = "now"  # running tasks are killed


class Happening(msgspec.Struct, frozen=True):
    """What every event is: a struct, since an agent waits 10 ms at its start for as many frozen dataclasses to be made."""


class Order(msgspec.Struct, frozen=True):
    """What every action is."""


# Events.


class Connected(Happening, frozen=True):
    """The line to the coordinator is up; nothing has been said yet."""


class Welcomed(Happening, frozen=True):
    """The coordinator took our hello. `lease` is its incarnation: runs of another one are not ours to start."""

    lease: int
    lease_s: float
    heartbeat_s: float


class Disconnected(Happening, frozen=True):
    """The line is down. Work goes on, results wait."""


class Resynced(Happening, frozen=True):
    """The coordinator does not know us (any more): say hello again."""


class JobVerified(Happening, frozen=True):
    """The job's signature holds. `limits` are its own under the owner's; `shared` is what every task needs."""

    job: JobId
    requirements: Requirements
    limits: Limits
    shared: tuple[FileRef, ...] = ()


class RunReceived(Happening, frozen=True):
    """Verified tasks of a verified job; `inputs[i]` belongs to index `run.start + i`, None where a task has none.

    Of calls, `shared` is what these and later tasks of the job need, and of each task `more` what it needs beside that,
    and `cargo` what the shell wants back in its Start.
    """

    run: Run
    inputs: tuple[FileRef | None, ...]
    shared: tuple[FileRef, ...] = ()
    more: tuple[tuple[FileRef, ...], ...] = ()
    cargo: tuple[object, ...] = ()


class BlobReady(Happening, frozen=True):
    """The blob is on disk, verified and pinned until DropBlobs."""

    digest: Digest


class BlobFailed(Happening, frozen=True):
    """One fetch of the blob failed; the machine counts and repeats."""

    digest: Digest
    reason: str


class BoxEmptied(Happening, frozen=True):
    """Nothing of the attempt runs any more: what it used is free while its result is packed. AttemptEnded follows."""

    attempt: Attempt


class AttemptEnded(Happening, frozen=True):
    """The runner is through with it, its box is gone. `result` is the shell's own, handed back in SendDone."""

    attempt: Attempt
    outcome: Outcome
    reason: str = ""
    result: object = None


class CallsAnswered(Happening, frozen=True):
    """Tasks of calls of one job are over and their answers have left, of which nothing is kept; `seconds` ran all together."""

    attempts: tuple[Attempt, ...]
    seconds: float


class ResultSent(Happening, frozen=True):
    """SendDone was carried out: archive uploaded, message on its way."""

    attempt: Attempt


class SendFailed(Happening, frozen=True):
    """SendDone could not be carried out (the upload failed); the machine counts and repeats."""

    attempt: Attempt
    reason: str


class Committed(Happening, frozen=True):
    """The coordinator has made these results durable."""

    attempts: tuple[Attempt, ...]


class Discarded(Happening, frozen=True):
    """The coordinator does not need these results."""

    attempts: tuple[Attempt, ...]


class RecallReceived(Happening, frozen=True):
    """Somebody has nothing to do: the coordinator wants these back, as far as they have not started."""

    runs: tuple[Run, ...]
    nonce: int


class CancelReceived(Happening, frozen=True):
    """The coordinator does not want these to start or to run on."""

    runs: tuple[Run, ...]


class JobEnded(Happening, frozen=True):
    """Nothing of the job will be asked for any more."""

    job: JobId


class JobBarred(Happening, frozen=True):
    """Nothing of the job may run here any more: its submitter has left the roster, or the owner refuses it."""

    job: JobId
    reason: str


class TermsChanged(Happening, frozen=True):
    """What this agent refuses may be other tasks than before: it says hello, so that it is asked again."""


class StopRequested(Happening, frozen=True):
    """The owner, a signal or the service wants the agent to end."""

    mode: StopMode


class TimePassed(Happening, frozen=True):
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


class SendHello(Order, frozen=True):
    """Introduce ourselves; `holds` is all that is queued, running or unacknowledged."""

    holds: tuple[Run, ...]


class SendBeat(Order, frozen=True):
    """The heartbeat."""

    holds: tuple[Run, ...]


class SendStarted(Order, frozen=True):
    """Say which tasks run now."""

    runs: tuple[Run, ...]


class SendDone(Order, frozen=True):
    """Upload what `result` holds, then report the outcome; answer with ResultSent or SendFailed.

    The same attempt may be asked for again (no acknowledgement came, or the line broke): the newest asking counts.
    """

    attempt: Attempt
    outcome: Outcome
    reason: str
    result: object


class GiveBack(Order, frozen=True):
    """Return these tasks to the coordinator. `leaving`: and send no more of any."""

    runs: tuple[Run, ...]
    leaving: bool = False
    nonce: int = 0  # of the recall that this answers


class SendGoodbye(Order, frozen=True):
    """Tell the coordinator that we leave."""


class Fetch(Order, frozen=True):
    """Get the blob from the grid, verify it and pin it; answer with BlobReady or BlobFailed.

    `passing`: only one task needs it, and soon.
    """

    file: FileRef
    passing: bool = False


class StopFetch(Order, frozen=True):
    """The blob is not needed any more; no answer is awaited and a late one does no harm."""

    digest: Digest


class Start(Order, frozen=True):
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


class Kill(Order, frozen=True):
    """End the attempt's box; AttemptEnded still comes."""

    attempt: Attempt
    reason: str


class DropArchive(Order, frozen=True):
    """The attempt's result may leave the disk."""

    attempt: Attempt


class DropBlobs(Order, frozen=True):
    """Unpin these blobs: nothing here needs them now."""

    digests: tuple[Digest, ...]


class ForgetJob(Order, frozen=True):
    """Nothing of the job is left here: its manifest may leave the memory and the disk."""

    job: JobId


class Exit(Order, frozen=True):
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
