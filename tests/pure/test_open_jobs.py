"""Jobs that get more tasks while they run: calls of a program that is not at its end."""

from discogrid.types import AgentId, Counts, JobId, JobState, Outcome, SandboxLevel, TaskState
from discogrid_coordinator import events
from discogrid_coordinator.policies import TRIAL_TASKS
from tests.pure.referee import Referee, attempt, run

ATTIC = AgentId("attic")
JOB = JobId("k3f9")


def opened(slots: int = 2, tasks: int = 0) -> Referee:
    grid = Referee()
    grid.join("attic", slots)
    grid.submit(JOB, tasks, open=True)
    return grid


def succeed(grid: Referee, *indices: int) -> list[events.Action]:
    return [
        action
        for index in indices
        for action in grid.tell(events.TaskSucceeded(ATTIC, attempt(JOB, index), 1.0))
    ]


def state(grid: Referee) -> JobState:
    view = grid.books.job(JOB)
    assert view is not None
    return view.state


def test_an_open_job_waits_for_its_first_tasks_and_does_not_end_after_them() -> None:
    grid = opened()
    assert state(grid) is JobState.QUEUED
    assert events.Assign(ATTIC, run(JOB, 0, 2)) in grid.tell(events.TasksAdded(JOB, 2))
    succeed(grid, 0, 1)
    assert state(grid) is JobState.RUNNING
    assert events.Assign(ATTIC, run(JOB, 2, 3)) in grid.tell(events.TasksAdded(JOB, 1))
    [*_, end] = [*succeed(grid, 2), *grid.tell(events.JobClosed(JOB))]
    assert end == events.EndJob(JOB, JobState.SUCCEEDED)


def test_a_closed_one_ends_with_its_last_task() -> None:
    grid = opened(tasks=2)
    grid.tell(events.JobClosed(JOB))
    grid.tell(events.JobClosed(JOB))
    succeed(grid, 0)
    assert events.EndJob(JOB, JobState.SUCCEEDED) in succeed(grid, 1)


def test_one_that_never_had_a_task_ends_when_it_is_closed() -> None:
    assert opened().tell(events.JobClosed(JOB)) == [events.EndJob(JOB, JobState.SUCCEEDED)]


def test_nothing_is_added_to_a_job_that_is_closed_or_none() -> None:
    grid = opened(tasks=1)
    grid.tell(events.JobClosed(JOB))
    assert grid.tell(events.TasksAdded(JOB, 5)) == []
    assert grid.tell(events.TasksAdded(JobId("none"), 5)) == []
    assert grid.tell(events.JobClosed(JobId("none"))) == []
    assert events.EndJob(JOB, JobState.SUCCEEDED) in succeed(grid, 0)


def test_nothing_of_nothing_is_added() -> None:
    assert opened().tell(events.TasksAdded(JOB, 0)) == []


def test_calls_that_fail_alike_do_not_hold_the_job() -> None:
    grid = opened(tasks=2 * TRIAL_TASKS)
    for index in range(TRIAL_TASKS):
        failed = events.TaskFailed(
            ATTIC, attempt(JOB, index), Outcome.SCRIPT_FAILED, "ValueError: no", retryable=False
        )
        grid.tell(failed)
    assert state(grid) is not JobState.HELD


def test_a_held_one_keeps_what_is_added_until_it_is_released() -> None:
    grid = Referee()
    grid.join("attic", 4)
    grid.submit(JOB, 1, held=True, open=True)
    assert grid.tell(events.TasksAdded(JOB, 1)) == [events.ExtendJob(JOB, 1, 2)]
    released = grid.tell(events.JobReleased(JOB))
    assert events.Assign(ATTIC, run(JOB, 0, 2)) in released


def test_what_is_added_is_shown() -> None:
    grid = opened(slots=1, tasks=1)
    grid.books.drain()
    grid.tell(events.TasksAdded(JOB, 3))
    changes = grid.books.drain()
    assert changes.jobs[0].counts == Counts(queued=3, assigned=1)
    assert {task.index for task in changes.tasks} >= {1, 2, 3}
    shown = grid.books.tasks(JOB)
    assert [task.input for task in shown] == ["0.mp4", None, None, None]
    assert shown[3].state is TaskState.QUEUED
    grid.tell(events.JobCancelled(JOB))
    assert grid.books.tasks(JOB)[3].state is TaskState.CANCELLED


def test_an_open_job_that_is_cancelled_ends() -> None:
    grid = opened()
    assert events.EndJob(JOB, JobState.CANCELLED, "cancelled") in grid.tell(events.JobCancelled(JOB))


def test_its_tail_is_where_more_than_half_of_what_has_come_is_done() -> None:
    grid = opened(tasks=2)
    succeed(grid, 0, 1)
    job = grid.scheduler.floor.jobs[JOB]
    assert job.tail
    grid.tell(events.TasksAdded(JOB, 4))
    assert not job.tail


def test_after_a_restart_it_is_open_with_what_was_done() -> None:
    grid = Referee()
    grid.submit(JOB, 3, open=True, done=((0, 3),), restored=True)
    grid.join("attic", 1)
    assert state(grid) is JobState.QUEUED
    grid.tell(events.Restarted(()))
    assert events.Assign(ATTIC, run(JOB, 3, 4)) in grid.tell(events.TasksAdded(JOB, 1))


def test_a_task_that_nobody_wants_any_more_ends_wherever_it_is() -> None:
    grid = opened(slots=1, tasks=4)
    grid.tell(events.TasksStarted(ATTIC, (run(JOB, 0, 1),)))
    held, *_ = grid.tell(events.TaskCancelled(JOB, 0))
    assert held == events.Cancel(ATTIC, (run(JOB, 0, 1),))
    [end, *_] = grid.tell(events.TaskCancelled(JOB, 3))
    assert end == events.EndTasks(JOB, 3, 4, TaskState.CANCELLED, "cancelled")
    assert grid.tell(events.TaskCancelled(JOB, 3)) == []
    succeed(grid, 1, 2)
    assert grid.tell(events.JobClosed(JOB)) == [events.EndJob(JOB, JobState.SUCCEEDED)]


def test_a_task_that_waits_again_can_be_cancelled_too() -> None:
    grid = opened(slots=1, tasks=1)
    failed = events.TaskFailed(ATTIC, attempt(JOB, 0), Outcome.TRANSFER_FAILED, "no disk")
    grid.tell(failed)  # it waits for a while
    assert events.EndTasks(JOB, 0, 1, TaskState.CANCELLED, "cancelled") in grid.tell(
        events.TaskCancelled(JOB, 0)
    )
    grid.tell(events.TasksAdded(JOB, 1))
    grid.tell(events.AgentLeft(ATTIC, "gone"))  # the next one is in nobody's hands
    grid.tell(events.TaskCancelled(JOB, 1))
    assert grid.tell(events.JobClosed(JOB)) == [events.EndJob(JOB, JobState.SUCCEEDED)]


def test_only_tasks_of_open_jobs_are_cancelled_one_by_one() -> None:
    grid = opened(tasks=1)
    assert grid.tell(events.TaskCancelled(JobId("none"), 0)) == []
    assert grid.tell(events.TaskCancelled(JOB, 7)) == []
    grid.tell(events.JobClosed(JOB))
    assert grid.tell(events.TaskCancelled(JOB, 0)) == []


def test_its_slots_are_those_of_agents_that_take_work() -> None:
    grid = opened(slots=2)
    grid.join("barn", 3)
    assert grid.scheduler.slots(JOB) == 5
    grid.tell(events.AgentPaused(AgentId("barn")))
    assert grid.scheduler.slots(JOB) == 2
    assert grid.scheduler.slots(JobId("none")) == 0


def test_why_no_agent_could_run_it_is_known_before_its_first_task() -> None:
    grid = opened(slots=2)
    grid.join("small", 1, sandbox=SandboxLevel.NONE)
    assert grid.scheduler.explain(JOB)[AgentId("small")] == "box level none, job demands strict"
