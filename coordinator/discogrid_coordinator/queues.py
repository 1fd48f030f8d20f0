"""What waits and who could run it: tasks, jobs, agents, and the pools that join jobs to the agents that fit them.

Law of the file: bookkeeping only. Each method keeps the counts and indices of its value right; what to place
where, and when, is decided in scheduler.py.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from dataclasses import dataclass, field

from discogrid.spans import SpanSet
from discogrid.types import AgentId, JobId, Offer, Requirements, Run

Lane = tuple[AgentId, ...]
"""Tasks that wait again, by the agents they had better not go to; oldest failure first."""
Rank = tuple[int, int]
"""A job's place in the order: minus priority, then number of submission."""

SAMPLES_MAX = 32
"""A job's mean run time follows about so many of its newest results."""


@dataclass(slots=True, eq=False)
class Task:
    """A task that was assigned at least once and has not ended. A fresh task has no object."""

    job: "Job"
    index: int
    number: int = 0  # the newest attempt; fences stale answers
    holder: "Agent | None" = None
    started: bool = False
    assigned_at: float = 0.0
    due: float | None = None  # waits in back-off until then
    lost_from: AgentId | None = None  # it may come back with the attempt still running
    avoid: Lane = ()
    failures: int = 0  # of the script
    transfers: int = 0  # that failed
    losses: list[AgentId] = field(default_factory=list)  # under which agents the attempt died


@dataclass(slots=True, eq=False)
class Agent:
    """A live agent. What is free may be negative: a reserve is held beyond what runs at once."""

    name: AgentId
    offer: Offer
    seen: float
    free_slots: int = 0
    free_memory: int = 0
    free_gpus: int = 0
    leaving: bool = False
    pools: "list[Pool]" = field(default_factory=list)
    held: dict[Task, None] = field(default_factory=dict)  # oldest first

    def room(self, need: Requirements) -> int:
        """How many more such tasks could start at once."""
        if self.free_slots < need.cpus or self.free_memory < need.memory_bytes or self.free_gpus < need.gpus:
            return 0
        room = self.free_slots // need.cpus
        if need.memory_bytes:
            room = min(room, self.free_memory // need.memory_bytes)
        return min(room, self.free_gpus // need.gpus) if need.gpus else room

    def excess(self, need: Requirements) -> int:
        """How many such tasks it holds beyond what it can run at once."""
        over = -(self.free_slots // need.cpus)
        if need.memory_bytes:
            over = max(over, -(self.free_memory // need.memory_bytes))
        if need.gpus:
            over = max(over, -(self.free_gpus // need.gpus))
        return max(0, over)

    def is_open(self) -> bool:
        """Whether a slot is free and nothing is held back for want of anything."""
        return self.free_slots > 0 and self.free_memory >= 0 and self.free_gpus >= 0

    def use(self, need: Requirements, count: int) -> None:
        """Take what `count` such tasks need (a negative count gives it back) and tell the pools."""
        self.free_slots -= need.cpus * count
        self.free_memory -= need.memory_bytes * count
        self.free_gpus -= need.gpus * count
        for pool in self.pools:
            pool.review(self)

    def reoffer(self, offer: Offer) -> None:
        """Lend something else from now on. Only outside of all pools."""
        needs = [task.job.requirements for task in self.held]
        self.offer = offer
        self.free_slots = offer.slots - sum(need.cpus for need in needs)
        self.free_memory = offer.memory_bytes - sum(need.memory_bytes for need in needs)
        self.free_gpus = offer.gpus - sum(need.gpus for need in needs)


@dataclass(slots=True, eq=False)
class Pool:
    """A class of requirements: the agents that fit it and the jobs that wait for them.

    A job that an agent refused gets a pool of its own, so that no search ever meets the agents shut out.
    """

    requirements: Requirements
    members: dict[Agent, None] = field(default_factory=dict)
    spare: OrderedDict[Agent, None] = field(default_factory=OrderedDict)  # could start a task at once
    excluded: dict[AgentId, str] = field(default_factory=dict)  # who refused, and why
    waiting: "list[tuple[Rank, Job]]" = field(default_factory=list)  # jobs with ready tasks, in order
    ready: int = 0  # tasks of those jobs
    jobs: int = 0  # that live in this pool, waiting or not

    def admit(self, agent: Agent) -> None:
        """The agent fits."""
        self.members[agent] = None
        agent.pools.append(self)
        self.review(agent)

    def dismiss(self, agent: Agent) -> None:
        """The agent is gone or does not fit any more."""
        del self.members[agent]
        agent.pools.remove(self)
        self.spare.pop(agent, None)

    def review(self, agent: Agent) -> None:
        """What the agent has free has changed."""
        if agent.room(self.requirements):
            self.spare[agent] = None
        else:
            self.spare.pop(agent, None)

    def grow(self, job: "Job", count: int) -> None:
        """`count` more tasks of the job are ready (fewer, when negative)."""
        entry = (job.rank, job)
        before = job.ready
        job.ready += count
        self.ready += count
        if not before:
            insort(self.waiting, entry, key=lambda pair: pair[0])
        elif not job.ready:
            del self.waiting[bisect_left(self.waiting, job.rank, key=lambda pair: pair[0])]

    def covered_by(self, lane: Lane) -> bool:
        """Whether only agents to be avoided are left."""
        return len(self.members) <= len(lane) and all(agent.name in lane for agent in self.members)


@dataclass(slots=True, eq=False)
class Job:
    """A job that has not ended. Its tasks are ranges; only those once assigned have an object."""

    id: JobId
    tasks: int
    requirements: Requirements
    retries: int
    rank: Rank
    pool: Pool
    held: bool
    started: bool = False
    ready: int = 0  # tasks in `fresh` and `lanes`; 0 while the job is held
    bad: int = 0  # tasks that failed or are quarantined
    mean_s: float | None = None
    samples: int = 0
    fresh: SpanSet = field(default_factory=SpanSet)
    lanes: dict[Lane, SpanSet] = field(default_factory=dict)
    ended: SpanSet = field(default_factory=SpanSet)
    known: dict[int, Task] = field(default_factory=dict)

    def queue(self, task: Task) -> None:
        """The task waits again."""
        spans = self.lanes.get(task.avoid)
        if spans is None:
            spans = self.lanes[task.avoid] = SpanSet()
        spans.add(task.index, task.index + 1)
        self.pool.grow(self, 1)

    def unqueue(self, task: Task) -> None:
        """The task waits no more."""
        spans = self.lanes[task.avoid]
        spans.remove(task.index)
        if not spans:
            del self.lanes[task.avoid]
        self.pool.grow(self, -1)

    def suits(self, agent: Agent) -> bool:
        """Whether a ready task may go to the agent."""
        return bool(self.fresh) or self._lane_for(agent) is not None

    def take(self, agent: Agent, count: int) -> list[Task]:
        """Take up to `count` ready tasks that suit the agent, out of one lane: those that wait again go first."""
        lane = self._lane_for(agent)
        spans = self.fresh if lane is None else self.lanes[lane]
        taken: list[Task] = []
        for start, stop in spans.take(count):
            if lane is None:
                tasks = [Task(self, index) for index in range(start, stop)]
                self.known.update((task.index, task) for task in tasks)
            else:
                tasks = [self.known[index] for index in range(start, stop)]
            taken += tasks
        if lane is not None and not spans:
            del self.lanes[lane]
        self.pool.grow(self, -len(taken))
        return taken

    def learn(self, seconds: float) -> None:
        """One of its tasks ran for so long."""
        self.samples = min(self.samples + 1, SAMPLES_MAX)
        mean = self.mean_s or 0.0
        self.mean_s = mean + (seconds - mean) / self.samples

    def _lane_for(self, agent: Agent) -> Lane | None:
        for lane in self.lanes:
            if agent.name not in lane or self.pool.covered_by(lane):
                return lane
        return None


def runs_of(tasks: list[Task], lease: int) -> list[Run]:
    """The newest attempts of these tasks as runs: neighbours in the list with following indices and equal numbers join."""
    runs: list[Run] = []
    at = 0
    while at < len(tasks):
        first = tasks[at]
        end = at + 1
        while (
            end < len(tasks)
            and tasks[end].index == first.index + end - at
            and tasks[end].number == first.number
            and tasks[end].job is first.job
        ):
            end += 1
        runs.append(Run(first.job.id, first.index, first.index + end - at, first.number, lease))
        at = end
    return runs
