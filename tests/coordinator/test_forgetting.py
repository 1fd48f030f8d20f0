"""Ended jobs that are dropped: their rows first, then the blobs that nobody else names, and never what goes on."""

from pathlib import Path

import pytest

from discogrid.messages import Act, Answer, Refused, SubmitJob
from discogrid.types import Digest, JobId, JobState, Role, TaskState
from discogrid.wire import pack_parts
from discogrid_coordinator.engine import Engine
from tests.coordinator.bench import Bench
from tests.coordinator.house import prepared


def ended(bench: Bench, folder: Path, archive: bytes) -> tuple[JobId, set[Digest]]:
    """A job that has ended with this archive, and its own files."""
    agent = bench.agent()
    job = prepared(bench.cast, folder)
    id_ = bench.take(job)
    for attempt in bench.assigned(agent):
        if attempt.job == id_:
            bench.end(agent, job.job, attempt, content=archive)
    assert state(bench.engine, id_) is JobState.SUCCEEDED
    return id_, set(job.files)


def state(engine: Engine, job: JobId) -> JobState | None:
    view = engine.books.job(job)
    return None if view is None else view.state


def ask(bench: Bench, job: JobId, member: str = "submitter") -> Answer | Refused:
    client = bench.peer(getattr(bench.cast, member), Role.SUBMITTER, member)
    bench.engine.peers.add(client)
    bench.hear(client, Act(request=1, what="prune", job=job))
    bench.settle()
    accepted, refused = bench.told(client, Answer), bench.told(client, Refused)
    assert len(accepted) + len(refused) == 1
    return accepted[0] if accepted else refused[0]


def test_a_dropped_job_leaves_neither_rows_nor_blobs(bench: Bench, tmp_path: Path) -> None:
    job, files = ended(bench, tmp_path / "job", b"a small archive")
    assert isinstance(ask(bench, job), Answer)
    assert bench.engine.books.jobs() == []
    assert list(bench.journal.jobs()) == []
    assert list(bench.journal.results(job)) == []
    assert bench.journal._db.execute("select count(*) from archives").fetchone() == (0,)
    assert not any(bench.store.has(digest) for digest in files)


def test_what_another_job_needs_as_well_stays(bench: Bench, tmp_path: Path) -> None:
    first, files = ended(bench, tmp_path / "job", b"the same archive")
    second, _ = ended(bench, tmp_path / "job", b"the same archive")
    third = bench.take(prepared(bench.cast, tmp_path / "job"), hold=True)
    assert isinstance(ask(bench, first), Answer)
    assert {job.id for job in bench.journal.jobs()} == {second, third}
    [kept] = list(bench.journal.results(second))
    assert kept.archive is not None
    assert bench.journal.archive(kept.archive) == b"the same archive"
    assert all(bench.store.has(digest) for digest in files)


def test_what_has_not_ended_is_not_dropped(bench: Bench, tmp_path: Path) -> None:
    job = bench.take(prepared(bench.cast, tmp_path / "job"), hold=True)
    answer = ask(bench, job)
    assert isinstance(answer, Refused)
    assert "has not ended" in answer.what
    assert state(bench.engine, job) is JobState.HELD


def test_another_member_cannot_drop_it(bench: Bench, tmp_path: Path) -> None:
    job, _ = ended(bench, tmp_path / "job", b"an archive")
    assert isinstance(ask(bench, job, "other_submitter"), Refused)
    assert state(bench.engine, job) is JobState.SUCCEEDED


def test_a_dropped_job_stays_dropped_over_a_restart_and_may_be_submitted_again(
    bench: Bench, tmp_path: Path
) -> None:
    agent = bench.agent()
    job = prepared(bench.cast, tmp_path / "job")
    id_ = bench.take(job)
    [attempt] = bench.assigned(agent)
    bench.end(agent, job.job, attempt, content=b"an archive")
    assert isinstance(ask(bench, id_), Answer)
    bench.journal.close()
    again = Bench(bench.cast, tmp_path / "coordinator")
    assert again.engine.books.jobs() == []
    assert again.take(job) == id_
    assert state(again.engine, id_) is JobState.QUEUED


def test_old_jobs_are_forgotten_by_themselves(bench: Bench, tmp_path: Path) -> None:
    job, _ = ended(bench, tmp_path / "job", b"an archive")
    bench.settle()
    assert not bench.engine.retire(keep_s=3600.0)
    assert state(bench.engine, job) is JobState.SUCCEEDED
    assert not bench.engine.retire(keep_s=0.0)
    bench.settle()
    assert bench.engine.books.jobs() == []
    assert list(bench.journal.jobs()) == []


def test_a_kill_between_rows_and_blobs_leaves_only_what_makes_room_by_itself(
    bench: Bench, tmp_path: Path
) -> None:
    job, files = ended(bench, tmp_path / "job", b"an archive")
    bench.engine.forget(job)
    bench.journal.commit()  # and here the power goes
    bench.journal.close()
    again = Bench(bench.cast, tmp_path / "coordinator")
    assert again.engine.books.jobs() == []
    assert not any(again.store.pinned(digest) for digest in files)


def test_a_client_that_asks_for_a_dropped_job_is_told_that_there_is_none(
    bench: Bench, tmp_path: Path
) -> None:
    job, _ = ended(bench, tmp_path / "job", b"an archive")
    ask(bench, job)
    assert isinstance(ask(bench, job), Refused)


def test_where_too_many_ended_jobs_are_kept_no_new_one_is_taken_in(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = ended(bench, tmp_path / "job", b"an archive")
    bench.settle()
    monkeypatch.setattr("discogrid_coordinator.permits.ENDED_JOBS_MAX", 1)
    client, more = bench.client(), prepared(bench.cast, tmp_path / "more", inputs=1)
    content = more.job.envelope, pack_parts(more.leaves)
    bench.hear(client, SubmitJob(request=1), *content)
    [refused] = bench.told(client, Refused)
    assert (refused.code, "discogrid prune" in refused.fix) == ("quota", True)
    assert isinstance(ask(bench, job), Answer)
    bench.hear(client, SubmitJob(request=2), *content)
    assert not bench.told(client, Refused)


def test_a_dropped_job_that_nobody_can_read_any_more_is_dropped_all_the_same(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job, _ = ended(bench, tmp_path / "job", b"an archive")
    bench.settle()
    bench.journal.write([("update jobs set envelope = x'00' where id = ?", (job,))])
    [task] = bench.engine.books.tasks(job)
    assert (task.input, task.state) == (None, TaskState.DONE)
    assert "cannot be read" in caplog.text
    assert bench.engine.forget(job)
    bench.settle()
    assert bench.engine.books.jobs() == []
    assert list(bench.journal.jobs()) == []
