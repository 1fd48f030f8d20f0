"""What readers are shown."""

from dataclasses import dataclass

import pytest

from discogrid.types import (
    AgentId,
    Attempt,
    Counts,
    Digest,
    JobId,
    JobState,
    NodeId,
    Outcome,
    Requirements,
    TaskState,
)
from discogrid.views import JobView
from discogrid_coordinator import books, events
from tests.pure.referee import NoneKept, Referee, attempt, offer, run

ATTIC = AgentId("attic")
BARN = AgentId("barn")
JOB = JobId("k3f9")
ZIP = Digest("zip")


@dataclass(frozen=True)
class Result:
    """As the journal keeps it."""

    attempt: Attempt
    agent: AgentId = ATTIC
    outcome: Outcome = Outcome.SUCCEEDED
    exit: int | None = 0
    started: float | None = 100.0
    ended: float | None = 104.5
    seconds: float = 4.0
    reason: str = ""
    archive: Digest | None = ZIP
    archive_bytes: int = 9
    state: TaskState | None = TaskState.DONE
    failures: int = 0


def at_work() -> Referee:
    grid = Referee()
    grid.join("attic", 2)
    grid.submit("k3f9", 5, Requirements(cpus=2))
    grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 0, 1),)), 3.0)
    return grid


def test_jobs_are_read_in_pages() -> None:
    grid = Referee()
    for name in ("a1", "b2", "c3"):
        grid.submit(name, 1)
    assert grid.books.job_count() == 3
    assert [view.id for view in grid.books.jobs(1, 3)] == ["b2", "c3"]
    assert len(grid.books.jobs()) == 3


def test_a_job_that_is_forgotten_is_shown_no_more_and_told_to_nobody() -> None:
    grid = Referee()
    for name in ("a1", "b2"):
        grid.submit(name, 1)
    grid.tell(events.JobCancelled(JobId("a1")))
    grid.books.forget(JobId("a1"))
    assert [view.id for view in grid.books.jobs()] == ["b2"]
    assert [view.id for view in grid.drain().jobs] == ["b2"]


def test_a_job_is_counted_through_its_life() -> None:
    grid = at_work()
    view = grid.books.job(JOB)
    assert view is not None
    assert (view.state, view.started) == (JobState.RUNNING, 3.0)
    assert view.counts == Counts(queued=3, assigned=1, running=1)
    (agent,) = grid.books.agents()
    assert (agent.state, agent.busy, agent.queued, agent.seen, agent.slots) == ("live", 2, 1, 3.0, 2)
    grid.tell(events.JobCancelled(JOB, "not needed"), 5.0)
    view = grid.books.job(JOB)
    assert view is not None
    assert (view.state, view.ended, view.reason) == (JobState.CANCELLED, 5.0, "not needed")
    assert view.counts == Counts(cancelled=5)
    assert {task.state for task in grid.books.tasks(JOB)} == {TaskState.CANCELLED}
    assert {task.ended for task in grid.books.tasks(JOB)} == {5.0}


def test_a_job_nobody_knows() -> None:
    assert books.Books(NoneKept()).job(JOB) is None
    with pytest.raises(KeyError):
        books.Books(NoneKept()).tasks(JOB)


def test_a_fresh_task_is_shown_without_a_row() -> None:
    grid = at_work()
    task = grid.books.tasks(JOB, 4, 99)[0]
    assert (task.label, task.state, task.input, task.attempt) == ("k3f9-004", TaskState.QUEUED, "4.mp4", 0)
    assert [task.index for task in grid.books.tasks(JOB, -3, 2)] == [0, 1]


def test_the_facts_of_a_result_are_shown() -> None:
    grid = at_work()
    grid.books.note_result(Result(attempt("k3f9", 0)))
    grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", 0), 4.0), 200.0)
    task = grid.books.tasks(JOB)[0]
    assert (task.state, task.exit, task.seconds, task.archive, task.archive_bytes) == (
        TaskState.DONE,
        0,
        4.0,
        "zip",
        9,
    )
    assert (task.started, task.ended, task.agent) == (100.0, 104.5, ATTIC)
    assert grid.books.agents()[0].done == 1


def test_a_failed_attempt_leaves_its_facts_until_the_next_one_begins() -> None:
    grid = at_work()
    facts = Result(attempt("k3f9", 0), outcome=Outcome.SCRIPT_FAILED, exit=3, reason="exit 3", failures=1)
    grid.books.note_result(facts)
    failed = events.TaskFailed(ATTIC, attempt("k3f9", 0), Outcome.SCRIPT_FAILED, "exit 3")
    assert grid.books.failures(attempt("k3f9", 0, 2)) == 1
    grid.books.apply(events.Requeue(attempt("k3f9", 0), "exit 3"), 9.0)
    task = grid.books.tasks(JOB)[0]
    assert (task.failures, task.exit, task.reason, task.state) == (1, 3, "exit 3", TaskState.QUEUED)
    grid.books.apply(failed, 9.0)
    grid.books.apply(events.Assign(ATTIC, run("k3f9", 0, 1, 2)), 9.0)
    task = grid.books.tasks(JOB)[0]
    assert (task.failures, task.exit, task.reason, task.attempt) == (1, None, "", 2)
    assert task.archive == "zip"


def test_the_finisher_is_shown_and_credited_not_the_last_holder() -> None:
    grid = at_work()
    grid.tell(events.AgentLeft(ATTIC, "cut off"))
    grid.join("barn", 2)
    grid.books.note_result(Result(attempt("k3f9", 0)))
    grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", 0), 4.0))
    task = grid.books.tasks(JOB)[0]
    assert (task.agent, task.attempt) == (ATTIC, 1)
    assert [(view.id, view.done, view.busy, view.state) for view in grid.books.agents()] == [
        (ATTIC, 1, 0, "lost"),
        (BARN, 0, 0, "live"),
    ]


def test_facts_that_come_after_a_crowd_has_ended_give_the_task_its_row() -> None:
    grid = Referee()
    grid.submit("k3f9", 4, done=((0, 2),), failed=((2, 3),))
    grid.books.note_result(Result(attempt("k3f9", 1), agent=BARN))
    tasks = grid.books.tasks(JOB)
    assert [task.state for task in tasks] == [
        TaskState.DONE,
        TaskState.DONE,
        TaskState.FAILED,
        TaskState.QUEUED,
    ]
    assert [task.agent for task in tasks] == [None, BARN, None, None]
    view = grid.books.job(JOB)
    assert view is not None
    assert view.counts == Counts(done=2, failed=1, queued=1)
    grid.check()


def test_a_result_without_a_row_is_credited_to_nobody() -> None:
    grid = Referee()
    grid.submit("k3f9", 2)
    grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", 0, lease=1), 1.0))
    assert grid.books.tasks(JOB)[0].state is TaskState.DONE
    assert grid.books.agents() == []


def test_changes_are_told_once_and_merged() -> None:
    grid = at_work()
    changes = grid.drain()
    assert [view.id for view in changes.jobs] == [JOB]
    assert [task.index for task in changes.tasks] == [0, 1, 2, 3, 4]
    assert [view.id for view in changes.agents] == [ATTIC]
    assert grid.drain() == books.Changes((), (), ())
    grid.tell(events.AgentBeat(ATTIC, (run("k3f9", 0, 2),)), 4.0)
    changes = grid.drain()
    assert (changes.jobs, changes.tasks) == ((), ())
    assert [view.seen for view in changes.agents] == [4.0]


def test_a_crowd_of_changes_is_told_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "CHANGED_TASKS_MAX", 2)
    grid = Referee()
    grid.submit("k3f9", 3)
    grid.submit("m2x4", 1)
    portions = [[task.label for task in grid.drain().tasks] for _ in range(3)]
    assert portions == [["k3f9-000", "k3f9-001"], ["k3f9-002", "m2x4-000"], []]


def test_a_held_job_is_shown_as_held_until_its_release() -> None:
    grid = Referee()
    grid.submit("k3f9", 1, held=True)
    assert [view.state for view in grid.books.jobs()] == [JobState.HELD]
    grid.tell(events.JobReleased(JOB))
    assert [view.state for view in grid.books.jobs()] == [JobState.QUEUED]


def test_results_of_an_unknown_job_are_passed_over() -> None:
    grid = Referee()
    grid.books.note_result(Result(attempt("k3f9", 0)))
    assert grid.drain() == books.Changes((), (), ())


@dataclass
class Shelf:
    """Where closed jobs are read."""

    found: dict[int, Result]

    def inputs(self, job: JobId, start: int, stop: int) -> list[str | None]:
        return [f"{index}.mp4" for index in range(start, stop)]

    def results(self, job: JobId, start: int, stop: int) -> list[Result]:
        return [result for index, result in self.found.items() if start <= index < stop]


def cancelled() -> Referee:
    """The first task is done, the second has failed once, the others have not begun; all of it is kept."""
    first = Result(attempt("k3f9", 0))
    second = Result(
        attempt("k3f9", 1), BARN, Outcome.SCRIPT_FAILED, exit=3, reason="exit 3", state=None, failures=1
    )
    grid = Referee(books=books.Books(Shelf({0: first, 1: second})))
    grid.join("attic", 2)
    grid.join("barn", 2)
    grid.submit("k3f9", 5, retries=1)
    grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 0, 2),)))
    grid.books.note_result(first)
    grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", 0), 4.0))
    grid.books.note_result(second)
    grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", 1), Outcome.SCRIPT_FAILED, "exit 3"))
    grid.tell(events.JobCancelled(JOB), 50.0)
    return grid


def test_a_closed_job_is_shown_as_it_was_before_but_read_where_it_is_kept() -> None:
    grid = cancelled()
    before = grid.books.job(JOB), grid.books.tasks(JOB, 0, 4), grid.books.drain()
    again = cancelled()
    again.books.close(JOB)
    after = again.books.job(JOB), again.books.tasks(JOB, 0, 4), again.books.drain()
    assert [task.state for task in after[1]] == [TaskState.DONE, *[TaskState.CANCELLED] * 3]
    assert (after[1][1].failures, after[1][1].exit) == (1, 3)
    assert before[0] == after[0]
    assert [task.reason for task in before[1]] == [task.reason for task in after[1]]
    assert [(task.index, task.state, task.input) for task in before[2].tasks] == [
        (task.index, task.state, task.input) for task in after[2].tasks
    ]
    assert again.books.drain().tasks == ()
    assert again.books.jobs() == [after[0]]
    assert again.books.unended() == []


def test_whatever_comes_late_for_a_closed_job_changes_nothing() -> None:
    grid = cancelled()
    grid.books.close(JOB)
    shown = grid.books.job(JOB), grid.books.tasks(JOB)
    grid.books.note_result(Result(attempt("k3f9", 2)))
    for late in (
        events.EndTasks(JOB, 0, 5, TaskState.FAILED, "late"),
        events.Assign(ATTIC, run("k3f9", 2, 3)),
        events.StartTasks(ATTIC, run("k3f9", 2, 3)),
        events.Requeue(attempt("k3f9", 2), "late"),
        events.StartJob(JOB),
        events.ExtendJob(JOB, 5, 6),
    ):
        grid.books.apply(late, 60.0)
    grid.books.close(JOB)
    assert (grid.books.job(JOB), grid.books.tasks(JOB)) == shown
    assert grid.books.failures(attempt("k3f9", 1)) == 0


def test_what_nobody_watches_is_not_told_later() -> None:
    grid = cancelled()
    grid.books.close(JOB)
    grid.books.skip()
    changes = grid.books.drain()
    assert (changes.jobs, changes.tasks, changes.agents) == ((), (), ())
    grid.books.forget(JOB)
    assert grid.books.job_count() == 0


def test_a_job_that_had_ended_before_is_shown_and_nothing_of_it_is_news() -> None:
    before = cancelled()
    before.books.drain()
    before.books.close(JOB)
    assert before.books.drain().jobs == ()
    view = before.books.job(JOB)
    assert view is not None
    after = books.Books(Shelf({0: Result(attempt("k3f9", 0))}))
    after.note_ended(view)
    after.close(JobId("gone"))
    assert after.jobs() == [view]
    assert [task.state for task in after.tasks(JOB, 0, 2)] == [TaskState.DONE, TaskState.CANCELLED]
    assert after.drain() == books.Changes((), (), ())


def test_of_calls_only_what_printed_something_keeps_a_row() -> None:
    shelf = books.Books(NoneKept())
    view = JobView(JOB, "pool", JobState.QUEUED, Counts(), NodeId("me"), "p.py", 0.0, Digest("d"), calls=True)
    shelf.note_job(view, [])
    shelf.apply(events.ExtendJob(JOB, 0, 3), 1.0)
    shelf.apply(events.AgentJoined(ATTIC, offer()), 1.0)
    shelf.apply(events.Assign(ATTIC, run(JOB, 0, 3)), 1.0)
    for index in range(3):
        shelf.apply(events.EndTasks(JOB, index, index + 1, TaskState.DONE), 2.0)
    shelf.note_result(Result(attempt(JOB, 1)))
    assert [task.state for task in shelf.tasks(JOB)] == [TaskState.DONE] * 3
    assert [task.archive for task in shelf.tasks(JOB)] == [None, ZIP, None]
    job = shelf.job(JOB)
    assert job is not None
    assert job.counts.done == job.counts.total == 3
