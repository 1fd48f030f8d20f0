"""Who gets what where blobs are at some agents already, and at others not."""

from typing import Any

from discogrid.types import AgentId, JobId
from discogrid_coordinator import events
from discogrid_coordinator.durations import Fresh
from discogrid_coordinator.locality import (
    DEAR,
    HOLDERS_MAX,
    LINE_BYTES_S,
    NEAR_MAX,
    AtHome,
    Near,
    at_home,
    dear,
    with_all,
)
from tests.pure.referee import Referee, run

ATTIC, BARN, CELLAR = (AgentId(name) for name in ("attic", "barn", "cellar"))
JOB = JobId("k3f9")
LARGE = int(10 * LINE_BYTES_S)  # ten seconds on the line


def grid_of(*agents: str, slots: int = 2) -> Referee:
    grid = Referee()
    for name in agents:
        grid.join(name, slots)
    return grid


def submitted(grid: Referee, tasks: int, **known: Any) -> dict[str, set[int]]:
    """The job's tasks by the agent that got them."""
    return shares(grid.submit(JOB, tasks, **known))


def shares(actions: list[events.Action]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for action in actions:
        if isinstance(action, events.Assign):
            found.setdefault(action.agent, set()).update(range(action.run.start, action.run.stop))
    return found


def test_a_transfer_is_dear_by_how_long_the_task_runs() -> None:
    long_s = LARGE / LINE_BYTES_S / DEAR
    assert dear(LARGE, long_s * 0.99)
    assert not dear(LARGE, long_s * 1.01)
    assert dear(LARGE, None)
    assert dear(LARGE, 0.0)
    assert not dear(0, None)


def test_each_task_goes_where_its_input_is() -> None:
    grid = grid_of("attic", "barn")
    got = submitted(grid, 4, inputs_at={BARN: (0, 1), ATTIC: (2, 3)})
    assert got == {"attic": {2, 3}, "barn": {0, 1}}


def test_who_has_none_of_the_inputs_still_helps() -> None:
    grid = grid_of("attic", "barn", "cellar")
    got = submitted(grid, 6, inputs_at={BARN: (0, 1, 2, 3, 4, 5)})
    assert {name: len(tasks) for name, tasks in got.items()} == {"attic": 2, "barn": 2, "cellar": 2}


def test_a_task_that_another_agent_took_is_not_given_again() -> None:
    grid = grid_of("attic", slots=1)
    assert submitted(grid, 6, inputs_at={BARN: (0, 1, 2)})["attic"] >= {0}
    joined = grid.join("barn", 1)
    taken = shares(joined)["barn"]
    assert taken & {0, 1, 2}
    assert 0 not in taken


def test_what_all_tasks_need_draws_them_to_who_has_it() -> None:
    grid = grid_of("attic", "barn", slots=4)
    assert submitted(grid, 3, shared_bytes=LARGE, shared_at=(BARN,)) == {"barn": {0, 1, 2}}


def test_who_has_it_but_is_gone_or_full_is_passed_over() -> None:
    grid = grid_of("attic", "barn", slots=1)
    got = submitted(grid, 2, shared_bytes=LARGE, shared_at=(CELLAR, BARN))
    assert got == {"barn": {0}, "attic": {1}}


def test_an_agent_that_runs_a_task_of_the_job_has_what_it_needs() -> None:
    grid = grid_of("attic", "barn", slots=4)
    [first] = submitted(grid, 1, shared_bytes=LARGE)
    grid.tell(events.TasksStarted(AgentId(first), (run(JOB, 0, 1),)))
    near = grid.scheduler.floor.jobs[JOB].near
    assert near is not None
    assert list(near.preferred(None)) == [first]
    assert list(near.preferred(LARGE / LINE_BYTES_S / DEAR + 1)) == []


def test_tasks_are_at_home_where_it_pays() -> None:
    inputs = {0: (LARGE, [ATTIC]), 1: (LARGE, [ATTIC, BARN]), 3: (LARGE, [BARN] * (HOLDERS_MAX + 1))}
    assert at_home(inputs, ()) == {ATTIC: (0, 1), BARN: (1, *[3] * HOLDERS_MAX)}
    assert at_home(inputs, (10.0, 20.0, 1.0, 3600.0)) == {ATTIC: (1, 0), BARN: (1,)}
    assert at_home({}, ()) == {}


def test_what_is_at_home_is_taken_as_long_as_it_waits() -> None:
    fresh = Fresh()
    fresh.fill([(0, 6)])
    home = AtHome({ATTIC: (4, 2, 0)})
    fresh.remove(2)
    assert home.take(BARN, fresh, 3) == []
    assert home.take(ATTIC, fresh, 1) == [4]
    assert home.take(ATTIC, fresh, 2) == [0]
    assert home.take(ATTIC, fresh, 2) == []
    assert list(fresh) == [(1, 2), (3, 4), (5, 6)]


def test_only_so_many_are_near() -> None:
    near = Near(LARGE)
    names = [AgentId(f"agent-{number}") for number in range(NEAR_MAX + 2)]
    for name in (*names, names[-1]):
        near.add(name)
    assert list(near.preferred(1.0)) == names[2:]
    assert list(near.preferred(1e6)) == []


def test_who_has_all_blobs_has_each() -> None:
    assert with_all([]) == ()
    assert with_all([(ATTIC, BARN)]) == (ATTIC, BARN)
    assert with_all([(ATTIC, BARN), (BARN, CELLAR)]) == (BARN,)
    assert with_all([(ATTIC,), ()]) == ()
