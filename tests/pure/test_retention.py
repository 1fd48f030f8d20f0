"""Which ended jobs are forgotten: old ones, and the oldest where results leave no room for new work."""

from discogrid.types import JobId
from discogrid_coordinator.retention import ENDED_JOBS_MAX, FORGOTTEN_MAX, FULL, KEEP_S_MIN, Kept, forgettable

NOW = 1_800_000_000.0
DAY_S = 86400.0
KEEP_S = 10 * DAY_S


def kept(days: float, size: int = 10) -> Kept:
    return Kept(JobId(f"d{days:g}"), NOW - days * DAY_S, size)


def forgotten(*oldest: Kept, used: int = 0, keep_s: float = KEEP_S, ended: int = 100) -> list[str]:
    return list(forgettable(oldest, NOW, keep_s, used, 1000, ended))


def test_a_job_is_forgotten_when_it_is_old_enough() -> None:
    assert forgotten(kept(12), kept(11), kept(10), kept(1)) == ["d12", "d11"]
    assert forgotten() == []


def test_where_room_is_short_the_oldest_go_until_there_is_enough() -> None:
    over = int(FULL * 1000) + 15
    assert forgotten(kept(9), kept(8), kept(7), used=over) == ["d9", "d8"]
    assert forgotten(kept(9), used=int(FULL * 1000)) == []


def test_where_there_are_very_many_the_oldest_go_until_there_are_fewer() -> None:
    many = int(FULL * ENDED_JOBS_MAX)
    assert forgotten(kept(9), kept(8), kept(7), ended=many + 2) == ["d9", "d8"]
    assert forgotten(kept(9), ended=many) == []


def test_what_has_just_ended_stays_however_little_room_there_is() -> None:
    assert forgotten(kept(1.01), kept(KEEP_S_MIN / DAY_S), kept(0.5), used=1000) == ["d1.01"]


def test_a_shorter_time_than_that_is_kept_to_where_it_is_asked_for() -> None:
    assert forgotten(kept(0.5), kept(0.1), keep_s=0.2 * DAY_S) == ["d0.5"]


def test_what_ended_in_the_future_of_a_clock_that_was_set_back_stays() -> None:
    assert forgotten(kept(-3), used=1000) == []


def test_only_so_many_go_at_a_time() -> None:
    assert len(forgotten(*(kept(100 - number) for number in range(2 * FORGOTTEN_MAX)))) == FORGOTTEN_MAX
