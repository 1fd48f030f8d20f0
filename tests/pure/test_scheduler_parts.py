"""What concerns many agents at once is done in parts: nothing may go wrong in between."""

import gc

import pytest

from discogrid.types import AgentId, JobId, Outcome, Run
from discogrid_coordinator import events, policies
from discogrid_coordinator.events import Action
from discogrid_coordinator.queues import Job
from tests.pure.referee import Referee, attempt

JOB = JobId("k3f9")
AGENTS = [AgentId(f"a{number}") for number in range(4)]


def finish(grid: Referee) -> list[list[Action]]:
    """What the events do that are due at once."""
    parts: list[list[Action]] = []
    while grid.scheduler.behind:
        parts.append(grid.tell(events.TimePassed()))
    return parts


def cancelled(actions: list[Action]) -> list[Run]:
    return [run for action in actions if isinstance(action, events.Cancel) for run in action.runs]


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> Referee:
    """Four agents of two slots each have all of a job and run one half of it; two tasks are taken back at a time."""
    grid = Referee()
    for name in AGENTS:
        grid.join(name)
    grid.submit(JOB, 8)
    for name, held in grid.live.items():
        grid.tell(events.TasksStarted(name, (Run.of(min(held, key=repr)),)))
    monkeypatch.setattr(policies, "WITHDRAWN_MAX", 2)
    return grid


def test_a_job_is_over_at_once_and_its_tasks_are_taken_back_in_parts(grid: Referee) -> None:
    first = grid.tell(events.JobCancelled(JOB))
    assert JOB in grid.ended_jobs
    parts = [first, *finish(grid)]
    assert [sum(map(len, cancelled(part))) for part in parts] == [2, 2, 2, 2, 0]
    assert {agent.free_slots for agent in grid.scheduler.floor.agents.values()} == {2}


def test_what_is_not_taken_back_yet_still_fills_its_agent(grid: Referee) -> None:
    grid.tell(events.JobCancelled(JOB))
    grid.submit("next", 8)
    finish(grid)
    assert {len(held) for held in grid.live.values()} == {2}


def test_an_agent_that_goes_before_its_tasks_are_taken_back_is_forgotten_with_them(grid: Referee) -> None:
    grid.tell(events.JobCancelled(JOB))
    actions = grid.tell(events.AgentLeft(AGENTS[-1], "gone"))
    assert not any(isinstance(action, events.Requeue) for action in actions)
    assert len([run for part in finish(grid) for run in cancelled(part)]) < 6


def test_an_agent_that_does_not_have_them_any_more_is_taken_at_its_word(grid: Referee) -> None:
    grid.tell(events.JobCancelled(JOB))
    actions = grid.tell(events.AgentBeat(AGENTS[-1]), grid.now + policies.BEAT_GRACE_S)
    assert not any(isinstance(action, events.Requeue) for action in actions)
    finish(grid)


def test_answers_that_come_in_between_are_not_wanted(grid: Referee) -> None:
    grid.tell(events.JobCancelled(JOB))
    last = attempt(JOB, 7)
    [holder] = [
        name for name in AGENTS if grid.scheduler.floor.agents[name].held and 7 in indices(grid, name)
    ]
    assert grid.tell(events.TaskSucceeded(holder, last, 1.0))[0] == events.Discard(holder, last)
    failed = events.TaskFailed(holder, last, Outcome.SCRIPT_FAILED, "SyntaxError")
    assert grid.tell(failed)[0] == events.Discard(holder, last)
    finish(grid)


def indices(grid: Referee, name: AgentId) -> set[int]:
    return {hold.task.index for hold in grid.scheduler.floor.agents[name].held}


def test_what_a_silent_agent_has_of_it_is_copied_for_nobody(grid: Referee) -> None:
    grid.tell(events.JobCancelled(JOB))
    quiet = policies.suspicion(len(AGENTS))
    grid.now += quiet
    for name in AGENTS[:-1]:
        grid.scheduler.leases.hear(grid.scheduler.floor.agents[name], grid.now)
    actions = [action for part in [grid.tell(events.TimePassed()), *finish(grid)] for action in part]
    assert not any(isinstance(action, events.Assign) for action in actions)


def test_nobody_takes_over_the_reserve_of_a_job_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit(JOB, 3)
    assert len(grid.live[AgentId("attic")]) > 1
    grid.submit("next", 1)  # keeps the pool alive
    monkeypatch.setattr(policies, "WITHDRAWN_MAX", 0)
    grid.tell(events.JobCancelled(JOB))
    assert not any(isinstance(action, events.Recall) for action in grid.join("barn", 4))
    monkeypatch.undo()
    finish(grid)


def test_a_recall_for_a_job_that_is_over_meanwhile_copies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit(JOB, 2)
    asked = grid.join("barn", 1)
    assert any(isinstance(action, events.Recall) for action in asked)
    monkeypatch.setattr(policies, "WITHDRAWN_MAX", 0)
    grid.tell(events.JobCancelled(JOB))
    actions = grid.tell(events.TimePassed(), grid.now + policies.RECALL_S)
    assert not any(isinstance(action, events.Assign) for action in actions)
    monkeypatch.undo()
    finish(grid)


def test_a_held_job_is_asked_back_in_parts_until_it_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "WITHDRAWN_MAX", 4)
    grid = Referee()
    for name in AGENTS:
        grid.join(name, 1)
    grid.submit(JOB, 40)
    for index in range(policies.TRIAL_TASKS):
        [holder] = [name for name, held in grid.live.items() if attempt(JOB, index) in held]
        failed = events.TaskFailed(
            holder, attempt(JOB, index), Outcome.SCRIPT_FAILED, "NameError", retryable=False
        )
        actions = grid.tell(failed)
    assert any(isinstance(action, events.HoldJob) for action in actions)
    asked = [action for action in actions if isinstance(action, events.Recall)]
    assert 0 < sum(len(run) for action in asked for run in action.runs) <= 4
    assert grid.scheduler.behind
    parts = [grid.tell(events.JobReleased(JOB)), *finish(grid)]
    assert not [action for part in parts for action in part if isinstance(action, events.Recall)]


def test_silence_of_many_is_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "LOOKED_AT_MAX", 2)
    grid = Referee()
    for number in range(6):
        grid.join(f"a{number}")
    grid.submit(JOB, 12)
    speaker = AgentId("a5")
    while grid.now < policies.LEASE_S:
        grid.now += 1.0
        grid.tell(events.AgentBeat(speaker, tuple(map(Run.of, grid.live[speaker]))))
        parts = [grid.tell(events.TimePassed()), *finish(grid)]
    lost = [sum(isinstance(action, events.LoseAgent) for action in part) for part in parts]
    assert sum(lost) == 5
    assert max(lost) == 2


def test_an_agent_that_speaks_before_its_turn_to_be_given_up_is_looked_at_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid = Referee()
    for number in range(3):
        grid.join(f"a{number}")
    for _ in range(int(policies.LEASE_S) - 1):
        grid.tell(events.AgentBeat(AgentId("a0")), grid.now + 1.0)
        grid.tell(events.TimePassed())
    monkeypatch.setattr(policies, "LOOKED_AT_MAX", 1)
    grid.tell(events.AgentBeat(AgentId("a0")), grid.now + 1.0)
    grid.tell(events.TimePassed())
    assert grid.scheduler.behind
    grid.tell(events.AgentBeat(AgentId("a2")))
    finish(grid)
    assert set(grid.live) == {"a0", "a2"}


def test_the_first_job_of_its_kind_on_a_large_grid_is_placed_in_the_next_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policies, "WITHDRAWN_MAX", 3)
    grid = Referee()
    for name in AGENTS:
        grid.join(name)
    assert grid.submit(JOB, 8) == []
    assert sum(isinstance(action, events.Assign) for part in finish(grid) for action in part) == 4


def test_agents_forget_a_pool_without_jobs_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Referee()
    for name in AGENTS:
        grid.join(name)
    grid.submit(JOB, 1)
    [holder] = [name for name, held in grid.live.items() if held]
    grid.tell(events.TaskFailed(holder, attempt(JOB, 0), Outcome.REFUSED, "not today"))  # a pool of its own
    monkeypatch.setattr(policies, "WITHDRAWN_MAX", 2)
    grid.tell(events.JobCancelled(JOB))
    finish(grid)
    assert not grid.scheduler.floor.old_pools
    assert {len(agent.pools) for agent in grid.scheduler.floor.agents.values()} == {1}


def test_nothing_is_left_of_jobs_that_have_ended() -> None:
    """Without the help of the collector, which does not look at tasks and holds."""

    def kept() -> int:
        return sum(isinstance(one, Job) for one in gc.get_objects())

    gc.collect()
    before = kept()
    gc.disable()
    try:
        grid = Referee(thorough=False)
        for name in AGENTS:
            grid.join(name)
        grid.submit("done", 8)
        grid.submit("cancelled", 20)
        while "done" not in grid.ended_jobs:
            for name, held in grid.live.items():
                for one in [one for one in held if one.job == "done"]:
                    grid.tell(events.TasksStarted(name, (Run.of(one),)))
                    grid.tell(events.TaskSucceeded(name, one, 1.0))
        grid.tell(events.JobCancelled(JobId("cancelled")))
        finish(grid)
        grid.tell(events.TimePassed(), grid.now + 10.0)  # what was to be looked at then is forgotten too
        assert kept() == before
    finally:
        gc.enable()
