"""A user's keys and clicks, from the terminal's side."""

from discogrid.types import Counts, JobId, TaskState
from discogrid_tui.model import Link, Tab
from discogrid_tui.screens.sheet import Sheet
from tests.tui.conftest import Open, Stage
from tests.tui.fakes import NOW, FakeGrid, a_busy_grid, agent, job, task


def cursor_line(shown: Stage) -> str:
    return next(line for line in shown.text().splitlines() if line.startswith("▌"))


def typing(shown: Stage) -> bool:
    return shown.main.filtering


def sheet_is_open(shown: Stage) -> bool:
    return isinstance(shown.app.screen, Sheet)


async def test_a_job_is_opened_and_left_again(stage: Open) -> None:
    async with stage(a_busy_grid()) as shown:
        await shown.press("j", "down", "enter")
        await shown.until(lambda: shown.model.tasks_complete)
        assert shown.model.opened == "k3f9"
        assert "[2 Tasks of k3f9 8]" in shown.text()
        assert r"\x1b" in shown.text() or "…" in shown.text()
        await shown.press("escape")
        assert shown.model.tab is Tab.JOBS
        assert "k3f9" in cursor_line(shown)


async def test_only_the_opened_jobs_tasks_are_watched(stage: Open) -> None:
    grid = a_busy_grid()
    grid.push(task(0, "a2b7"))
    async with stage(grid) as shown:
        assert grid.watched == [None]
        await shown.press("j", "j", "enter")
        await shown.until(lambda: shown.model.tasks_complete)
        await shown.press("1", "j", "enter")
        await shown.until(lambda: shown.model.opened == "a2b7" and shown.model.tasks_complete)
        assert grid.watched == [None, "k3f9", "a2b7"]
        assert [found.label for found in shown.model.tasks.values()] == ["a2b7-000"]


async def test_what_changes_on_the_grid_changes_on_the_screen(stage: Open) -> None:
    grid = a_busy_grid()
    async with stage(grid) as shown:
        await shown.press("j", "j", "enter")
        await shown.until(lambda: shown.model.tasks_complete)
        grid.push(task(4, state=TaskState.RUNNING, attempt=1, agent="attic"), job(counts=Counts(done=40)))
        await shown.until(lambda: "40/40" in shown.text())
        line = next(line for line in shown.text().splitlines() if "k3f9-004" in line)
        assert "● running" in line


async def test_a_filter_works_while_it_is_typed_and_escape_takes_it_back(stage: Open) -> None:
    async with stage(a_busy_grid()) as shown:
        await shown.press("slash", *"state:run")
        await shown.until(lambda: len(shown.model.jobs) == 1)
        assert typing(shown)
        await shown.press("enter")
        assert not typing(shown)
        assert "1 of 6 jobs" in shown.text()
        assert "filter state:run" in shown.text()
        await shown.press("slash")
        assert "state:run" in shown.text().splitlines()[-2]
        await shown.press("escape")
        assert "6 of 6 jobs" in shown.text()
        assert shown.model.tab is Tab.JOBS


async def test_letters_in_the_filter_are_no_commands(stage: Open) -> None:
    async with stage(a_busy_grid()) as shown:
        await shown.press("slash", "q", "s", "1", "question_mark", "g")
        assert typing(shown)
        assert shown.app.is_running
        await shown.press("enter")
        assert shown.model.views[Tab.JOBS].filter == "qs1?g"


async def test_the_cursor_goes_to_the_ends_and_by_pages(stage: Open) -> None:
    grid = FakeGrid()
    grid.push(job(), *(task(index) for index in range(500)))
    async with stage(grid) as shown:
        await shown.press("enter")
        await shown.until(lambda: shown.model.tasks_complete)
        await shown.press("G")
        assert shown.model.tasks.cursor == 499
        assert "k3f9-499" in cursor_line(shown)
        await shown.press("k", "up")
        assert "k3f9-497" in cursor_line(shown)
        await shown.press("pageup")
        assert shown.model.tasks.cursor == 497 - shown.table.page
        await shown.press("g")
        assert "k3f9-000" in cursor_line(shown)
        await shown.press("pagedown", "k", "home", "end", "home")
        assert shown.table.scroll_offset.y == 0


async def test_the_cursor_stays_on_its_job_and_its_line_when_newer_ones_come(stage: Open) -> None:
    grid = FakeGrid()
    grid.push(*(job(f"j{index:03}", created=NOW - index) for index in range(100)))
    async with stage(grid) as shown:
        for _ in range(30):
            await shown.pilot.press("j")
        await shown.paint()
        assert "j030" in cursor_line(shown)
        before = shown.text().splitlines().index(cursor_line(shown))
        grid.push(*(job(f"n{index:03}", created=NOW + index) for index in range(5)))
        await shown.until(lambda: shown.model.jobs.total == 105)
        assert "j030" in cursor_line(shown)
        assert shown.text().splitlines().index(cursor_line(shown)) == before


async def test_rows_are_ordered_by_key_and_by_click(stage: Open) -> None:
    async with stage(a_busy_grid()) as shown:
        view = shown.model.views[Tab.JOBS]
        await shown.press("s")
        first = view.sorted_by.name
        await shown.press("S")
        assert view.sorted_by.name == first
        await shown.pilot.click("#titles", offset=(3, 0))
        await shown.paint()
        assert (view.sorted_by.name, view.descending) == ("state", False)
        await shown.pilot.click("#titles", offset=(3, 0))
        assert view.descending
        await shown.pilot.click("#titles", offset=(79, 0))


async def test_the_mouse_points_opens_and_looks_around(stage: Open) -> None:
    async with stage(a_busy_grid()) as shown:
        await shown.pilot.click("#table-jobs", offset=(5, 2))
        await shown.paint()
        assert shown.model.jobs.cursor == 2
        await shown.pilot.click("#table-jobs", offset=(5, 15))
        assert shown.model.jobs.cursor == 2
        await shown.pilot.click("#table-jobs", offset=(5, 2))
        await shown.until(lambda: shown.model.opened == "k3f9")
        await shown.pilot.click("#tabs", offset=(40, 0))
        await shown.until(lambda: shown.model.tab is Tab.AGENTS)
        await shown.pilot.click("#tabs", offset=(75, 0))
        await shown.pilot.click("#tabs", offset=(2, 0))
        await shown.until(lambda: shown.model.tab is Tab.JOBS)
        await shown.pilot.click("#footer", offset=(2, 0))
        await shown.until(lambda: shown.model.tab is Tab.TASKS)
        await shown.pilot.click("#footer", offset=(79, 0))
        await shown.pilot.click("#header", offset=(2, 0))
        assert shown.model.tab is Tab.TASKS


async def test_tabs_go_round_by_key(stage: Open) -> None:
    async with stage(a_busy_grid()) as shown:
        for key, tab in (
            ("tab", Tab.TASKS),
            ("right", Tab.AGENTS),
            ("left", Tab.TASKS),
            ("shift+tab", Tab.JOBS),
            ("2", Tab.TASKS),
        ):
            await shown.press(key)
            assert shown.model.tab is tab
            assert shown.table.has_focus


async def test_an_agent_shows_all_that_is_known_of_it(stage: Open) -> None:
    async with stage(a_busy_grid()) as shown:
        await shown.press("3", "enter")
        assert sheet_is_open(shown)
        await shown.press("j", "k", "escape")
        assert not sheet_is_open(shown)
        await shown.press("1", "i")
        assert sheet_is_open(shown)
        await shown.press("q")
        assert shown.app.is_running
        assert not sheet_is_open(shown)


async def test_help_lists_every_key(stage: Open) -> None:
    async with stage(a_busy_grid(), (120, 60)) as shown:
        await shown.press("question_mark")
        assert sheet_is_open(shown)
        await shown.press("question_mark")
        assert not sheet_is_open(shown)


async def test_ids_and_commands_are_copied(stage: Open) -> None:
    async with stage(a_busy_grid()) as shown:
        await shown.press("j", "j", "c")
        assert shown.app.clipboard == "k3f9"
        await shown.press("C")
        assert shown.app.clipboard == "discogrid show k3f9"


async def test_what_cannot_be_done_says_why(stage: Open) -> None:
    async with stage(FakeGrid()) as shown:
        await shown.press("c")
        assert [notice.message for notice in shown.app._notifications] == [
            "There is no row under the cursor."
        ]
        assert shown.app.clipboard == ""


async def test_the_palette_performs_the_same_actions(stage: Open) -> None:
    async with stage(a_busy_grid()) as shown:
        found = {command.title: command for command in shown.app.get_system_commands(shown.app.screen)}
        assert "Palette  (^p)" not in found
        found["Agents  (3)"].callback()
        assert shown.model.tab is Tab.AGENTS
        assert "not now" in found["Reconnect now  (r)"].help
        await shown.press("ctrl+p")
        assert list(shown.app.get_system_commands(shown.app.screen)) == []
        await shown.press("escape", "colon")
        assert shown.app.screen is not shown.main


async def test_a_grid_that_goes_and_comes_back(stage: Open) -> None:
    grid = a_busy_grid()
    async with stage(grid) as shown:
        await shown.press("j", "j", "enter")
        await shown.until(lambda: shown.model.tasks_complete)
        grid.vanish()
        await shown.until(lambda: shown.model.connection.link is Link.STALE)
        shown.clock.now += 12
        await shown.paint()
        assert "stale 12 s, reconnecting" in shown.text()
        assert "k3f9-001" in shown.text()
        grid.reachable = True
        del grid.jobs["zz4q"]
        grid.push(task(1, state=TaskState.DONE))
        await shown.press("r")
        await shown.until(lambda: shown.model.connection.link is Link.LIVE and shown.model.jobs.total == 5)
        await shown.until(lambda: shown.model.tasks.get(1) == task(1, state=TaskState.DONE))
        assert shown.model.opened == JobId("k3f9")


async def test_a_terminal_that_changes_its_size(stage: Open) -> None:
    async with stage(a_busy_grid()) as shown:
        await shown.pilot.resize_terminal(40, 12)
        await shown.paint()
        assert len(shown.text().splitlines()) == 12
        assert "tasks 70 waiting" not in shown.text()
        await shown.pilot.resize_terminal(100, 30)
        await shown.paint()
        assert "tasks 70 waiting" in shown.text()


async def test_times_run_on_while_nothing_changes(stage: Open) -> None:
    grid = FakeGrid()
    grid.push(job(), agent())
    async with stage(grid) as shown:
        assert "1m05s" in shown.text()
        shown.clock.now += 5
        await shown.paint()
        assert "1m10s" in shown.text()


async def test_q_leaves(stage: Open) -> None:
    async with stage(FakeGrid()) as shown:
        await shown.pilot.press("q")
        await shown.pilot.pause()
        assert not shown.app.is_running or shown.app._exit
