"""What an agent remembers through restarts, and how much of it."""

from pathlib import Path

import pytest

from discogrid.types import Attempt, Digest, JobId
from discogrid_agent.ledger import Ledger, LedgerError, Ran
from tests.trust.forge import NOW, digest_of

JOB, OTHER = digest_of(b"job"), digest_of(b"other")
DAY = 86400.0


def attempt(index: int, number: int = 1, lease: int = 1) -> Attempt:
    return Attempt(JobId("k3f9"), index, number, lease)


def test_an_attempt_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.note(JOB, attempt(0), NOW + DAY, NOW)
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite")
    assert again.ran(JOB, attempt(0)) == Ran(1, same=True)
    assert again.ran(JOB, attempt(0, number=2)) == Ran(1, same=False)
    assert again.ran(JOB, attempt(1)) == Ran(0, same=False)
    assert again.ran(OTHER, attempt(0)) == Ran(0, same=False)
    again.close()


def test_a_job_that_the_coordinator_ended_is_not_forgotten_before_it_expires(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number in (1, 2):
        ledger.note(JOB, attempt(0, number), NOW + DAY, NOW)
    ledger.note(JOB, attempt(1), NOW + DAY, NOW)
    ledger.job_ended(JOB)
    ledger.job_ended(OTHER)  # one that never ran here
    assert ledger.ran(JOB, attempt(5)).times == 2
    ledger.note(OTHER, attempt(0), NOW + 3 * DAY, NOW + 2 * DAY)
    assert ledger.ran(JOB, attempt(0)).times == 0
    ledger.close()


def test_too_many_attempts_are_summed_up_and_never_counted_as_fewer(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", attempts_max=10)
    for number in range(1, 31):
        ledger.note(JOB, attempt(0, number), NOW + DAY, NOW)
    assert ledger.ran(JOB, attempt(0, 99)).times == 30
    assert ledger._number("select count(*) from attempts") <= 10
    ledger.close()


def test_more_jobs_than_can_be_remembered_are_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", jobs_max=1)
    ledger.note(JOB, attempt(0), NOW + DAY, NOW)
    with pytest.raises(LedgerError, match="takes no more"):
        ledger.note(OTHER, attempt(0), NOW + DAY, NOW)
    assert ledger.ran(JOB, attempt(0)).times == 1
    ledger.close()


def test_cpu_seconds_are_those_of_the_day(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.spend("anna", 5.0, NOW)
    ledger.spend("anna", 2.0, NOW)
    assert ledger.spent("anna", NOW) == 7.0
    assert ledger.spent("bert", NOW) == 0.0
    assert ledger.spent("anna", NOW + DAY) == 0.0
    ledger.spend("anna", 1.0, NOW + 3 * DAY)
    assert ledger.spent("anna", NOW) == 0.0  # nobody wonders any more
    ledger.close()


def test_a_file_that_is_no_ledger_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database at all, but long enough to look like one" * 9)
    with pytest.raises(LedgerError, match="cannot be read"):
        Ledger(tmp_path / "ledger.sqlite")


def test_a_ledger_that_breaks_is_an_error_and_no_crash(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.close()
    with pytest.raises(LedgerError, match="cannot be used"):
        ledger.ran(Digest(JOB), attempt(0))
