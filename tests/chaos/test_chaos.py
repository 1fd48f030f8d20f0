"""One run of a grid in trouble, and whether the books would notice what is lost or doubled. `make chaos` plays fifty."""

import shutil
from pathlib import Path

import pytest

from tests.chaos import books
from tests.chaos.plan import AGENTS, DEADLY, DEADLY_MAX, Plan, plan_of
from tests.chaos.run import play

SEED = (
    12  # kills the coordinator, fills its disk, pulls a plug, damages what lies on a disk, and sets a clock
)
WANTED = {books.name_of(index): f"result {index}" for index in range(3)}


@pytest.mark.usefixtures("hosts")
@pytest.mark.timeout(300)
def test_nothing_is_lost_doubled_or_left_behind_whatever_goes_wrong(tmp_path: Path) -> None:
    play(plan_of(SEED), tmp_path)


def test_a_seed_is_a_plan() -> None:
    plans = [plan_of(seed) for seed in range(200)]
    assert plans == [plan_of(seed) for seed in range(200)]
    assert len({fault.what for plan in plans for fault in plan.faults}) == 13
    assert all(len(struck(plan)) <= DEADLY_MAX < len(AGENTS) for plan in plans)


def struck(plan: Plan) -> set[str]:
    return {fault.where for fault in plan.faults if fault.what in DEADLY}


@pytest.fixture
def download(tmp_path: Path) -> Path:
    folder = tmp_path / "got"
    for name in ("output", "results"):
        (folder / name).mkdir(parents=True)
    for name, content in WANTED.items():
        (folder / "output" / name).write_text(content)
        (folder / "results" / f"{name}.zip").write_bytes(b"an archive")
    return folder


def test_a_download_that_is_whole_is_sound(download: Path) -> None:
    books.check_results(download, WANTED)


@pytest.mark.parametrize("name", ["output/in001.txt", "results/in001.txt.zip"])
def test_a_result_that_is_lost_is_noticed(download: Path, name: str) -> None:
    (download / name).unlink()
    with pytest.raises(AssertionError, match="lost"):
        books.check_results(download, WANTED)


def test_a_result_that_is_doubled_or_wrong_is_noticed(download: Path) -> None:
    shutil.copy(download / "output" / "in001.txt", download / "output" / "in001-1.txt")
    with pytest.raises(AssertionError, match="doubled"):
        books.check_results(download, WANTED)
    (download / "output" / "in001-1.txt").unlink()
    (download / "output" / "in001.txt").write_text("result 2")
    with pytest.raises(AssertionError, match="wrong"):
        books.check_results(download, WANTED)


@pytest.mark.parametrize(
    "tasks",
    [
        [(0, "done"), (2, "done")],
        [(0, "done"), (1, "done"), (1, "done"), (2, "done")],
        [(0, "done"), (1, "quarantined"), (2, "done")],
    ],
)
def test_a_task_that_is_lost_doubled_or_failed_is_noticed(tasks: list[tuple[int, str]]) -> None:
    with pytest.raises(AssertionError):
        books.check_tasks([{"index": index, "state": state} for index, state in tasks], 3)
