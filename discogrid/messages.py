"""Every message on the wire, one typed struct each; payload frames ride behind the header and are named in the docstring.

Control messages flow between agents or clients, which dial out, and the coordinator. Blob messages flow on sockets of
their own, so that a gigabyte never delays a heartbeat: the coordinator's, and an agent's for other agents. Adding a field
with a default keeps the version before readable; a new message says `since` which version there is such a one, and is
kept from peers that would not know it.
"""

import msgspec

from discogrid.types import AgentId, Attempt, Digest, JobId, NodeId, Outcome, Role, Run, TaskState
from discogrid.views import AgentView, JobView, TaskView

PROTOCOL = 5
PROTOCOL_OLDEST = 1  # all from here on are accepted


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every message is. `since` is the protocol version that brought it."""

    since = 1


# -- handshake


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """A node introduces itself; the first message of every session, and the answer to Resync."""

    protocol: int
    software: str
    role: Role
    session: str  # random per process: the same session is the same process after a reconnect
    name: str  # an agent's own name, a client's program
    platform: str
    python: str
    clock: float  # seconds since 1970
    slots: int = 0
    memory_bytes: int = 0
    gpus: int = 0
    sandbox: str = "none"
    network: bool = False
    no_network: str = (
        "its version of discogrid has none to give"  # what agents that do not know this field have
    )
    capabilities: tuple[str, ...] = ()
    holds: tuple[Run, ...] = ()  # what an agent that was away still has
    roster: int = 0  # the version of the roster it goes by
    blob_port: int = 0  # where an agent serves blobs to others, on the host that it dials from; 0: nowhere
    proving: bool = False  # an agent that says hello again once it knows what else it can offer


class Welcome(Message, frozen=True, kw_only=True, tag="welcome"):
    """The coordinator accepts a Hello. Payload: [roster envelope]."""

    protocol: int
    software: str
    name: AgentId  # what the grid calls this agent or client
    coordinator: NodeId
    lease: int  # this incarnation of the coordinator
    heartbeat_s: float
    lease_s: float
    clock: float
    blob_endpoint: str  # tcp://*:port means: the host that was dialled
    idle_exit_s: float | None = None


class Refused(Message, frozen=True, kw_only=True, tag="refused"):
    """A request is not accepted; `request` is 0 for the handshake."""

    code: str
    what: str
    why: str = ""
    fix: str = ""
    request: int = 0


class Resync(Message, frozen=True, kw_only=True, tag="resync"):
    """The sender has no session with this node any more: say Hello again."""


class Goodbye(Message, frozen=True, kw_only=True, tag="goodbye"):
    """A node leaves; an agent has given back what it held."""

    reason: str = ""


class RosterPushed(Message, frozen=True, kw_only=True, tag="roster-pushed"):
    """A newer roster, from the coordinator to everybody. Payload: [roster envelope]."""

    since = 2


class PublishRoster(Message, frozen=True, kw_only=True, tag="publish-roster"):
    """A newer roster, to the coordinator, from whoever has it: the owner's signature is its authority.

    Payload: [roster envelope]. Answered by Answer once the coordinator goes by it, unless `request` is 0.
    """

    since = 2
    request: int = 0


class RotateKeys(Message, frozen=True, kw_only=True, tag="rotate-keys"):
    """A member exchanges its keys. Payload: [its new statement, sealed by its old key as a `discogrid/rotation/1`].

    Answered by RosterPushed and Answer when the owner's key lies with the coordinator.
    """

    since = 2
    request: int


# -- agent and coordinator


class Heartbeat(Message, frozen=True, kw_only=True, tag="heartbeat"):
    """An agent lives and holds these runs."""

    holds: tuple[Run, ...] = ()


class HeartbeatSeen(Message, frozen=True, kw_only=True, tag="heartbeat-seen"):
    """The coordinator lives."""


class JobSpec(Message, frozen=True, kw_only=True, tag="job-spec"):
    """A job's signed manifest, once a connection, before its first run. Payload: [job envelope][small blobs]."""

    job: JobId


class RunTasks(Message, frozen=True, kw_only=True, tag="run-tasks"):
    """Tasks to run. Payload: [leaves of all runs, in order][proofs, one a run][small inputs]."""

    runs: tuple[Run, ...]


class TasksStarted(Message, frozen=True, kw_only=True, tag="tasks-started"):
    """These attempts are running now."""

    runs: tuple[Run, ...]


class TasksReturned(Message, frozen=True, kw_only=True, tag="tasks-returned"):
    """These attempts were not started and are given back. `leaving`: send no more of any."""

    runs: tuple[Run, ...]
    leaving: bool = False
    nonce: int = 0  # of the RecallTasks that this answers


class TaskDone(msgspec.Struct, frozen=True, kw_only=True):
    """One ended attempt, as its agent tells it; the signed result says the same."""

    attempt: Attempt
    outcome: Outcome
    reason: str = ""
    retryable: bool = True
    exit: int | None = None
    started: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    archive: Digest | None = None
    archive_bytes: int = 0
    inline: bool = False  # whether the archive is in the payload
    again_s: float | None = (
        None  # refused: the agent may be asked again after so long; None: when it says hello
    )


class TasksDone(Message, frozen=True, kw_only=True, tag="tasks-done"):
    """Ended attempts. Payload: [result envelopes, one a task][inline archives, in order]."""

    tasks: tuple[TaskDone, ...]


class RunCalls(Message, frozen=True, kw_only=True, tag="run-calls"):
    """Tasks of jobs of calls to run. Payload: [chunks of all runs, in order][proofs, one a run][batch envelopes, one a run]."""

    since = 5
    runs: tuple[Run, ...]


class CallsAnswered(Message, frozen=True, kw_only=True, tag="calls-answered"):
    """Ended tasks of one job of calls. Payload: [the signed answers and their envelope][envelopes of logs][archives of logs]."""

    since = 5
    runs: tuple[Run, ...]
    seconds: tuple[float, ...]  # that the calls of each task took, in the order of `runs`
    logs: tuple[TaskDone, ...] = ()  # of tasks among them that printed something
    stored: tuple[Digest, ...] = ()  # answers that are blobs, which have arrived


class TasksCommitted(Message, frozen=True, kw_only=True, tag="tasks-committed"):
    """These results are durable, or passed on where they are of calls: the agent may forget them."""

    attempts: tuple[Attempt, ...]


class TasksDiscarded(Message, frozen=True, kw_only=True, tag="tasks-discarded"):
    """These results are not wanted (late, double, cancelled): the agent may forget them."""

    attempts: tuple[Attempt, ...]


class RecallTasks(Message, frozen=True, kw_only=True, tag="recall-tasks"):
    """Give these back, as far as they were not started: answered by TasksReturned with the same nonce, even for none."""

    since = 3
    runs: tuple[Run, ...]
    nonce: int


class CancelTasks(Message, frozen=True, kw_only=True, tag="cancel-tasks"):
    """Stop these attempts, running or not."""

    runs: tuple[Run, ...]


class JobEnded(Message, frozen=True, kw_only=True, tag="job-ended"):
    """Nothing of the job will run any more: its blobs leave the agent's disk."""

    job: JobId


class FollowLogs(Message, frozen=True, kw_only=True, tag="follow-logs"):
    """A reader wants the output of this running attempt from now on (and what is kept of it), or no longer."""

    attempt: Attempt
    follow: bool = True


class LogChunk(Message, frozen=True, kw_only=True, tag="log-chunk"):
    """Output of a running attempt. Payload: [bytes]."""

    attempt: Attempt
    stream: str  # stdout | stderr
    offset: int  # bytes since the stream began


# -- blobs from one agent to another: the coordinator says who has what, each agent what has come


class WantBlob(Message, frozen=True, kw_only=True, tag="want-blob"):
    """An agent asks where to get a blob; answered by BlobSource, and by another one after each that says `wait`."""

    since = 4
    digest: Digest
    avoid: tuple[AgentId, ...] = ()  # who has failed this agent lately
    failed: AgentId | None = None  # who was named before and did not deliver


class BlobSource(Message, frozen=True, kw_only=True, tag="blob-source"):
    """Get it from this agent; or, when none is named, from the coordinator; or `wait`: it is on its way to an agent."""

    since = 4
    digest: Digest
    agent: AgentId | None = None
    node: NodeId | None = None  # whose key is proven there
    endpoint: str = ""  # tcp://*:port means: the host on which the coordinator was dialled
    wait: bool = False


class ServeBlob(Message, frozen=True, kw_only=True, tag="serve-blob"):
    """The coordinator has named this agent to `reader`, an agent with a task of the blob's job: serve it."""

    since = 4
    digest: Digest
    reader: NodeId


class BlobNews(Message, frozen=True, kw_only=True, tag="blob-news"):
    """What has come to an agent and is verified, what is coming and moves on, what is not here or wanted any more."""

    since = 4
    held: tuple[Digest, ...] = ()
    coming: tuple[Digest, ...] = ()
    dropped: tuple[Digest, ...] = ()


# -- client and coordinator; `request` pairs an answer with its question


class SubmitJob(Message, frozen=True, kw_only=True, tag="submit-job"):
    """A signed job. Payload: [job envelope][leaves][small blobs]. Sent again with the same envelope, it is the same job."""

    request: int
    hold: bool = False
    seen: int = 0  # of a job of calls, whose client comes again: the last number that it was told


class TellRunTimes(Message, frozen=True, kw_only=True, tag="tell-run-times"):
    """How long tasks of a kind will take, before a job of it is submitted. Payload: [tasks][seconds]. Answered by Answer."""

    since = 4
    request: int
    kind: str  # of `bundle.kind_of`


class AddCalls(Message, frozen=True, kw_only=True, tag="add-calls"):
    """More tasks of a job of calls. Payload: [batch envelope][chunks][small blobs].

    Answered by BlobsMissing, Refused or, unless `request` is 0, Answer.
    """

    since = 5
    request: int = 0
    job: JobId


class CancelCalls(Message, frozen=True, kw_only=True, tag="cancel-calls"):
    """The client does not want the answers of one task of a job of calls any more."""

    since = 5
    job: JobId
    index: int


class CallsSeen(Message, frozen=True, kw_only=True, tag="calls-seen"):
    """The client has everything of the job's CallsDone and CallsLost up to this number."""

    since = 5
    job: JobId
    number: int


class CallsDone(Message, frozen=True, kw_only=True, tag="calls-done"):
    """Answers to the client whose calls they are. Payload: [the answers and their envelope, as the agent signed them]."""

    since = 5
    job: JobId
    number: int  # of what the client is told of this job, from 1 on
    agent: AgentId


class CallsLost(Message, frozen=True, kw_only=True, tag="calls-lost"):
    """The tasks `start <= index < stop` of a job of calls have ended without an answer."""

    since = 5
    job: JobId
    number: int
    start: int
    stop: int
    reason: str


class CallsOver(Message, frozen=True, kw_only=True, tag="calls-over"):
    """A job of calls has ended, and not by its client's word, if `reason` says why."""

    since = 5
    job: JobId
    reason: str = ""


class CallSlots(Message, frozen=True, kw_only=True, tag="call-slots"):
    """How many calls of the job can run at a time on the agents that are there now."""

    since = 5
    job: JobId
    slots: int


class JobAccepted(Message, frozen=True, kw_only=True, tag="job-accepted"):
    """The job is durable and has this id."""

    request: int
    job: JobId
    tasks: int = 0  # that a job of calls has been given so far


class BlobsMissing(Message, frozen=True, kw_only=True, tag="blobs-missing"):
    """The coordinator needs these blobs first (at most BLOBS_MISSING_MAX are named at once)."""

    request: int
    digests: tuple[Digest, ...]


class Query(Message, frozen=True, kw_only=True, tag="query"):
    """What is there? `what` is jobs, job, tasks or agents."""

    request: int
    what: str
    job: JobId | None = None
    start: int = 0
    count: int = 512


class Answer(Message, frozen=True, kw_only=True, tag="answer"):
    """What a Query or an Act asked for."""

    request: int
    jobs: tuple[JobView, ...] = ()
    tasks: tuple[TaskView, ...] = ()
    agents: tuple[AgentView, ...] = ()
    reasons: dict[str, str] = {}
    placeable: bool = True  # whether any agent now on the grid could run the job
    more: bool = False


class Act(Message, frozen=True, kw_only=True, tag="act"):
    """Do something to a job: `what` is cancel, release, prune, or for a job of calls close: no more tasks come."""

    request: int
    what: str
    job: JobId


class GetResults(Message, frozen=True, kw_only=True, tag="get-results"):
    """The signed results of these tasks of a job."""

    request: int
    job: JobId
    indices: tuple[int, ...]


class Results(Message, frozen=True, kw_only=True, tag="results"):
    """Signed results. Payload: [result envelopes, in the order of `indices`]; a task without one is left out."""

    request: int
    job: JobId
    indices: tuple[int, ...]


class GetJob(Message, frozen=True, kw_only=True, tag="get-job"):
    """A job's signed manifest and leaves, for its submitter: answered by JobContent."""

    request: int
    job: JobId


class JobContent(Message, frozen=True, kw_only=True, tag="job-content"):
    """Payload: [job envelope][leaves]."""

    request: int
    job: JobId


class Watch(Message, frozen=True, kw_only=True, tag="watch"):
    """Push changes of one job, or of everything, until Unwatch; first a complete picture."""

    request: int
    job: JobId | None = None
    tasks: bool = True


class Unwatch(Message, frozen=True, kw_only=True, tag="unwatch"):
    """Stop pushing what this request watched."""

    request: int


class Changed(Message, frozen=True, kw_only=True, tag="changed"):
    """What changed since the last push; `complete` marks the end of the first picture."""

    request: int
    jobs: tuple[JobView, ...] = ()
    tasks: tuple[TaskView, ...] = ()
    agents: tuple[AgentView, ...] = ()
    complete: bool = False


class WatchLogs(Message, frozen=True, kw_only=True, tag="watch-logs"):
    """Push a running task's output until Unwatch."""

    request: int
    job: JobId
    index: int


class LogPushed(Message, frozen=True, kw_only=True, tag="log-pushed"):
    """Output for a WatchLogs; `state` is set once the task has ended and nothing more comes. Payload: [bytes]."""

    request: int
    stream: str = "stdout"
    offset: int = 0
    attempt: int = 0
    state: TaskState | None = None


# -- blob sockets


class GetBlob(Message, frozen=True, kw_only=True, tag="get-blob"):
    """The receiver asks for `count` chunks from `offset` on: its credit. Asked again to continue."""

    digest: Digest
    offset: int = 0
    count: int = 1


class BlobChunk(Message, frozen=True, kw_only=True, tag="blob-chunk"):
    """Part of a blob. Payload: [bytes]."""

    digest: Digest
    offset: int
    size: int  # of the whole blob, bytes


class OfferBlob(Message, frozen=True, kw_only=True, tag="offer-blob"):
    """The sender has a blob for the receiver. Payload: [bytes] when the whole blob is one chunk."""

    digest: Digest
    size: int
    passing: bool = False  # needed once, and soon: it may lie in memory


class WantChunks(Message, frozen=True, kw_only=True, tag="want-chunks"):
    """The receiver of an offer has room for `count` chunks from `offset` on."""

    digest: Digest
    offset: int
    count: int


class BlobStored(Message, frozen=True, kw_only=True, tag="blob-stored"):
    """The blob is whole, verified and kept."""

    digest: Digest


class BlobRefused(Message, frozen=True, kw_only=True, tag="blob-refused"):
    """The blob is not served, not accepted or was damaged."""

    digest: Digest
    reason: str


AnyMessage = (
    Hello
    | Welcome
    | Refused
    | Resync
    | Goodbye
    | RosterPushed
    | PublishRoster
    | RotateKeys
    | Heartbeat
    | HeartbeatSeen
    | JobSpec
    | RunTasks
    | TasksStarted
    | TasksReturned
    | TasksDone
    | RunCalls
    | CallsAnswered
    | TasksCommitted
    | TasksDiscarded
    | RecallTasks
    | CancelTasks
    | JobEnded
    | FollowLogs
    | LogChunk
    | WantBlob
    | BlobSource
    | ServeBlob
    | BlobNews
    | SubmitJob
    | TellRunTimes
    | AddCalls
    | CancelCalls
    | CallsSeen
    | CallsDone
    | CallsLost
    | CallsOver
    | CallSlots
    | JobAccepted
    | BlobsMissing
    | Query
    | Answer
    | Act
    | GetResults
    | Results
    | GetJob
    | JobContent
    | Watch
    | Unwatch
    | Changed
    | WatchLogs
    | LogPushed
    | GetBlob
    | BlobChunk
    | OfferBlob
    | WantChunks
    | BlobStored
    | BlobRefused
)
"""What may come in a header frame."""
