"""The table by its strips: what is not on the screen is never built."""

import time

from rich.cells import cell_len
from textual.strip import Strip

from discogrid.types import TaskState
from discogrid_tui.cells import Cell
from discogrid_tui.columns import TASKS
from discogrid_tui.model import Tab
from discogrid_tui.widgets.paint import segments, tones
from discogrid_tui.widgets.table import Table
from tests.tui.conftest import Open, Stage
from tests.tui.fakes import FakeGrid, job, task

ROWS = 10_000
PAINT_MS_MAX = 60.0  # a screen of 100,000 rows; measured 5 to 10 ms on two shared cores


class Counting:
    """Counts the rows that a table builds."""

    def __init__(self, table: Table) -> None:
        self.rows: list[object] = []
        self._built = table._row_line
        table._row_line = self.build  # type: ignore[method-assign]

    def build(self, row: object, width: int, *, under_cursor: bool) -> Strip:
        self.rows.append(row)
        return self._built(row, width, under_cursor=under_cursor)


async def opened(shown: Stage) -> Counting:
    await shown.press("enter")
    await shown.until(lambda: shown.model.tasks_complete and shown.model.tasks.total >= 1)
    return Counting(shown.table)


def many(rows: int = ROWS) -> FakeGrid:
    grid = FakeGrid()
    grid.push(job(), *(task(index) for index in range(rows)))
    return grid


async def test_of_many_rows_only_those_on_the_screen_are_built(stage: Open) -> None:
    async with stage(many()) as shown:
        counting = await opened(shown)
        shown.table.repaint(None)
        await shown.pilot.pause()
        assert 0 < len(counting.rows) <= shown.table.page
        counting.rows.clear()
        await shown.pilot.press("G")
        await shown.pilot.pause()
        assert 0 < len(counting.rows) <= 2 * shown.table.page + 2


async def test_a_change_off_the_screen_builds_nothing(stage: Open) -> None:
    async with stage(many()) as shown:
        counting = await opened(shown)
        await shown.paint()
        counting.rows.clear()
        asked: list[int] = []
        shown.table.refresh_line = asked.append  # type: ignore[method-assign, assignment]
        shown.grid.push(task(ROWS - 1, state=TaskState.RUNNING))
        await shown.until(lambda: shown.model.tasks.get(ROWS - 1) == task(ROWS - 1, state=TaskState.RUNNING))
        assert (counting.rows, asked) == ([], [])


async def test_a_change_on_the_screen_builds_its_row_alone(stage: Open) -> None:
    async with stage(many()) as shown:
        counting = await opened(shown)
        await shown.paint()
        counting.rows.clear()
        shown.grid.push(task(3, state=TaskState.RUNNING))
        await shown.until(lambda: bool(counting.rows))
        assert counting.rows == [task(3, state=TaskState.RUNNING)]


async def test_a_screen_of_a_hundred_thousand_rows_is_painted_in_milliseconds(stage: Open) -> None:
    async with stage(many(1)) as shown:
        await opened(shown)
        for index in range(1, 100_000):
            shown.model.tasks.put(index, task(index))
        shown.model.move(50_000)
        await shown.paint()
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            shown.table.repaint(None)
            lines = [shown.table.render_line(y) for y in range(shown.table.page)]
            times.append((time.perf_counter() - begun) * 1000)
        assert len(lines) == shown.table.page
        assert min(times) < PAINT_MS_MAX


async def test_every_line_fills_the_table_exactly_whatever_the_names(stage: Open) -> None:
    grid = FakeGrid()
    names = ["東京" * 40, "e\u0301" * 50, "🎬" * 30, "a\tb\nc\x1b[2J" * 9, "", "plain", "\u202e" * 20]
    grid.push(job(), *(task(index, input=name, reason=name, agent=name) for index, name in enumerate(names)))
    for size in ((40, 12), (80, 24), (121, 30)):
        async with stage(grid, size) as shown:
            await opened(shown)
            for y in range(shown.table.page):
                strip = shown.table.render_line(y)
                assert sum(cell_len(segment.text) for segment in strip) == shown.table.inside.width
                assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in strip.text)


async def test_the_cursor_and_the_order_show_without_colour(stage: Open) -> None:
    async with stage(many(5)) as shown:
        await opened(shown)
        await shown.press("j")
        assert [shown.table.render_line(y).text[0] for y in range(3)] == [" ", "▌", " "]
        assert "task↑" in shown.text()


async def test_a_cell_is_cut_or_filled_to_its_width(stage: Open) -> None:
    async with stage(FakeGrid()) as shown:
        styles, base = tones(shown.table), shown.table.rich_style
        cell: Cell = (("abc", next(iter(styles))), ("defgh", next(iter(styles))))

        def text(width: int, *, right: bool = False) -> str:
            return "".join(segment.text for segment in segments(cell, width, base, styles, right=right))

        assert [text(width) for width in (10, 8, 5, 3, 1, 0)] == [
            "abcdefgh  ",
            "abcdefgh",
            "abcd…",
            "abc",
            "…",
            "",
        ]
        assert text(10, right=True) == "  abcdefgh"


async def test_titles_stand_over_their_columns(stage: Open) -> None:
    async with stage(many(3)) as shown:
        await opened(shown)
        titles = "".join(part for part, _ in shown.table.titles())
        assert titles.index("input") == shown.table.render_line(0).text.index("split000")
        assert TASKS.columns[shown.table.column_at(titles.index("input")) or 0].name == "input"
        assert shown.table.column_at(1_000) is None
        assert shown.model.tab is Tab.TASKS


async def test_the_end_is_reached_even_if_its_rows_were_not_painted_yet(stage: Open) -> None:
    async with stage(many(5)) as shown:
        await opened(shown)
        for index in range(5, 300):
            shown.model.tasks.put(index, task(index))
        shown.app.do_bottom()
        await shown.paint()
        assert "k3f9-299" in shown.text()
