"""Who runs what is slow elsewhere: the fastest of those that have nothing to do, and a slow one only late."""

import pytest

from discogrid.types import AgentId, JobId, Run
from discogrid_coordinator import events, policies
from discogrid_coordinator.events import Action
from discogrid_coordinator.helping import Helping
from tests.pure.referee import Referee, attempt

JOB = JobId("k3f9")
HOLDER, SLOW, SWIFT = AgentId("holder"), AgentId("slow"), AgentId("swift")
SECONDS = {SLOW: 20.0, SWIFT: 5.0}
TASKS = 13


def copies(actions: list[Action]) -> list[AgentId]:
    return [action.agent for action in actions if isinstance(action, events.Assign)]


def at_the_end() -> Referee:
    """All is done at time 0 but the first task, which its agent has begun; the others have nothing to do."""
    grid = Referee()
    for name in (HOLDER, SLOW, SWIFT):
        grid.join(name, 1)
    grid.submit(JOB, TASKS)
    assert attempt(JOB, 0) in grid.live[HOLDER]
    grid.tell(events.TasksStarted(HOLDER, (Run.of(attempt(JOB, 0)),)))
    while sum(map(len, grid.live.values())) > 1:
        for name, held in grid.live.items():
            for one in sorted(held, key=lambda one: one.index)[:1]:
                if name in SECONDS:
                    grid.tell(events.TasksStarted(name, (Run.of(one),)))
                    grid.tell(events.TaskSucceeded(name, one, SECONDS[name]))
        give_back(grid)
    return grid


def give_back(grid: Referee) -> None:
    """What the holder has in reserve it returns, as it is asked for it by those without work."""
    for one in [one for one in grid.live[HOLDER] if one.index]:
        grid.tell(events.TasksReturned(HOLDER, (Run.of(one),)))


def median(grid: Referee) -> float:
    found = grid.scheduler.floor.jobs[JOB].durations.median()
    assert found is not None
    return found


def wait(grid: Referee, until: float) -> list[AgentId]:
    """Who gets copies meanwhile; everybody beats."""
    found: list[AgentId] = []
    while grid.now < until:
        grid.now = min(grid.now + 1.0, until)
        for name, held in grid.live.items():
            found += copies(grid.tell(events.AgentBeat(name, tuple(map(Run.of, held)))))
        due = grid.scheduler.deadline()
        if due is not None and due <= grid.now:
            found += copies(grid.tell(events.TimePassed()))
    return found


def test_a_straggler_is_copied_to_the_fastest_agent_that_is_free() -> None:
    grid = at_the_end()
    assert grid.scheduler.floor.agents[SWIFT].pace < 1 < grid.scheduler.floor.agents[SLOW].pace
    due = policies.STRAGGLER_RATIO * median(grid)
    assert wait(grid, due - 0.1) == []
    assert wait(grid, due) == [SWIFT]


def test_a_slow_agent_copies_a_straggler_once_it_would_have_long_been_done_itself() -> None:
    grid = at_the_end()
    grid.tell(events.AgentLeft(SWIFT, "goodbye", goodbye=True))
    due = policies.STRAGGLER_RATIO * median(grid) * grid.scheduler.floor.agents[SLOW].pace
    assert due > policies.STRAGGLER_RATIO * median(grid)
    assert wait(grid, due - 0.1) == []
    assert wait(grid, due) == [SLOW]


def test_the_first_results_of_an_agent_say_most_about_its_pace() -> None:
    grid = Referee()
    grid.join(SLOW, 1)
    agent = grid.scheduler.floor.agents[SLOW]
    agent.learn(5.0)
    assert agent.pace == 5.0
    agent.learn(3.0)
    assert agent.pace == 4.0


def test_all_that_lose_their_work_in_one_event_look_for_some_at_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[AgentId] = []
    monkeypatch.setattr(Helping, "_help", lambda _, agent, __: looked.append(agent.name))
    grid = Referee()
    for name in (SLOW, SWIFT):
        grid.join(name, 1)
    grid.submit(JOB, 2)
    assert [len(held) for held in grid.live.values()] == [1, 1]
    looked.clear()
    grid.tell(events.JobCancelled(JOB))
    assert looked == [SLOW, SWIFT]
