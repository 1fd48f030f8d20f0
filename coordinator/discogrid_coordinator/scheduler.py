"""Which agent runs which task. Pure: events in, actions out; no socket, clock, thread, randomness or log.

This file says what each event means; placement.py gives waiting tasks to agents, helping.py lets agents without work
help others, floor.py and queues.py keep the books, policies.py has the numbers.

Cost: a job waits in the pool of its requirements, a pool knows its agents and which of them are spare. An event
looks at the agents it wakes, at the pools those fit and at the ranges it moves: never at all tasks, never at all
agents. Two events are dearer, once for many others: the first job with new requirements and the first refusal of a
job, each of which looks at every agent once, to fill a pool. What concerns very many at once (silence, a job that is
cancelled or held) is done in parts, one an event.
"""

import heapq
from itertools import pairwise
from typing import TypeVar, assert_never

from discogrid.types import AgentId, Attempt, JobId, JobState, Offer, Outcome, Run, TaskState
from discogrid_coordinator import policies
from discogrid_coordinator.durations import Fresh
from discogrid_coordinator.ended import Ended
from discogrid_coordinator.events import (
    Action,
    Adopt,
    AgentBeat,
    AgentJoined,
    AgentLeft,
    AgentPaused,
    Cancel,
    Commit,
    Discard,
    EndJob,
    EndTasks,
    Event,
    ExtendJob,
    HoldJob,
    JobCancelled,
    JobClosed,
    JobReleased,
    JobSubmitted,
    LoseAgent,
    RareEvent,
    ReleaseJob,
    Requeue,
    Restarted,
    Resync,
    StartJob,
    StartTasks,
    TaskCancelled,
    TaskFailed,
    TasksAdded,
    TasksReturned,
    TasksStarted,
    TaskSucceeded,
    TimePassed,
    Welcome,
)
from discogrid_coordinator.floor import Floor
from discogrid_coordinator.helping import Helping
from discogrid_coordinator.invariants import check
from discogrid_coordinator.leases import Leases
from discogrid_coordinator.locality import AtHome, Near
from discogrid_coordinator.placement import Placement
from discogrid_coordinator.queues import Agent, Hold, Job, Task, runs_of
from discogrid_coordinator.withdrawal import Withdrawal

Entry = TypeVar("Entry", tuple[float, int, Task], tuple[float, int, Agent], tuple[float, int, Job, AgentId])
"""When, a number that keeps equal times in order, and what is due then."""


class Scheduler:
    """All jobs, tasks and agents of one coordinator. `lease` names its incarnation and is part of each attempt."""

    def __init__(self, lease: int) -> None:
        self.lease = lease
        self.floor = Floor(lease)
        self.leases = Leases()
        self._placement = Placement(self.floor)
        self._helping = Helping(self.floor)
        self._withdrawal = Withdrawal(self.floor, self._helping)
        self._submitted = 0
        self._backoff: list[tuple[float, int, Task]] = []
        self._pardons: list[tuple[float, int, Job, AgentId]] = []  # when a refusal is over
        self._pauses: list[tuple[float, int, Agent]] = []  # when what a paused agent runs may be copied
        self._entries = 0  # in those three, so that equal times keep their order
        self._awaited: set[AgentId] = set()  # agents that were here before a restart
        self._awaited_until = 0.0
        self._restored: list[Job] = []  # wait for them

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in what happened at `now` (seconds of any clock that never goes back) and say what to do, in order."""
        self.floor.actions = []
        self.floor.now = now
        # Those that come with every task, first and by their type: to match a struct takes six times as long.
        if type(event) is TaskSucceeded:
            self._on_succeeded(event.agent, event.attempt, event.seconds, now)
        elif type(event) is TasksStarted:
            self._on_started(event.agent, event.runs, now)
        elif type(event) is AgentBeat:
            self._on_beat(event.agent, event.holds, now)
        else:
            self._handle_rare(event, now)
        floor = self.floor
        if self._withdrawal.busy:
            self._withdrawal.step(now)
        if floor.old_pools:
            floor.dissolve()
        if floor.strained:
            floor.strained = False
            floor.behind = True
        elif floor.woken or floor.ripe or floor.idle or floor.slowed:  # something may be placeable now
            self._placement.dispatch(now)
            self._helping.dispatch(now)
        return floor.actions

    def _handle_rare(self, event: RareEvent, now: float) -> None:
        match event:
            case TasksAdded(job_id, tasks):
                self._on_added(job_id, tasks)
            case TimePassed():
                self._on_time(now)
            case AgentJoined(name, offer, holds):
                self._on_joined(name, offer, holds, now)
            case AgentPaused(name, paused):
                self._on_paused(name, now, paused=paused)
            case AgentLeft(name, reason, goodbye):
                self._on_left(name, reason, goodbye=goodbye)
            case JobSubmitted():
                self._on_submitted(event)
            case JobReleased(job_id):
                self._on_released(job_id)
            case JobClosed(job_id):
                self._on_closed(job_id)
            case TaskCancelled(job_id, index):
                self._on_task_cancelled(job_id, index)
            case JobCancelled(job_id, reason):
                self._on_cancelled(job_id, reason)
            case TaskFailed():
                self._on_failed(event, now)
            case TasksReturned(name, runs, leaving, nonce):
                self._on_returned(name, runs, nonce, now, leaving=leaving)
            case Restarted(agents):
                self._on_restarted(agents, now)
            case _:
                assert_never(event)

    @property
    def behind(self) -> bool:
        """Whether more is to be done at once than one event may: the next TimePassed is due."""
        floor = self.floor
        return floor.behind or bool(floor.old_pools) or self._withdrawal.busy or self.leases.behind

    def deadline(self) -> float | None:
        """When the next TimePassed is due; None: not before another event."""
        if self.behind:
            return self.floor.now
        due = self.leases.deadline()
        for heap in (self._backoff, self._pardons, self._pauses):
            if heap and (due is None or heap[0][0] < due):
                due = heap[0][0]
        help_due = self._helping.deadline()
        if help_due is not None and (due is None or help_due < due):
            due = help_due
        if self._restored and (due is None or self._awaited_until < due):
            due = self._awaited_until
        return due

    def jobs_held(self, name: AgentId) -> set[JobId]:
        """The jobs of whose tasks the agent holds any, running or waiting. O(what it holds)."""
        agent = self.floor.agents.get(name)
        return {hold.task.job.id for hold in agent.held} if agent else set()

    def slots(self, job_id: JobId) -> int:
        """How many tasks of the job could run at a time on the agents that are here and take work. O(agents that fit)."""
        job = self.floor.jobs.get(job_id)
        if job is None:
            return 0
        need = job.requirements
        return sum(policies.fitting(need, agent.offer) for agent in job.pool.members if not agent.closed)

    def can_place(self, job_id: JobId) -> bool:
        """Whether any agent now on the grid could, or may yet turn out to, run the job's tasks, or none is left to run."""
        job = self.floor.jobs.get(job_id)
        if job is None or job.pool.members:
            return True
        return any(
            policies.may_yet_fit(job.requirements, agent.offer) for agent in self.floor.agents.values()
        )

    def explain(self, job_id: JobId) -> dict[AgentId, str]:
        """Why each agent does not take what waits of the job; empty when nothing waits or the job has ended."""
        job = self.floor.jobs.get(job_id)
        if job is None or not (job.ready or job.open):
            return {}
        return {name: self._obstacle(job, self.floor.agents[name]) for name in sorted(self.floor.agents)}

    def _obstacle(self, job: Job, agent: Agent) -> str:
        if reason := policies.misfit(job.requirements, agent.offer):
            early = policies.may_yet_fit(job.requirements, agent.offer)
            return f"is still finding out what it can offer (until then: {reason})" if early else reason
        if agent.name in job.pool.excluded:
            return job.pool.excluded[agent.name]
        if agent.leaving:
            return "is leaving"
        if agent.silent:
            return "has not been heard of for a while"
        if agent.paused is not None:
            return "is paused: its owner is back"
        if not agent.room(job.requirements):
            jobs = ", ".join(dict.fromkeys(hold.task.job.id for hold in agent.held))
            return f"busy with {jobs}: {max(0, agent.free_slots)} of {agent.offer.slots} slots free"
        return "failed what waits; another agent that fits is to try it first"

    # Agents.

    def _on_joined(self, name: AgentId, offer: Offer, holds: tuple[Run, ...], now: float) -> None:
        floor = self.floor
        agent = floor.agents.get(name)
        # One that has found out what it can offer is no new session: what was sent to it meanwhile still arrives.
        grace_s = policies.BEAT_GRACE_S if agent is not None and agent.offer.proving else 0.0
        if agent is None:
            agent = floor.agents[name] = Agent(name, offer, now)
        else:
            floor.go_on(agent)
            floor.withdraw(agent)
        agent.leaving = False
        agent.paused = None
        agent.reoffer(offer)
        for pool in floor.pools.values():
            # It may have had a reason that holds no more; if not, it says so again.
            pool.excluded.pop(name, None)
        self.leases.begin(agent, now)
        floor.admit(agent)
        self.leases.grow(len(floor.agents))
        interval = policies.heartbeat_interval(len(floor.agents))
        floor.actions.append(Welcome(name, interval, self.leases.lease_s))
        self._reconcile(agent, holds, now, grace_s)
        self._awaited.discard(name)
        if not self._awaited:
            self._open()

    def _on_beat(self, name: AgentId, holds: tuple[Run, ...], now: float) -> None:
        agent = self.floor.agents.get(name)
        if agent is None:
            self.floor.actions.append(Resync(name))
            return
        if self.leases.hear(agent, now):
            self._go_on(agent)
        self._reconcile(agent, holds, now, grace_s=policies.BEAT_GRACE_S)

    def _on_paused(self, name: AgentId, now: float, *, paused: bool) -> None:
        agent = self.floor.agents.get(name)
        if agent is None:
            return
        if self.leases.hear(agent, now):
            self._go_on(agent)
        if paused == (agent.paused is not None):
            return
        if paused:
            self.floor.withdraw(agent)
            agent.paused = now
            self._entries += 1
            heapq.heappush(self._pauses, (now + policies.PAUSED_S, self._entries, agent))
        else:
            agent.paused = None
            self.floor.go_on(agent)
            if not agent.closed:
                self.floor.admit(agent)

    def _on_left(self, name: AgentId, reason: str, *, goodbye: bool) -> None:
        agent = self.floor.agents.pop(name, None)
        if agent is None:
            return
        self.leases.end(agent)
        self.floor.withdraw(agent)
        for hold in list(agent.held):
            if goodbye:
                hold.started = None
            self._lose(hold, reason)
        self.floor.woken.pop(agent, None)
        self.floor.idle.pop(agent, None)
        self.floor.actions.append(LoseAgent(name, reason))

    def _go_on(self, agent: Agent) -> None:
        """It was silent, and is heard again."""
        self.floor.go_on(agent)
        if not agent.closed:
            self.floor.admit(agent)

    def _reconcile(self, agent: Agent, holds: tuple[Run, ...], now: float, grace_s: float) -> None:
        """Make the books and the agent agree on what it holds. O(runs it reports and tasks it holds)."""
        confirmed: set[Hold] = set()
        unwanted: list[Run] = []
        for run in holds:
            known = self.floor.current(agent, run)
            if len(known) != run.stop - run.start:
                known += self._take_up(agent, run, now)
                unwanted += _gaps(run, known)
            confirmed.update(known)
        if len(confirmed) != len(agent.held):
            for hold in [hold for hold in agent.held if hold not in confirmed]:
                if hold.since + grace_s <= now:
                    self._lose(hold, f"{agent.name} does not have it any more")
        if unwanted:
            self.floor.actions.append(Cancel(agent.name, tuple(unwanted)))

    def _take_up(self, agent: Agent, run: Run, now: float) -> list[Hold]:
        """Leave to the agent what was lost from it, or comes from before a restart, still waits, and runs there after all."""
        job = self.floor.jobs.get(run.job)
        if job is None:
            return []
        most = max(0, agent.offer.slots + policies.PREFETCH_MAX - len(agent.held))
        if run.lease == self.lease:
            tasks = [task for task in _known(job, run) if task.lost_by == agent.name]
            tasks = [task for task in tasks if task.lost is not None and task.lost.number == run.number]
        else:
            tasks = _waiting(job, run, most)
        holds: list[Hold] = []
        for task in tasks[:most]:
            if task.index in job.known:
                self.floor.unqueue(task)
            else:
                job.known[task.index] = task
                job.fresh.remove(task.index)
                job.grow(-1)
            if task.losses and task.losses[-1] == agent.name:
                task.losses = task.losses[:-1]
            task.number = max(task.number, run.number)
            hold = Hold(task, agent, run.number, run.lease, now)
            self.floor.put(hold)
            agent.review()
            self.floor.actions.append(Adopt(agent.name, *runs_of([hold])))
            holds.append(hold)
        return holds

    # Jobs.

    def _on_submitted(self, event: JobSubmitted) -> None:
        floor = self.floor
        if event.job in floor.jobs:
            return
        self._submitted += 1
        job = floor.jobs[event.job] = Job(
            event.job,
            event.tasks,
            event.requirements,
            event.retries,
            rank=(-event.priority, self._submitted),
            submitter=floor.submitter(event.submitter, event.weight),
            pool=floor.pool_for(event.requirements),
            held=True,
            repeatable=event.repeatable,
            fresh=Fresh(event.expected),
            ended=Ended(event.tasks),
            at_home=AtHome(event.inputs_at) if event.inputs_at else None,
            near=Near(event.shared_bytes, event.shared_at) if event.shared_bytes else None,
        )
        for start, stop in event.done + event.failed:
            job.ended.fill(start, stop)
        job.bad = sum(stop - start for start, stop in event.failed)
        job.good = len(job.ended) - job.bad
        job.mark_tail()
        job.open = event.open
        if len(job.ended) or job.open:  # a call that fails is an answer like others
            job.trial = None
        job.fresh.fill(job.ended.gaps())
        if job.complete:
            self._end_job(job)
        elif not event.held and event.restored:
            self._restored.append(job)
        elif not event.held:
            job.release()
            floor.ripe[job] = None

    def _on_added(self, job_id: JobId, tasks: int) -> None:
        job = self.floor.jobs.get(job_id)
        if job is None or not job.open or not tasks:
            return
        self.floor.actions.append(ExtendJob(job_id, job.tasks, job.tasks + tasks))
        job.extend(tasks)
        if not job.held:
            self.floor.ripe[job] = None

    def _on_task_cancelled(self, job_id: JobId, index: int) -> None:
        job = self.floor.jobs.get(job_id)
        if job is None or not job.open or not 0 <= index < job.tasks or index in job.ended:
            return
        task = job.known.get(index)
        if task is None:
            job.fresh.remove(index)
            job.grow(-1)
        elif not task.holds:
            self.floor.unqueue(task)
        else:
            for hold in task.holds:
                self.floor.drop(hold)
                self.floor.actions.append(Cancel(hold.agent.name, tuple(runs_of([hold]))))
        self._end_task(job, index, TaskState.CANCELLED, "cancelled")

    def _on_closed(self, job_id: JobId) -> None:
        job = self.floor.jobs.get(job_id)
        if job is None or not job.open:
            return
        job.open = False
        if job.complete:
            self._end_job(job)

    def _on_restarted(self, agents: tuple[AgentId, ...], now: float) -> None:
        self._awaited = set(agents) - self.floor.agents.keys()
        self._awaited_until = now + policies.RESTART_WAIT_S
        if not self._awaited:
            self._open()

    def _open(self) -> None:
        """Whoever may still have tasks of restored jobs has said so, or had the time to."""
        self._awaited.clear()
        for job in self._restored:
            if self.floor.jobs.get(job.id) is job and job.held:
                job.release()
                self.floor.ripe[job] = None
        self._restored.clear()

    def _on_released(self, job_id: JobId) -> None:
        job = self.floor.jobs.get(job_id)
        if job is None or not job.held or job in self._restored:
            return
        job.trial = None  # whoever releases it knows what its first tasks said
        job.release()
        self.floor.ripe[job] = None
        self.floor.actions.append(ReleaseJob(job_id))

    def _on_cancelled(self, job_id: JobId, reason: str) -> None:
        job = self.floor.jobs.get(job_id)
        if job is None:
            return
        for start, stop in job.ended.gaps():
            self.floor.actions.append(EndTasks(job_id, start, stop, TaskState.CANCELLED, reason))
        self.floor.actions.append(EndJob(job_id, JobState.CANCELLED, reason))
        self.floor.forget(job)
        self._withdrawal.begin(job)

    def _end_job(self, job: Job) -> None:
        if job.bad:
            reason = f"{job.bad} of {job.tasks} tasks failed"
            self.floor.actions.append(EndJob(job.id, JobState.FAILED, reason))
        else:
            self.floor.actions.append(EndJob(job.id, JobState.SUCCEEDED))
        self.floor.forget(job)

    # Answers.

    def _on_started(self, name: AgentId, runs: tuple[Run, ...], now: float) -> None:
        agent = self.floor.agents.get(name)
        if agent is None:
            return
        if self.leases.hear(agent, now):
            self._go_on(agent)
        for run in runs:
            begun: list[Hold] = []
            for hold in self.floor.current(agent, run):
                if hold.started is None:
                    self.floor.begin(hold, now)
                    begun.append(hold)
            if begun:
                job = begun[0].task.job
                if not job.started:
                    self._start_job(job)
                if job.near is not None:
                    job.near.add(name)
                parts = [run] if len(begun) == run.stop - run.start else runs_of(begun)
                for part in parts:
                    self.floor.actions.append(StartTasks(name, part))

    def _start_job(self, job: Job) -> None:
        if not job.started:
            job.started = True
            self.floor.actions.append(StartJob(job.id))

    def _on_succeeded(self, name: AgentId, attempt: Attempt, seconds: float, now: float) -> None:
        """The first valid result of a task wins, whoever's lease is over."""
        floor = self.floor
        agent = floor.agents.get(name)
        if agent is not None and self.leases.hear(agent, now):
            self._go_on(agent)
        job = floor.jobs.get(attempt.job)
        task = None if job is None else job.known.get(attempt.index)
        if job is None or not self._may_win(job, task, attempt):
            floor.actions.append(Discard(name, attempt))
            return
        floor.actions.append(Commit(name, attempt))
        if not job.started:
            self._start_job(job)
        job.durations.add(seconds)
        if agent is not None and (mean := job.durations.mean):
            agent.learn(seconds / mean)
            floor.woken[agent] = None  # the result may be of none of what it holds
        if task is None:
            job.fresh.remove(attempt.index)
            job.grow(-1)
        elif not task.holds:
            floor.unqueue(task)
        else:
            self._release_holders(task, name, attempt)
        job.good += 1
        job.trial = None
        if job.faults:
            job.faults.pop(name, None)
        self._end_task(job, attempt.index, TaskState.DONE, "")

    def _release_holders(self, task: Task, winner: AgentId, attempt: Attempt) -> None:
        """The task has ended: whoever else works at it may stop."""
        for hold in task.holds:
            agent = hold.agent
            self.floor.drop(hold)
            if agent.name != winner or hold.number != attempt.number or hold.lease != attempt.lease:
                self.floor.actions.append(Cancel(agent.name, tuple(runs_of([hold]))))

    def _may_win(self, job: Job, task: Task | None, attempt: Attempt) -> bool:
        """Whether a result of the attempt is one of the task, which is known when it was assigned and has not ended."""
        if attempt.lease == self.lease:
            return task is not None and 1 <= attempt.number <= task.number
        # Granted before a restart: the agent's signature on the result is what counts.
        return 0 <= attempt.index < job.tasks and attempt.index not in job.ended

    def _on_failed(self, event: TaskFailed, now: float) -> None:
        agent = self.floor.agents.get(event.agent)
        if agent is not None and self.leases.hear(agent, now):
            self._go_on(agent)
        holds = [] if agent is None else self.floor.current(agent, Run.of(event.attempt))
        if agent is None or not holds:
            self.floor.actions.append(Discard(event.agent, event.attempt))
            return
        self.floor.actions.append(Commit(event.agent, event.attempt))
        [hold] = holds
        match event.outcome:
            case Outcome.SCRIPT_FAILED | Outcome.LIMIT_EXCEEDED:
                self._fail(hold, event, now)
            case Outcome.BOX_FAILED | Outcome.CANCELLED | Outcome.SUCCEEDED:
                # Nobody asked for a cancellation here, and a success that comes as a failure is none.
                hold.started = now if hold.started is None else hold.started
                hold.task.avoid = _avoiding(hold.task, agent)
                self._blame(hold, now)
                self._lose(hold, event.reason)
                hold.task.lost = hold.task.lost_by = None
                self._rest(hold.task, now)
            case Outcome.TRANSFER_FAILED:
                self._back_off(hold, event.reason, now)
            case Outcome.REFUSED:
                self.floor.drop(hold)
                known = agent.name in hold.task.job.pool.excluded
                self.floor.exclude(
                    agent, hold.task.job, f"refused tasks of {hold.task.job.id}: {event.reason}"
                )
                if event.again_s is not None and not known:
                    self._pardon_in(hold.task.job, agent, event.again_s, now)
                self.floor.requeue(hold, event.reason)
            case _:
                assert_never(event.outcome)

    def _pardon_in(self, job: Job, agent: Agent, seconds: float, now: float) -> None:
        due = now + min(max(seconds, policies.REFUSED_S_MIN), policies.REFUSED_S_MAX)
        self._entries += 1
        heapq.heappush(self._pardons, (due, self._entries, job, agent.name))

    def _fail(self, hold: Hold, event: TaskFailed, now: float) -> None:
        task = hold.task
        self._start_job(task.job)
        self.floor.drop(hold)
        again = event.retryable and not policies.same_error(task.complaint, event.reason)
        task.failures += 1
        task.complaint = event.reason
        task.avoid = _avoiding(task, hold.agent)
        self._blame(hold, now)
        if again and task.failures <= task.job.retries:
            self.floor.requeue(hold, event.reason)
            return
        for other in task.holds:  # it would fail alike
            self.floor.drop(other)
            self.floor.actions.append(Cancel(other.agent.name, tuple(runs_of([other]))))
        self._end_task(task.job, task.index, TaskState.FAILED, event.reason)

    def _blame(self, hold: Hold, now: float) -> None:
        """An agent that fails what succeeds elsewhere gets no more of that for a while."""
        job, agent = hold.task.job, hold.agent
        faults = job.faults.setdefault(agent.name, set())
        faults.add(hold.task.index)
        if len(faults) < policies.FAULTS_MAX or not job.good or agent.name in job.pool.excluded:
            return
        del job.faults[agent.name]
        times = job.cooled[agent.name] = job.cooled.get(agent.name, 0) + 1
        seconds = policies.cooling(times)
        why = f"failed {policies.FAULTS_MAX} tasks of {job.id}, whose others succeeded elsewhere"
        self.floor.exclude(agent, job, f"{why}; it gets no more of them for {seconds:.0f} s")
        self._pardon_in(job, agent, seconds, now)

    def _back_off(self, hold: Hold, reason: str, now: float) -> None:
        task = hold.task
        self.floor.drop(hold)
        task.transfers += 1
        self.floor.actions.append(Requeue(hold.attempt, reason))
        if task.holds:
            return
        if task.transfers > policies.TRANSFERS_MAX:
            self._end_task(task.job, task.index, TaskState.FAILED, reason)
            return
        self._wait(task, task.transfers, now)

    def _wait(self, task: Task, failures: int, now: float) -> None:
        task.due = now + policies.backoff(task.job.id, task.index, failures)
        self._entries += 1
        heapq.heappush(self._backoff, (task.due, self._entries, task))

    def _rest(self, task: Task, now: float) -> None:
        """A task that could only go back to where its box has just failed waits: a disk that is full is so for a while."""
        job = task.job
        waits = job.known.get(task.index) is task and not task.holds
        if waits and job.pool.covered_by(task.avoid):
            self.floor.unqueue(task)
            self._wait(task, len(task.losses), now)

    def _lose(self, hold: Hold, reason: str) -> None:
        """The machine's fault: it costs the task nothing unless it had started, and the user nothing at all."""
        task, name = hold.task, hold.agent.name
        self.floor.drop(hold)
        if task.job.over:
            return
        if hold.started is not None:
            task.losses = (*task.losses, name)
            names = sorted(set(task.losses))
            accused = len(names) >= policies.LOSING_AGENTS_MAX or len(task.losses) > policies.LOSSES_MAX
            if accused and not task.holds:
                why = f"lost {len(task.losses)} times, under {', '.join(names)}; the last time: {reason}"
                self._end_task(task.job, task.index, TaskState.QUARANTINED, why)
                return
        self.floor.requeue(hold, reason)
        if not task.holds:
            task.lost, task.lost_by = hold.attempt, name

    def _on_returned(
        self, name: AgentId, runs: tuple[Run, ...], nonce: int, now: float, *, leaving: bool
    ) -> None:
        agent = self.floor.agents.get(name)
        if agent is None:
            return
        if self.leases.hear(agent, now):
            self._go_on(agent)
        if leaving:
            self.floor.withdraw(agent)
            agent.leaving = True
        for run in runs:
            for hold in self.floor.current(agent, run):
                self.floor.drop(hold)
                self.floor.requeue(hold, f"given back by {name}")
        self._helping.answered(agent, nonce)

    def _end_task(self, job: Job, index: int, state: TaskState, reason: str) -> None:
        job.known.pop(index, None)
        job.ended.add(index)
        job.bad += state not in (TaskState.DONE, TaskState.CANCELLED)
        job.unwanted += state is TaskState.CANCELLED
        if not job.tail and job.in_tail:
            job.mark_tail()
        if job.tail and job.watched is None:
            self.floor.slowed[job] = None
        self.floor.actions.append(EndTasks(job.id, index, index + 1, state, reason))
        if job.complete:
            self._end_job(job)
        elif state is TaskState.FAILED and job.trial is not None:
            job.trial.append(reason)
            if len(job.trial) == policies.TRIAL_TASKS:
                self._judge(job, job.trial)

    def _judge(self, job: Job, reasons: list[str]) -> None:
        """Its first tasks have failed: a mistake in the script is not to be made on every machine."""
        job.trial = None
        if job.held or not policies.alike(reasons):
            return
        job.hold()
        self.floor.ripe.pop(job, None)
        self._withdrawal.begin(job)
        why = f"its first {len(reasons)} tasks failed alike: {reasons[-1]}"
        self.floor.actions.append(HoldJob(job.id, why))

    # Time.

    def _on_time(self, now: float) -> None:
        found = self.leases.look(now)
        for agent in found.fallen:
            self.floor.withdraw(agent)
        for agent in found.doubted:
            self.floor.stall(agent)
        for agent in found.lost:
            self._on_left(agent.name, f"not heard of for {self.leases.lease_s:g} s", goodbye=False)
        for due, _, task in _due(self._backoff, now):
            # The task may have ended meanwhile, by a late result or with its job.
            current = task.job.known.get(task.index) is task and self.floor.jobs.get(task.job.id) is task.job
            if task.due == due and current:
                task.due = None
                self.floor.queue(task)
        for _, _, job, name in _due(self._pardons, now):
            self.floor.pardon(job, name)
        for _, _, agent in _due(self._pauses, now):
            paused = agent.paused is not None and agent.paused + policies.PAUSED_S <= now
            if paused and self.floor.agents.get(agent.name) is agent:
                self.floor.stall(agent)
        if self._restored and self._awaited_until <= now:
            self._open()
        self._helping.on_time(now)

    def check(self) -> None:
        """Every invariant, for tests. O(everything)."""
        check(self.floor, self.leases, withdrawing=self._withdrawal.busy)


def _due(heap: list[Entry], now: float) -> list[Entry]:
    """Take out what has come due, LOOKED_AT_MAX at most; where more has, the next TimePassed is due at once."""
    found: list[Entry] = []
    while heap and heap[0][0] <= now and len(found) < policies.LOOKED_AT_MAX:
        found.append(heapq.heappop(heap))
    return found


def _known(job: Job, run: Run) -> list[Task]:
    """The tasks of the run that were ever assigned. O(the shorter of the two)."""
    span = range(run.start, run.stop)
    if len(span) <= len(job.known):
        return [job.known[index] for index in span if index in job.known]
    return [job.known[index] for index in sorted(job.known) if index in span]


def _waiting(job: Job, run: Run, most: int) -> list[Task]:
    """Up to `most` tasks of the run that nobody has."""
    found: list[Task] = []
    for index in range(run.start, min(run.stop, job.tasks)):
        if len(found) == most:
            break
        task = job.known.get(index)
        if task is None and index in job.fresh:
            found.append(Task(job, index))
        elif task is not None and not task.holds:
            found.append(task)
    return found


def _gaps(run: Run, known: list[Hold]) -> list[Run]:
    """The parts of the run without the known attempts."""
    edges = [run.start - 1, *sorted(hold.task.index for hold in known), run.stop]
    return [
        Run(run.job, low + 1, high, run.number, run.lease) for low, high in pairwise(edges) if low + 1 < high
    ]


def _avoiding(task: Task, agent: Agent) -> tuple[AgentId, ...]:
    """The agents the task had better not go to, this one the newest."""
    others = tuple(name for name in task.avoid if name != agent.name)
    return (*others, agent.name)[-policies.AVOIDED_MAX :]
