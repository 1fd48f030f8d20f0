"""Situations of the agent machine."""

import pytest

from discogrid.types import GIB, Attempt, JobId, Limits, Outcome, Requirements
from discogrid_agent import events, fetches, outbox
from discogrid_agent.events import Action, StopMode
from discogrid_agent.machine import HELD_MAX, HELLO_S, PACKING_MAX, STOP_S
from tests.pure.keeper import LEASE, Keeper, file, received, verified
from tests.pure.referee import attempt, run

JOB = JobId("k3f9")


def working(tasks: int = 0, *shared: str, requirements: Requirements | None = None) -> Keeper:
    """An agent of 2 slots that is welcome and has got `tasks` tasks without inputs."""
    keeper = Keeper()
    keeper.tell(events.Connected())
    keeper.tell(events.Welcomed(LEASE, 15.0, 2.0))
    keeper.tell(verified("k3f9", requirements, *shared))
    if tasks:
        keeper.tell(received(run("k3f9", 0, tasks), inputs=False))
    return keeper


def ended(
    index: int, outcome: Outcome = Outcome.SUCCEEDED, result: object = "archive"
) -> events.AttemptEnded:
    return events.AttemptEnded(attempt("k3f9", index), outcome, "", result)


def started(actions: list[Action]) -> list[int]:
    return [action.attempt.index for action in actions if isinstance(action, events.Start)]


def test_tasks_start_in_order_as_slots_come_free_and_results_wait_for_the_commit() -> None:
    keeper = working(4)
    assert list(keeper.running) == [attempt("k3f9", 0), attempt("k3f9", 1)]
    actions = keeper.tell(ended(1))
    assert started(actions) == [2]
    assert events.SendDone(attempt("k3f9", 1), Outcome.SUCCEEDED, "", "archive") in actions
    keeper.tell(events.ResultSent(attempt("k3f9", 1)))
    done = keeper.tell(events.Committed((attempt("k3f9", 1),)))
    assert done == [events.DropArchive(attempt("k3f9", 1))]


def emptied(index: int) -> events.BoxEmptied:
    return events.BoxEmptied(attempt("k3f9", index))


def test_the_next_task_starts_when_a_box_is_empty_and_its_result_is_packed_meanwhile() -> None:
    keeper = working(4)
    assert keeper.machine.waiting == 2
    assert started(keeper.tell(emptied(0))) == [2]
    assert keeper.machine.waiting == 1
    assert keeper.tell(emptied(0)) == []
    done = keeper.tell(ended(0))
    assert events.SendDone(attempt("k3f9", 0), Outcome.SUCCEEDED, "", "archive") in done
    assert started(done) == []


def test_no_task_starts_while_the_disk_is_behind_with_packing() -> None:
    keeper = working(PACKING_MAX + 4)
    for index in range(PACKING_MAX - 1):
        assert started(keeper.tell(emptied(index))) == [index + 2]
    assert started(keeper.tell(emptied(PACKING_MAX - 1))) == []
    assert started(keeper.tell(ended(0))) == [PACKING_MAX + 1]


def test_an_empty_box_of_what_never_ran_is_passed_over() -> None:
    keeper = working(3)
    assert keeper.tell(emptied(2)) == []
    assert keeper.tell(emptied(9)) == []


def test_the_next_inputs_are_fetched_while_tasks_run_but_not_all_at_once() -> None:
    keeper = working()
    keeper.tell(received(run("k3f9", 0, 9)))
    assert len(keeper.fetching) == fetches.FETCHES_MAX
    for index in range(2):
        keeper.tell(events.BlobReady(file(f"k3f9-{index}").digest))
    assert len(keeper.running) == 2
    assert list(keeper.fetching) == [file(f"k3f9-{index}").digest for index in (2, 3, 4, 5)]


def test_a_task_whose_input_is_here_overtakes_one_that_waits_for_it() -> None:
    keeper = working()
    keeper.tell(received(run("k3f9", 0, 2)))
    assert started(keeper.tell(events.BlobReady(file("k3f9-1").digest))) == [1]
    assert started(keeper.tell(events.BlobReady(file("k3f9-0").digest))) == [0]


def test_a_wide_task_is_not_overtaken_by_narrow_ones() -> None:
    keeper = working(1)
    keeper.tell(verified("wide", Requirements(cpus=2)))
    keeper.tell(received(run("wide", 0, 1), inputs=False))
    assert not started(keeper.tell(received(run("k3f9", 1, 2), inputs=False)))
    assert keeper.tell(ended(0))[0] == events.Start(attempt("wide", 0), 2, Limits(), None)


def test_memory_bounds_what_runs_at_once() -> None:
    keeper = working(2, requirements=Requirements(memory_bytes=5 * GIB))
    assert list(keeper.running) == [attempt("k3f9", 0)]


@pytest.mark.parametrize(
    "needs", [Requirements(cpus=3), Requirements(memory_bytes=9 * GIB), Requirements(gpus=1)]
)
def test_a_task_that_never_fits_is_refused_and_says_why(needs: Requirements) -> None:
    keeper = working(1, requirements=needs)
    (refusal,) = keeper.sending.values()
    assert refusal.outcome is Outcome.REFUSED
    assert "this agent lends" in refusal.reason


def test_a_blob_is_fetched_again_after_a_pause_and_at_last_given_up() -> None:
    keeper = working()
    keeper.tell(received(run("k3f9", 0, 1)))
    digest = file("k3f9-0").digest
    for _ in range(fetches.FETCH_TRIES_MAX - 1):
        assert keeper.tell(events.BlobFailed(digest, "no source")) == []
        due = keeper.machine.deadline()
        assert due is not None
        while not keeper.fetching:
            due = keeper.machine.deadline()
            assert due is not None
            keeper.tell(events.TimePassed(), due)
    (report,) = keeper.tell(events.BlobFailed(digest, "no source"))
    assert report == events.SendDone(attempt("k3f9", 0), Outcome.TRANSFER_FAILED, "no source", None)
    assert keeper.tell(events.BlobFailed(digest, "no source")) == []


def test_a_shared_blob_that_failed_is_tried_anew_for_the_next_task() -> None:
    keeper = working(1, "script")
    for _ in range(fetches.FETCH_TRIES_MAX):
        keeper.tell(events.TimePassed(), keeper.now + 10.0)
        keeper.tell(events.BlobFailed(file("script").digest, "no source"))
    assert not keeper.fetching
    keeper.tell(received(run("k3f9", 0, 1, 2), inputs=False))
    assert list(keeper.fetching) == [file("script").digest]


def test_shared_blobs_stay_until_the_job_ends() -> None:
    keeper = working(1, "script")
    keeper.tell(events.BlobReady(file("script").digest))
    keeper.tell(ended(0))
    keeper.tell(events.Committed((attempt("k3f9", 0),)))
    assert keeper.pinned == {file("script").digest}
    actions = keeper.tell(events.JobEnded(JOB))
    assert actions == [events.DropBlobs((file("script").digest,)), events.ForgetJob(JOB)]


def test_a_blob_nobody_needs_any_more_is_let_go_when_it_comes() -> None:
    keeper = working()
    keeper.tell(received(run("k3f9", 0, 1)))
    digest = file("k3f9-0").digest
    assert keeper.tell(events.CancelReceived((run("k3f9", 0, 1),))) == [events.StopFetch(digest)]
    assert keeper.tell(events.BlobReady(digest)) == [events.DropBlobs((digest,))]


def test_an_attempt_is_accepted_once() -> None:
    keeper = working(2)
    assert keeper.tell(received(run("k3f9", 0, 2), inputs=False)) == []
    keeper.tell(ended(0))
    keeper.tell(events.Committed((attempt("k3f9", 0),)))
    assert keeper.tell(received(run("k3f9", 0, 1), inputs=False)) == []
    assert started(keeper.tell(received(run("k3f9", 0, 1, 2), inputs=False))) == [0]


def test_a_run_of_another_incarnation_or_of_an_unknown_job_is_passed_over() -> None:
    keeper = working()
    assert keeper.tell(received(run("k3f9", 0, 1, lease=LEASE - 1), inputs=False)) == []
    assert keeper.tell(received(run("none", 0, 1), inputs=False)) == []


def test_what_exceeds_the_bound_is_given_back() -> None:
    keeper = working(HELD_MAX - 1)
    actions = keeper.tell(received(run("k3f9", 2000, 2003), inputs=False))
    assert actions == [events.GiveBack((run("k3f9", 2001, 2003),))]


def test_a_silent_coordinator_changes_nothing_and_results_are_offered_on_return() -> None:
    keeper = working(3)
    keeper.tell(events.Disconnected())
    assert keeper.machine.deadline() is None
    assert started(keeper.tell(ended(0), 100.0)) == [2]
    (hello,) = keeper.tell(events.Connected())
    assert hello == events.SendHello((run("k3f9", 0, 3),))
    actions = keeper.tell(events.Welcomed(LEASE, 15.0, 2.0))
    assert events.SendStarted((run("k3f9", 1, 3),)) in actions
    assert events.SendDone(attempt("k3f9", 0), Outcome.SUCCEEDED, "", "archive") in actions


def test_a_hello_without_an_answer_is_said_again() -> None:
    keeper = Keeper()
    assert keeper.tell(events.Resynced()) == []  # there is no line
    assert keeper.tell(events.Welcomed(LEASE, 15.0, 2.0)) == []
    assert keeper.machine.deadline() is None
    keeper.online = False
    keeper.tell(events.Connected())
    assert keeper.machine.deadline() == HELLO_S
    assert keeper.tell(events.TimePassed(), HELLO_S) == [events.SendHello(())]


def test_beats_tell_what_is_held_and_resync_asks_for_a_hello() -> None:
    keeper = working(3)
    keeper.tell(ended(0))
    assert keeper.tell(events.TimePassed(), 2.0) == [events.SendBeat((run("k3f9", 0, 3),))]
    assert keeper.tell(events.Resynced()) == [events.SendHello((run("k3f9", 0, 3),))]


def test_jobs_without_work_are_forgotten_with_the_session() -> None:
    keeper = working()
    assert keeper.tell(events.Resynced()) == [events.ForgetJob(JOB), events.SendHello(())]


def test_a_result_without_an_answer_is_offered_again() -> None:
    keeper = working(1)
    keeper.tell(ended(0))
    keeper.tell(events.ResultSent(attempt("k3f9", 0)))
    keeper.tell(events.TimePassed(), outbox.ACK_S - 1.0)
    assert not keeper.sending
    keeper.tell(events.TimePassed(), outbox.ACK_S)
    assert list(keeper.sending) == [attempt("k3f9", 0)]


def test_an_upload_that_never_works_becomes_a_failed_transfer() -> None:
    keeper = working(1)
    keeper.tell(ended(0))
    for _ in range(outbox.SEND_TRIES_MAX):
        assert keeper.sending[attempt("k3f9", 0)].outcome is Outcome.SUCCEEDED
        keeper.tell(events.SendFailed(attempt("k3f9", 0), "no room"))
        keeper.tell(events.TimePassed(), keeper.now + outbox.SEND_PAUSE_MAX_S)
    assert keeper.sending[attempt("k3f9", 0)] == events.SendDone(
        attempt("k3f9", 0), Outcome.TRANSFER_FAILED, "no room", None
    )
    keeper.tell(events.SendFailed(attempt("k3f9", 0), "no line"))
    assert keeper.tell(events.SendFailed(attempt("k3f9", 0), "late")) == []


def test_results_leave_a_few_at_a_time() -> None:
    keeper = working(20)
    keeper.tell(events.Disconnected())
    for index in range(20):
        keeper.tell(ended(index))
    keeper.tell(events.Connected())
    keeper.tell(events.Welcomed(LEASE, 15.0, 2.0))
    assert len(keeper.sending) == outbox.SENDS_MAX
    keeper.tell(events.Committed((attempt("k3f9", 0),)))
    assert len(keeper.sending) == outbox.SENDS_MAX


def test_cancel_drops_the_queued_and_kills_the_running() -> None:
    keeper = working(3)
    actions = keeper.tell(events.CancelReceived((run("k3f9", 1, 3),)))
    assert actions == [events.Kill(attempt("k3f9", 1), "cancelled by the coordinator")]
    assert keeper.tell(events.CancelReceived((run("k3f9", 1, 3),))) == []
    assert keeper.tell(ended(1, Outcome.CANCELLED)) == [events.DropArchive(attempt("k3f9", 1))]


def test_a_killed_task_that_had_succeeded_is_offered_still() -> None:
    keeper = working(1)
    keeper.tell(events.CancelReceived((run("k3f9", 0, 1),)))
    keeper.tell(ended(0))
    assert list(keeper.sending) == [attempt("k3f9", 0)]


def test_the_end_of_a_job_ends_all_its_work_and_drops_its_results() -> None:
    keeper = working(4, "script")
    keeper.tell(events.BlobReady(file("script").digest))
    keeper.tell(ended(0))
    actions = keeper.tell(events.JobEnded(JOB))
    kills = [events.Kill(attempt("k3f9", index), "its job has ended") for index in (1, 2)]
    assert actions == [*kills, events.DropArchive(attempt("k3f9", 0))]
    assert keeper.tell(events.JobEnded(JOB)) == []
    assert keeper.tell(received(run("k3f9", 7, 8), inputs=False)) == []
    assert keeper.pinned  # a killed box may still read it
    assert keeper.tell(ended(1)) == [events.DropArchive(attempt("k3f9", 1))]
    assert events.ForgetJob(JOB) in keeper.tell(ended(2, Outcome.CANCELLED, None))
    assert not keeper.pinned
    assert keeper.tell(events.JobEnded(JOB)) == []


def test_finish_gives_back_the_unstarted_and_leaves_after_the_last_commit() -> None:
    keeper = working(4)
    back = keeper.tell(events.StopRequested(StopMode.FINISH))
    assert back == [events.GiveBack((run("k3f9", 2, 4),), leaving=True)]
    assert keeper.tell(events.StopRequested(StopMode.FINISH)) == []
    more = keeper.tell(received(run("k3f9", 8, 9), inputs=False))
    assert more == [events.GiveBack((run("k3f9", 8, 9),), leaving=True)]
    for index in (0, 1):
        keeper.tell(ended(index))
        assert not keeper.exited
    both = (attempt("k3f9", 0), attempt("k3f9", 1))
    assert keeper.tell(events.Committed(both))[-2:] == [events.SendGoodbye(), events.Exit()]
    assert keeper.tell(events.TimePassed()) == []


def test_finish_without_a_line_keeps_the_results_until_there_is_one() -> None:
    keeper = working(3)
    keeper.tell(events.Disconnected())
    assert keeper.tell(events.StopRequested(StopMode.FINISH)) == []
    for index in (0, 1):
        keeper.tell(ended(index))
    keeper.tell(events.Connected())
    welcome = keeper.tell(events.Welcomed(LEASE, 15.0, 2.0))
    assert welcome[0] == events.GiveBack((), leaving=True)
    keeper.tell(events.Disconnected())
    assert keeper.tell(received(run("k3f9", 8, 9), inputs=False)) == []
    assert keeper.tell(events.StopRequested(StopMode.NOW)) == [events.Exit()]


def test_now_kills_gives_all_back_and_says_goodbye() -> None:
    keeper = working(3)
    actions = keeper.tell(events.StopRequested(StopMode.NOW))
    assert actions == [
        events.Kill(attempt("k3f9", 0), "the agent stops"),
        events.Kill(attempt("k3f9", 1), "the agent stops"),
        events.GiveBack((run("k3f9", 0, 3),), leaving=True),
    ]
    keeper.tell(ended(0, Outcome.CANCELLED, None))
    assert keeper.tell(ended(1, Outcome.CANCELLED, None)) == [events.SendGoodbye(), events.Exit()]


def test_now_does_not_wait_for_ever() -> None:
    keeper = working(2)
    keeper.tell(ended(0))
    keeper.tell(events.StopRequested(StopMode.NOW))
    assert keeper.machine.deadline() is not None
    keeper.tell(events.TimePassed(), STOP_S - 1.0)
    assert not keeper.exited
    assert keeper.tell(events.TimePassed(), STOP_S)[-2:] == [events.SendGoodbye(), events.Exit()]


def test_an_end_of_what_never_ran_is_passed_over() -> None:
    keeper = working(3)
    assert keeper.tell(ended(2)) == []
    assert keeper.tell(events.AttemptEnded(Attempt(JobId("none"), 0, 1, LEASE), Outcome.SUCCEEDED)) == []
    assert keeper.tell(events.Discarded((attempt("k3f9", 2),))) == []


def test_a_blob_that_comes_twice_changes_nothing_the_second_time() -> None:
    keeper = working()
    keeper.tell(received(run("k3f9", 0, 1)))
    ready = events.BlobReady(file("k3f9-0").digest)
    assert started(keeper.tell(ready)) == [0]
    assert keeper.tell(ready) == []


def test_word_of_a_result_that_is_not_on_its_way_is_passed_over() -> None:
    keeper = working(1)
    keeper.tell(ended(0))
    keeper.tell(events.ResultSent(attempt("k3f9", 0)))
    assert keeper.tell(events.ResultSent(attempt("k3f9", 0))) == []
    assert keeper.tell(events.SendFailed(attempt("k3f9", 0), "late")) == []


# What the owner or the roster bars.


def test_a_barred_job_is_killed_given_back_as_refused_and_forgotten() -> None:
    keeper = working(3)
    assert set(keeper.running) == {attempt("k3f9", 0), attempt("k3f9", 1)}
    actions = keeper.tell(events.JobBarred(JobId("k3f9"), "not any more"))
    assert {action.attempt for action in actions if isinstance(action, events.Kill)} == set(keeper.running)
    assert [done.outcome for done in keeper.sending.values()] == [Outcome.REFUSED]
    for index in range(2):
        keeper.tell(events.AttemptEnded(attempt("k3f9", index), Outcome.CANCELLED, "killed", "result"))
    assert [done.reason for done in keeper.sending.values()] == ["not any more"] * 3
    assert keeper.tell(received(run("k3f9", 5, 6), inputs=False)) == []
    assert keeper.tell(events.JobBarred(JobId("k3f9"), "again")) == []


def test_a_task_that_had_succeeded_before_its_job_was_barred_counts() -> None:
    keeper = working(1)
    keeper.tell(events.JobBarred(JobId("k3f9"), "not any more"))
    keeper.tell(events.AttemptEnded(attempt("k3f9", 0), Outcome.SUCCEEDED, "", "result"))
    assert [done.outcome for done in keeper.sending.values()] == [Outcome.SUCCEEDED]


def test_a_barred_job_that_ends_is_not_told_of_any_more() -> None:
    keeper = working(1)
    keeper.tell(events.JobBarred(JobId("k3f9"), "not any more"))
    keeper.tell(events.JobEnded(JobId("k3f9")))
    keeper.tell(events.AttemptEnded(attempt("k3f9", 0), Outcome.CANCELLED, "killed"))
    assert not keeper.sending


def test_a_task_that_was_cancelled_before_its_job_was_barred_is_not_refused_too() -> None:
    keeper = working(1)
    keeper.tell(events.CancelReceived((run("k3f9", 0, 1),)))
    keeper.tell(events.JobBarred(JobId("k3f9"), "not any more"))
    keeper.tell(events.AttemptEnded(attempt("k3f9", 0), Outcome.CANCELLED, "killed"))
    assert not keeper.sending


def test_a_barred_job_runs_again_when_it_is_shown_again() -> None:
    keeper = working(1)
    keeper.tell(events.JobBarred(JobId("k3f9"), "not any more"))
    keeper.tell(verified("k3f9"))
    keeper.tell(received(run("k3f9", 0, 1, number=2), inputs=False))
    keeper.tell(events.AttemptEnded(attempt("k3f9", 0), Outcome.CANCELLED, "killed"))
    assert attempt("k3f9", 0, 2) in keeper.running


def test_other_terms_make_the_agent_say_hello() -> None:
    keeper = working(1)
    assert any(isinstance(action, events.SendHello) for action in keeper.tell(events.TermsChanged()))


def test_a_barred_job_of_which_nothing_is_here_is_forgotten_at_once() -> None:
    keeper = working(1)
    keeper.tell(verified("m2x4"))
    assert events.ForgetJob(JobId("m2x4")) in keeper.tell(events.JobBarred(JobId("m2x4"), "not any more"))


def test_what_has_not_started_is_given_back_when_asked_for_and_the_rest_is_not() -> None:
    keeper = working()
    keeper.tell(received(run("k3f9", 0, 4), inputs=False))
    [*_, back] = keeper.tell(events.RecallReceived((run("k3f9", 1, 4), run("k3f9", 9, 12)), 7))
    assert back == events.GiveBack((run("k3f9", 2, 4),), nonce=7)
    assert keeper.tell(events.RecallReceived((run("k3f9", 0, 2),), 8)) == [events.GiveBack((), nonce=8)]
    assert len(keeper.running) == 2


def test_a_recall_on_a_line_that_is_being_made_anew_is_not_answered_and_gives_nothing_away() -> None:
    keeper = working(3)
    keeper.tell(events.Resynced())
    actions = keeper.tell(events.RecallReceived((run("k3f9", 0, 3),), 1))
    assert actions == []
    assert keeper.machine.waiting == 1


# Calls.


def called(keeper: Keeper, start: int, stop: int, *shared: str, more: str = "") -> list[Action]:
    count = stop - start
    return keeper.tell(
        events.RunReceived(
            run("k3f9", start, stop),
            inputs=(),
            shared=tuple(file(name) for name in shared),
            more=((file(more),),) * count if more else (),
            cargo=tuple(f"chunk {index}" for index in range(start, stop)),
        )
    )


def answered(keeper: Keeper, *indices: int, seconds: float) -> list[Action]:
    attempts = tuple(attempt("k3f9", index) for index in indices)
    return keeper.tell(events.CallsAnswered(attempts, seconds))


def places(actions: list[Action]) -> list[list[int]]:
    return [
        [action.attempt.index, *(other.index for other, _ in action.more)]
        for action in actions
        if isinstance(action, events.Start)
    ]


def test_calls_start_one_by_one_until_it_is_known_that_they_take_no_time() -> None:
    keeper = working()
    assert places(called(keeper, 0, 10)) == [[0], [1]]
    assert places(answered(keeper, 0, seconds=60.0)) == [[2]]
    assert places(answered(keeper, 1, seconds=60.0)) == [[3]]


def test_calls_that_take_no_time_share_a_place_and_the_places_share_the_calls() -> None:
    keeper = working()
    called(keeper, 0, 12)
    assert places(answered(keeper, 0, seconds=1e-6)) == [list(range(2, 12))]
    keeper = working()
    called(keeper, 0, 2)
    answered(keeper, 0, 1, seconds=1e-6)
    [first, second] = [action for action in called(keeper, 2, 11) if isinstance(action, events.Start)]
    assert (first.cargo, first.more[0]) == ("chunk 2", (attempt("k3f9", 3), "chunk 3"))
    assert places([first, second]) == [[2, 3, 4, 5, 6], [7, 8, 9, 10]]
    assert keeper.machine.waiting == 0
    called(keeper, 11, 13)
    assert places(answered(keeper, 2, 3, 4, 5, seconds=1e-6)) == []  # one of them still runs
    assert places(answered(keeper, 6, seconds=1e-6)) == [[11, 12]]


def test_as_many_calls_share_a_place_as_run_for_a_moment() -> None:
    keeper = working()
    called(keeper, 0, 2)
    answered(keeper, 0, 1, seconds=0.01)
    assert places(called(keeper, 2, 40)) == [[2, 3, 4, 5], [6, 7, 8, 9]]


def test_other_jobs_take_their_turn_between_calls() -> None:
    keeper = working()
    called(keeper, 0, 2)
    answered(keeper, 0, 1, seconds=1e-6)
    keeper.tell(verified("b2b2"))
    called(keeper, 2, 4)
    keeper.tell(received(run("b2b2", 0, 1), inputs=False))
    called(keeper, 4, 6)
    assert places(answered(keeper, 2, seconds=1e-6)) == [[0]]
    assert keeper.running.keys() == {attempt("b2b2", 0), attempt("k3f9", 3)}


def test_one_of_several_calls_in_a_place_is_killed_and_the_place_is_free_with_the_last() -> None:
    keeper = working()
    called(keeper, 0, 2)
    answered(keeper, 0, 1, seconds=1e-6)
    called(keeper, 2, 6)
    killed = keeper.tell(events.CancelReceived((run("k3f9", 3, 4),)))
    assert killed == [events.Kill(attempt("k3f9", 3), "cancelled by the coordinator")]
    answered(keeper, 2, seconds=1e-6)
    called(keeper, 6, 7)
    assert attempt("k3f9", 6) not in keeper.running
    assert places(keeper.tell(ended(3, Outcome.CANCELLED, None))) == [[6]]


def test_answers_to_calls_that_do_not_run_are_passed_over() -> None:
    keeper = working()
    called(keeper, 0, 3)
    assert answered(keeper, 2, 9, seconds=1.0) == []


def test_a_job_of_calls_that_has_ended_is_forgotten_with_the_last_answer() -> None:
    keeper = working()
    called(keeper, 0, 2)
    keeper.tell(events.JobEnded(JOB))
    answered(keeper, 0, seconds=1.0)
    assert events.ForgetJob(JOB) in answered(keeper, 1, seconds=1.0)


def test_functions_that_come_with_calls_are_fetched_once_and_kept_to_the_end_of_the_job() -> None:
    keeper = working()
    assert events.Fetch(file("square")) in called(keeper, 0, 1, "square")
    assert places(keeper.tell(events.BlobReady(file("square").digest))) == [[0]]
    answered(keeper, 0, seconds=1.0)
    actions = called(keeper, 1, 2, "square", "cube")
    assert events.Fetch(file("cube")) in actions
    assert events.Fetch(file("square")) not in actions
    assert places(keeper.tell(events.BlobReady(file("cube").digest))) == [[1]]
    assert places(called(keeper, 2, 3, "square", "cube")) == [[2]]
    answered(keeper, 1, 2, seconds=1.0)
    [dropped] = [
        action for action in keeper.tell(events.JobEnded(JOB)) if isinstance(action, events.DropBlobs)
    ]
    assert set(dropped.digests) == {file("square").digest, file("cube").digest}


def test_a_job_whose_answers_are_not_confirmed_is_known_when_they_are_sent_over_a_new_line() -> None:
    keeper = working()
    called(keeper, 0, 1)
    keeper.tell(ended(0))
    keeper.tell(events.Disconnected())
    assert events.ForgetJob(JOB) not in keeper.tell(events.Connected())
    keeper.tell(events.Welcomed(LEASE, 15.0, 2.0))
    keeper.tell(events.Committed((attempt("k3f9", 0),)))
    keeper.tell(events.Disconnected())
    assert events.ForgetJob(JOB) in keeper.tell(events.Connected())


def test_what_a_call_alone_needs_is_dropped_with_it() -> None:
    keeper = working()
    assert events.Fetch(file("large"), passing=True) in called(keeper, 0, 1, more="large")
    assert places(keeper.tell(events.BlobReady(file("large").digest))) == [[0]]
    assert events.DropBlobs((file("large").digest,)) in answered(keeper, 0, seconds=1.0)
