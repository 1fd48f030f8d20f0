"""What the journal keeps, and what it refuses."""

import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from discogrid.errors import DiscogridError
from discogrid.types import AgentId, Attempt, Counts, Digest, JobId, JobState, NodeId, Outcome, TaskState
from discogrid.views import JobView
from discogrid_coordinator.journal import JobRecord, Journal, ResultRecord

JOB = JobId("k3f9")
ARCHIVE = Digest("blake3:" + "a" * 64)


def job(id_: str = JOB, **other: Any) -> JobRecord:
    known = {
        "digest": Digest(f"digest of {id_}"),
        "envelope": b"e",
        "leaves": b"l",
        "created": 1.0,
        "held": False,
    }
    return JobRecord(id=JobId(id_), **{**known, "state": JobState.QUEUED, **other})


def result(
    index: int = 0, number: int = 1, state: TaskState | None = TaskState.DONE, **other: Any
) -> ResultRecord:
    known: dict[str, Any] = {
        "attempt": Attempt(JOB, index, number, 7),
        "agent": AgentId("attic"),
        "outcome": Outcome.SUCCEEDED if state is TaskState.DONE else Outcome.SCRIPT_FAILED,
        "exit": 0,
        "started": 1.0,
        "ended": 2.0,
        "seconds": 1.0,
        "reason": "",
        "archive": ARCHIVE,
        "archive_bytes": 3,
        "envelope": b"signed",
        "state": state,
    }
    return ResultRecord(**{**known, **other})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def reopened(journal: Journal, path: Path) -> Journal:
    journal.commit()
    journal.close()
    return Journal(path)


def test_a_committed_job_survives_the_kill_of_its_process_and_an_open_one_does_not(path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from discogrid.types import JobState
        from discogrid_coordinator.journal import JobRecord, Journal
        journal = Journal(Path({str(path)!r}))
        journal.add_job(JobRecord("kept", "d1", b"e", b"l", 1.0, False, JobState.QUEUED))
        journal.start_job("kept", 5.0)
        journal.commit()
        journal.add_job(JobRecord("lost", "d2", b"e", b"l", 2.0, False, JobState.QUEUED))
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    killed = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert killed.returncode == -9
    journal = Journal(path)
    assert [(kept.id, kept.state, kept.started) for kept in journal.jobs()] == [
        ("kept", JobState.RUNNING, 5.0)
    ]
    journal.close()


def test_everything_of_a_job_comes_back(path: Path) -> None:
    journal = Journal(path)
    journal.add_job(job(held=True, state=JobState.HELD))
    journal.put_result(result(0), b"zip")
    journal.put_result(result(1, state=TaskState.FAILED, reason="exit 1"), None)
    journal = reopened(journal, path)
    assert list(journal.jobs()) == [job(held=True, state=JobState.HELD)]
    assert list(journal.results(JOB)) == [result(0), result(1, state=TaskState.FAILED, reason="exit 1")]
    assert journal.archive(ARCHIVE) == b"zip"
    journal.release_job(JOB)
    journal.start_job(JOB, 3.0)
    view = JobView(
        JOB, "name", JobState.FAILED, Counts(done=1, failed=1), NodeId("me"), "script.py", 1.0, ARCHIVE
    )
    view = replace(view, ended=9.0, reason="one failed")
    journal.end_job(view)
    journal = reopened(journal, path)
    [kept] = journal.jobs()
    assert (kept.view, kept.envelope, kept.leaves) == (view, b"", b"")
    assert journal.content(JOB) == (b"e", b"l")
    assert (kept.held, kept.state, kept.started, kept.ended, kept.reason) == (
        False,
        JobState.FAILED,
        3.0,
        9.0,
        "one failed",
    )
    journal.close()


def test_the_first_result_of_a_task_wins(path: Path) -> None:
    journal = Journal(path)
    journal.put_result(result(number=2), b"first")
    late = result(number=3, archive=Digest("blake3:" + "b" * 64), envelope=b"other")
    journal.put_result(late, b"second")
    journal.commit()
    assert journal.result(JOB, 0) == result(number=2)
    assert journal.archive(Digest("blake3:" + "b" * 64)) is None
    journal.end_task(JOB, 0, TaskState.CANCELLED, "too late")
    journal.commit()
    assert journal.result(JOB, 0) == result(number=2)
    journal.close()


def test_a_failed_attempt_gives_way_to_the_next(path: Path) -> None:
    journal = Journal(path)
    journal.put_result(result(number=1, state=None), b"logs")
    journal.put_result(result(number=2), b"zip")
    journal.commit()
    assert journal.result(JOB, 0) == result(number=2)
    journal.close()


def test_a_task_that_ends_without_any_attempt_is_kept_too(path: Path) -> None:
    journal = Journal(path)
    journal.end_task(JOB, 4, TaskState.FAILED, "no agent fits")
    kept = reopened(journal, path)
    [ended] = kept.results(JOB)
    assert (ended.attempt.index, ended.state, ended.reason) == (4, TaskState.FAILED, "no agent fits")
    kept.close()


def test_what_cannot_be_written_leaves_nothing_behind_and_stands_in_nobody_s_way(path: Path) -> None:
    journal = Journal(path)
    journal.add_job(job("aaaa"))
    journal.add_job(job("bbbb", digest=Digest("digest of aaaa")))
    with pytest.raises(sqlite3.IntegrityError):
        journal.commit()
    assert list(journal.jobs()) == []
    journal.add_job(job("cccc"))
    journal = reopened(journal, path)
    assert [kept.id for kept in journal.jobs()] == ["cccc"]
    journal.close()


def test_what_waits_is_not_read_and_what_was_taken_does_not_wait(path: Path) -> None:
    journal = Journal(path)
    journal.add_job(job())
    assert (len(journal), list(journal.jobs())) == (1, [])
    taken = journal.take()
    assert len(journal) == 0
    journal.write(taken)
    assert list(journal.jobs()) == [job()]
    journal.close()


def test_a_commit_waits_for_the_disk_and_not_only_for_its_cache(path: Path) -> None:
    journal = Journal(path)
    modes = [
        journal._writer.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    ]
    assert modes == ["wal", 2]  # FULL
    journal.close()


def test_a_journal_of_another_version_is_refused_and_left_as_it_is(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute("pragma user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(DiscogridError, match="another version of discogrid \\(99\\)"):
        Journal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_journal_is_named_with_what_to_do(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DiscogridError, match=r"journal\.sqlite"):
        Journal(path)


def test_a_journal_where_no_file_can_be_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DiscogridError, match="cannot be used"):
        Journal(tmp_path / "missing" / "journal.sqlite")
    with pytest.raises(DiscogridError, match="cannot be used"):
        Journal(tmp_path)


def test_run_times_are_remembered_the_newest_of_each_task_and_not_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(path)
    for task, seconds in (("a", 1.0), ("b", 2.0), ("a", 3.0), ("c", 4.0)):
        journal.learn("kind", task, seconds)
    journal.learn("another", "a", 9.0)
    journal.commit()
    assert journal.durations("kind") == {"a": 3.0, "b": 2.0, "c": 4.0}
    monkeypatch.setattr("discogrid_coordinator.journal.RUN_TIMES_MAX", 3)
    journal = reopened(journal, path)
    assert journal.durations("kind") == {"a": 3.0, "c": 4.0}
    assert journal.durations("another") == {"a": 9.0}
    journal.close()


def test_the_agents_that_were_here_are_known_after_a_restart(path: Path) -> None:
    journal = Journal(path)
    for name in ("cellar", "attic", "attic"):
        journal.add_agent(AgentId(name))
    journal.drop_agent(AgentId("cellar"))
    journal = reopened(journal, path)
    assert journal.agents() == ("attic",)
    journal.close()


def test_a_job_that_the_grid_held_is_held_after_a_restart_until_it_is_released(path: Path) -> None:
    journal = Journal(path)
    journal.add_job(job())
    journal.hold_job(JOB, "its first 3 tasks failed alike")
    journal = reopened(journal, path)
    [kept] = journal.jobs()
    assert (kept.held, kept.state, kept.reason) == (True, JobState.HELD, "its first 3 tasks failed alike")
    journal.release_job(JOB)
    journal.commit()
    [kept] = journal.jobs()
    assert (kept.held, kept.state, kept.reason) == (False, JobState.QUEUED, "")
    journal.close()


def test_a_journal_of_the_version_before_is_taken_over_with_all_that_is_in_it(path: Path) -> None:
    journal = Journal(path)
    journal.add_job(job())
    journal.put_result(result(0), b"zip")
    journal.commit()
    journal.close()
    with sqlite3.connect(path) as db:
        db.executescript(
            "alter table jobs drop column view; alter table results drop column failures; pragma user_version = 1;"
        )
    db.close()
    journal = Journal(path)
    assert (list(journal.jobs()), list(journal.results(JOB))) == ([job()], [result(0)])
    journal.put_result(result(1, failures=2), None)
    journal.commit()
    assert journal.result(JOB, 1) == result(1, failures=2)
    journal.close()


def test_results_are_read_in_ranges_and_archives_that_are_blobs_are_known(path: Path) -> None:
    journal = Journal(path)
    stored = Digest("blake3:" + "b" * 64)
    for index in range(4):
        journal.put_result(
            result(index, archive=stored if index == 2 else ARCHIVE), None if index == 2 else b"zip"
        )
    journal.commit()
    assert [one.attempt.index for one in journal.results(JOB, 1, 3)] == [1, 2]
    assert list(journal.stored_archives()) == [(JOB, stored)]
    assert journal.content(JOB) is None
    journal.close()
