"""What the scheduler is told (events, past tense) and what it asks for (actions, imperative).

Law of the file: frozen values only. A reader of the two unions at the end knows everything that can
enter and leave the scheduler.
"""

from typing import final

import msgspec

from discogrid.types import (
    AgentId,
    Attempt,
    JobId,
    JobState,
    NodeId,
    Offer,
    Outcome,
    Requirements,
    Run,
    TaskState,
)

Span = tuple[int, int]
"""Tasks `first <= index < second` of one job."""
NOBODY = NodeId("")


class Happening(msgspec.Struct, frozen=True, gc=False):
    """What every event is: a struct, since a frozen dataclass takes six times as long to make, thrice a task."""


class Order(msgspec.Struct, frozen=True, gc=False):
    """What every action is."""


# Events.


class AgentJoined(Happening, frozen=True, gc=False):
    """An agent said hello, for the first time or again; `holds` is all it has queued, running or unacknowledged."""

    agent: AgentId
    offer: Offer
    holds: tuple[Run, ...] = ()


@final
class AgentBeat(Happening, frozen=True, gc=False):
    """A heartbeat: renews the agent's lease and tells what it holds."""

    agent: AgentId
    holds: tuple[Run, ...] = ()


class AgentPaused(Happening, frozen=True, gc=False):
    """Its owner is back or it is about to sleep: what it runs stands still, and it takes nothing new."""

    agent: AgentId
    paused: bool = True  # False: it goes on


class AgentLeft(Happening, frozen=True, gc=False):
    """Its session is over. After a goodbye the tasks it had started are taken up elsewhere without blame."""

    agent: AgentId
    reason: str
    goodbye: bool = False


class JobSubmitted(Happening, frozen=True, gc=False):
    """A verified, durable job. `done` and `failed` are the tasks that ended before a restart."""

    job: JobId
    tasks: int
    requirements: Requirements
    retries: int = 1  # further attempts after a failure of the script itself
    priority: int = 0  # a higher one goes first
    held: bool = False
    done: tuple[Span, ...] = ()
    failed: tuple[Span, ...] = ()
    submitter: NodeId = NOBODY
    weight: float = 1.0  # of the submitter, against those of others
    repeatable: bool = True  # a task may run twice at a time; only one result ever counts
    expected: tuple[float, ...] = ()  # seconds, one a task, 0 where not known; empty where none is
    restored: bool = False  # it was here before a restart, and agents may still have tasks of it
    shared_bytes: int = 0  # of what every task needs and does not travel with it
    shared_at: tuple[AgentId, ...] = ()  # who has all of that
    inputs_at: dict[AgentId, tuple[int, ...]] = {}  # whose inputs an agent has, see locality.at_home
    open: bool = (
        False  # more tasks may come, of which nothing is expected: it does not end before it is closed
    )


class TasksAdded(Happening, frozen=True, gc=False):
    """An open job has so many more tasks, after those that it had."""

    job: JobId
    tasks: int


class JobClosed(Happening, frozen=True, gc=False):
    """No more tasks come: an open job is one like others now."""

    job: JobId


class TaskCancelled(Happening, frozen=True, gc=False):
    """Nobody wants this task of an open job any more."""

    job: JobId
    index: int


class JobReleased(Happening, frozen=True, gc=False):
    """A held job may run."""

    job: JobId


class JobCancelled(Happening, frozen=True, gc=False):
    """Nobody wants the rest of the job any more."""

    job: JobId
    reason: str = "cancelled"


@final
class TasksStarted(Happening, frozen=True, gc=False):
    """The agent runs these now."""

    agent: AgentId
    runs: tuple[Run, ...]


@final
class TaskSucceeded(Happening, frozen=True, gc=False):
    """A verified result has arrived, its archive included. `seconds` is the script's own run time."""

    agent: AgentId
    attempt: Attempt
    seconds: float


class TaskFailed(Happening, frozen=True, gc=False):
    """The attempt ended otherwise. `retryable` is False where another try would end alike (exit 2, ImportError)."""

    agent: AgentId
    attempt: Attempt
    outcome: Outcome
    reason: str
    retryable: bool = True
    again_s: float | None = None  # refused: it may be asked again after so long; None: when it says hello


class TasksReturned(Happening, frozen=True, gc=False):
    """Given back by the agent, unstarted: costs nothing. `leaving`: it takes no more work in this session."""

    agent: AgentId
    runs: tuple[Run, ...]
    leaving: bool = False
    nonce: int = 0  # of the recall that this answers


class Restarted(Happening, frozen=True, gc=False):
    """After all restored jobs: these agents were here before, and are waited for a moment."""

    agents: tuple[AgentId, ...]


class TimePassed(Happening, frozen=True, gc=False):
    """The deadline has come. The shell first feeds what it has received: a beat in a buffer is a beat."""


RareEvent = (
    AgentJoined
    | AgentPaused
    | AgentLeft
    | JobSubmitted
    | JobReleased
    | TasksAdded
    | JobClosed
    | TaskCancelled
    | JobCancelled
    | TaskFailed
    | TasksReturned
    | Restarted
    | TimePassed
)
Event = TasksStarted | TaskSucceeded | AgentBeat | RareEvent


# Actions.


class Welcome(Order, frozen=True, gc=False):
    """Tell the agent that it is in, and how often to beat."""

    agent: AgentId
    heartbeat_s: float
    lease_s: float


class Resync(Order, frozen=True, gc=False):
    """Ask the agent to say hello again: the scheduler does not know it (any more)."""

    agent: AgentId


class LoseAgent(Order, frozen=True, gc=False):
    """The agent's session is over, by its lease or by what the shell reported; its tasks are dealt with already."""

    agent: AgentId
    reason: str


class Assign(Order, frozen=True, gc=False):
    """Send these tasks to the agent."""

    agent: AgentId
    run: Run


class Adopt(Order, frozen=True, gc=False):
    """For the books and for who follows: the agent, back from being lost or from before a restart, still runs these."""

    agent: AgentId
    run: Run


class Recall(Order, frozen=True, gc=False):
    """Ask the agent for these, as far as it has not started them; it answers with TasksReturned and the nonce."""

    agent: AgentId
    runs: tuple[Run, ...]
    nonce: int


class Cancel(Order, frozen=True, gc=False):
    """Tell the agent to drop or kill these. Finished work it holds is still offered, and then committed or discarded."""

    agent: AgentId
    runs: tuple[Run, ...]


class Commit(Order, frozen=True, gc=False):
    """Make this attempt's result durable (a failed attempt's too), then acknowledge it to the agent.

    Each TaskSucceeded and TaskFailed is answered by exactly one Commit or Discard.
    """

    agent: AgentId
    attempt: Attempt


class Discard(Order, frozen=True, gc=False):
    """Tell the agent that this result is not needed: stale or double.

    Send it only when every Commit before it is durable: the double of a result may be its only copy.
    """

    agent: AgentId
    attempt: Attempt


class StartTasks(Order, frozen=True, gc=False):
    """For the books and for who follows: these run now."""

    agent: AgentId
    run: Run


class Requeue(Order, frozen=True, gc=False):
    """For the books: this attempt is over without an end of its task, which waits, or goes on in another attempt."""

    attempt: Attempt
    reason: str


class EndTasks(Order, frozen=True, gc=False):
    """The tasks `start <= index < stop` have ended, once and for all."""

    job: JobId
    start: int
    stop: int
    state: TaskState
    reason: str = ""


class HoldJob(Order, frozen=True, gc=False):
    """Nothing more of the job starts until it is released."""

    job: JobId
    reason: str


class ReleaseJob(Order, frozen=True, gc=False):
    """For the books: the job is not held any more."""

    job: JobId


class ExtendJob(Order, frozen=True, gc=False):
    """For the books: the tasks `start <= index < stop` are the job's from now on."""

    job: JobId
    start: int
    stop: int


class StartJob(Order, frozen=True, gc=False):
    """For the books: its first task has started."""

    job: JobId


class EndJob(Order, frozen=True, gc=False):
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
    | Recall
    | Cancel
    | Commit
    | Discard
    | StartTasks
    | Requeue
    | EndTasks
    | HoldJob
    | ReleaseJob
    | ExtendJob
    | StartJob
    | EndJob
)
