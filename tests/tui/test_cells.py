from typing import Any

import pytest

from discogrid.types import Counts, JobState, TaskState
from discogrid_tui.cells import SIGNS, Cell, Tone, ago, elapsed, plain, progress, slots, state
from discogrid_tui.columns import AGENTS, GAP, JOBS, TASKS, Kind, fit
from tests.tui.fakes import NOW, a_job_of_each_state, a_task_of_each_state, agent, task


def text(cell: Cell) -> str:
    return "".join(part for part, _ in cell)


def test_every_state_has_a_sign_of_its_own_in_its_list() -> None:
    for states in (JobState, TaskState):
        signs = [SIGNS[word][0] for word in states]
        assert len(set(signs)) == len(signs)
    assert SIGNS["live"][0] != SIGNS["lost"][0]


def test_a_state_is_a_sign_and_a_word_and_on_a_narrow_screen_the_sign() -> None:
    assert text(state("failed", 11)) == "✗ failed"
    assert text(state("failed", 1)) == "✗"
    assert text(state("something newer", 11)) == "? something newer"


@pytest.mark.parametrize(
    ("counts", "width", "shown"),
    [
        (Counts(done=5, running=2, queued=3), 16, "━━━━━━━─── 5/10"),
        (Counts(done=10), 16, "━━━━━━━━━━ 10/10"),
        (Counts(queued=10), 16, "─────────── 0/10"),
        (Counts(done=1, failed=1, quarantined=1), 16, "━━━━━━━━━ 3/3 ✗2"),
        (Counts(), 16, "0/0"),
        (Counts(done=100, queued=900), 9, "100/1000"),
    ],
)
def test_progress_in_a_cell(counts: Counts, width: int, shown: str) -> None:
    found = text(progress(counts, width))
    assert found.replace("━", "").replace("─", "") == shown.replace("━", "").replace("─", "")
    assert len(found) <= width
    if "━" in shown or "─" in shown:
        assert len(found) == width


def test_a_bar_is_full_only_when_all_is_done() -> None:
    assert "─" in text(progress(Counts(done=999, queued=1), 20))
    assert "─" not in text(progress(Counts(done=1000), 20))


def test_what_runs_is_to_be_seen_in_the_bar() -> None:
    bar = progress(Counts(done=1, queued=998, running=1), 20)
    assert [part for part, tone in bar if tone is Tone.ACTIVE] == ["━"]


def test_slots_are_squares_while_they_fit() -> None:
    assert text(slots(2, 4, 12)) == "■■□□ 2/4"
    assert text(slots(12, 64, 12)) == "12/64"
    assert text(slots(9, 2, 12)) == "■■ 9/2"


def test_times_run_until_they_end() -> None:
    assert text(elapsed(NOW, None, NOW + 12)) == "12 s"
    assert text(elapsed(NOW, NOW + 70, NOW + 500)) == "1m10s"
    assert text(elapsed(None, None, NOW)) == "-"
    assert text(ago(NOW - 61, NOW)) == "1m01s"
    assert text(plain("x")) == "x"


@pytest.mark.parametrize("kind", [JOBS, TASKS, AGENTS], ids=lambda kind: kind.noun)
@pytest.mark.parametrize("width", [*range(30, 200, 7), 38, 78, 118])
def test_the_columns_fill_the_screen_and_never_more(kind: Kind[Any], width: int) -> None:
    fitted = fit(kind, width)
    assert sum(cells for _, cells in fitted) + GAP * (len(fitted) - 1) == width
    assert [index for index, _ in fitted] == sorted(index for index, _ in fitted)


def test_on_the_narrowest_screen_a_column_is_left() -> None:
    assert len(fit(JOBS, 1)) == 1


def names(kind: Kind[Any], width: int) -> list[str]:
    return [kind.columns[index].name for index, _ in fit(kind, width)]


def test_what_matters_most_is_there_at_every_width() -> None:
    assert names(JOBS, 38) == ["state", "job", "name", "tasks"]
    assert names(TASKS, 38) == ["state", "task", "input", "time"]
    assert names(AGENTS, 38) == ["state", "agent", "slots", "done", "seen"]
    assert names(TASKS, 78) == ["state", "task", "input", "agent", "time", "try", "exit", "note"]
    assert len(names(JOBS, 198)) == len(JOBS.columns)


def test_every_cell_of_every_row_can_be_written_sorted_and_searched() -> None:
    rows: list[tuple[Kind[Any], list[Any]]] = [
        (JOBS, a_job_of_each_state()),
        (TASKS, a_task_of_each_state()),
        (AGENTS, [agent(), agent("b", state="lost")]),
    ]
    for kind, values in rows:
        for column in kind.columns:
            keys = sorted(column.sort(value) for value in values)
            assert len(keys) == len(values)
            for value in values:
                shown = text(column.cell(value, NOW, column.width))
                assert not any(ord(char) < 32 for char in shown)
        for value in values:
            assert all(isinstance(read(value), str) for read in kind.fields.values())


def test_the_time_of_an_ended_task_is_its_scripts_own() -> None:
    column = TASKS.columns[TASKS.index("time")]
    assert (
        text(column.cell(task(state=TaskState.DONE, seconds=4.0, started=NOW - 90, ended=NOW), NOW, 7))
        == "4.0 s"
    )
    assert text(column.cell(task(state=TaskState.RUNNING, seconds=4.0, started=NOW - 90), NOW, 7)) == "1m30s"
