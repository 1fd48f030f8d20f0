"""What must hold of the floor after every event, for tests. O(everything)."""

from discogrid_coordinator import policies
from discogrid_coordinator.floor import Floor
from discogrid_coordinator.leases import Leases
from discogrid_coordinator.queues import Agent, Job, Pool


def check(floor: Floor, leases: Leases, *, withdrawing: bool) -> None:
    """AssertionError says what does not. `withdrawing`: agents may have tasks of jobs that are over."""
    for job in floor.jobs.values():
        _check_tasks(job)
        _check_attempts(job)
    _check_agents(floor, leases)
    for agent in floor.agents.values():
        _check_use(floor, agent, withdrawing=withdrawing)
    _check_pools(floor)
    _check_shares(floor)
    if not floor.behind:
        assert not floor.woken, "an agent is left to be served"
        assert not floor.idle, "an agent is left that could help"
        assert not floor.ripe, "ready tasks are left to be placed"
        assert not floor.slowed, "stragglers are left to be looked for"


def _check_tasks(job: Job) -> None:
    assert len(job.ended) < job.tasks or job.open, "a job outlives its tasks"
    over = [(index, index + 1) for index in range(job.tasks) if index in job.ended]
    places: list[tuple[int, int]] = [*job.fresh, *over]
    for lane, spans in job.lanes.items():
        assert spans, "an empty lane is kept"
        assert all(job.known[index].avoid == lane for span in spans for index in range(*span))
        places += spans
    for index, task in job.known.items():
        assert (task.job, task.index) == (job, index), "a task is filed under another name"
        assert task.number >= 1, "a fresh task has an object"
        assert task.failures <= job.retries, "a budget is overdrawn"
        if task.holds or task.due is not None:
            places.append((index, index + 1))
        assert not task.holds or task.due is None, "a held task waits"
    places.sort()
    edges = [0, *(edge for place in places for edge in place), job.tasks]
    assert edges[0::2] == edges[1::2], "a task is lost, or in two places"
    assert job.ready == (0 if job.held else job.queued), "the count of ready tasks is off"
    assert job.good + job.bad + job.unwanted == len(job.ended), "the ends are miscounted"


def _check_attempts(job: Job) -> None:
    begun = {hold for task in job.known.values() for hold in task.holds if hold.started is not None}
    line = [hold for hold in job.running if not hold.over]
    assert begun == {*line, *job.doubled}, "a straggler is not seen"
    assert len(begun) == len(line) + len(job.doubled), "a straggler is seen twice"
    assert all(len(hold.task.holds) > 1 for hold in job.doubled), "what has no copy any more is not seen"
    for task in job.known.values():
        assert len(task.holds) <= policies.RUNNERS_MAX, "too many run one task"
        assert len(task.holds) <= 1 or job.repeatable, "a task runs twice that must not"
        assert len({hold.agent for hold in task.holds}) == len(task.holds), "an agent runs a task twice"
        assert len({(hold.number, hold.lease) for hold in task.holds}) == len(task.holds)
        for hold in task.holds:
            assert hold in hold.agent.held, "an agent does not know what it holds"
            assert hold.number <= task.number, "an attempt comes from the future"
    for hold in job.stalled:
        assert hold.agent.silent or hold.agent.paused is not None, (
            "a healthy agent is taken for a stalled one"
        )
        assert hold in hold.agent.held, "what is over is taken for stalled"


def _check_agents(floor: Floor, leases: Leases) -> None:
    known = list(leases)
    assert len(known) == len(floor.agents), "a lease is lost"
    assert set(known) == set(floor.agents.values()), "a lease is lost"


def _check_use(floor: Floor, agent: Agent, *, withdrawing: bool) -> None:
    for hold in agent.held:
        job = hold.task.job
        assert hold.agent is agent, "two agents hold one attempt"
        assert hold in hold.task.holds, "a task does not know who holds it"
        assert job.known.get(hold.task.index) is hold.task, "an agent holds what has ended"
        assert (floor.jobs.get(job.id) is job) != job.over, "an agent holds a task of no job"
        assert withdrawing or not job.over, "an agent is left with a task of a job that is over"
    needs = [hold.task.job.requirements for hold in agent.held]
    assert agent.free_slots == agent.offer.slots - sum(need.cpus for need in needs)
    assert agent.free_memory == agent.offer.memory_bytes - sum(need.memory_bytes for need in needs)
    assert agent.free_gpus == agent.offer.gpus - sum(need.gpus for need in needs)
    recalled = [hold.task.job.requirements.cpus for hold in agent.held if hold.recalled]
    assert agent.recalled_cpus == sum(recalled), "what was asked back is miscounted"
    assert agent.recalls >= 0, "an answer is counted twice"
    assert len(agent.held) <= agent.offer.slots + policies.PREFETCH_TINY_MAX or agent.leaving


def _check_pools(floor: Floor) -> None:
    lives: dict[Pool, int] = dict.fromkeys(floor.pools.values(), 0)
    for job in floor.jobs.values():
        lives[job.pool] += 1
        tail = job.repeatable and bool(job.stalled or job.in_tail)
        assert tail == job.tail, "a tail is forgotten, or no tail"
        assert tail or job not in job.pool.late, "an agent without work looks at what needs no help"
    for pool in floor.old_pools:
        assert pool.jobs == pool.ready == 0, "a job lives in a pool that is gone"
        assert all(pool in agent.pools for agent in pool.members), "a pool that is gone keeps an agent"
    known = {*floor.pools.values(), *floor.old_pools}
    assert all(pool in known for agent in floor.agents.values() for pool in agent.pools)
    for key, pool in floor.pools.items():
        assert pool.jobs == lives[pool], "the count of a pool's jobs is off"
        assert (pool.jobs == 0) == (key in floor.idle_pools), "an idle pool is forgotten"
        waiting = [job for job in floor.jobs.values() if job.pool is pool and job.ready]
        assert set(pool.jobs_waiting()) == set(waiting), "a job is not waiting where it should"
        assert list(pool.waiting) == sorted(pool.waiting), "priorities are out of order"
        assert pool.ready == sum(job.ready for job in waiting)
        assert all(job.pool is pool for job in pool.late)
        for agent in floor.agents.values():
            fits = not policies.misfit(pool.requirements, agent.offer)
            member = fits and not agent.closed and agent.name not in pool.excluded
            assert member == (agent in pool.members) == (pool in agent.pools), "a pool is out of date"
            room = member and agent.room(pool.requirements) > 0
            assert room == (agent in pool.spare), "a pool's spare agents are out of date"
            assert pool.loads[agent] == (agent.load() if member else 0), "a load is out of date"
            served = floor.behind or not room or not any(job.suits(agent) for job in waiting)
            assert served, "work waits for a free agent"
        assert set(pool.members) <= set(floor.agents.values()), "a pool knows a lost agent"


def _check_shares(floor: Floor) -> None:
    for submitter in floor.submitters.values():
        jobs = [hold.task.job for agent in floor.agents.values() for hold in agent.held]
        held = [job.requirements.cpus for job in jobs if job.submitter is submitter]
        assert submitter.cpus == sum(held), "a share is miscounted"
