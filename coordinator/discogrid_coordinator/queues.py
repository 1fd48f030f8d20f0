"""What waits and who could run it: tasks, attempts, jobs, agents, and the pools that join jobs to the agents that fit.

Law of the file: bookkeeping only. Each method keeps the counts and indices of its value right; what to place
where, and when, is decided in scheduler.py and placement.py.
"""

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from discogrid.spans import SpanSet
from discogrid.types import AgentId, Attempt, JobId, NodeId, Offer, Requirements, Run
from discogrid_coordinator.durations import Durations, Fresh
from discogrid_coordinator.ended import Ended
from discogrid_coordinator.locality import AtHome, Near

Lane = tuple[AgentId, ...]
"""Tasks that wait again, by the agents they had better not go to; oldest failure first."""
Rank = tuple[int, int]
"""A job's place among those of its submitter: minus priority, then number of submission."""

LEVELS = 16
"""Steps by which the loads of agents are told apart when work is to be taken from one."""
RUNNING_SLACK = 64
"""Attempts that are over and still listed as running, beside as many as there are that do run."""
PACE_RESULTS = 16
"""An agent's pace follows about so many of its newest results."""


class Task(msgspec.Struct, eq=False, gc=False):
    """A task that was assigned at least once and has not ended. A fresh task has no object.

    The collector does not look at tasks and holds, of which there are many: whoever lets them go breaks the circle.
    """

    job: "Job"
    index: int
    number: int = 0  # of the newest attempt
    holds: "tuple[Hold, ...]" = ()  # attempts that are under way, oldest first
    due: float | None = None  # waits in back-off until then
    lost: Attempt | None = None  # may come back still running, while the task waits
    lost_by: AgentId | None = None
    avoid: Lane = ()
    failures: int = 0  # of the script
    complaint: str = ""  # why it failed the last time
    transfers: int = 0  # that failed
    losses: Lane = ()  # under which agents an attempt died


class Hold(msgspec.Struct, eq=False, gc=False):
    """One attempt that is under way: a task in the hands of an agent."""

    task: Task
    agent: "Agent"
    number: int
    lease: int  # of the coordinator that granted it
    since: float  # when it was assigned
    started: float | None = None
    recalled: bool = False  # the agent has been asked to give it back
    over: bool = False

    @property
    def attempt(self) -> Attempt:
        """What the wire calls it."""
        return Attempt(self.task.job.id, self.task.index, self.number, self.lease)


@dataclass(slots=True, eq=False)
class Agent:
    """A live agent. What is free may be negative: a reserve is held beyond what runs at once."""

    name: AgentId
    offer: Offer
    seen: float
    free_slots: int = 0
    free_memory: int = 0
    free_gpus: int = 0
    recalled_cpus: int = 0  # of what it has been asked to give back
    recalls: int = 0  # on its behalf, that are not answered yet
    stale: bool = False  # the pools may have to be told what it has free and in reserve
    told: tuple[int, int, int, int] = (
        0,
        0,
        0,
        0,
    )  # what they know of that: slots, memory, gpus, level of its load
    leaving: bool = False
    silent: bool = False  # for longer than is usual
    paused: float | None = None  # its owner is back, or it sleeps, since then
    results: int = 0  # that its pace is of, up to PACE_RESULTS
    pace: float = 1.0  # of its tasks, in mean run times of their jobs: 2 is twice as slow as all together
    pools: "list[Pool]" = field(default_factory=list)
    held: dict[Hold, None] = field(default_factory=dict)  # oldest first

    @property
    def closed(self) -> bool:
        """Whether it takes no new work."""
        return self.leaving or self.silent or self.paused is not None

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

    @property
    def reserve(self) -> int:
        """CPUs of what it holds beyond what it can run at once, and was not asked to give back; none where negative."""
        return -self.free_slots - self.recalled_cpus

    def is_open(self) -> bool:
        """Whether a slot is free and nothing is held back for want of anything."""
        return self.free_slots > 0 and self.free_memory >= 0 and self.free_gpus >= 0

    def review(self) -> None:
        """Tell the pools what it has free and in reserve."""
        self.stale = False
        level = self.load() if self.free_slots < 0 else 0
        now = (self.free_slots, self.free_memory, self.free_gpus, level)
        if now == self.told:
            return
        self.told = now
        for pool in self.pools:
            pool.review(self, level)

    def reoffer(self, offer: Offer) -> None:
        """Lend something else from now on. Only outside of all pools."""
        needs = [hold.task.job.requirements for hold in self.held]
        self.offer = offer
        self.free_slots = offer.slots - sum(need.cpus for need in needs)
        self.free_memory = offer.memory_bytes - sum(need.memory_bytes for need in needs)
        self.free_gpus = offer.gpus - sum(need.gpus for need in needs)
        self.stale = True

    def learn(self, ratio: float) -> None:
        """One of its results took so many times its job's mean."""
        self.results = min(self.results + 1, PACE_RESULTS)
        self.pace += (ratio - self.pace) / self.results
        self.stale = True  # its reserve lasts longer now, or less long

    def load(self) -> int:
        """How long its reserve lasts, from 0 for none to LEVELS: by what it runs at once, and its pace."""
        reserve = self.reserve
        if reserve <= 0:
            return 0
        rounds = int(2.0 * reserve * self.pace / max(1, self.offer.slots))
        return 1 + rounds if rounds < LEVELS else LEVELS


class Loads:
    """Agents by how much they have in reserve; the fullest are found first. O(1) a change, O(LEVELS) a search."""

    __slots__ = ("_at", "_levels")

    def __init__(self) -> None:
        self._levels: list[dict[Agent, None]] = [{} for _ in range(LEVELS + 1)]
        self._at: dict[Agent, int] = {}

    def __len__(self) -> int:
        """How many have anything in reserve."""
        return len(self._at)

    def __getitem__(self, agent: Agent) -> int:
        """The level of an agent, 0 when it has nothing in reserve."""
        return self._at.get(agent, 0)

    def __iter__(self) -> Iterator[Agent]:
        """From the fullest on."""
        if self._at:
            for level in reversed(self._levels):
                yield from level

    def put(self, agent: Agent, level: int) -> None:
        """The agent's reserve has changed."""
        before = self._at.get(agent, 0)
        if before == level:
            return
        if before:
            del self._at[agent]
            del self._levels[before][agent]
        if level:
            self._at[agent] = level
            self._levels[level][agent] = None


@dataclass(slots=True, eq=False)
class Submitter:
    """Whose jobs these are: what of the grid they have now decides whose go next."""

    id: NodeId
    weight: float = 1.0
    cpus: int = 0  # of all attempts under way

    @property
    def share(self) -> float:
        """CPUs in use by weight: whoever has least is next."""
        return self.cpus / self.weight


@dataclass(slots=True, eq=False)
class Pool:
    """A class of requirements: the agents that fit it and the jobs that wait for them.

    A job that an agent refused gets a pool of its own, so that no search ever meets the agents shut out.
    """

    requirements: Requirements
    members: dict[Agent, None] = field(default_factory=dict)
    spare: OrderedDict[Agent, None] = field(default_factory=OrderedDict)  # could start a task at once
    loads: Loads = field(default_factory=Loads)  # of the members
    excluded: dict[AgentId, str] = field(default_factory=dict)  # who refused, and why
    waiting: "dict[int, dict[Submitter, list[tuple[Rank, Job]]]]" = field(
        default_factory=dict
    )  # by -priority
    late: "OrderedDict[Job, None]" = field(default_factory=OrderedDict)  # jobs that idle agents can help with
    ready: int = 0  # tasks of the jobs that wait
    jobs: int = 0  # that live in this pool, waiting or not

    def admit(self, agent: Agent) -> None:
        """The agent fits."""
        if agent.stale:
            agent.review()
        self.members[agent] = None
        agent.pools.append(self)
        self.review(agent, agent.told[-1])

    def dismiss(self, agent: Agent) -> None:
        """The agent is gone or does not fit any more."""
        del self.members[agent]
        agent.pools.remove(self)
        self.spare.pop(agent, None)
        self.loads.put(agent, 0)

    def review(self, agent: Agent, level: int) -> None:
        """What the agent has free or in reserve has changed, the latter to a load of this level."""
        need = self.requirements
        if (
            agent.free_slots >= need.cpus
            and agent.free_memory >= need.memory_bytes
            and agent.free_gpus >= need.gpus
        ):
            self.spare[agent] = None
        elif agent in self.spare:
            del self.spare[agent]
        if level or self.loads:
            self.loads.put(agent, level)

    def queue(self, job: "Job") -> None:
        """The job has its first ready task."""
        lines = self.waiting.get(job.rank[0])
        if lines is None:
            self.waiting[job.rank[0]] = {job.submitter: [(job.rank, job)]}
            self.waiting = dict(sorted(self.waiting.items()))
            return
        insort(lines.setdefault(job.submitter, []), (job.rank, job), key=lambda pair: pair[0])

    def unqueue(self, job: "Job") -> None:
        """The job has no ready task any more."""
        lines = self.waiting[job.rank[0]]
        line = lines[job.submitter]
        del line[bisect_left(line, job.rank, key=lambda pair: pair[0])]
        if not line:
            del lines[job.submitter]
        if not lines:
            del self.waiting[job.rank[0]]

    def jobs_waiting(self) -> "Iterator[Job]":
        """In the order in which they are served, as the shares are now."""
        for lines in self.waiting.values():
            if len(lines) == 1:
                [line] = lines.values()
                for _, job in line:
                    yield job
                continue
            for _, _, line in sorted(
                ((owner.share, line[0][0], line) for owner, line in lines.items()), key=lambda row: row[:2]
            ):
                yield from (job for _, job in line)

    def foremost(self, agent: Agent) -> "Job | None":
        """The first of those, of which there must be some, that has a ready task for the agent."""
        lines = next(iter(self.waiting.values()))
        if len(lines) == 1:
            [line] = lines.values()
            job = line[0][1]
            if not job.lanes:  # the usual case costs no iterator
                return job
        return next((job for job in self.jobs_waiting() if job.suits(agent)), None)

    def covered_by(self, lane: Lane) -> bool:
        """Whether only agents to be avoided are left."""
        return len(self.members) <= len(lane) and all(agent.name in lane for agent in self.members)


@dataclass(slots=True, eq=False)
class Job:
    """A job that has not ended. Its tasks are ranges; only those once assigned have an object."""

    id: JobId
    tasks: int  # as far as they have come
    requirements: Requirements
    retries: int
    rank: Rank
    submitter: Submitter
    pool: Pool
    held: bool
    repeatable: bool  # a task of it may run twice at a time
    fresh: Fresh
    ended: Ended
    open: bool = False  # more tasks may come
    at_home: AtHome | None = None  # what waits where its input is, if anything does
    near: Near | None = None  # who has what all its tasks need, if that is large
    started: bool = False
    over: bool = False  # it has ended; agents may have tasks of it that are not withdrawn yet
    ready: int = 0  # tasks in `fresh` and `lanes`; 0 while the job is held
    good: int = 0  # tasks that are done
    bad: int = 0  # tasks that failed or are quarantined
    unwanted: int = 0  # tasks that were cancelled for themselves
    trial: "list[str] | None" = field(
        default_factory=list
    )  # how its first tasks failed; None once one is done
    durations: Durations = field(default_factory=Durations)
    lanes: dict[Lane, SpanSet] = field(default_factory=dict)
    known: dict[int, Task] = field(default_factory=dict)
    running: deque[Hold] = field(
        default_factory=deque
    )  # in order of their start; those that are over leave late
    doubled: dict[Hold, None] = field(default_factory=dict)  # run, and left that line since they have a copy
    tail: bool = False  # what is slow of it, or stands still, may be run elsewhere too
    stalled: dict[Hold, None] = field(default_factory=dict)  # with agents that are silent or paused
    watched: float | None = None  # when the first of those that run is looked at
    faults: dict[AgentId, set[int]] = field(default_factory=dict)  # tasks that an agent failed, of late
    cooled: dict[AgentId, int] = field(default_factory=dict)  # how often it was sent away for that

    @property
    def queued(self) -> int:
        """Tasks that wait, be the job held or not."""
        return len(self.fresh) + sum(len(spans) for spans in self.lanes.values())

    def grow(self, count: int) -> None:
        """`count` more of its tasks are ready (fewer, when negative); nothing is while it is held."""
        if self.held or not count:
            return
        before = self.ready
        self.ready += count
        self.pool.ready += count
        if not before:
            self.pool.queue(self)
        elif not self.ready:
            self.pool.unqueue(self)

    def extend(self, tasks: int) -> None:
        """It has so many more tasks."""
        start, self.tasks = self.tasks, self.tasks + tasks
        self.ended.grow(tasks)
        self.fresh.append(start, self.tasks)
        self.mark_tail()
        self.grow(tasks)

    @property
    def complete(self) -> bool:
        """Whether all of its tasks have ended, and no more will come."""
        return self.good + self.bad + self.unwanted == self.tasks and not self.open

    def hold(self) -> None:
        """Nothing of it is ready from now on."""
        self.grow(-self.ready)
        self.held = True

    def release(self) -> None:
        """What waits is ready."""
        self.held = False
        self.grow(self.queued)

    def move(self, pool: Pool) -> None:
        """Wait in another pool."""
        ready = self.ready
        self.grow(-ready)
        late = self.pool.late.pop(self, self) is None
        self.pool = pool
        if late:
            pool.late[self] = None
        self.grow(ready)

    @property
    def in_tail(self) -> bool:
        """Whether more than half of it is done, so that what is slow can be told."""
        return 2 * (self.good + self.bad) > self.tasks

    def mark_tail(self) -> None:
        """Whether idle agents may run what is slow of it beside those who have it."""
        tail = self.repeatable and not self.over and bool(self.stalled or self.in_tail)
        if self.tail and not tail:
            self.pool.late.pop(self, None)
        self.tail = tail

    def begin(self, hold: Hold) -> None:
        """One of its tasks runs."""
        running = self.running
        running.append(hold)
        if len(running) > 2 * len(self.known) + RUNNING_SLACK:
            self.running = deque(one for one in running if not one.over)

    def overdue(self, seconds: float, now: float, most: int) -> tuple[list[Hold], float | None]:
        """Up to `most` attempts without a copy that have run for so long, and when the next one will have.

        What is over, or has a copy, leaves the line when it is met: O(1) an attempt, however often this is asked.
        """
        running = self.running
        found: list[Hold] = []
        due = None
        while running and len(found) < most:
            hold = running[0]
            if not hold.over and len(hold.task.holds) == 1:
                assert hold.started is not None
                if hold.started + seconds > now:
                    due = hold.started + seconds
                    break
                found.append(hold)
            elif not hold.over:
                self.doubled[hold] = None
            running.popleft()
        running.extendleft(reversed(found))
        return found, due

    def rejoin(self, holds: tuple[Hold, ...]) -> None:
        """A copy is over: the attempts that are left go back to their place in the line, where they have left it."""
        for hold in holds:
            if hold in self.doubled:
                del self.doubled[hold]
                insort(self.running, hold, key=lambda one: one.started or 0.0)

    def queue(self, task: Task) -> None:
        """The task waits again."""
        spans = self.lanes.get(task.avoid)
        if spans is None:
            spans = self.lanes[task.avoid] = SpanSet()
        spans.add(task.index, task.index + 1)
        self.grow(1)

    def unqueue(self, task: Task) -> None:
        """The task waits no more."""
        spans = self.lanes[task.avoid]
        spans.remove(task.index)
        if not spans:
            del self.lanes[task.avoid]
        self.grow(-1)

    def suits(self, agent: Agent) -> bool:
        """Whether a ready task, of which there are some, may go to the agent."""
        return not self.lanes or bool(self.fresh) or self._lane_for(agent) is not None

    def take(self, agent: Agent, count: int) -> list[Task]:
        """Take up to `count` ready tasks that suit the agent, out of one lane: those that wait again go first."""
        lane = self._lane_for(agent) if self.lanes else None
        taken: list[Task] = []
        if (
            lane is None
            and self.at_home is not None
            and (mine := self.at_home.take(agent.name, self.fresh, count))
        ):
            for index in mine:
                task = self.known[index] = Task(self, index)
                taken.append(task)
        elif lane is None and count == 1:
            index = self.fresh.pop()
            task = self.known[index] = Task(self, index)
            taken.append(task)
        elif lane is None:
            for start, stop in self.fresh.take(count):
                for index in range(start, stop):
                    task = self.known[index] = Task(self, index)
                    taken.append(task)
        else:
            spans = self.lanes[lane]
            for start, stop in spans.take(count):
                taken += [self.known[index] for index in range(start, stop)]
            if not spans:
                del self.lanes[lane]
        self.grow(-len(taken))
        return taken

    def _lane_for(self, agent: Agent) -> Lane | None:
        for lane in self.lanes:
            if agent.name not in lane or self.pool.covered_by(lane):
                return lane
        return None


def runs_of(holds: list[Hold]) -> list[Run]:
    """These attempts as runs: neighbours in the list with following indices and equal numbers join."""
    if len(holds) == 1:
        [hold] = holds
        index = hold.task.index
        return [Run(hold.task.job.id, index, index + 1, hold.number, hold.lease)]
    runs: list[Run] = []
    at = 0
    while at < len(holds):
        first = holds[at]
        job, index, number, lease = first.task.job, first.task.index, first.number, first.lease
        end = at + 1
        while (
            end < len(holds)
            and holds[end].task.index == index + end - at
            and holds[end].number == number
            and holds[end].lease == lease
            and holds[end].task.job is job
        ):
            end += 1
        runs.append(Run(job.id, index, index + end - at, number, lease))
        at = end
    return runs
