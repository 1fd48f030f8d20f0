"""Which agent gets what waits: strict priority, then whoever has least of the grid, then the order of submission.

Within a job what waits for another attempt goes first, then what is expected to take longest, then the index. An agent
gets what it can start at once, then a small reserve. Pure.
"""

from collections.abc import Iterable
from itertools import islice

from discogrid_coordinator import policies
from discogrid_coordinator.floor import Floor
from discogrid_coordinator.queues import Agent, Job, Pool


class Placement:
    """Gives waiting tasks to agents. Cost: the agents that this event woke, the pools that those fit."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._left = 0  # of PLACED_MAX in this event

    def dispatch(self, now: float) -> None:
        """First every spare agent for what became ready, then every woken agent's free slots, then their reserves."""
        floor = self._floor
        self._left = policies.PLACED_MAX
        if len(floor.woken) == 1 and not floor.ripe:  # as after nearly every result
            [agent] = floor.woken
            self._serve(agent, now)
        else:
            self._serve_all(now)
        floor.behind = self._left <= 0

    def _serve(self, agent: Agent, now: float) -> None:
        """The only one that was woken, which needs nothing that the pools know."""
        floor = self._floor
        if agent.free_slots > 0:
            self._fill(agent, now, policies.PREFETCH_MAX + agent.offer.slots)
        if agent.free_slots < agent.offer.slots:  # idle after that: there is nothing for it
            self._send_ahead(agent, now)
        if agent.stale:
            agent.review()
        if self._left > 0:
            floor.woken.clear()
            if agent.free_slots > 0:
                floor.idle[agent] = None

    def _serve_all(self, now: float) -> None:
        floor = self._floor
        _review(floor.woken)
        for job in sorted(floor.ripe, key=lambda job: job.rank):
            self._spread(job, now)
        for agent in floor.woken:
            if self._left <= 0:
                break
            if agent.free_slots > 0:
                self._fill(agent, now, policies.PREFETCH_MAX + agent.offer.slots)
        served = 0
        for agent in floor.woken:
            if agent.free_slots < agent.offer.slots:
                self._send_ahead(agent, now)
            if self._left <= 0:
                break
            served += 1
        _review(floor.woken)
        if self._left > 0:
            floor.ripe.clear()
        for agent in list(islice(floor.woken, served)):  # the next event goes on with the others
            del floor.woken[agent]
            if agent.free_slots > 0:
                floor.idle[agent] = None

    def able(self, job: Job) -> Agent | None:
        """The agent that could start a ready task of the job: one that has its blobs, else who was longest without work.

        Each agent passed over is avoided by every lane, so there are at most AVOIDED_MAX of them.
        """
        for name in job.near.preferred(job.durations.mean) if job.near is not None else ():
            agent = self._floor.agents.get(name)
            if agent is not None and agent in job.pool.spare and job.suits(agent):
                return agent
        return next((agent for agent in job.pool.spare if job.suits(agent)), None)

    def next_for(self, agent: Agent, *, at_once: bool = False) -> Job | None:
        """The foremost job with a ready task for the agent (`at_once`: one for which it has room).

        O(pools it fits, submitters that wait there), and jobs whose tasks avoid it.
        """
        best: Job | None = None
        for pool in agent.pools:
            if pool.ready and (not at_once or agent.room(pool.requirements)):
                job = pool.foremost(agent)
                if job is not None and (best is None or _goes_before(job, best)):
                    best = job
        return best

    def _spread(self, job: Job, now: float) -> None:
        """Give the job's ready tasks to spare agents, in equal shares. O(agents that get one)."""
        pool = job.pool
        turns = share = 0
        while job.ready and self._left > 0:
            agent = self.able(job)
            if agent is None:
                return
            if not turns:
                turns = len(pool.spare)
                share = -(-pool.ready // turns)
            turns -= 1
            self._fill(agent, now, share)
            if agent in pool.spare:
                pool.spare.move_to_end(agent)
            self._floor.woken[agent] = None

    def _fill(self, agent: Agent, now: float, count: int) -> None:
        """Give the agent up to `count` tasks for its free slots, of the foremost jobs that have some for it."""
        while count > 0 and agent.is_open() and self._left > 0:
            job = self.next_for(agent)
            if job is None:
                return
            room = agent.room(job.requirements)
            if not room:
                rival = self.next_for(agent, at_once=True)
                if rival is None:
                    return
                # The foremost task needs more than is free now. Unless another agent can start it, it goes ahead
                # and what is free waits for it: else smaller tasks behind it would keep the agent full for ever.
                job, room = (job, 1) if self.able(job) is None else (rival, agent.room(rival.requirements))
            count -= self._assign(agent, job, min(count, room, _turn(job.pool)), now)

    def _send_ahead(self, agent: Agent, now: float) -> None:
        """Give the agent a reserve, so that the next input is there when a task ends."""
        job = self.next_for(agent)
        if job is None or self._left <= 0:
            return
        need = job.requirements
        wanted = policies.prefetch(job.durations.mean, agent.offer.slots // need.cpus)
        count = policies.reserve(wanted, job.pool.ready, len(job.pool.members)) - agent.excess(need)
        if count > 0:
            self._assign(agent, job, count, now)

    def _assign(self, agent: Agent, job: Job, count: int, now: float) -> int:
        tasks = job.take(agent, min(count, self._left))
        self._left -= len(tasks)
        self._floor.assign(agent, tasks, now)
        return len(tasks)


def _review(agents: Iterable[Agent]) -> None:
    for agent in agents:
        if agent.stale:
            agent.review()


def _goes_before(job: Job, other: Job) -> bool:
    if job.rank[0] != other.rank[0]:
        return job.rank[0] < other.rank[0]
    if job.submitter is not other.submitter and job.submitter.share != other.submitter.share:
        return job.submitter.share < other.submitter.share
    return job.rank < other.rank


def _turn(pool: Pool) -> int:
    """How many tasks of one job go at a time: one where several submitters wait, since each changes their shares."""
    foremost = next(iter(pool.waiting.values()))
    return policies.PREFETCH_MAX if len(foremost) == 1 else 1
