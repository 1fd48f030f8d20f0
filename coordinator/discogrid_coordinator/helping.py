"""What an agent does that has nothing to do while others have too much: take over their reserve, or copy what is slow.

Taking over asks first: only what the other agent gives back is placed anew, and it never gives back what it has
started. Where no answer comes, or a task runs much longer than its siblings did, a second attempt runs beside the
first; the first result of the two counts. Nothing scans: an agent that runs out of work begins it. Pure.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

from discogrid_coordinator import policies
from discogrid_coordinator.events import Recall
from discogrid_coordinator.floor import Floor
from discogrid_coordinator.queues import Agent, Hold, Job, runs_of


@dataclass(slots=True, eq=False)
class Request:
    """What an agent was asked to give back, and for whom."""

    victim: Agent
    holds: list[Hold]
    thief: Agent | None
    due: float


class Helping:
    """Finds work for agents that have none, among what others hold."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._requests: OrderedDict[int, Request] = OrderedDict()  # by nonce, oldest first, as they are due
        self._nonce = 0
        self._watches: list[tuple[float, int, Job]] = []
        self._watched = 0

    def dispatch(self, now: float) -> None:
        """For each agent for which nothing waits, and each job that may have got stragglers."""
        floor = self._floor
        if floor.behind or not (floor.idle or floor.slowed):
            return
        left = policies.HELPED_MAX
        for agent in list(islice(floor.idle, left)):
            del floor.idle[agent]
            if agent.is_open() and not agent.closed and floor.agents.get(agent.name) is agent:
                left -= 1
                self._help(agent, now)
        for job in list(floor.slowed):
            if left <= 0:
                break
            del floor.slowed[job]
            unwatched = job.running and job.watched is None and job not in job.pool.late
            if job.tail and (job.stalled or unwatched):
                left -= 1
                self._relieve(job, now)
        floor.behind = bool(floor.idle or floor.slowed)

    def deadline(self) -> float | None:
        """When `on_time` is due."""
        dues = [request.due for request in islice(self._requests.values(), 1)]
        dues += [due for due, _, _ in self._watches[:1]]
        return min(dues, default=None)

    def on_time(self, now: float) -> None:
        """Recalls that were not answered, and jobs whose oldest task has become a straggler."""
        for nonce, request in list(islice(self._requests.items(), policies.LOOKED_AT_MAX)):
            if request.due > now:
                break
            self._close(nonce)
            if request.thief is not None:
                for hold in self._still(request):
                    self._copy(request.thief, hold, now)
        while self._watches and self._watches[0][0] <= now:
            due, _, job = heapq.heappop(self._watches)
            if job.watched == due and not job.over:
                job.watched = None
                job.pool.late.pop(job, None)  # whoever is free and was too slow before may help now
                self._floor.slowed[job] = None

    def answered(self, agent: Agent, nonce: int) -> None:
        """The agent has given back what it could; an answer to what another one was asked is none."""
        request = self._requests.get(nonce)
        if request is not None and request.victim is agent:
            self._close(nonce)

    def ask(self, holds: list[Hold], thief: Agent | None, now: float) -> None:
        """Ask an agent for these, which it has not started: for another one, or for nobody."""
        victim = holds[0].agent
        for hold in holds:
            self._floor.recall(hold)
        if thief is not None:
            thief.recalls += 1
        self._nonce += 1
        self._requests[self._nonce] = Request(victim, holds, thief, now + policies.RECALL_S)
        self._floor.actions.append(Recall(victim.name, tuple(runs_of(holds)), self._nonce))

    # Taking over.

    def _help(self, agent: Agent, now: float) -> None:
        if agent.recalls:
            return
        if self._steal(agent, now):
            return
        for pool in agent.pools:
            for job in list(islice(pool.late, policies.LOOKS_MAX)):
                pool.late.move_to_end(job)
                self._copy_some(job, [agent], self._stragglers(job, now), now)
                if not agent.is_open():
                    return

    def _steal(self, agent: Agent, now: float) -> bool:
        """Ask the most loaded agent for part of its reserve; whether there was one."""
        for pool in agent.pools:
            for victim in islice(pool.loads, policies.LOOKS_MAX):
                if victim is not agent and (holds := self._spoils(agent, victim)):
                    self.ask(holds, agent, now)
                    return True
        return False

    def _spoils(self, agent: Agent, victim: Agent) -> list[Hold]:
        """What the agent could take from the other's reserve: half of it at most, what would start last first."""
        cpus = min(agent.free_slots, -(-victim.reserve // 2))
        found: list[Hold] = []
        for hold in reversed(victim.held):
            job = hold.task.job
            need = job.requirements
            if cpus < need.cpus:
                break
            free = hold.started is None and not hold.recalled and agent.name not in hold.task.avoid
            if free and not job.over and agent in job.pool.spare:
                found.append(hold)
                cpus -= need.cpus
        return sorted(found, key=lambda hold: (hold.task.job.rank, hold.task.index, hold.number))

    def _close(self, nonce: int) -> None:
        request = self._requests.pop(nonce)
        for hold in self._still(request):
            if hold.recalled:
                self._floor.keep(hold)
        if request.thief is not None:
            request.thief.recalls -= 1
            self._floor.woken[request.thief] = None

    def _still(self, request: Request) -> list[Hold]:
        return [hold for hold in request.holds if hold in hold.agent.held]

    # Copying.

    def _relieve(self, job: Job, now: float) -> None:
        """Copy the job's stragglers to the fastest agents that are free, and look again when there will be another."""
        slow = self._stragglers(job, now)
        free = islice(job.pool.spare, policies.HELPERS_MAX)
        fastest = heapq.nsmallest(len(slow), free, key=lambda agent: agent.pace)
        self._copy_some(job, fastest, slow, now)

    def _stragglers(self, job: Job, now: float) -> list[Hold]:
        """Attempts that stand still, or run for too long: while there are any the job is late."""
        found = list(islice(job.stalled, policies.LOOKS_MAX))
        median = job.durations.median()
        if median is not None and job.in_tail:
            slow, due = job.overdue(policies.STRAGGLER_RATIO * median, now, policies.LOOKS_MAX)
            found += slow
            if due is not None:
                self._watch(job, due)
        if found:
            job.pool.late[job] = None
        else:
            job.pool.late.pop(job, None)
        return found

    def _watch(self, job: Job, due: float) -> None:
        if job.watched is None or due < job.watched:
            job.watched = due
            self._watched += 1
            heapq.heappush(self._watches, (due, self._watched, job))

    def _copy_some(self, job: Job, agents: list[Agent], slow: list[Hold], now: float) -> None:
        """Give each agent one that it may help with; a slow one may later, unless a faster one is free before."""
        for agent in agents:
            for hold in slow:
                due = self._due(job, agent, hold)
                if due > now and self._may_copy(agent, hold):
                    self._watch(job, due)
                elif self._copy(agent, hold, now):
                    break

    def _due(self, job: Job, agent: Agent, hold: Hold) -> float:
        """When it is worth while that the agent begins what the other has: once it would have long done a usual task."""
        median = job.durations.median()
        if hold in job.stalled or hold.started is None or median is None:
            return 0.0
        return hold.started + policies.STRAGGLER_RATIO * median * max(1.0, agent.pace)

    def _may_copy(self, agent: Agent, hold: Hold) -> bool:
        task = hold.task
        able = agent in task.job.pool.spare and hold.agent is not agent and agent.name not in task.avoid
        return able and task.job.repeatable and not task.job.over and len(task.holds) < policies.RUNNERS_MAX

    def _copy(self, agent: Agent, hold: Hold, now: float) -> bool:
        if not self._may_copy(agent, hold):
            return False
        self._floor.assign(agent, [hold.task], now)
        return True
