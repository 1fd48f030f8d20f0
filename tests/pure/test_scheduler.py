"""Situations of the scheduler that a scenario file would tell too wordily."""

import gc
import sys
from collections import Counter
from types import FrameType
from typing import Any

import pytest

from discogrid.types import (
    GIB,
    AgentId,
    JobId,
    JobState,
    NodeId,
    Outcome,
    Requirements,
    Run,
    SandboxLevel,
    TaskState,
)
from discogrid_coordinator import events, policies
from discogrid_coordinator.events import Action
from discogrid_coordinator.floor import IDLE_POOLS_MAX
from discogrid_coordinator.queues import RUNNING_SLACK, Agent
from tests.pure.referee import LEASE, Referee, attempt, offer, run

ATTIC = AgentId("attic")
BARN = AgentId("barn")
JOB = JobId("k3f9")


def assigned(actions: list[Action]) -> dict[AgentId, int]:
    found: Counter[AgentId] = Counter()
    for action in actions:
        if isinstance(action, events.Assign):
            found[action.agent] += len(action.run)
    return dict(found)


def test_a_job_without_tasks_ends_at_once() -> None:
    assert Referee().submit("k3f9", 0) == [events.EndJob(JOB, JobState.SUCCEEDED)]


def test_a_job_that_had_ended_before_a_restart_ends_with_what_it_had() -> None:
    grid = Referee()
    actions = grid.submit("k3f9", 3, done=((0, 2),), failed=((2, 3),))
    assert actions == [events.EndJob(JOB, JobState.FAILED, "1 of 3 tasks failed")]


def test_a_job_submitted_twice_runs_once() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    assert grid.submit("k3f9", 1) == []


def test_what_has_run_of_a_long_job_is_not_kept_in_mind() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 500)
    job = grid.scheduler.floor.jobs[JOB]
    for index in range(400):
        grid.tell(events.TasksStarted(ATTIC, (run("k3f9", index, index + 1),)))
        grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", index), 60.0))
        assert len(job.running) <= 2 * len(job.known) + RUNNING_SLACK + 1


def test_a_job_is_not_given_up_while_an_agent_finds_out_what_it_can_offer() -> None:
    grid = Referee()
    early = offer(sandbox=SandboxLevel.NONE, proving=True)
    grid.tell(events.AgentJoined(ATTIC, early))
    assert grid.submit("k3f9", 1) == []
    assert grid.scheduler.can_place(JOB)
    assert grid.scheduler.explain(JOB)[ATTIC] == (
        "is still finding out what it can offer (until then: box level none, job demands strict)"
    )

    grid.tell(events.AgentJoined(ATTIC, offer(sandbox=SandboxLevel.NONE)))
    assert not grid.scheduler.can_place(JOB)
    assert grid.scheduler.explain(JOB)[ATTIC] == "box level none, job demands strict"

    assert assigned(grid.tell(events.AgentJoined(ATTIC, offer()))) == {ATTIC: 1}


def test_what_an_agent_knows_of_itself_already_is_not_waited_for() -> None:
    grid = Referee()
    grid.tell(events.AgentJoined(ATTIC, offer(2, sandbox=SandboxLevel.NONE, proving=True)))
    grid.submit("k3f9", 1, Requirements(cpus=3))
    assert not grid.scheduler.can_place(JOB)
    assert grid.scheduler.explain(JOB)[ATTIC] == "has 2 slots, the task needs 3"


def test_what_is_under_way_to_an_agent_that_has_found_out_what_it_can_offer_is_not_lost() -> None:
    grid = Referee()
    early = offer(sandbox=SandboxLevel.NONE, proving=True)
    grid.tell(events.AgentJoined(ATTIC, early))
    assert assigned(grid.submit("k3f9", 1, Requirements(sandbox=SandboxLevel.NONE))) == {ATTIC: 1}

    assert not assigned(grid.tell(events.AgentJoined(ATTIC, offer(), holds=())))
    assert assigned(grid.tell(events.AgentJoined(ATTIC, offer(), holds=()))) == {ATTIC: 1}  # a new session


def test_whether_any_agent_could_ever_run_a_job() -> None:
    grid = Referee()
    grid.join("attic", 2)
    grid.submit("k3f9", 1, Requirements(cpus=4))
    assert not grid.scheduler.can_place(JOB)
    grid.join("barn", 4)
    assert grid.scheduler.can_place(JOB)
    assert grid.scheduler.can_place(JobId("none"))  # nothing of it is left to place


def test_memory_is_shared_out_like_slots() -> None:
    grid = Referee()
    grid.join("attic", 8)  # lends 8 GiB
    grid.join("barn", 8)
    actions = grid.submit("k3f9", 6, Requirements(memory_bytes=3 * GIB))
    assert assigned(actions) == {"attic": 2, "barn": 2}


def test_gpus_are_shared_out_like_slots() -> None:
    grid = Referee()
    grid.join("attic", 8, gpus=1)
    grid.join("barn", 8, gpus=2)
    actions = grid.submit("k3f9", 4, Requirements(gpus=1))
    assert assigned(actions) == {"attic": 1, "barn": 2}


def test_an_agent_that_offers_less_on_its_return_gets_less() -> None:
    grid = Referee()
    grid.join("attic", 4)
    grid.submit("k3f9", 20)
    held = tuple(run("k3f9", index, index + 1) for index in range(5))
    grid.join("attic", 1, held)
    for index in range(4):
        assert assigned(grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", index), 60.0))) == (
            {} if index < 3 else {"attic": 1}
        )


def test_a_result_from_before_a_restart_is_taken_even_while_the_job_is_held() -> None:
    grid = Referee()
    grid.submit("k3f9", 2, held=True)
    old = attempt("k3f9", 1, 3, LEASE - 1)
    actions = grid.tell(events.TaskSucceeded(ATTIC, old, 1.0))
    assert actions[0] == events.Commit(ATTIC, old)
    assert events.EndTasks(JOB, 1, 2, TaskState.DONE) in actions


def test_a_result_from_before_a_restart_takes_a_waiting_task_out_of_the_queue() -> None:
    grid = Referee()
    grid.submit("k3f9", 2)
    grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", 0, 1, LEASE - 1), 1.0))
    assert assigned(grid.join("barn", 4)) == {"barn": 1}


@pytest.mark.parametrize("number", [0, 2, 9])
def test_a_result_of_an_attempt_that_was_never_granted_is_discarded(number: int) -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 3)
    bogus = attempt("k3f9", 0, number)
    assert grid.tell(events.TaskSucceeded(BARN, bogus, 1.0)) == [events.Discard(BARN, bogus)]


def test_a_late_result_ends_a_task_that_waits_for_its_back_off() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    grid.tell(events.AgentLeft(ATTIC, "gone"))
    grid.join("barn", 1)
    grid.tell(events.TaskFailed(BARN, attempt("k3f9", 0, 2), Outcome.TRANSFER_FAILED, "no source"))
    grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", 0, 1), 1.0))
    assert grid.ended_jobs == {JOB: JobState.SUCCEEDED}
    assert grid.tell(events.TimePassed(), 5.0) == []


def test_transfers_that_never_work_fail_the_task() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    for number in range(1, policies.TRANSFERS_MAX + 2):
        assert JOB not in grid.ended_jobs
        grid.tell(events.AgentBeat(ATTIC, (run("k3f9", 0, 1, number),)))
        grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", 0, number), Outcome.TRANSFER_FAILED, "no source"))
        while JOB not in grid.ended_jobs and not grid.live.get(ATTIC):
            due = grid.scheduler.deadline()
            assert due is not None
            grid.tell(events.AgentBeat(ATTIC), due)
            grid.tell(events.TimePassed())
    assert grid.ended_jobs == {JOB: JobState.FAILED}


def test_the_same_agent_dying_again_and_again_quarantines_the_task() -> None:
    grid = Referee()
    grid.submit("k3f9", 1)
    for number in range(1, policies.LOSSES_MAX + 2):
        assert JOB not in grid.ended_jobs
        grid.join("attic", 1)
        grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 0, 1, number),)))
        grid.tell(events.AgentLeft(ATTIC, "power cut"))
    assert grid.ended_jobs == {JOB: JobState.FAILED}
    assert grid.books.tasks(JOB)[0].state is TaskState.QUARANTINED


def test_an_unstarted_task_is_lost_as_often_as_it_likes() -> None:
    grid = Referee()
    grid.submit("k3f9", 1)
    for _ in range(policies.LOSSES_MAX * 3):
        grid.join("attic", 1)
        grid.tell(events.AgentLeft(ATTIC, "power cut"))
    assert JOB not in grid.ended_jobs


def test_a_task_avoids_no_more_agents_than_the_limit() -> None:
    grid = Referee()
    grid.submit("k3f9", 1, retries=50)
    names = [f"a{number}" for number in range(policies.AVOIDED_MAX + 3)]
    for name in names:
        grid.join(name, 1)
    failed: list[AgentId] = []
    for number in range(1, len(names) + 2):
        (holder,) = (agent for agent, held in grid.live.items() if held)
        assert holder not in failed[-policies.AVOIDED_MAX :]
        failed.append(holder)
        grid.tell(events.TaskFailed(holder, attempt("k3f9", 0, number), Outcome.SCRIPT_FAILED, "exit 1"))


def test_a_refusal_moves_only_the_refused_job() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    grid.submit("m2x4", 1)
    refused = events.TaskFailed(ATTIC, attempt("k3f9", 0), Outcome.REFUSED, "no")
    assert events.Assign(ATTIC, run("m2x4", 0, 1)) in grid.tell(refused)
    grid.tell(events.TaskSucceeded(ATTIC, attempt("m2x4", 0), 1.0))
    assert not grid.scheduler.can_place(JOB)
    assert "refused" in grid.scheduler.explain(JOB)[ATTIC]
    grid.join("attic", 1)  # again: its owner may have changed the rules meanwhile
    assert grid.live[ATTIC]
    grid.tell(events.JobCancelled(JOB))


def test_an_agent_that_refused_for_a_time_is_asked_again_when_it_is_over() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    refused = events.TaskFailed(ATTIC, attempt("k3f9", 0), Outcome.REFUSED, "spent", again_s=5.0)
    assert not assigned(grid.tell(refused))
    assert "refused tasks of k3f9: spent" in grid.scheduler.explain(JOB)[ATTIC]
    grid.now += 4.0
    assert not assigned(grid.tell(events.AgentBeat(ATTIC)))
    grid.now += 1.0
    assert assigned(grid.tell(events.TimePassed())) == {"attic": 1}


def test_a_refusal_for_no_time_at_all_does_not_go_round_in_circles() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    refused = events.TaskFailed(ATTIC, attempt("k3f9", 0), Outcome.REFUSED, "spent", again_s=0.0)
    assert not assigned(grid.tell(refused))
    assert grid.scheduler.deadline() == grid.now + policies.REFUSED_S_MIN


def test_refusals_for_ever_are_for_a_day_and_counted_once_a_job() -> None:
    grid = Referee()
    grid.join("attic", 2)
    grid.submit("k3f9", 2)
    for index in range(2):
        grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", index), Outcome.REFUSED, "no", again_s=1e300))
    assert grid.scheduler.deadline() == grid.now + policies.suspicion(1)
    assert [due for due, *_ in grid.scheduler._pardons] == [grid.now + policies.REFUSED_S_MAX]


def test_a_refusal_that_is_over_after_its_job_or_its_agent_changes_nothing() -> None:
    for gone in (events.JobCancelled(JOB), events.AgentLeft(ATTIC, "gone")):
        grid = Referee()
        grid.join("attic", 1)
        grid.submit("k3f9", 1)
        refused = events.TaskFailed(ATTIC, attempt("k3f9", 0), Outcome.REFUSED, "spent", again_s=5.0)
        grid.tell(refused)
        grid.tell(gone)
        grid.now += 6.0
        assert not assigned(grid.tell(events.TimePassed()))


def test_a_refusal_while_other_tasks_of_the_job_wait() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 9)
    grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", 0), Outcome.REFUSED, "no"))
    assert assigned(grid.join("barn", 2)) == {"barn": 3}


def test_idle_pools_are_kept_for_the_next_job_but_not_for_ever() -> None:
    grid = Referee()
    grid.join("attic", 64)
    for cpus in range(1, IDLE_POOLS_MAX + 4):
        grid.submit(f"j{cpus}", 1, Requirements(cpus=cpus))
        grid.tell(events.JobCancelled(JobId(f"j{cpus}")))
    assert len(grid.scheduler.floor.pools) == IDLE_POOLS_MAX
    grid.submit("again", 1, Requirements(cpus=IDLE_POOLS_MAX + 3))
    assert len(grid.scheduler.floor.pools) == IDLE_POOLS_MAX


def test_equal_shares_for_idle_agents() -> None:
    grid = Referee()
    for number in range(5):
        grid.join(f"a{number}", 8)
    assert set(assigned(grid.submit("k3f9", 10)).values()) == {2}


def test_no_reserve_while_another_agent_could_starve() -> None:
    grid = Referee()
    for name in ("attic", "barn"):
        grid.join(name, 1)
    grid.submit("k3f9", 4)
    actions = grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", 0), 0.01))
    assert assigned(actions) == {"attic": 1}


def test_an_unknown_agent_is_asked_to_say_hello_and_changes_nothing() -> None:
    grid = Referee()
    grid.submit("k3f9", 1)
    assert grid.tell(events.AgentBeat(ATTIC)) == [events.Resync(ATTIC)]
    assert grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 0, 1),))) == []
    assert grid.tell(events.TasksReturned(ATTIC, (run("k3f9", 0, 1),))) == []
    assert grid.tell(events.AgentLeft(ATTIC, "gone")) == []
    assert grid.tell(events.JobReleased(JobId("none"))) == []
    failed = events.TaskFailed(ATTIC, attempt("k3f9", 0), Outcome.SCRIPT_FAILED, "exit 1")
    assert grid.tell(failed) == [events.Discard(ATTIC, attempt("k3f9", 0))]


def test_a_deadline_only_when_something_can_come_due() -> None:
    grid = Referee()
    assert grid.scheduler.deadline() is None
    grid.join("attic")
    assert grid.scheduler.deadline() == policies.suspicion(1)


def lines_of(grid: Referee, event: events.Event) -> int:
    """How many lines of Python the scheduler goes through for one event: its cost without a clock."""
    count = 0

    def trace(frame: FrameType, what: str, _: Any) -> Any:
        nonlocal count
        count += what == "line"
        return trace

    before = sys.gettrace()
    gc.disable()  # else what other tests have left is finalized here, and counted
    sys.settrace(trace)
    try:
        grid.scheduler.handle(event, grid.now)
        grid.scheduler.deadline()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def test_the_cost_of_an_event_does_not_grow_with_the_grid() -> None:
    costs: list[list[int]] = []
    for agents in (100, 10_000):
        grid = Referee()
        for number in range(agents):
            grid.scheduler.handle(events.AgentJoined(AgentId(f"a{number}"), offer(2)), 0.0)
        grid.scheduler.handle(events.JobSubmitted(JOB, 20 * agents, Requirements()), 0.0)
        while grid.scheduler.deadline() == 0.0:  # more is to be placed than one event may
            grid.scheduler.handle(events.TimePassed(), 0.0)
        middle = AgentId(f"a{agents // 2}")
        first = next(iter(grid.scheduler.floor.agents[middle].held)).task.index
        grid.scheduler.handle(events.JobSubmitted(JobId("later"), 5, Requirements()), 0.0)
        costs.append(
            [
                lines_of(grid, event)
                for event in (
                    events.AgentBeat(middle, (run("k3f9", first, first + 2),)),
                    events.TasksStarted(middle, (run("k3f9", first, first + 2),)),
                    events.TaskSucceeded(middle, attempt("k3f9", first), 1.0),
                    events.TaskFailed(middle, attempt("k3f9", first + 1), Outcome.SCRIPT_FAILED, "exit 1"),
                    events.TimePassed(),
                    events.JobSubmitted(JobId("one-more"), 1_000_000, Requirements()),
                    events.AgentLeft(AgentId("a7"), "gone"),
                    events.AgentJoined(AgentId("new"), offer(2)),
                    events.JobCancelled(JobId("one-more")),
                )
            ]
        )
    assert all(costs[0])
    assert all(large <= 1.1 * small for small, large in zip(*costs, strict=True)), costs


def test_an_agent_with_a_huge_claim_costs_no_more_than_what_is_known() -> None:
    grid = Referee()
    grid.join("attic", 2)
    grid.submit("k3f9", 4)
    small = lines_of(grid, events.AgentBeat(ATTIC, (run("k3f9", 0, 4),)))
    assert lines_of(grid, events.AgentBeat(ATTIC, (run("k3f9", 0, 1 << 40),))) <= small + 5


def test_agents_are_compared_by_identity() -> None:
    assert Agent(ATTIC, offer(), 0.0) != Agent(ATTIC, offer(), 0.0)


def test_the_double_of_a_result_from_before_a_restart_is_discarded() -> None:
    grid = Referee()
    grid.submit("k3f9", 2)
    old = attempt("k3f9", 1, 1, LEASE - 1)
    grid.tell(events.TaskSucceeded(ATTIC, old, 1.0))
    assert grid.tell(events.TaskSucceeded(ATTIC, old, 1.0)) == [events.Discard(ATTIC, old)]


def test_a_failure_from_before_a_restart_blames_nobody() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    old = attempt("k3f9", 0, 1, LEASE - 1)
    failed = events.TaskFailed(ATTIC, old, Outcome.SCRIPT_FAILED, "exit 1", retryable=False)
    assert grid.tell(failed) == [events.Discard(ATTIC, old)]


def test_a_returning_agent_is_not_left_with_an_older_attempt() -> None:
    grid = Referee()
    grid.submit("k3f9", 1)
    for _ in range(2):
        grid.join("attic", 1)
        grid.tell(events.AgentLeft(ATTIC, "cut off"))
    stale = run("k3f9", 0, 1, 1)
    assert events.Cancel(ATTIC, (stale,)) in grid.join("attic", 1, (stale,))


def test_a_failed_attempt_that_is_not_acknowledged_yet_is_not_taken_up_again() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("m2x4", 1)
    grid.join("barn", 1)
    grid.submit("k3f9", 1)
    grid.tell(events.TaskFailed(BARN, attempt("k3f9", 0), Outcome.BOX_FAILED, "no box"))
    held = run("k3f9", 0, 1)
    actions = grid.tell(events.AgentBeat(BARN, (held,)))
    assert actions == [events.Cancel(BARN, (held,))]


def test_goodbyes_blame_nobody() -> None:
    grid = Referee()
    grid.submit("k3f9", 1)
    for number in range(1, policies.LOSSES_MAX * 2):
        grid.join("attic", 1)
        grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 0, 1, number),)))
        grid.tell(events.AgentLeft(ATTIC, "goodbye", goodbye=True))
    assert JOB not in grid.ended_jobs


def test_a_laptop_that_sleeps_and_wakes_is_no_loss() -> None:
    grid = Referee()
    grid.submit("k3f9", 1)
    held = run("k3f9", 0, 1)
    grid.join("attic", 1)
    for _ in range(policies.LOSSES_MAX * 2):
        grid.tell(events.TasksStarted(ATTIC, (held,)))
        grid.tell(events.AgentLeft(ATTIC, "asleep"))
        assert events.Adopt(ATTIC, held) in grid.join("attic", 1, (held,))
    assert JOB not in grid.ended_jobs


def test_a_back_off_does_not_outlive_the_attempt_that_ended_it() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", 0), Outcome.TRANSFER_FAILED, "no source"))
    grid.tell(events.JobCancelled(JOB))
    assert grid.tell(events.TimePassed(), 5.0) == []


def test_the_last_agent_left_gets_what_avoided_it() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    grid.join("barn", 1)
    grid.submit("m2x4", 1)
    grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", 0), Outcome.SCRIPT_FAILED, "exit 1"))
    assert not grid.live[ATTIC]
    assert assigned(grid.tell(events.TasksReturned(BARN, (), leaving=True))) == {"attic": 1}


def test_narrow_tasks_do_not_starve_a_wide_one() -> None:
    grid = Referee()
    grid.join("attic", 2)
    grid.join("barn", 2)
    grid.submit("slow", 6)
    grid.submit("wide", 1, Requirements(cpus=2), priority=1)
    actions = grid.tell(events.TaskSucceeded(ATTIC, attempt("slow", 0), 60.0))
    assert events.Assign(ATTIC, run("wide", 0, 1)) in actions


def test_nothing_slips_in_beside_a_task_that_waits_for_memory() -> None:
    grid = Referee()
    grid.join("attic", 4)
    grid.submit("large", 2, Requirements(memory_bytes=5 * GIB))
    grid.submit("small", 1)
    assert grid.live[ATTIC] == {attempt("large", 0), attempt("large", 1)}


def test_a_task_goes_to_an_agent_that_can_start_it_not_to_one_where_it_must_wait() -> None:
    grid = Referee()
    grid.join("cellar", 8, memory_bytes=64 * GIB)
    grid.submit("large", 4, Requirements(memory_bytes=5 * GIB))
    grid.submit("small", 4)
    grid.join("attic", 8)
    grid.join("barn", 8, memory_bytes=64 * GIB)
    grid.tell(events.AgentLeft(AgentId("cellar"), "goodbye", goodbye=True))
    held = Counter((agent, one.job) for agent, live in grid.live.items() for one in live)
    assert (held[ATTIC, JobId("large")], held[BARN, JobId("large")]) == (1, 3)


def test_a_grid_that_shrinks_does_not_lose_those_who_beat_as_slowly_as_they_were_told() -> None:
    grid = Referee(thorough=False)
    for number in range(800):
        grid.join(f"a{number}", 1)
    for number in range(1, 800):
        grid.tell(events.AgentLeft(AgentId(f"a{number}"), "goodbye", goodbye=True))
    assert grid.join("attic", 1) == [events.Welcome(ATTIC, policies.HEARTBEAT_S, policies.lease(800))]


def test_an_agent_holds_tasks_of_the_jobs_it_was_given_and_of_no_others() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    grid.submit("m2x4", 9, Requirements(cpus=4))
    assert grid.scheduler.jobs_held(ATTIC) == {JOB}
    assert grid.scheduler.jobs_held(BARN) == set()


def test_the_longest_expected_task_goes_first() -> None:
    grid = Referee()
    grid.join("attic", 1)
    actions = grid.submit("k3f9", 3, expected=(1.0, 9.0, 4.0))
    assert [action.run.start for action in actions if isinstance(action, events.Assign)] == [1, 2]


def test_what_may_not_run_twice_is_not_copied_for_a_silent_agent() -> None:
    for repeatable in (True, False):
        grid = Referee()
        grid.join("attic", 1)
        grid.submit("k3f9", 1, repeatable=repeatable)
        grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 0, 1),)))
        grid.now = policies.suspicion(1)
        grid.join("barn", 1)
        grid.tell(events.TimePassed())
        assert bool(grid.live[BARN]) == repeatable


def test_a_silent_agent_that_speaks_again_gets_work_again() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.now = policies.suspicion(1)
    grid.tell(events.TimePassed())
    grid.submit("k3f9", 1)
    assert not grid.live[ATTIC]
    assert "not been heard of" in grid.scheduler.explain(JOB)[ATTIC]
    grid.tell(events.AgentBeat(ATTIC))
    assert grid.live[ATTIC]


def test_a_copy_that_is_lost_leaves_its_task_to_the_first_attempt() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1)
    grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 0, 1),)))
    grid.now = policies.suspicion(1)
    grid.join("barn", 1)
    grid.tell(events.TimePassed())
    grid.tell(events.TasksStarted(BARN, (run("k3f9", 0, 1, 2),)))
    lost = grid.tell(events.AgentLeft(BARN, "its line is cut"))
    assert not any(isinstance(action, events.Assign) for action in lost)
    assert len(grid.live[ATTIC]) == 1
    grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", 0), 20.0))
    assert grid.ended_jobs == {JOB: JobState.SUCCEEDED}


def test_a_straggler_whose_copies_are_lost_is_copied_again() -> None:
    grid = Referee()
    grid.join("attic", 3)
    grid.submit("k3f9", 5)
    grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 0, 3),)))
    for index in (1, 2):
        grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", index), 1.0), 1.0)
    grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 3, 5),)))
    grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", 3), 1.0), 2.0)
    grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", 4), 1.0), 2.0)
    for number, name in enumerate(("barn", "cellar", "dairy"), 2):
        copies = grid.join(name, 1)
        assert [action.run for action in copies if isinstance(action, events.Assign)] == [
            run("k3f9", 0, 1, number)
        ]
        grid.tell(events.TasksStarted(AgentId(name), (run("k3f9", 0, 1, number),)))
        grid.tell(events.AgentLeft(AgentId(name), "its line is cut"))


def test_a_failure_beside_a_copy_waits_for_that_and_then_is_the_end() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 1, retries=1)
    grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 0, 1),)))
    grid.now = policies.suspicion(1)
    grid.join("barn", 1)
    grid.tell(events.TimePassed())
    grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", 0), Outcome.SCRIPT_FAILED, "exit 1"))
    assert JOB not in grid.ended_jobs
    second = events.TaskFailed(BARN, attempt("k3f9", 0, 2), Outcome.SCRIPT_FAILED, "exit 1")
    grid.tell(second)
    assert grid.ended_jobs == {JOB: JobState.FAILED}


def test_the_same_exception_twice_is_not_tried_again() -> None:
    grid = Referee()
    grid.submit("k3f9", 1, retries=9)
    for name in ("attic", "barn", "cellar"):
        grid.join(name, 1)
    for number, holder in enumerate((ATTIC, BARN), 1):
        failed = events.TaskFailed(
            holder, attempt("k3f9", 0, number), Outcome.SCRIPT_FAILED, f"KeyError: {number}"
        )
        grid.tell(failed)
    assert grid.ended_jobs == {JOB: JobState.FAILED}


def test_no_event_places_more_than_the_limit() -> None:
    grid = Referee(thorough=False)
    for number in range(300):
        grid.join(f"a{number}", 4)
    given = 0
    actions = grid.submit("k3f9", 3000)
    while True:
        placed = sum(len(action.run) for action in actions if isinstance(action, events.Assign))
        given += placed
        assert placed <= policies.PLACED_MAX
        if grid.scheduler.deadline() != grid.now:
            break
        actions = grid.tell(events.TimePassed())
    assert given == sum(map(len, grid.live.values())) >= 1200
    grid.check()


def test_a_submitter_with_twice_the_weight_gets_twice_the_slots() -> None:
    grid = Referee()
    grid.submit("anna", 30, submitter=NodeId("anna"), weight=2.0)
    grid.submit("ben", 30, submitter=NodeId("ben"))
    grid.join("attic", 12)
    held = Counter(one.job for one in grid.live[ATTIC])
    assert held[JobId("anna")] == 8 + (held.total() - 12)  # the reserve is the next one's
    assert held[JobId("ben")] == 4


def test_a_job_whose_first_tasks_fail_differently_goes_on() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 9, retries=0)
    for index, why in enumerate(("no face", "no space", "no luck")):
        grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", index), Outcome.SCRIPT_FAILED, why))
    assert grid.live[ATTIC]


def test_an_agent_with_a_job_from_before_a_restart_is_not_given_it_all() -> None:
    grid = Referee()
    grid.submit("k3f9", 5000, restored=True)
    grid.join("attic", 1, (run("k3f9", 0, 5000, lease=LEASE - 1),))
    assert len(grid.live[ATTIC]) <= 1 + policies.PREFETCH_MAX


def test_an_agent_that_is_paused_gets_nothing_whatever_else_it_is() -> None:
    grid = Referee()
    grid.tell(events.AgentPaused(ATTIC))  # nobody knows it
    grid.join("attic", 1)
    grid.tell(events.AgentPaused(ATTIC))
    grid.tell(events.AgentPaused(ATTIC))
    grid.submit("k3f9", 1)
    grid.now = policies.suspicion(1)
    grid.tell(events.TimePassed())
    grid.tell(events.AgentBeat(ATTIC))  # heard of again, and still paused
    assert not grid.live[ATTIC]
    grid.tell(events.TasksReturned(ATTIC, (), leaving=True))
    grid.tell(events.AgentPaused(ATTIC, paused=False))
    assert not grid.live[ATTIC]
    grid.now = policies.PAUSED_S + 1
    grid.join("attic", 1)
    assert grid.live[ATTIC]


def test_an_agent_that_goes_while_it_is_paused_is_forgotten() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.tell(events.AgentPaused(ATTIC))
    grid.tell(events.AgentLeft(ATTIC, "gone"))
    grid.now = policies.PAUSED_S
    grid.tell(events.TimePassed())
    assert not grid.live


def test_after_a_restart_without_agents_nothing_is_waited_for() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 2, restored=True)
    assert not grid.live[ATTIC]
    grid.tell(events.JobReleased(JOB))  # it is not held by anybody
    assert not grid.live[ATTIC]
    grid.tell(events.Restarted((ATTIC,)))
    assert grid.live[ATTIC]


def test_a_restored_job_that_is_cancelled_does_not_start() -> None:
    grid = Referee()
    grid.submit("k3f9", 2, restored=True)
    grid.submit("m2x4", 1, restored=True)
    grid.tell(events.Restarted((ATTIC,)))
    grid.tell(events.JobCancelled(JOB))
    grid.join("attic", 4)
    assert {one.job for one in grid.live[ATTIC]} == {JobId("m2x4")}


def test_what_waits_again_is_left_to_an_agent_that_runs_it_since_before_a_restart() -> None:
    grid = Referee()
    grid.join("barn", 1)
    grid.submit("k3f9", 1)
    grid.tell(events.AgentLeft(BARN, "gone"))
    old = run("k3f9", 0, 1, number=5, lease=LEASE - 1)
    assert events.Adopt(ATTIC, old) in grid.join("attic", 1, (old,))


def test_a_recall_for_nobody_that_is_not_answered_changes_nothing() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 9, retries=0)
    grid.join("barn", 1)
    grid.tell(events.TasksStarted(BARN, tuple(map(Run.of, grid.live[BARN]))))
    for index in sorted(one.index for one in grid.live[ATTIC])[:2]:
        grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", index), Outcome.SCRIPT_FAILED, "exit 1"))
    for index in sorted(one.index for one in grid.live[ATTIC])[:1]:
        grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", index), Outcome.SCRIPT_FAILED, "exit 1"))
    held = set(grid.live[ATTIC])
    grid.now = policies.RECALL_S
    assert grid.tell(events.TimePassed()) == []
    assert grid.live[ATTIC] == held


def test_of_two_kinds_of_jobs_the_one_of_higher_priority_goes_first() -> None:
    grid = Referee()
    grid.submit("k3f9", 2)
    grid.submit("m2x4", 2, Requirements(memory_bytes=GIB), priority=1)
    grid.submit("z7z7", 2, Requirements(memory_bytes=2 * GIB), priority=-1)
    grid.join("attic", 2)
    assert {one.job for one in grid.live[ATTIC]} >= {JobId("m2x4")}


def test_of_two_kinds_of_jobs_that_of_whoever_has_less_goes_first() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("anna", 5, submitter=NodeId("anna"))
    grid.submit("ben", 2, Requirements(memory_bytes=GIB), submitter=NodeId("ben"))
    grid.join("barn", 1)
    assert {one.job for one in grid.live[BARN]} >= {JobId("ben")}


def test_what_another_agent_has_is_not_taken_up_after_a_restart() -> None:
    grid = Referee()
    grid.join("barn", 1)
    grid.submit("k3f9", 1)
    old = run("k3f9", 0, 1, lease=LEASE - 1)
    assert events.Cancel(ATTIC, (old,)) in grid.join("attic", 1, (old,))


def test_a_late_job_that_an_agent_refuses_is_still_helped_by_others() -> None:
    grid = Referee()
    grid.join("attic", 2)
    grid.submit("k3f9", 5)
    for index in range(3):
        grid.tell(events.TasksStarted(ATTIC, (run("k3f9", index, index + 1),)))
        grid.tell(events.TaskSucceeded(ATTIC, attempt("k3f9", index), 1.0))
    grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 3, 4),)))
    grid.now = 3.0
    grid.tell(events.AgentBeat(ATTIC, (run("k3f9", 3, 5),)))
    grid.tell(events.TimePassed())
    grid.tell(events.TaskFailed(ATTIC, attempt("k3f9", 4), Outcome.REFUSED, "no"))
    grid.join("barn", 2)
    assert {one.index for one in grid.live[BARN]} == {3, 4}


def test_an_agent_cannot_answer_a_recall_of_another() -> None:
    grid = Referee()
    grid.join("attic", 1)
    grid.submit("k3f9", 2)
    grid.tell(events.TasksStarted(ATTIC, (run("k3f9", 0, 1),)))
    [recall] = [action for action in grid.join("barn", 1) if isinstance(action, events.Recall)]
    assert grid.tell(events.TasksReturned(BARN, (), nonce=recall.nonce)) == []
    again = grid.tell(events.TasksReturned(ATTIC, recall.runs, nonce=recall.nonce))
    assert assigned(again) == {BARN: 1}
