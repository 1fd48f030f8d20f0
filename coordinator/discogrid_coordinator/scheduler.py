"""Which agent runs which task. Pure: events in, actions out; no socket, clock, thread, randomness or log.

Order: strict priority between jobs, then the order of submission, then the index; what waits for another attempt
goes before what never ran. An agent gets what it can start at once, then a small reserve (policies.py).

Cost: a job waits in the pool of its requirements, a pool knows its agents and which of them are spare. An event
looks at the agents it wakes, at the pools those fit and at the ranges it moves: never at all tasks, never at all
agents. Three events are dearer, once for many others: the first job with new requirements and the first refusal
of a job (each looks at every agent once, to fill a pool), and a job's cancellation (its assigned tasks).

Their place is prepared, not filled: an idle agent that `_fill` left hungry is where stealing and duplicates of
stragglers begin, `_next_for` is where fair share ranks jobs, `_reconcile` is where the reports of agents
after a restart are taken over; `suspect` and `suspended` agents are members of no pool, like leaving ones.
"""

import heapq
from collections import OrderedDict
from itertools import pairwise
from typing import assert_never

from discogrid.types import (
    AgentId,
    Attempt,
    JobId,
    JobState,
    Offer,
    Outcome,
    Requirements,
    Run,
    TaskState,
)
from discogrid_coordinator import policies
from discogrid_coordinator.events import (
    Action,
    Adopt,
    AgentBeat,
    AgentJoined,
    AgentLeft,
    Assign,
    Cancel,
    Commit,
    Discard,
    EndJob,
    EndTasks,
    Event,
    JobCancelled,
    JobReleased,
    JobSubmitted,
    LoseAgent,
    ReleaseJob,
    Requeue,
    Resync,
    StartJob,
    StartTasks,
    TaskFailed,
    TasksReturned,
    TasksStarted,
    TaskSucceeded,
    TimePassed,
    Welcome,
)
from discogrid_coordinator.queues import Agent, Job, Pool, Task, runs_of

IDLE_POOLS_MAX = 16
"""Pools without a job that are kept, so that jobs which come one by one do not look at every agent each time."""


class Scheduler:
    """All jobs, tasks and agents of one coordinator. `lease` names its incarnation and is part of each attempt."""

    def __init__(self, lease: int) -> None:
        self.lease = lease
        self._agents: dict[AgentId, Agent] = {}
        self._silence: OrderedDict[Agent, None] = OrderedDict()  # longest silent first
        self._lease_s = policies.LEASE_S
        self._jobs: dict[JobId, Job] = {}
        self._submitted = 0
        self._pools: dict[Requirements | JobId, Pool] = {}
        self._idle_pools: OrderedDict[Requirements, None] = OrderedDict()
        self._backoff: list[tuple[float, int, Task]] = []
        self._backoffs = 0
        self._pardons: list[tuple[float, int, Job, AgentId]] = []  # when a refusal is over
        self._excluded = 0
        self._actions: list[Action] = []
        self._ripe: dict[Job, None] = {}  # got ready tasks in this event
        self._woken: dict[Agent, None] = {}  # may have got room in this event

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in what happened at `now` (seconds of any clock that never goes back) and say what to do, in order."""
        self._actions = []
        match event:
            case AgentJoined(name, offer, holds):
                self._on_joined(name, offer, holds, now)
            case AgentBeat(name, holds):
                self._on_beat(name, holds, now)
            case AgentLeft(name, reason, goodbye):
                self._on_left(name, reason, goodbye=goodbye)
            case JobSubmitted():
                self._on_submitted(event)
            case JobReleased(job_id):
                self._on_released(job_id)
            case JobCancelled(job_id, reason):
                self._on_cancelled(job_id, reason)
            case TasksStarted(name, runs):
                self._on_started(name, runs, now)
            case TaskSucceeded(name, attempt, seconds):
                self._on_succeeded(name, attempt, seconds, now)
            case TaskFailed():
                self._on_failed(event, now)
            case TasksReturned(name, runs, leaving):
                self._on_returned(name, runs, now, leaving=leaving)
            case TimePassed():
                self._on_time(now)
            case _:
                assert_never(event)
        self._dispatch(now)
        return self._actions

    def deadline(self) -> float | None:
        """When the next TimePassed is due; None: not before another event."""
        dues = [heap[0][0] for heap in (self._backoff, self._pardons) if heap]
        due = min(dues, default=None)
        if self._silence:
            over = next(iter(self._silence)).seen + self._lease_s
            due = over if due is None else min(due, over)
        return due

    def jobs_held(self, name: AgentId) -> set[JobId]:
        """The jobs of whose tasks the agent holds any, running or waiting. O(what it holds)."""
        agent = self._agents.get(name)
        return {task.job.id for task in agent.held} if agent else set()

    def can_place(self, job_id: JobId) -> bool:
        """Whether any agent now on the grid could run the job's tasks, or nothing of it is left to run."""
        job = self._jobs.get(job_id)
        return job is None or bool(job.pool.members)

    def explain(self, job_id: JobId) -> dict[AgentId, str]:
        """Why each agent does not take what waits of the job; empty when nothing waits or the job has ended."""
        job = self._jobs.get(job_id)
        if job is None or not job.ready:
            return {}
        return {name: self._obstacle(job, self._agents[name]) for name in sorted(self._agents)}

    def _obstacle(self, job: Job, agent: Agent) -> str:
        if reason := policies.misfit(job.requirements, agent.offer):
            return reason
        if agent.name in job.pool.excluded:
            return f"refused tasks of {job.id}: {job.pool.excluded[agent.name]}"
        if agent.leaving:
            return "is leaving"
        if not agent.room(job.requirements):
            jobs = ", ".join(dict.fromkeys(task.job.id for task in agent.held))
            return f"busy with {jobs}: {max(0, agent.free_slots)} of {agent.offer.slots} slots free"
        return "failed what waits; another agent that fits is to try it first"

    # Agents.

    def _on_joined(self, name: AgentId, offer: Offer, holds: tuple[Run, ...], now: float) -> None:
        agent = self._agents.get(name)
        if agent is None:
            agent = self._agents[name] = Agent(name, offer, now)
        else:
            self._withdraw(agent)
        agent.leaving = False
        agent.reoffer(offer)
        self._hear(agent, now)
        for pool in self._pools.values():
            pool.excluded.pop(
                name, None
            )  # it may have had a reason that holds no more; if not, it says so again
            if not policies.misfit(pool.requirements, offer):
                pool.admit(agent)
        # Never shorter: an agent keeps the rhythm it was welcomed with.
        self._lease_s = max(self._lease_s, policies.lease(len(self._agents)))
        interval = policies.heartbeat_interval(len(self._agents))
        self._actions.append(Welcome(name, interval, self._lease_s))
        self._reconcile(agent, holds, now, grace_s=0.0)

    def _on_beat(self, name: AgentId, holds: tuple[Run, ...], now: float) -> None:
        agent = self._agents.get(name)
        if agent is None:
            self._actions.append(Resync(name))
            return
        self._hear(agent, now)
        self._reconcile(agent, holds, now, grace_s=policies.BEAT_GRACE_S)

    def _on_left(self, name: AgentId, reason: str, *, goodbye: bool) -> None:
        agent = self._agents.pop(name, None)
        if agent is None:
            return
        del self._silence[agent]
        self._withdraw(agent)
        for task in list(agent.held):
            task.started = task.started and not goodbye
            self._lose(task, reason)
        self._woken.pop(agent, None)
        self._actions.append(LoseAgent(name, reason))

    def _withdraw(self, agent: Agent) -> None:
        """Nothing more goes to the agent; those it leaves behind may have to do what they were spared."""
        for pool in list(agent.pools):
            pool.dismiss(agent)
            self._shrunk(pool)

    def _hear(self, agent: Agent, now: float) -> None:
        agent.seen = now
        self._silence[agent] = None
        self._silence.move_to_end(agent)
        self._woken[agent] = None

    def _reconcile(self, agent: Agent, holds: tuple[Run, ...], now: float, grace_s: float) -> None:
        """Make the books and the agent agree on what it holds. O(runs it reports and tasks it holds)."""
        confirmed: dict[Task, None] = {}
        unwanted: list[Run] = []
        for run in holds:
            known = self._current(agent, run)
            if len(known) != len(run):
                known += self._take_up(agent, run, now)
                unwanted += _gaps(run, known)
            confirmed.update(dict.fromkeys(known))
        if len(confirmed) != len(agent.held):
            for task in [task for task in agent.held if task not in confirmed]:
                if task.assigned_at + grace_s <= now:
                    self._lose(task, f"{agent.name} does not have it any more")
        if unwanted:
            self._actions.append(Cancel(agent.name, tuple(unwanted)))

    def _take_up(self, agent: Agent, run: Run, now: float) -> list[Task]:
        """Leave to the agent what was lost from it, still waits, and still runs there after all."""
        job = self._jobs.get(run.job)
        if job is None or run.lease != self.lease:
            return []
        span = range(run.start, run.stop)
        if len(span) <= len(job.known):
            tasks = [job.known[index] for index in span if index in job.known]
        else:
            tasks = [job.known[index] for index in sorted(job.known) if index in span]
        lost = [task for task in tasks if task.lost_from == agent.name and task.number == run.number]
        for task in lost:
            self._adopt(agent, task, now)
        return lost

    def _adopt(self, agent: Agent, task: Task, now: float) -> None:
        self._unqueue(task)
        if task.losses and task.losses[-1] == agent.name:
            task.losses.pop()
        self._hold(agent, [task], now)
        self._actions.append(Adopt(agent.name, *runs_of([task], self.lease)))

    # Jobs.

    def _on_submitted(self, event: JobSubmitted) -> None:
        if event.job in self._jobs:
            return
        self._submitted += 1
        pool = self._pool_for(event.requirements)
        rank = (-event.priority, self._submitted)
        job = Job(event.job, event.tasks, event.requirements, event.retries, rank, pool, event.held)
        self._jobs[event.job] = job
        for start, stop in event.done + event.failed:
            job.ended.add(start, stop)
        job.bad = sum(stop - start for start, stop in event.failed)
        for start, stop in job.ended.gaps(job.tasks):
            job.fresh.add(start, stop)
        if not job.fresh:
            self._end_job(job)
        elif not job.held:
            pool.grow(job, len(job.fresh))
            self._ripe[job] = None

    def _on_released(self, job_id: JobId) -> None:
        job = self._jobs.get(job_id)
        if job is None or not job.held:
            return
        job.held = False
        job.pool.grow(job, len(job.fresh))
        self._ripe[job] = None
        self._actions.append(ReleaseJob(job_id))

    def _on_cancelled(self, job_id: JobId, reason: str) -> None:
        job = self._jobs.get(job_id)
        if job is None:
            return
        holders: dict[Agent, list[Task]] = {}
        for index in sorted(job.known):
            task = job.known[index]
            if task.holder is not None:
                holders.setdefault(task.holder, []).append(task)
        for agent, tasks in holders.items():
            self._drop(agent, tasks)
            self._actions.append(Cancel(agent.name, tuple(runs_of(tasks, self.lease))))
        for start, stop in job.ended.gaps(job.tasks):
            self._actions.append(EndTasks(job_id, start, stop, TaskState.CANCELLED, reason))
        self._actions.append(EndJob(job_id, JobState.CANCELLED, reason))
        self._forget(job)

    def _end_job(self, job: Job) -> None:
        if job.bad:
            reason = f"{job.bad} of {job.tasks} tasks failed"
            self._actions.append(EndJob(job.id, JobState.FAILED, reason))
        else:
            self._actions.append(EndJob(job.id, JobState.SUCCEEDED))
        self._forget(job)

    def _forget(self, job: Job) -> None:
        del self._jobs[job.id]
        self._ripe.pop(job, None)
        if job.ready:
            job.pool.grow(job, -job.ready)
        self._leave_pool(job)

    # Pools.

    def _pool_for(self, requirements: Requirements) -> Pool:
        pool = self._pools.get(requirements)
        if pool is None:
            pool = self._pools[requirements] = Pool(requirements)
            for agent in self._agents.values():
                if not agent.leaving and not policies.misfit(requirements, agent.offer):
                    pool.admit(agent)
        self._idle_pools.pop(requirements, None)
        pool.jobs += 1
        return pool

    def _leave_pool(self, job: Job) -> None:
        pool = job.pool
        pool.jobs -= 1
        if pool.jobs:
            return
        if self._pools.get(pool.requirements) is pool:
            self._idle_pools[pool.requirements] = None
            if len(self._idle_pools) > IDLE_POOLS_MAX:
                oldest, _ = self._idle_pools.popitem(last=False)
                self._dissolve(self._pools.pop(oldest))
        else:
            self._dissolve(self._pools.pop(job.id))

    def _dissolve(self, pool: Pool) -> None:
        for agent in list(pool.members):
            pool.dismiss(agent)

    def _pardon(self, job: Job, name: AgentId) -> None:
        """The time for which the agent refused the job is over."""
        if self._jobs.get(job.id) is not job or job.pool.excluded.pop(name, None) is None:
            return
        agent = self._agents.get(name)
        if agent is not None and not agent.leaving and not policies.misfit(job.requirements, agent.offer):
            job.pool.admit(agent)
            self._woken[agent] = None

    def _exclude(self, agent: Agent, job: Job, reason: str) -> None:
        """The agent refused: the job moves to a pool of its own, without it."""
        if job.id not in self._pools:
            own = self._pools[job.id] = Pool(job.requirements, jobs=1)
            for member in job.pool.members:
                own.admit(member)
            ready = job.ready
            if ready:
                job.pool.grow(job, -ready)
            self._leave_pool(job)
            job.pool = own
            if ready:
                own.grow(job, ready)
        job.pool.excluded[agent.name] = reason
        if agent in job.pool.members:
            job.pool.dismiss(agent)
            self._shrunk(job.pool)

    def _shrunk(self, pool: Pool) -> None:
        """Tasks that avoided the agents now left alone in the pool have nowhere else to go."""
        if len(pool.members) <= policies.AVOIDED_MAX:
            for _, job in pool.waiting:
                if job.lanes:
                    self._ripe[job] = None

    # Answers.

    def _on_started(self, name: AgentId, runs: tuple[Run, ...], now: float) -> None:
        agent = self._agents.get(name)
        if agent is None:
            return
        self._hear(agent, now)
        for run in runs:
            tasks = [task for task in self._current(agent, run) if not task.started]
            for task in tasks:
                task.started = True
                self._start_job(task.job)
            self._actions += [StartTasks(name, part) for part in runs_of(tasks, self.lease)]

    def _start_job(self, job: Job) -> None:
        if not job.started:
            job.started = True
            self._actions.append(StartJob(job.id))

    def _on_succeeded(self, name: AgentId, attempt: Attempt, seconds: float, now: float) -> None:
        """The first valid result of a task wins, whoever's lease is over."""
        agent = self._agents.get(name)
        if agent is not None:
            self._hear(agent, now)
        job = self._jobs.get(attempt.job)
        if job is None or not self._may_win(job, attempt):
            self._actions.append(Discard(name, attempt))
            return
        self._actions.append(Commit(name, attempt))
        self._start_job(job)
        job.learn(seconds)
        task = job.known.get(attempt.index)
        if task is None:
            job.fresh.remove(attempt.index)
            if not job.held:
                job.pool.grow(job, -1)
        elif task.holder is None:
            self._unqueue(task)
        else:
            holder = task.holder
            self._drop(holder, [task])
            if holder is not agent or task.number != attempt.number or attempt.lease != self.lease:
                self._actions.append(Cancel(holder.name, tuple(runs_of([task], self.lease))))
        self._end_task(job, attempt.index, TaskState.DONE, "")

    def _may_win(self, job: Job, attempt: Attempt) -> bool:
        if not 0 <= attempt.index < job.tasks or attempt.index in job.ended:
            return False
        if attempt.lease != self.lease:
            return True  # granted before a restart: the agent's signature on the result is what counts
        task = job.known.get(attempt.index)
        return task is not None and 1 <= attempt.number <= task.number

    def _on_failed(self, event: TaskFailed, now: float) -> None:
        agent = self._agents.get(event.agent)
        if agent is not None:
            self._hear(agent, now)
        tasks = [] if agent is None else self._current(agent, Run.of(event.attempt))
        if agent is None or not tasks:
            self._actions.append(Discard(event.agent, event.attempt))
            return
        self._actions.append(Commit(event.agent, event.attempt))
        task = tasks[0]
        match event.outcome:
            case Outcome.SCRIPT_FAILED | Outcome.LIMIT_EXCEEDED:
                self._fail(agent, task, event)
            case Outcome.BOX_FAILED | Outcome.CANCELLED | Outcome.SUCCEEDED:
                # Nobody asked for a cancellation here, and a success that comes as a failure is none.
                task.started = True
                task.avoid = _avoiding(task, agent)
                self._lose(task, event.reason)
                task.lost_from = None
            case Outcome.TRANSFER_FAILED:
                self._back_off(agent, task, event.reason, now)
            case Outcome.REFUSED:
                self._drop(agent, [task])
                known = agent.name in task.job.pool.excluded
                self._exclude(agent, task.job, event.reason)
                if event.again_s is not None and not known:
                    due = now + min(max(event.again_s, policies.REFUSED_S_MIN), policies.REFUSED_S_MAX)
                    self._excluded += 1
                    heapq.heappush(self._pardons, (due, self._excluded, task.job, agent.name))
                self._requeue(task, event.reason)
            case _:
                assert_never(event.outcome)

    def _fail(self, agent: Agent, task: Task, event: TaskFailed) -> None:
        self._start_job(task.job)
        self._drop(agent, [task])
        task.failures += 1
        task.avoid = _avoiding(task, agent)
        if event.retryable and task.failures <= task.job.retries:
            self._requeue(task, event.reason)
        else:
            self._end_task(task.job, task.index, TaskState.FAILED, event.reason)

    def _back_off(self, agent: Agent, task: Task, reason: str, now: float) -> None:
        self._drop(agent, [task])
        task.transfers += 1
        if task.transfers > policies.TRANSFERS_MAX:
            self._end_task(task.job, task.index, TaskState.FAILED, reason)
            return
        task.due = now + policies.backoff(task.job.id, task.index, task.transfers)
        self._backoffs += 1
        heapq.heappush(self._backoff, (task.due, self._backoffs, task))
        self._actions.append(Requeue(_attempt(task, self.lease), reason))

    def _lose(self, task: Task, reason: str) -> None:
        """The machine's fault: it costs the task nothing unless it had started, and the user nothing at all."""
        holder = task.holder
        assert holder is not None
        self._drop(holder, [task])
        if task.started:
            task.losses.append(holder.name)
            names = sorted(set(task.losses))
            if len(names) >= policies.LOSING_AGENTS_MAX or len(task.losses) > policies.LOSSES_MAX:
                why = f"lost {len(task.losses)} times, under {', '.join(names)}; the last time: {reason}"
                self._end_task(task.job, task.index, TaskState.QUARANTINED, why)
                return
        task.lost_from = holder.name
        self._requeue(task, reason)

    def _on_returned(self, name: AgentId, runs: tuple[Run, ...], now: float, *, leaving: bool) -> None:
        agent = self._agents.get(name)
        if agent is None:
            return
        self._hear(agent, now)
        if leaving:
            agent.leaving = True
            self._withdraw(agent)
        for run in runs:
            for task in self._current(agent, run):
                self._drop(agent, [task])
                self._requeue(task, f"given back by {name}")

    def _end_task(self, job: Job, index: int, state: TaskState, reason: str) -> None:
        job.known.pop(index, None)
        job.ended.add(index, index + 1)
        job.bad += state is not TaskState.DONE
        self._actions.append(EndTasks(job.id, index, index + 1, state, reason))
        if len(job.ended) == job.tasks:
            self._end_job(job)

    # Time.

    def _on_time(self, now: float) -> None:
        while self._silence:
            agent = next(iter(self._silence))
            if agent.seen + self._lease_s > now:
                break
            self._on_left(agent.name, f"not heard of for {self._lease_s:g} s", goodbye=False)
        while self._backoff and self._backoff[0][0] <= now:
            due, _, task = heapq.heappop(self._backoff)
            # The task may have ended meanwhile, by a late result or with its job.
            if (
                task.due == due
                and task.job.known.get(task.index) is task
                and self._jobs.get(task.job.id) is task.job
            ):
                task.due = None
                self._queue(task)
        while self._pardons and self._pardons[0][0] <= now:
            _, _, job, name = heapq.heappop(self._pardons)
            self._pardon(job, name)

    # Placement.

    def _dispatch(self, now: float) -> None:
        """First every spare agent for what became ready, then every woken agent's free slots, then their reserves."""
        for job in sorted(self._ripe, key=lambda job: job.rank):
            self._spread(job, now)
        for agent in self._woken:
            self._fill(agent, now, policies.PREFETCH_MAX + agent.offer.slots)
        for agent in self._woken:
            self._send_ahead(agent, now)
        self._ripe.clear()
        self._woken.clear()

    def _spread(self, job: Job, now: float) -> None:
        """Give the job's ready tasks to spare agents, in equal shares. O(agents that get one)."""
        pool = job.pool
        turns = share = 0
        while job.ready:
            agent = self._able(job)
            if agent is None:
                return
            if not turns:
                turns = len(pool.spare)
                share = -(-pool.ready // turns)
            turns -= 1
            self._fill(agent, now, share)
            if agent in pool.spare:
                pool.spare.move_to_end(agent)
            self._woken[agent] = None

    def _fill(self, agent: Agent, now: float, count: int) -> None:
        """Give the agent up to `count` tasks for its free slots, of the foremost jobs that have some for it."""
        while count > 0 and agent.is_open():
            job = self._next_for(agent)
            if job is None:
                return
            room = agent.room(job.requirements)
            if not room:
                rival = self._next_for(agent, at_once=True)
                if rival is None:
                    return
                # The foremost task needs more than is free now. Unless another agent can start it, it goes ahead
                # and what is free waits for it: else smaller tasks behind it would keep the agent full for ever.
                job, room = (job, 1) if self._able(job) is None else (rival, agent.room(rival.requirements))
            count -= self._assign(agent, job, min(count, room), now)

    def _able(self, job: Job) -> Agent | None:
        """The agent that could start a ready task of the job and was longest without work.

        Each agent passed over is avoided by every lane, so there are at most AVOIDED_MAX of them.
        """
        return next((agent for agent in job.pool.spare if job.suits(agent)), None)

    def _send_ahead(self, agent: Agent, now: float) -> None:
        """Give the agent a reserve, so that the next input is there when a task ends."""
        job = self._next_for(agent)
        if job is None:
            return
        need = job.requirements
        wanted = policies.prefetch(job.mean_s, agent.offer.slots // need.cpus)
        count = policies.reserve(wanted, job.pool.ready, len(job.pool.members)) - agent.excess(need)
        if count > 0:
            self._assign(agent, job, count, now)

    def _next_for(self, agent: Agent, *, at_once: bool = False) -> Job | None:
        """The foremost job with a ready task for the agent (`at_once`: one for which it has room).

        O(pools it fits), and jobs whose tasks avoid it.
        """
        best: Job | None = None
        for pool in agent.pools:
            if at_once and agent not in pool.spare:
                continue
            for rank, job in pool.waiting:
                if best is not None and best.rank < rank:
                    break
                if job.suits(agent):
                    best = job
                    break
        return best

    def _assign(self, agent: Agent, job: Job, count: int, now: float) -> int:
        tasks = job.take(agent, count)
        for task in tasks:
            task.number += 1
        self._hold(agent, tasks, now)
        self._actions += [Assign(agent.name, run) for run in runs_of(tasks, self.lease)]
        return len(tasks)

    # Bookkeeping.

    def _current(self, agent: Agent, run: Run) -> list[Task]:
        """The tasks of the run that the agent holds in this very attempt. O(the shorter of the two)."""
        job = self._jobs.get(run.job)
        if job is None or run.lease != self.lease:
            return []
        if len(run) <= len(agent.held):
            found = [job.known[index] for index in range(run.start, run.stop) if index in job.known]
            return [task for task in found if task.holder is agent and task.number == run.number]
        return [
            task
            for task in agent.held
            if task.job is job and task.number == run.number and run.start <= task.index < run.stop
        ]

    def _hold(self, agent: Agent, tasks: list[Task], now: float) -> None:
        for task in tasks:
            task.holder = agent
            task.assigned_at = now
            task.started = False
            task.lost_from = None
            agent.held[task] = None
        agent.use(tasks[0].job.requirements, len(tasks))

    def _drop(self, agent: Agent, tasks: list[Task]) -> None:
        for task in tasks:
            task.holder = None
            del agent.held[task]
        agent.use(tasks[0].job.requirements, -len(tasks))
        self._woken[agent] = None

    def _requeue(self, task: Task, reason: str) -> None:
        self._actions.append(Requeue(_attempt(task, self.lease), reason))
        self._queue(task)

    def _queue(self, task: Task) -> None:
        task.job.queue(task)
        self._ripe[task.job] = None

    def _unqueue(self, task: Task) -> None:
        """The task is to wait no more, be it for an agent or for the end of its back-off."""
        if task.due is None:
            task.job.unqueue(task)
        task.due = None

    def check(self) -> None:
        """Every invariant, for tests and for `--paranoid`. O(everything)."""
        self._check_tasks()
        self._check_agents()
        self._check_pools()
        assert not self._woken, "an agent is left to be served"
        assert not self._ripe, "ready tasks are left to be placed"

    def _check_tasks(self) -> None:
        for job in self._jobs.values():
            assert len(job.ended) < job.tasks, "a job outlives its tasks"
            places: list[tuple[int, int]] = [*job.fresh, *job.ended]
            for lane, spans in job.lanes.items():
                assert spans, "an empty lane is kept"
                assert all(job.known[index].avoid == lane for span in spans for index in range(*span))
                places += spans
            for index, task in job.known.items():
                assert (task.job, task.index) == (job, index), "a task is filed under another name"
                assert task.number >= 1, "a fresh task has an object"
                assert task.failures <= job.retries, "a budget is overdrawn"
                assert task.holder is None or task in task.holder.held, "an agent does not know what it holds"
                if task.holder is not None or task.due is not None:
                    places.append((index, index + 1))
                assert task.holder is None or task.due is None, "a held task waits"
            places.sort()
            edges = [0, *(edge for place in places for edge in place), job.tasks]
            assert edges[0::2] == edges[1::2], "a task is lost, or in two places"
            queued = len(job.fresh) + sum(len(spans) for spans in job.lanes.values())
            assert job.ready == (0 if job.held else queued), "the count of ready tasks is off"

    def _check_agents(self) -> None:
        assert set(self._silence) == set(self._agents.values()), "a lease is lost"
        seen = [agent.seen for agent in self._silence]
        assert seen == sorted(seen), "leases are out of order"
        for agent in self._agents.values():
            for task in agent.held:
                assert task.holder is agent, "two agents hold one task"
                assert task.job.known.get(task.index) is task, "an agent holds what has ended"
                assert self._jobs.get(task.job.id) is task.job, "an agent holds a task of no job"
            needs = [task.job.requirements for task in agent.held]
            assert agent.free_slots == agent.offer.slots - sum(need.cpus for need in needs)
            assert agent.free_memory == agent.offer.memory_bytes - sum(need.memory_bytes for need in needs)
            assert agent.free_gpus == agent.offer.gpus - sum(need.gpus for need in needs)
            assert len(agent.held) <= agent.offer.slots + policies.PREFETCH_MAX or agent.leaving

    def _check_pools(self) -> None:
        lives: dict[Pool, int] = dict.fromkeys(self._pools.values(), 0)
        for job in self._jobs.values():
            lives[job.pool] += 1
        for key, pool in self._pools.items():
            assert pool.jobs == lives[pool], "the count of a pool's jobs is off"
            assert (pool.jobs == 0) == (key in self._idle_pools), "an idle pool is forgotten"
            waiting = [job for job in self._jobs.values() if job.pool is pool and job.ready]
            assert [job for _, job in pool.waiting] == sorted(waiting, key=lambda job: job.rank)
            assert pool.ready == sum(job.ready for job in waiting)
            for agent in self._agents.values():
                fits = not policies.misfit(pool.requirements, agent.offer)
                member = fits and not agent.leaving and agent.name not in pool.excluded
                assert member == (agent in pool.members) == (pool in agent.pools), "a pool is out of date"
                room = member and agent.room(pool.requirements) > 0
                assert room == (agent in pool.spare), "a pool's spare agents are out of date"
                assert not room or not any(job.suits(agent) for job in waiting), "work waits for a free agent"
            assert set(pool.members) <= set(self._agents.values()), "a pool knows a lost agent"


def _attempt(task: Task, lease: int) -> Attempt:
    return Attempt(task.job.id, task.index, task.number, lease)


def _gaps(run: Run, known: list[Task]) -> list[Run]:
    """The parts of the run without the known tasks."""
    edges = [run.start - 1, *sorted(task.index for task in known), run.stop]
    return [
        Run(run.job, low + 1, high, run.number, run.lease) for low, high in pairwise(edges) if low + 1 < high
    ]


def _avoiding(task: Task, agent: Agent) -> tuple[AgentId, ...]:
    """The agents the task had better not go to, this one the newest."""
    others = tuple(name for name in task.avoid if name != agent.name)
    return (*others, agent.name)[-policies.AVOIDED_MAX :]
