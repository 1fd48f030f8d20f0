"""The floor that the scheduler works on: all jobs, agents and pools, who holds what, and what this event has touched.

Law of the file: bookkeeping only, as in queues.py, but of what several of its values share. Every change to who holds
a task goes through `put` and `drop`.
"""

from collections import OrderedDict, deque
from itertools import islice

from discogrid.types import AgentId, JobId, NodeId, Requirements, Run
from discogrid_coordinator import policies
from discogrid_coordinator.events import Action, Assign, Requeue
from discogrid_coordinator.queues import Agent, Hold, Job, Pool, Submitter, Task, runs_of

IDLE_POOLS_MAX = 16
"""Pools without a job that are kept, so that jobs which come one by one do not look at every agent each time."""


class Floor:
    """What `scheduler`, `placement` and `helping` share."""

    def __init__(self, lease: int) -> None:
        self.lease = lease
        self.agents: dict[AgentId, Agent] = {}
        self.jobs: dict[JobId, Job] = {}
        self.pools: dict[Requirements | JobId, Pool] = {}
        self.idle_pools: OrderedDict[Requirements, None] = OrderedDict()
        self.old_pools: deque[Pool] = deque()  # no job lives there, and nothing waits
        self.submitters: dict[NodeId, Submitter] = {}
        self.actions: list[Action] = []
        self.now = 0.0  # of this event
        self.behind = False  # whether more could be placed than one event may
        self.strained = False  # whether this event has looked at very many agents, and is to do no more
        self.ripe: dict[Job, None] = {}  # got ready tasks in this event
        self.woken: dict[Agent, None] = {}  # may have got room in this event
        self.idle: dict[Agent, None] = {}  # nothing that waits is for them; they may help others
        self.slowed: dict[Job, None] = {}  # may have stragglers, or fewer of them, since this event

    # Who holds what.

    def put(self, hold: Hold) -> None:
        """The agent has this attempt; the pools are told by `agent.review`."""
        task, agent = hold.task, hold.agent
        job = task.job
        need = job.requirements
        if task.holds:
            for other in task.holds:
                if job.stalled.pop(other, other) is None:
                    job.mark_tail()
            task.holds += (hold,)
        else:
            task.holds = (hold,)
        if task.lost is not None:
            task.lost = task.lost_by = None
        agent.held[hold] = None
        job.submitter.cpus += need.cpus
        agent.free_slots -= need.cpus
        agent.free_memory -= need.memory_bytes
        agent.free_gpus -= need.gpus
        agent.stale = True

    def assign(self, agent: Agent, tasks: list[Task], now: float) -> None:
        """Give the agent a new attempt of each of these tasks of one job."""
        holds: list[Hold] = []
        for task in tasks:
            task.number += 1
            hold = Hold(task, agent, task.number, self.lease, now)
            self.put(hold)
            holds.append(hold)
        agent.review()
        for run in runs_of(holds):
            self.actions.append(Assign(agent.name, run))

    def drop(self, hold: Hold) -> None:
        """The agent has this attempt no more; the pools are told when it has got something new."""
        task, agent = hold.task, hold.agent
        job = task.job
        need = job.requirements
        hold.over = True
        del agent.held[hold]
        if job.stalled and job.stalled.pop(hold, hold) is None:
            job.mark_tail()
        if hold.recalled:
            agent.recalled_cpus -= need.cpus
        if len(task.holds) == 1:
            task.holds = ()
        else:  # who runs it alone again may be slow
            task.holds = tuple(one for one in task.holds if one is not hold)
            job.rejoin(task.holds)
            self.slowed[job] = None
        if job.doubled:
            job.doubled.pop(hold, None)
        job.submitter.cpus -= need.cpus
        agent.free_slots += need.cpus
        agent.free_memory += need.memory_bytes
        agent.free_gpus += need.gpus
        agent.stale = True
        self.woken[agent] = None

    def begin(self, hold: Hold, now: float) -> None:
        """It runs."""
        hold.started = now
        if hold.recalled:
            self.keep(hold)
        job = hold.task.job
        job.begin(hold)
        if job.tail and job.watched is None:
            self.slowed[job] = None

    def recall(self, hold: Hold) -> None:
        """It has been asked back."""
        hold.recalled = True
        hold.agent.recalled_cpus += hold.task.job.requirements.cpus
        hold.agent.review()

    def keep(self, hold: Hold) -> None:
        """It is not given back after all."""
        hold.recalled = False
        hold.agent.recalled_cpus -= hold.task.job.requirements.cpus
        hold.agent.review()

    def stall(self, agent: Agent) -> None:
        """The agent may not end what it has: others may run that too."""
        for hold in agent.held:
            job = hold.task.job
            job.stalled[hold] = None
            job.mark_tail()
            self.slowed[job] = None

    def go_on(self, agent: Agent) -> None:
        """It does after all."""
        for hold in agent.held:
            if hold.task.job.stalled.pop(hold, hold) is None:
                hold.task.job.mark_tail()

    def current(self, agent: Agent, run: Run) -> list[Hold]:
        """The attempts of the run that the agent holds. O(the shorter of the two)."""
        job = self.jobs.get(run.job)
        if job is None:
            return []
        if run.stop - run.start == 1:
            task = job.known.get(run.start)
            if task is not None:
                for hold in task.holds:
                    if hold.agent is agent and hold.number == run.number and hold.lease == run.lease:
                        return [hold]
            return []
        if len(run) <= len(agent.held):
            tasks = [job.known[index] for index in range(run.start, run.stop) if index in job.known]
            holds = [hold for task in tasks for hold in task.holds]
        else:
            holds = [hold for hold in agent.held if run.start <= hold.task.index < run.stop]
        wanted = (agent, run.number, run.lease, job)
        return [hold for hold in holds if (hold.agent, hold.number, hold.lease, hold.task.job) == wanted]

    # What waits.

    def requeue(self, hold: Hold, reason: str) -> None:
        """The dropped attempt is over without an end of its task, which waits, unless it is in other hands too."""
        self.actions.append(Requeue(hold.attempt, reason))
        if not hold.task.holds:
            self.queue(hold.task)

    def queue(self, task: Task) -> None:
        """The task waits again."""
        task.job.queue(task)
        self.ripe[task.job] = None

    def unqueue(self, task: Task) -> None:
        """The task is to wait no more, be it for an agent or for the end of its back-off."""
        if task.due is None:
            task.job.unqueue(task)
        task.due = None

    # Who may have what.

    def submitter(self, node: NodeId, weight: float) -> Submitter:
        """Whose jobs these are."""
        found = self.submitters.setdefault(node, Submitter(node))
        found.weight = max(weight, policies.WEIGHT_MIN)
        return found

    def admit(self, agent: Agent) -> None:
        """The agent takes work: it is a member of each pool that it fits."""
        for pool in self.pools.values():
            if agent.name not in pool.excluded and not policies.misfit(pool.requirements, agent.offer):
                pool.admit(agent)
        self.woken[agent] = None

    def withdraw(self, agent: Agent) -> None:
        """Nothing more goes to the agent; those it leaves behind may have to do what they were spared."""
        for pool in list(agent.pools):
            pool.dismiss(agent)
            self._shrunk(pool)

    def pool_for(self, requirements: Requirements) -> Pool:
        """The pool of these requirements, with one more job."""
        pool = self.pools.get(requirements)
        if pool is None:
            pool = self.pools[requirements] = Pool(requirements)
            for agent in self.agents.values():
                if not agent.closed and not policies.misfit(requirements, agent.offer):
                    pool.admit(agent)
            self.strained = len(self.agents) > policies.WITHDRAWN_MAX
        self.idle_pools.pop(requirements, None)
        pool.jobs += 1
        return pool

    def exclude(self, agent: Agent, job: Job, reason: str) -> None:
        """The agent is to have none of the job, which moves to a pool of its own."""
        if job.id not in self.pools:
            own = self.pools[job.id] = Pool(job.requirements, jobs=1)
            for member in job.pool.members:
                own.admit(member)
            before = job.pool
            job.move(own)
            self._left(before, job.id)
        job.pool.excluded[agent.name] = reason
        if agent in job.pool.members:
            job.pool.dismiss(agent)
            self._shrunk(job.pool)

    def pardon(self, job: Job, name: AgentId) -> None:
        """The agent may have tasks of the job again."""
        if self.jobs.get(job.id) is not job or job.pool.excluded.pop(name, None) is None:
            return
        agent = self.agents.get(name)
        if agent is not None and not agent.closed and not policies.misfit(job.requirements, agent.offer):
            job.pool.admit(agent)
            self.woken[agent] = None

    def forget(self, job: Job) -> None:
        """The job has ended; what is held of it still is to be withdrawn, and is nobody's any more."""
        del self.jobs[job.id]
        job.over = True
        for holds in (job.running, job.doubled, job.stalled):  # which name the job, as it names them
            holds.clear()
        self.ripe.pop(job, None)
        self.slowed.pop(job, None)
        job.grow(-job.ready)
        job.pool.late.pop(job, None)
        self._left(job.pool, job.id)

    def _left(self, pool: Pool, job: JobId) -> None:
        """The job lives there no more; a pool without jobs goes after a while."""
        pool.jobs -= 1
        if pool.jobs:
            return
        if self.pools.get(pool.requirements) is pool:
            self.idle_pools[pool.requirements] = None
            if len(self.idle_pools) > IDLE_POOLS_MAX:
                oldest, _ = self.idle_pools.popitem(last=False)
                self.old_pools.append(self.pools.pop(oldest))
        else:
            self.old_pools.append(self.pools.pop(job))

    def dissolve(self) -> None:
        """Let the next WITHDRAWN_MAX agents forget pools in which no job lives any more."""
        left = policies.WITHDRAWN_MAX
        while self.old_pools and left > 0:
            pool = self.old_pools[0]
            part = list(islice(pool.members, left))
            left -= len(part)
            for agent in part:
                pool.dismiss(agent)
            if not pool.members:
                self.old_pools.popleft()

    def _shrunk(self, pool: Pool) -> None:
        """Tasks that avoided the agents now left alone in the pool have nowhere else to go."""
        if len(pool.members) <= policies.AVOIDED_MAX:
            for job in pool.jobs_waiting():
                if job.lanes:
                    self.ripe[job] = None
