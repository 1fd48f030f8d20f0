import pytest

from discogrid.types import Counts, JobId, JobState
from discogrid_tui import lines
from discogrid_tui.cells import Cell
from discogrid_tui.model import Model, Tab
from tests.tui.fakes import NOW, agent, job, task
from tests.tui.test_model import K3F9, changed, live


def text(cell: Cell) -> str:
    return "".join(part for part, _ in cell)


def said(model: Model, tab: Tab) -> str:
    return "\n".join(text(cell) for cell in lines.empty(model, tab))


def busy() -> Model:
    return live(job(), job("zz4q", counts=Counts(done=1, failed=2)), agent(), agent("old", state="lost"))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_the_header_keeps_to_its_width_and_always_says_how_fresh_it_is(width: int) -> None:
    model = busy()
    assert "live" in text(lines.header(model, NOW, width))
    assert lines.width_of(lines.header(model, NOW, width)) <= max(width, 20)
    model.disconnected(NOW, "gone")
    if width >= 40:
        found = text(lines.header(model, NOW + 12, width))
        assert "stale 12 s, reconnecting" in found
        assert lines.width_of(lines.header(model, NOW + 12, width)) <= width


def test_the_header_of_a_wide_screen() -> None:
    found = text(lines.header(busy(), NOW, 80))
    assert found.split("  ")[:4] == [" discogrid own", "● working", "1 agent on 1 lost", "slots 2/4"]


def test_a_narrow_header_names_the_state_of_the_grid_first() -> None:
    assert text(lines.header(busy(), NOW, 40)).startswith(" ● working  1 on 1 lost")


def test_the_first_connection_is_told() -> None:
    model = Model("home", NOW)
    assert text(lines.link(model, NOW, 80)) == "○ connecting"
    model.disconnected(NOW, "no answer")
    assert text(lines.link(model, NOW, 40)) == "! no grid"


def test_all_tasks_of_the_grid_in_a_line() -> None:
    model = busy()
    found = text(lines.tasks_line(model, NOW, 100))
    assert found.startswith(" tasks 20 waiting  8 running  13 done  2 failed  ━")
    assert "15/43" in found
    assert "━" not in text(lines.tasks_line(model, NOW, 50))
    model.apply(changed(job("c1", state=JobState.CANCELLED, counts=Counts(cancelled=3))), NOW)
    assert "3 cancelled" in text(lines.tasks_line(model, NOW, 80))
    assert "0 running" in text(lines.tasks_line(live(), NOW, 80))


def test_while_the_grid_is_gone_the_line_says_what_to_do() -> None:
    model = busy()
    model.disconnected(NOW, "the coordinator is gone", "Start it with `discogrid up`.")
    assert text(lines.tasks_line(model, NOW, 80)).endswith("  It starts with the next `discogrid submit`.")
    model.own = False
    assert text(lines.tasks_line(model, NOW, 80)) == " the coordinator is gone  Start it with `discogrid up`."


def test_tabs_count_their_rows_and_name_the_opened_job() -> None:
    model = busy()
    assert [title for _, title, _ in lines.tabs(model, 80)] == [" 1 Jobs 2 ", " 2 Tasks ", " 3 Agents 2 "]
    model.open(K3F9)
    model.apply_tasks(K3F9, changed(task(0), complete=True))
    assert lines.tabs(model, 80)[1] == (Tab.TASKS, " 2 Tasks of k3f9 1 ", True)
    assert lines.tabs(model, 40)[1] == (Tab.TASKS, " 2 Tasks 1", True)


def test_the_opened_job_stands_above_its_tasks() -> None:
    model = live(job(reason="two agents are gone\n"))
    model.open(K3F9)
    assert text(lines.subject(model, 80)).startswith(" k3f9 ● running ━")
    assert text(lines.subject(model, 80)).endswith(r"12/40  glasses_5: two agents are gone\n")
    assert text(lines.subject(model, 18)) == " k3f9 ● running "
    model.open(JobId("gone"))
    assert text(lines.subject(model, 80)) == " gone"


def test_the_status_line_says_how_many_of_how_many() -> None:
    model = busy()
    assert text(lines.status(model)) == " 2 of 2 jobs  row 1  by created ↓"
    model.set_filter(Tab.JOBS, "state:failed")
    assert text(lines.status(model)) == " 0 of 2 jobs  filter state:failed  by created ↓"
    model.set_filter(Tab.JOBS, "colour:red")
    assert "no field colour:" in text(lines.status(model))
    assert "state job name" in text(lines.status(model))
    model.sort(0)
    assert "by state ↑" in text(lines.status(model))


@pytest.mark.parametrize("width", [24, 40, 80, 120])
def test_the_footer_always_has_help_and_quit(width: int) -> None:
    found = lines.footer(busy(), width)
    names = [name for name, _ in found]
    assert names[-2:] == ["help", "quit"] or {"help", "quit"} <= set(names)
    assert sum(lines.width_of(cell) for _, cell in found) <= width


def test_the_footer_leaves_out_what_cannot_be_done() -> None:
    assert "open" not in [name for name, _ in lines.footer(live(), 120)]
    assert "open" in [name for name, _ in lines.footer(busy(), 120)]


def test_a_list_that_a_filter_empties_says_how_to_see_it_again() -> None:
    model = busy()
    model.set_filter(Tab.JOBS, "nothing\x1b[2J")
    assert said(model, Tab.JOBS) == "None of 2 jobs passes  nothing\\x1b[2J\nesc clears the filter"


def test_an_empty_grid_teaches_the_next_command() -> None:
    model = live()
    assert "discogrid submit SCRIPT INPUT…" in said(model, Tab.JOBS)
    assert "discogrid demo" in said(model, Tab.JOBS)
    assert "discogrid agent" in said(model, Tab.AGENTS)
    assert "No job is open" in said(model, Tab.TASKS)


def test_commands_name_the_grid_that_is_shown() -> None:
    model = Model("own", NOW, own=True, flags="--local")
    model.connected(NOW)
    model.apply(changed(complete=True), NOW)
    assert "discogrid submit SCRIPT INPUT… --local" in said(model, Tab.JOBS)


def test_while_the_first_picture_comes_the_lists_say_so() -> None:
    model = Model("own", NOW)
    model.connected(NOW)
    assert said(model, Tab.JOBS) == "Reading the jobs …"
    assert said(model, Tab.AGENTS) == "Reading the agents …"


def test_an_opened_job_without_rows_says_why() -> None:
    model = live(job(counts=Counts()))
    model.open(K3F9)
    assert said(model, Tab.TASKS) == "Reading the tasks of k3f9 …"
    model.apply_tasks(K3F9, changed(complete=True))
    assert said(model, Tab.TASKS) == "k3f9 has no tasks."
    model.connected(NOW)
    model.apply(changed(complete=True), NOW)
    assert "does not know k3f9 any more" in said(model, Tab.TASKS)


def test_a_grid_out_of_reach_says_what_to_do() -> None:
    home, own = Model("home", NOW), Model("own", NOW, own=True)
    assert said(home, Tab.JOBS).startswith("Looking for the coordinator of the grid home")
    for model in (home, own):
        model.disconnected(NOW, "no answer\x07", "Start it with `discogrid up`.")
    assert said(home, Tab.AGENTS).split("\n") == [
        r"no answer\x07",
        "Start it with `discogrid up`.",
        "r tries again now",
    ]
    assert "discogrid submit" in said(own, Tab.JOBS)
