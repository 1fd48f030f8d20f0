"""What readers are shown of jobs, tasks and agents. Pure: notes, events and actions in, views and what changed out.

Law of the file: it decides nothing. All times are seconds since 1970 (UTC), unlike the scheduler's.
A task gets a row when something happens to it alone; tasks that wait or end in crowds stay ranges. Of a job that has
ended only its view stays in memory: its tasks are read where they are kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol, assert_never

from discogrid.spans import SpanSet
from discogrid.types import (
    AgentId,
    Attempt,
    Counts,
    Digest,
    JobId,
    JobState,
    NodeId,
    Outcome,
    Run,
    SandboxLevel,
    TaskState,
)
from discogrid.views import AgentView, JobView, TaskView
from discogrid_coordinator import events
from discogrid_coordinator.events import Action, Event

CHANGED_TASKS_MAX = 4096
"""Task views in one answer of `drain`; the rest comes with the next."""


class ResultNoted(Protocol):
    """The facts of one committed attempt, as the journal keeps them."""

    @property
    def attempt(self) -> Attempt:
        """Which."""

    @property
    def agent(self) -> AgentId:
        """Who ran it."""

    @property
    def outcome(self) -> Outcome:
        """How it ended."""

    @property
    def exit(self) -> int | None:
        """The script's exit code, when it got that far."""

    @property
    def started(self) -> float | None:
        """When, by the agent's clock."""

    @property
    def ended(self) -> float | None:
        """When, by the agent's clock."""

    @property
    def seconds(self) -> float:
        """The script's own run time."""

    @property
    def reason(self) -> str:
        """Why it failed; empty when it did not."""

    @property
    def archive(self) -> Digest | None:
        """Its result archive."""

    @property
    def archive_bytes(self) -> int:
        """The size of that."""

    @property
    def state(self) -> TaskState | None:
        """The task's end; None when it was not ended by this attempt."""

    @property
    def failures(self) -> int:
        """The attempts of the task that had failed by then, this one among them."""


class Kept(Protocol):
    """Where ended jobs are read."""

    def inputs(self, job: JobId, start: int, stop: int) -> Sequence[str | None]:
        """The base names of the inputs of the tasks `start <= index < stop`, None for a task without one."""

    def results(self, job: JobId, start: int, stop: int) -> Iterable[ResultNoted]:
        """The newest kept attempt of each of the tasks `start <= index < stop` that has one, in order of index."""


@dataclass(frozen=True, slots=True)
class AgentNoted:
    """What an agent said of itself in its hello, beside its offer."""

    id: AgentId
    node: NodeId
    platform: str
    python: str
    software: str


@dataclass(frozen=True, slots=True)
class Changes:
    """The newest view of whatever changed."""

    jobs: tuple[JobView, ...]
    tasks: tuple[TaskView, ...]
    agents: tuple[AgentView, ...]


@dataclass(slots=True)
class _Row:
    """A task to which something happened."""

    state: TaskState
    attempt: int = 0
    failures: int = 0
    agent: AgentId | None = None  # of the newest attempt
    held: dict[int, tuple[AgentId, TaskState]] = field(default_factory=dict)  # attempts under way, by number
    started: float | None = None
    ended: float | None = None
    seconds: float | None = None
    exit: int | None = None
    reason: str = ""
    archive: Digest | None = None
    archive_bytes: int = 0


@dataclass(slots=True)
class _Crowd:
    """Tasks without a row that ended together."""

    indices: SpanSet
    reason: str
    ended: float


@dataclass(slots=True)
class _Job:
    view: JobView  # its counts are out of date; `counts` holds
    inputs: Sequence[str | None]
    cpus: int
    tasks: int
    counts: dict[TaskState, int]
    rows: dict[int, _Row] = field(default_factory=dict)
    crowds: dict[TaskState, _Crowd] = field(default_factory=dict)
    changed: SpanSet = field(default_factory=SpanSet)

    def current_view(self) -> JobView:
        """With the counts of now."""
        return replace(self.view, counts=Counts(**{state.value: n for state, n in self.counts.items()}))


@dataclass(slots=True)
class _Agent:
    node: NodeId
    live: bool = False
    paused: bool = False
    slots: int = 0
    sandbox: SandboxLevel = SandboxLevel.NONE
    proving: bool = False
    busy: int = 0
    queued: int = 0
    done: int = 0
    platform: str = ""
    python: str = ""
    software: str = ""
    seen: float = 0.0


class Books:
    """Everything a reader may ask for."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._jobs: dict[JobId, _Job | JobView] = {}  # of a closed one its view
        self._unended: dict[JobId, None] = {}
        self._closed: dict[
            JobId, SpanSet
        ] = {}  # since the last `drain`, and which of their tasks had changed
        self._agents: dict[AgentId, _Agent] = {}
        self._changed_jobs: dict[JobId, None] = {}
        self._changed_agents: dict[AgentId, None] = {}

    # What the shell knows and the scheduler does not.

    def note_job(self, view: JobView, inputs: Sequence[str | None], cpus: int = 1) -> None:
        """A job, before its JobSubmitted: one input name (or None) for each task; each task takes `cpus` slots."""
        counts = dict.fromkeys(TaskState, 0)
        counts[TaskState.QUEUED] = len(inputs)
        job = _Job(view, inputs, cpus, len(inputs), counts)
        job.changed.add(0, len(inputs))
        self._jobs[view.id] = job
        self._unended[view.id] = None
        self._changed_jobs[view.id] = None

    def note_ended(self, view: JobView) -> None:
        """A job that had ended before."""
        self._jobs[view.id] = view

    def close(self, job_id: JobId) -> None:
        """All of a job that has ended is kept: from now on its tasks are read there. Closed and unknown ones are passed over."""
        job = self._jobs.get(job_id)
        if isinstance(job, _Job):
            self._jobs[job_id] = job.current_view()
            if job_id in self._changed_jobs:
                self._closed[job_id] = job.changed

    def forget(self, job_id: JobId) -> None:
        """A job that has ended and is dropped with its results."""
        del self._jobs[job_id]
        for among in (self._changed_jobs, self._closed, self._unended):
            among.pop(job_id, None)

    def note_agent(self, noted: AgentNoted) -> None:
        """What an agent said of itself, before its AgentJoined."""
        agent = self._agent(noted.id)
        agent.node, agent.platform = noted.node, noted.platform
        agent.python, agent.software = noted.python, noted.software

    def note_result(self, result: ResultNoted) -> None:
        """A committed attempt, before its Commit. Closed and unknown jobs are passed over."""
        attempt = result.attempt
        if (job := self._open(attempt.job)) is None:
            return
        _fill(self._row(job, attempt.index), result)

    # What happens.

    def apply(self, what: Event | Action, now: float) -> None:
        """Follow an event or an action of the scheduler, in the order in which they came."""
        match (
            what
        ):  # first what comes with every task: each pattern that does not fit costs a third of a microsecond
            case events.TaskSucceeded(name):
                self._seen(name, now)
            case events.Assign(name, run):
                self._assign(name, run)
            case events.StartTasks(name, run):
                self._start(name, run, now)
            case events.EndTasks(job_id, start, stop, state, reason):
                self._end(job_id, start, stop, state, reason, now)
            case events.ExtendJob(job_id, start, stop):
                self._extend(job_id, start, stop)
            case events.TasksAdded() | events.Commit():
                pass
            case events.AgentJoined(name, offer):
                agent = self._agent(name)
                agent.live, agent.paused, agent.seen = True, False, now
                agent.slots, agent.sandbox, agent.proving = offer.slots, offer.sandbox, offer.proving
            case events.AgentPaused(name, paused):
                self._agent(name).paused = paused
                self._seen(name, now)
            case events.AgentBeat(name) | events.TasksStarted(name) | events.TasksReturned(name):
                self._seen(name, now)
            case events.TaskFailed(name):
                self._seen(name, now)
            case events.LoseAgent(name):
                self._agent(name).live = False
            case events.Adopt(name, run):
                self._assign(name, run)
            case events.Requeue(attempt, reason):
                self._requeue(attempt, reason)
            case events.HoldJob(job_id, reason):
                self._set(job_id, state=JobState.HELD, reason=reason)
            case events.ReleaseJob(job_id):
                self._set(job_id, state=JobState.QUEUED, reason="")
            case events.StartJob(job_id):
                self._set(job_id, state=JobState.RUNNING, started=now, reason="")
            case events.EndJob(job_id, state, reason):
                self._set(job_id, state=state, ended=now, reason=reason)
                self._unended.pop(job_id, None)
            case (
                events.JobSubmitted()
                | events.JobReleased()
                | events.JobCancelled()
                | events.JobClosed()
                | events.TaskCancelled()
            ):
                pass  # told by note_job and by what the scheduler makes of it
            case events.AgentLeft() | events.Restarted() | events.TimePassed():
                pass
            case events.Welcome() | events.Resync() | events.Recall() | events.Cancel() | events.Discard():
                pass  # between coordinator and agent
            case _:
                assert_never(what)

    # What readers ask.

    def jobs(self, start: int = 0, stop: int | None = None) -> list[JobView]:
        """The jobs `start <= place < stop` of all, oldest first."""
        return [_view(job) for job in islice(self._jobs.values(), start, stop)]

    def unended(self) -> list[JobView]:
        """The jobs that have not ended, oldest first."""
        return [_view(self._jobs[job_id]) for job_id in self._unended]

    def job_count(self) -> int:
        """How many jobs there are."""
        return len(self._jobs)

    def job(self, job_id: JobId) -> JobView | None:
        """One job; None when there is none of that name."""
        job = self._jobs.get(job_id)
        return None if job is None else _view(job)

    def failures(self, attempt: Attempt) -> int:
        """How many attempts of the task have failed so far; 0 for those of closed and unknown jobs."""
        job = self._open(attempt.job)
        row = job.rows.get(attempt.index) if job else None
        return row.failures if row else 0

    def tasks(self, job_id: JobId, start: int = 0, stop: int | None = None) -> list[TaskView]:
        """The tasks `start <= index < stop` of a job, as far as there are any. KeyError when there is no such job."""
        job = self._jobs[job_id]
        tasks = job.tasks if isinstance(job, _Job) else job.counts.total
        first, last = max(0, start), tasks if stop is None else min(stop, tasks)
        if isinstance(job, JobView):
            return self._kept_tasks(job, first, last)
        named = len(job.inputs)  # what an open job was given later has no input
        return [
            _task_view(job_id, index, job.inputs[index] if index < named else None, _row_of(job, index))
            for index in range(first, last)
        ]

    def agents(self) -> list[AgentView]:
        """All agents that said hello since the start, by name."""
        return [self._agent_view(name) for name in sorted(self._agents)]

    def skip(self) -> None:
        """Nobody asks what has changed: what has so far is not told by the next `drain`."""
        self._changed_jobs, self._changed_agents, self._closed = {}, {}, {}

    def drain(self) -> Changes:
        """The newest views of what changed since the last call."""
        jobs = tuple(_view(self._jobs[job_id]) for job_id in self._changed_jobs)
        tasks: list[TaskView] = []
        left: dict[JobId, None] = {}
        for job_id in self._changed_jobs:
            job = self._jobs[job_id]
            changed = job.changed if isinstance(job, _Job) else self._closed[job_id]
            for start, stop in changed.take(CHANGED_TASKS_MAX - len(tasks)):
                tasks += self.tasks(job_id, start, stop)
            if changed:
                left[job_id] = None
        self._closed = {job_id: changed for job_id, changed in self._closed.items() if changed}
        agents = tuple(self._agent_view(name) for name in self._changed_agents)
        self._changed_jobs = left
        self._changed_agents = {}
        return Changes(jobs, tuple(tasks), agents)

    # Bookkeeping.

    def _agent(self, name: AgentId) -> _Agent:
        self._changed_agents[name] = None
        agent = self._agents.get(name)
        if agent is None:
            agent = self._agents[name] = _Agent(NodeId(""))
        return agent

    def _seen(self, name: AgentId, now: float) -> None:
        if name in self._agents:
            self._agent(name).seen = now

    def _open(self, job_id: JobId) -> _Job | None:
        job = self._jobs.get(job_id)
        return job if isinstance(job, _Job) else None

    def _set(self, job_id: JobId, **fields: JobState | float | str) -> None:
        if (job := self._open(job_id)) is not None:
            job.view = replace(job.view, **fields)  # type: ignore[arg-type]  # each caller names fields of JobView
            self._changed_jobs[job_id] = None

    def _extend(self, job_id: JobId, start: int, stop: int) -> None:
        if (job := self._open(job_id)) is not None:
            job.changed.add(start, stop)
            job.tasks = stop
            job.counts[TaskState.QUEUED] += stop - start
            self._changed_jobs[job_id] = None

    def _row(self, job: _Job, index: int) -> _Row:
        """The task's own row, made when it has none yet."""
        job.changed.add(index, index + 1)
        self._changed_jobs[job.view.id] = None
        row = job.rows.get(index)
        if row is None:
            row = job.rows[index] = _Row(TaskState.QUEUED)
            for state, crowd in job.crowds.items():
                if index in crowd.indices:
                    crowd.indices.remove(index)
                    row.state, row.reason, row.ended = state, crowd.reason, crowd.ended
        return row

    def _place(self, job: _Job, row: _Row, number: int, name: AgentId, state: TaskState) -> None:
        """The attempt `number` is with an agent, in this state."""
        self._lift(job, row, number)
        row.held[number] = (name, state)
        self._count(job, name, state, 1)

    def _lift(self, job: _Job, row: _Row, number: int) -> None:
        """The attempt is with nobody any more."""
        if number in row.held:
            self._count(job, *row.held.pop(number), -1)

    def _count(self, job: _Job, name: AgentId, state: TaskState, step: int) -> None:
        agent = self._agent(name)
        if state is TaskState.RUNNING:
            agent.busy += step * job.cpus
        else:
            agent.queued += step

    def _turn(self, job: _Job, row: _Row, state: TaskState | None = None) -> None:
        """The task is in this state; None: in the one that its attempts make of it."""
        job.counts[row.state] -= 1
        row.state = state or _going(row)
        job.counts[row.state] += 1

    def _assign(self, name: AgentId, run: Run) -> None:
        if (job := self._open(run.job)) is None:
            return
        for index in range(run.start, run.stop):
            row = self._row(job, index)
            copied = bool(row.held)
            self._place(job, row, run.number, name, TaskState.ASSIGNED)
            self._turn(job, row)
            if not copied:  # else the first attempt is what is shown, until the second one wins
                row.attempt, row.agent = run.number, name
                row.started = row.ended = row.seconds = row.exit = None
                row.reason = ""

    def _start(self, name: AgentId, run: Run, now: float) -> None:
        if (job := self._open(run.job)) is None:
            return
        for index in range(run.start, run.stop):
            row = self._row(job, index)
            self._place(job, row, run.number, name, TaskState.RUNNING)
            self._turn(job, row)
            row.started = now if row.started is None else row.started

    def _requeue(self, attempt: Attempt, reason: str) -> None:
        if (job := self._open(attempt.job)) is None:
            return
        row = self._row(job, attempt.index)
        self._lift(job, row, attempt.number)
        self._turn(job, row)
        if not row.held:
            row.reason = reason
        elif row.attempt == attempt.number:
            row.attempt, (row.agent, _) = next(iter(row.held.items()))

    def _end(self, job_id: JobId, start: int, stop: int, state: TaskState, reason: str, now: float) -> None:
        if (job := self._open(job_id)) is None:
            return
        span = range(start, stop)
        rows = (
            [index for index in span if index in job.rows]
            if len(span) == 1
            else sorted(job.rows.keys() & span)
        )
        for index in rows:
            self._end_row(job, job.rows[index], state, reason, now)
            if job.view.calls and state is TaskState.DONE and job.rows[index].archive is None:
                del job.rows[
                    index
                ]  # of calls there may be no end, and nothing is kept of those that said nothing
                self._crowd(job, state, reason, now).indices.add(index, index + 1)
        if len(rows) < len(span):
            fresh = SpanSet()
            fresh.add(start, stop)
            for index in rows:
                fresh.remove(index)
            crowd = self._crowd(job, state, reason, now)
            for low, high in fresh:
                crowd.indices.add(low, high)
            job.counts[TaskState.QUEUED] -= len(fresh)
            job.counts[state] += len(fresh)
        job.changed.add(start, stop)
        self._changed_jobs[job.view.id] = None

    def _crowd(self, job: _Job, state: TaskState, reason: str, now: float) -> _Crowd:
        crowd = job.crowds.setdefault(state, _Crowd(SpanSet(), reason, now))
        crowd.reason, crowd.ended = reason, now
        return crowd

    def _end_row(self, job: _Job, row: _Row, state: TaskState, reason: str, now: float) -> None:
        for number in list(row.held):
            self._lift(job, row, number)
        row.held = {}  # one that held something stays large
        self._turn(job, row, state)
        row.reason = reason
        row.ended = now if row.ended is None else row.ended
        if state is TaskState.DONE and row.agent is not None:
            self._agent(row.agent).done += 1

    def _kept_tasks(self, job: JobView, start: int, stop: int) -> list[TaskView]:
        """Of a closed job: what ended by no attempt of its own ended with the job; of calls nothing is kept that said nothing."""
        done = job.calls and job.state is not JobState.CANCELLED
        unknown = TaskState.DONE if done else TaskState.CANCELLED
        results = {result.attempt.index: result for result in self._kept.results(job.id, start, stop)}
        found = []
        for index, name in enumerate(self._kept.inputs(job.id, start, stop), start):
            row = _Row(unknown, reason="" if done else job.reason, ended=job.ended)
            if (result := results.get(index)) is not None:
                _fill(row, result)
                if result.state is None:
                    row.reason = job.reason
                else:
                    row.state = result.state
            found.append(_task_view(job.id, index, name, row))
        return found

    def _agent_view(self, name: AgentId) -> AgentView:
        agent = self._agents[name]
        return AgentView(
            id=name,
            node=agent.node,
            state=("paused" if agent.paused else "live") if agent.live else "lost",
            slots=agent.slots,
            busy=agent.busy,
            queued=agent.queued,
            done=agent.done,
            platform=agent.platform,
            python=agent.python,
            software=agent.software,
            sandbox=agent.sandbox.value,
            seen=agent.seen,
            proving=agent.proving,
        )


def _going(row: _Row) -> TaskState:
    """How far the attempts of a task have come."""
    states = {state for _, state in row.held.values()}
    return next((one for one in (TaskState.RUNNING, TaskState.ASSIGNED) if one in states), TaskState.QUEUED)


def _view(job: _Job | JobView) -> JobView:
    return job.current_view() if isinstance(job, _Job) else job


def _fill(row: _Row, result: ResultNoted) -> None:
    """The row tells of this attempt."""
    row.attempt, row.agent = result.attempt.number, result.agent or None
    row.failures = result.failures
    row.started, row.ended = result.started, result.ended
    row.seconds, row.exit, row.reason = result.seconds, result.exit, result.reason
    row.archive, row.archive_bytes = result.archive, result.archive_bytes


def _row_of(job: _Job, index: int) -> _Row:
    """The task's row, or one that says what is known of its crowd."""
    if (row := job.rows.get(index)) is not None:
        return row
    for state, crowd in job.crowds.items():
        if index in crowd.indices:
            return _Row(state, reason=crowd.reason, ended=crowd.ended)
    return _Row(TaskState.QUEUED)


def _task_view(job_id: JobId, index: int, name: str | None, row: _Row) -> TaskView:
    return TaskView(
        job=job_id,
        index=index,
        state=row.state,
        input=name,
        attempt=row.attempt,
        failures=row.failures,
        agent=row.agent,
        started=row.started,
        ended=row.ended,
        seconds=row.seconds,
        exit=row.exit,
        reason=row.reason,
        archive=row.archive,
        archive_bytes=row.archive_bytes,
    )
