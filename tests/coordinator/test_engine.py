"""Persist, then send; and after a restart everything that anybody was told is still true."""

import sqlite3
from pathlib import Path

import pytest

from discogrid.messages import (
    Answer,
    CancelTasks,
    GetJob,
    GetResults,
    JobAccepted,
    JobContent,
    JobEnded,
    JobSpec,
    Message,
    Query,
    Results,
    RunTasks,
    SubmitJob,
    TasksCommitted,
    TasksStarted,
    Welcome,
)
from discogrid.types import Attempt, Counts, JobState, Outcome, Run, TaskState
from discogrid.wire import pack_parts, unpack_parts
from discogrid_coordinator.engine import Batch
from discogrid_coordinator.events import JobCancelled
from tests.coordinator.bench import Bench
from tests.coordinator.house import prepared


def restarted(bench: Bench, folder: Path) -> Bench:
    """As after a kill: nothing is closed or committed on the way."""
    return Bench(bench.cast, folder / "coordinator")


def test_a_result_is_acknowledged_when_it_is_kept(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent()
    job = prepared(bench.cast, tmp_path / "job")
    id_ = bench.take(job)
    [attempt] = bench.assigned(agent)
    bench.end(agent, job.job, attempt)
    assert not any(isinstance(sent.message, TasksCommitted) for sent in bench.sent)
    [committed] = bench.told(agent, TasksCommitted)
    assert committed.attempts == (attempt,)
    again = restarted(bench, tmp_path)
    kept = again.journal.result(id_, 0)
    assert kept is not None
    assert kept.attempt == attempt


def test_a_job_is_shown_to_an_agent_before_its_first_task_and_once(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent(slots=1)
    job = prepared(bench.cast, tmp_path / "job", inputs=3)
    bench.take(job)
    bench.settle()
    order = [type(sent.message) for sent in bench.sent if isinstance(sent.message, JobSpec | RunTasks)]
    assert order[:2] == [JobSpec, RunTasks]
    for attempt in bench.assigned(agent):
        bench.end(agent, job.job, attempt)
    bench.settle()
    assert sum(isinstance(sent.message, JobSpec) for sent in bench.sent) == 1


def test_an_agent_that_comes_again_is_shown_its_jobs_again(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent()
    bench.take(prepared(bench.cast, tmp_path / "job", inputs=1))
    assert len(bench.told(agent, JobSpec)) == 1
    again = bench.agent(session="another process", route="another route")
    assert len(bench.told(again, JobSpec)) == 1


def test_every_state_of_a_job_survives_a_restart_with_its_counts(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent(slots=32)
    jobs = {
        name: prepared(bench.cast, tmp_path / name, inputs=3, name=name, retries=0)
        for name in ("held", "running", "done", "failed", "cancelled")
    }
    ids = {name: bench.take(job, hold=name == "held") for name, job in jobs.items()}
    attempts = {(attempt.job, attempt.index): attempt for attempt in bench.assigned(agent)}
    runs = tuple(Run.of(attempt) for attempt in attempts.values())
    bench.hear(agent, TasksStarted(runs=runs))
    for name, outcomes in {
        "running": (Outcome.SUCCEEDED, Outcome.SCRIPT_FAILED),
        "done": (Outcome.SUCCEEDED,) * 3,
        "failed": (Outcome.SUCCEEDED, Outcome.SCRIPT_FAILED, Outcome.SUCCEEDED),
        "cancelled": (Outcome.SUCCEEDED,),
    }.items():
        for index, outcome in enumerate(outcomes):
            bench.end(agent, jobs[name].job, attempts[ids[name], index], outcome, reason=outcome.value)
    bench.engine.tell(JobCancelled(ids["cancelled"]))
    bench.settle()
    before = {job.id: job for job in bench.engine.books.jobs()}

    after = restarted(bench, tmp_path)
    kept = {job.id: job for job in after.engine.books.jobs()}
    assert list(kept) == list(before)
    for name, state, counts in (
        ("held", JobState.HELD, Counts(queued=3)),
        ("running", JobState.RUNNING, Counts(queued=1, done=1, failed=1)),
        ("done", JobState.SUCCEEDED, Counts(done=3)),
        ("failed", JobState.FAILED, Counts(done=2, failed=1)),
        ("cancelled", JobState.CANCELLED, Counts(done=1, cancelled=2)),
    ):
        view = kept[ids[name]]
        assert (view.name, view.state, view.counts) == (name, state, counts), name
        assert (view.started, view.reason) == (before[ids[name]].started, before[ids[name]].reason)
    failed = after.engine.books.tasks(ids["failed"])[1]
    assert (failed.state, failed.reason) == (TaskState.FAILED, "script-failed")

    # What had not ended runs, what was held waits, what had ended does not run again.
    other = after.agent(slots=8)
    assert {(attempt.job, attempt.index) for attempt in after.assigned(other)} == {(ids["running"], 2)}


def test_the_tasks_of_a_job_that_has_ended_are_read_from_the_disk_as_they_were(
    bench: Bench, tmp_path: Path
) -> None:
    agent = bench.agent(slots=8)
    job = prepared(bench.cast, tmp_path / "job", inputs=4, retries=1)
    id_ = bench.take(job)
    first, second, _, _ = bench.assigned(agent)
    bench.end(agent, job.job, second, Outcome.SCRIPT_FAILED, reason="exit 3", exit=3, body={"exit": 3})
    [again] = [attempt for attempt in bench.assigned(agent) if attempt.index == 1]
    bench.end(agent, job.job, again)
    bench.end(agent, job.job, first)
    bench.engine.tell(JobCancelled(id_))
    memory = bench.engine.books.tasks(id_)
    assert bench.engine.intake.get(id_) is bench.engine.intake.get(id_)
    bench.settle()
    disk = bench.engine.books.tasks(id_)
    after = restarted(bench, tmp_path)
    assert after.engine.intake.usage.open_jobs() == {}
    after.journal.write([("update jobs set view = x'c1' where id = ?", (id_,))])  # as of another version
    again_after = restarted(after, tmp_path)
    assert again_after.engine.books.jobs() == after.engine.books.jobs()
    again_after.settle()
    for shown in (disk, after.engine.books.tasks(id_), again_after.engine.books.tasks(id_)):
        assert [(one.index, one.state, one.input, one.failures, one.attempt) for one in shown] == [
            (one.index, one.state, one.input, one.failures, one.attempt if one.state is TaskState.DONE else 0)
            for one in memory
        ]
        assert [(one.seconds, one.exit, one.reason, one.archive, one.agent) for one in shown[:2]] == [
            (one.seconds, one.exit, one.reason, one.archive, one.agent) for one in memory[:2]
        ]
    assert [one.failures for one in disk] == [0, 1, 0, 0]
    assert after.engine.books.tasks(id_, 2, 99) == after.engine.books.tasks(id_)[2:]
    client = after.client()
    after.hear(client, GetJob(request=1, job=id_))
    after.settle()
    assert after.sent[-1].payload == (job.job.envelope, pack_parts(job.leaves))


def test_a_job_goes_on_after_a_restart_to_its_end(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent(slots=8)
    job = prepared(bench.cast, tmp_path / "job", inputs=2)
    id_ = bench.take(job)
    first, _ = bench.assigned(agent)
    bench.end(agent, job.job, first)
    bench.settle()
    after = restarted(bench, tmp_path)
    again = after.agent(slots=8)
    [rest] = after.assigned(again)
    after.end(again, job.job, rest)
    assert len(after.told(again, JobEnded)) == 1
    view = after.engine.books.job(id_)
    assert view is not None
    assert (view.state, view.counts) == (JobState.SUCCEEDED, Counts(done=2))
    client = after.client()
    after.hear(client, GetResults(request=1, job=id_, indices=(0, 1)))
    [answer] = after.told(client, Results)
    assert answer.indices == (0, 1)


def test_what_a_client_reads_is_what_was_signed(bench: Bench, tmp_path: Path) -> None:
    client, agent = bench.client(), bench.agent()
    job = prepared(bench.cast, tmp_path / "job", inputs=2)
    id_ = bench.take(job)
    for attempt in bench.assigned(agent):
        bench.end(agent, job.job, attempt)
    bench.settle()
    bench.sent.clear()
    bench.hear(client, GetJob(request=1, job=id_))
    bench.hear(client, GetResults(request=2, job=id_, indices=(1, 0, 7)))
    bench.settle()
    content, results = (sent for sent in bench.sent if sent.route == client.route)
    assert isinstance(content.message, JobContent)
    assert content.payload[0] == job.job.envelope
    assert unpack_parts(content.payload[1], part_bytes_max=1024) == job.leaves
    assert isinstance(results.message, Results)
    assert results.message.indices == (1, 0)


def test_the_same_envelope_twice_is_one_job(bench: Bench, tmp_path: Path) -> None:
    client = bench.client()
    job = prepared(bench.cast, tmp_path / "job")
    id_ = bench.take(job)
    for request in (1, 2):
        bench.hear(client, SubmitJob(request=request), job.job.envelope, pack_parts(job.leaves))
    assert [answer.job for answer in bench.told(client, JobAccepted)] == [id_, id_]
    after = restarted(bench, tmp_path)
    client = after.client()
    after.hear(client, SubmitJob(request=3), job.job.envelope, pack_parts(job.leaves))
    assert [answer.job for answer in after.told(client, JobAccepted)] == [id_]
    after.hear(client, Query(request=4, what="jobs"))
    assert [len(answer.jobs) for answer in after.told(client, Answer)] == [1]


def test_a_job_the_journal_holds_and_nobody_can_read_any_more_stops_no_other(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = (bench.take(prepared(bench.cast, tmp_path / name, name=name)) for name in ("bad", "good"))
    bench.settle()
    with sqlite3.connect(tmp_path / "coordinator" / "journal.sqlite") as db:
        db.execute("update jobs set envelope = x'00' where id = ?", (bad,))
    db.close()
    after = restarted(bench, tmp_path)
    assert [job.id for job in after.engine.books.jobs()] == [good]
    assert "cannot be read" in caplog.text


def types_to(bench: Bench, batch: Batch, route: bytes) -> list[type[Message]]:
    """What a session is told when the mail of a batch leaves."""
    told: list[type[Message]] = []
    bench.engine.outbox.send(
        batch.mail, lambda to, message, _: told.append(type(message)) if to == route else None
    )
    return told


def test_a_job_that_ends_before_its_first_task_has_left_is_ended_for_the_agent_too(
    bench: Bench, tmp_path: Path
) -> None:
    agent = bench.agent()
    bench.settle()
    id_ = bench.take(prepared(bench.cast, tmp_path / "job"))
    first = bench.engine.take()  # the disk is slow: it does not leave yet
    bench.engine.tell(JobCancelled(id_))
    second = bench.engine.take()
    assert types_to(bench, first, agent.route) == [JobSpec, RunTasks]
    assert types_to(bench, second, agent.route) == [JobEnded, CancelTasks]


def test_what_waits_for_an_agent_that_says_hello_again_is_not_told_to_it_any_more(
    bench: Bench, tmp_path: Path
) -> None:
    bench.agent(slots=1)
    bench.settle()
    bench.take(prepared(bench.cast, tmp_path / "job"))
    first = bench.engine.take()
    again = bench.agent(slots=1)  # it has nothing: whatever it was given before runs anew
    second = bench.engine.take()
    assert types_to(bench, first, again.route) == []
    told = types_to(bench, second, again.route)
    assert [kind for kind in told if kind is not Welcome] == [JobSpec, RunTasks]


def test_the_blobs_that_rows_name_are_in_the_batch_of_those_rows(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent()
    job = prepared(bench.cast, tmp_path / "job")
    id_ = bench.take(job)
    batch = bench.engine.take()
    assert set(batch.blobs) == set(job.files)
    assert any("into jobs" in statement for statement, _ in batch.writes)
    attempt = Attempt(id_, 0, 1, 7)
    archive = bench.store.put_bytes(f"archive of {attempt}".encode())
    bench.end(agent, job.job, attempt, inline=False, riders=[])
    batch = bench.engine.take()
    assert batch.blobs == (archive,)
    assert any("into results" in statement for statement, _ in batch.writes)


def test_a_result_archive_that_is_a_blob_is_kept_from_being_dropped_after_a_restart_too(
    bench: Bench, tmp_path: Path
) -> None:
    agent = bench.agent(slots=2)
    open_, ended = (
        prepared(bench.cast, tmp_path / name, inputs=n) for name, n in (("open", 2), ("ended", 1))
    )
    ids = [bench.take(job) for job in (open_, ended)]
    archives = []
    for job, id_ in zip((open_, ended), ids, strict=True):
        attempt = Attempt(id_, 0, 1, 7)
        archives.append(bench.store.put_bytes(f"archive of {attempt}".encode()))
        bench.end(agent, job.job, attempt, inline=False, riders=[])
    bench.settle()
    after = restarted(bench, tmp_path)
    assert [after.store.pinned_by(archive) for archive in archives] == [{f"results:{id_}"} for id_ in ids]
    assert not any(after.store.remove(archive) for archive in archives)


def test_a_job_that_ends_before_its_first_task_has_left_harms_nobody_s_mail(
    bench: Bench, tmp_path: Path
) -> None:
    agent = bench.agent(slots=4)
    bench.told(agent, Welcome)
    short = bench.take(prepared(bench.cast, tmp_path / "short"))
    bench.engine.tell(JobCancelled(short))
    other = bench.take(prepared(bench.cast, tmp_path / "other", inputs=2))
    assert {attempt.job for attempt in bench.assigned(agent)} >= {other}
    assert [message.job for message in bench.told(agent, JobEnded)] == [short]
