"""How often a task of calls runs at one agent, whatever its coordinator asks for."""

import pytest

from discogrid.types import Digest
from discogrid_agent import call_history
from discogrid_agent.acceptance import attempts_max
from discogrid_agent.call_history import CallHistory

JOB, OTHER = Digest("blake3:" + "1" * 64), Digest("blake3:" + "2" * 64)


def test_a_task_runs_no_more_often_than_honest_trouble_explains() -> None:
    history = CallHistory()
    most = attempts_max(2)
    assert not any(history.start(JOB, 7, retries=2) for _ in range(most))
    for _ in range(2):
        assert f"{most} times" in history.start(JOB, 7, retries=2)


def test_each_task_and_each_job_counts_for_itself() -> None:
    history = CallHistory()
    for job in (JOB, OTHER):
        for index in (0, 1):
            assert not any(history.start(job, index, retries=0) for _ in range(attempts_max(0)))
            assert history.start(job, index, retries=0)


def test_a_job_that_has_ended_here_begins_no_more() -> None:
    history = CallHistory()
    history.start(JOB, 0, retries=5)
    history.end(JOB)
    assert "had ended" in history.start(JOB, 1, retries=5)
    history.end(JOB)
    assert "had ended" in history.start(JOB, 1, retries=5)


def test_a_job_that_never_ran_here_may_begin_after_its_end() -> None:
    history = CallHistory()
    history.end(JOB)
    assert not history.start(JOB, 0, retries=0)


def test_of_too_many_ended_jobs_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_history, "OVER_MAX", 1)
    history = CallHistory()
    for job in (JOB, OTHER):
        history.start(job, 0, retries=0)
        history.end(job)
    assert not history.start(JOB, 0, retries=0)
    assert history.start(OTHER, 0, retries=0)
