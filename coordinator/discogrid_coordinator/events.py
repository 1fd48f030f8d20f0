"""What the scheduler is told (events, past tense) and what it asks for (actions, imperative).

Law of the file: frozen values only. A reader of the two unions at the end knows everything that can
enter and leave the scheduler.
"""

from dataclasses import dataclass

from discogrid.types import AgentId, Attempt, JobId, JobState, Offer, Outcome, Requirements, Run, TaskState

Span = tuple[int, int]
"""Tasks `first <= index < second` of one job."""


# Events.


@dataclass(frozen=True, slots=True)
class AgentJoined:
    """An agent said hello, for the first time or again; `holds` is all it has queued, running or unacknowledged."""

    agent: AgentId
    offer: Offer
    holds: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentBeat:
    """A heartbeat: renews the agent's lease and tells what it holds."""

    agent: AgentId
    holds: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentLeft:
    """Its session is over. After a goodbye the tasks it had started are taken up elsewhere without blame."""

    agent: AgentId
    reason: str
    goodbye: bool = False


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """A verified, durable job. `done` and `failed` are the tasks that ended before a restart."""

    job: JobId
    tasks: int
    requirements: Requirements
    retries: int = 1  # further attempts after a failure of the script itself
    priority: int = 0  # a higher one goes first
    held: bool = False
    done: tuple[Span, ...] = ()
    failed: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class JobReleased:
    """A held job may run."""

    job: JobId


@dataclass(frozen=True, slots=True)
class JobCancelled:
    """Nobody wants the rest of the job any more."""

    job: JobId
    reason: str = "cancelled"


@dataclass(frozen=True, slots=True)
class TasksStarted:
    """The agent runs these now."""

    agent: AgentId
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class TaskSucceeded:
    """A verified result has arrived, its archive included. `seconds` is the script's own run time."""

    agent: AgentId
    attempt: Attempt
    seconds: float


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """The attempt ended otherwise. `retryable` is False where another try would end alike (exit 2, ImportError)."""

    agent: AgentId
    attempt: Attempt
    outcome: Outcome
    reason: str
    retryable: bool = True
    again_s: float | None = None  # refused: it may be asked again after so long; None: when it says hello


@dataclass(frozen=True, slots=True)
class TasksReturned:
    """Given back by the agent, unstarted: costs nothing. `leaving`: it takes no more work in this session."""

    agent: AgentId
    runs: tuple[Run, ...]
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The deadline has come. The shell first feeds what it has received: a beat in a buffer is a beat."""


Event = (
    AgentJoined
    | AgentBeat
    | AgentLeft
    | JobSubmitted
    | JobReleased
    | JobCancelled
    | TasksStarted
    | TaskSucceeded
    | TaskFailed
    | TasksReturned
    | TimePassed
)


# Actions.


@dataclass(frozen=True, slots=True)
class Welcome:
    """Tell the agent that it is in, and how often to beat."""

    agent: AgentId
    heartbeat_s: float
    lease_s: float


@dataclass(frozen=True, slots=True)
class Resync:
    """Ask the agent to say hello again: the scheduler does not know it (any more)."""

    agent: AgentId


@dataclass(frozen=True, slots=True)
class LoseAgent:
    """The agent's session is over, by its lease or by what the shell reported; its tasks are dealt with already."""

    agent: AgentId
    reason: str


@dataclass(frozen=True, slots=True)
class Assign:
    """Send these tasks to the agent."""

    agent: AgentId
    run: Run


@dataclass(frozen=True, slots=True)
class Adopt:
    """For the books and for who follows: the agent, back from being lost, still runs these, and nobody else does."""

    agent: AgentId
    run: Run


@dataclass(frozen=True, slots=True)
class Cancel:
    """Tell the agent to drop or kill these. Finished work it holds is still offered, and then committed or discarded."""

    agent: AgentId
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Make this attempt's result durable (a failed attempt's too), then acknowledge it to the agent.

    Each TaskSucceeded and TaskFailed is answered by exactly one Commit or Discard.
    """

    agent: AgentId
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Discard:
    """Tell the agent that this result is not needed: stale or double.

    Send it only when every Commit before it is durable: the double of a result may be its only copy.
    """

    agent: AgentId
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class StartTasks:
    """For the books and for who follows: these run now."""

    agent: AgentId
    run: Run


@dataclass(frozen=True, slots=True)
class Requeue:
    """For the books: this attempt is over without an end of its task, which waits for the next one."""

    attempt: Attempt
    reason: str


@dataclass(frozen=True, slots=True)
class EndTasks:
    """The tasks `start <= index < stop` have ended, once and for all."""

    job: JobId
    start: int
    stop: int
    state: TaskState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseJob:
    """For the books: the job is not held any more."""

    job: JobId


@dataclass(frozen=True, slots=True)
class StartJob:
    """For the books: its first task has started."""

    job: JobId


@dataclass(frozen=True, slots=True)
class EndJob:
    """All its tasks have ended: make that durable, tell clients, and tell the agents that saw the job to forget it."""

    job: JobId
    state: JobState
    reason: str = ""


Action = (
    Welcome
    | Resync
    | LoseAgent
    | Assign
    | Adopt
    | Cancel
    | Commit
    | Discard
    | StartTasks
    | Requeue
    | EndTasks
    | ReleaseJob
    | StartJob
    | EndJob
)
