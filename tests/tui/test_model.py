import pytest

from discogrid.messages import Changed
from discogrid.types import Counts, JobId, JobState, TaskState
from discogrid.views import AgentView, JobView, TaskView
from discogrid.wire import decode, encode
from discogrid_tui.model import RATE_WINDOW_S, STARVED_S, Link, Model, Status, Tab
from tests.tui.fakes import NOW, agent, job, task

K3F9 = JobId("k3f9")


def changed(*views: JobView | TaskView | AgentView, complete: bool = False) -> Changed:
    message = Changed(
        request=1,
        jobs=tuple(view for view in views if isinstance(view, JobView)),
        tasks=tuple(view for view in views if isinstance(view, TaskView)),
        agents=tuple(view for view in views if isinstance(view, AgentView)),
        complete=complete,
    )
    found = decode(encode(message))
    assert isinstance(found, Changed)
    return found


def live(*views: JobView | TaskView | AgentView) -> Model:
    """A model with a whole first picture, painted."""
    model = Model("own", NOW, own=True)
    model.connected(NOW)
    model.apply(changed(*views, complete=True), NOW)
    model.drain()
    return model


def ids(model: Model) -> list[str]:
    return [model.jobs.at(position).id for position in range(len(model.jobs))]


def test_the_newest_job_is_first() -> None:
    model = live(job("a1"), job("b2", created=NOW), job("c3", created=NOW - 1000))
    assert ids(model) == ["b2", "a1", "c3"]


def test_before_the_first_picture_is_whole_nothing_is_said_of_the_grid() -> None:
    model = Model("own", NOW)
    model.connected(NOW)
    model.apply(changed(job()), NOW)
    assert model.summary(NOW).status is Status.UNKNOWN
    model.apply(changed(complete=True), NOW)
    assert model.summary(NOW).status is Status.WORKING


@pytest.mark.parametrize(
    ("counts", "state", "status"),
    [
        (Counts(done=5), JobState.SUCCEEDED, Status.IDLE),
        (Counts(queued=5), JobState.HELD, Status.IDLE),
        (Counts(queued=5, running=1), JobState.RUNNING, Status.WORKING),
        (Counts(queued=5), JobState.QUEUED, Status.STARVED),
        (Counts(assigned=1), JobState.RUNNING, Status.STARVED),
    ],
)
def test_the_grid_in_one_word(counts: Counts, state: JobState, status: Status) -> None:
    model = live(job(counts=counts, state=state))
    assert model.summary(NOW + STARVED_S).status is status


def test_a_job_of_this_moment_does_not_starve_yet() -> None:
    model = live(job(counts=Counts(queued=5)))
    model.apply(changed(job(counts=Counts(queued=6))), NOW + STARVED_S / 2)
    assert model.summary(NOW + STARVED_S / 2).status is Status.WORKING
    assert model.summary(NOW + STARVED_S).status is Status.STARVED


def test_a_grid_starves_from_anew_after_something_ran() -> None:
    model = live(job(counts=Counts(queued=5)))
    model.apply(changed(job(counts=Counts(queued=4, running=1))), NOW + 10)
    model.apply(changed(job(counts=Counts(queued=4, done=1))), NOW + 11)
    assert model.summary(NOW + 11.5).status is Status.WORKING


def test_agents_that_are_lost_lend_no_slots() -> None:
    model = live(agent(), agent("cellar", state="lost", slots=8, busy=8))
    summary = model.summary(NOW)
    assert (summary.live, summary.lost, summary.slots, summary.busy) == (1, 1, 4, 2)


def test_tasks_of_all_jobs_are_counted_but_those_of_held_jobs_do_not_wait() -> None:
    model = live(
        job(
            "a1", counts=Counts(queued=1, assigned=2, running=3, done=4, failed=5, cancelled=6, quarantined=7)
        ),
        job("b2", counts=Counts(queued=100, done=1), state=JobState.HELD),
    )
    assert model.summary(NOW).counts == Counts(
        queued=1, assigned=2, running=3, done=5, failed=5, cancelled=6, quarantined=7
    )


def test_speed_is_what_ended_within_the_window() -> None:
    model = live(job(counts=Counts(done=1000, queued=100)))
    assert model.summary(NOW).per_second == 0
    model.apply(changed(job(counts=Counts(done=1010, queued=90))), NOW + 5)
    model.apply(changed(job("new1", counts=Counts(done=10))), NOW + 10)
    assert model.summary(NOW + 10).per_second == pytest.approx(20 / 10)
    assert model.summary(NOW + 21).per_second == pytest.approx(20 / RATE_WINDOW_S)
    assert model.summary(NOW + 26).per_second == pytest.approx(10 / RATE_WINDOW_S)
    assert model.summary(NOW + 60).per_second == 0


def test_a_cancelled_job_is_not_speed() -> None:
    model = live(job())
    model.apply(changed(job(state=JobState.CANCELLED, counts=Counts(done=12, cancelled=28))), NOW + 1)
    assert model.summary(NOW + 1).per_second == 0


def test_a_lost_grid_is_stale_since_it_was_lost_not_since_the_last_try() -> None:
    model = live(job(), agent())
    model.disconnected(NOW + 10, "gone", "start it")
    model.disconnected(NOW + 20, "still gone")
    assert model.connection.link is Link.STALE
    assert model.connection.since == NOW + 10
    assert model.connection.what == "still gone"
    assert len(model.jobs) == 1
    assert model.grid_now(NOW + 500) == NOW + 10


def test_what_is_gone_after_a_reconnect_leaves_the_screen_when_the_new_picture_is_whole() -> None:
    model = live(job("a1"), job("b2"), agent(), agent("cellar"))
    model.disconnected(NOW, "gone")
    model.connected(NOW + 5)
    model.apply(changed(job("b2"), agent("cellar")), NOW + 5)
    assert len(model.jobs) == 2
    model.apply(changed(complete=True), NOW + 5)
    assert (ids(model), model.agents.total) == (["b2"], 1)
    assert model.connection.link is Link.LIVE


def test_a_grid_that_was_never_in_reach_is_not_stale() -> None:
    model = Model("home", NOW)
    model.disconnected(NOW + 5, "no answer")
    assert model.connection.link is Link.CONNECTING
    assert not model.ever_live


def test_times_are_read_on_the_coordinators_clock() -> None:
    model = Model("home", NOW)
    model.connected(NOW, NOW + 30)
    assert model.grid_now(NOW + 1) == NOW + 31


def test_an_opened_job_shows_its_tasks() -> None:
    model = live(job())
    model.open(K3F9)
    model.apply_tasks(K3F9, changed(task(0), task(1)))
    assert not model.tasks_complete
    model.apply_tasks(K3F9, changed(complete=True))
    assert (model.tab, len(model.tasks), model.tasks_complete) == (Tab.TASKS, 2, True)
    assert model.opened_job == job()


def test_late_tasks_of_a_job_that_is_no_longer_open_are_dropped() -> None:
    model = live(job(), job("a2b7"))
    model.open(K3F9)
    model.open(JobId("a2b7"))
    model.tasks_begin(K3F9)
    model.apply_tasks(K3F9, changed(task(0), complete=True))
    model.apply_tasks(JobId("a2b7"), changed(task(0, "k3f9"), task(1, "a2b7")))
    assert [found.label for found in model.tasks.values()] == ["a2b7-001"]


def test_another_job_begins_without_the_filter_and_the_cursor_of_the_one_before() -> None:
    model = live(job(), job("a2b7"))
    model.open(K3F9)
    model.apply_tasks(K3F9, changed(task(0), task(1), complete=True))
    model.set_filter(Tab.TASKS, "split001")
    model.move(5)
    model.open(JobId("a2b7"))
    assert (model.tasks.total, model.tasks.cursor, model.views[Tab.TASKS].filter) == (0, 0, "")


def test_the_same_job_opened_again_keeps_its_tasks() -> None:
    model = live(job())
    model.open(K3F9)
    model.apply_tasks(K3F9, changed(task(0), complete=True))
    model.show(Tab.JOBS)
    model.open(K3F9)
    assert (model.tab, model.tasks.total, model.tasks_complete) == (Tab.TASKS, 1, True)


def test_a_reconnect_replaces_the_tasks_once_they_are_whole_again() -> None:
    model = live(job())
    model.open(K3F9)
    model.apply_tasks(K3F9, changed(task(0), task(1), complete=True))
    model.tasks_begin(K3F9)
    assert model.tasks.total == 2
    model.apply_tasks(K3F9, changed(task(0), complete=True))
    assert model.tasks.total == 1
    model.apply_tasks(K3F9, changed(task(0, state=TaskState.DONE)))
    assert model.tasks.get(0) == task(0, state=TaskState.DONE)


def test_a_job_the_grid_has_forgotten_is_not_the_opened_job_any_more() -> None:
    model = live(job())
    assert model.opened_job is None
    model.open(K3F9)
    model.connected(NOW)
    model.apply(changed(complete=True), NOW)
    assert model.opened_job is None


@pytest.mark.parametrize(
    ("tab", "text", "shown"),
    [(Tab.JOBS, "name:night", 1), (Tab.TASKS, "state:done", 1), (Tab.AGENTS, "cellar", 1)],
)
def test_every_list_can_be_filtered(tab: Tab, text: str, shown: int) -> None:
    model = live(job(), job("a2b7", name="Night movie"), agent(), agent("cellar"))
    model.open(K3F9)
    model.apply_tasks(K3F9, changed(task(0), task(1, state=TaskState.DONE)))
    model.set_filter(tab, f"  {text} ")
    assert (len(model.listing(tab)), model.listing(tab).total) == (shown, 2)
    assert model.views[tab].filter == text
    model.set_filter(tab, "nonsense:x")
    assert (len(model.listing(tab)), model.views[tab].unknown) == (0, ("nonsense",))


def test_the_next_column_orders_the_rows_and_again_the_other_way_round() -> None:
    model = live(job("a1", name="b"), job("b2", name="a"))
    view = model.views[Tab.JOBS]
    model.sort(view.kind.index("name"))
    assert (ids(model), view.descending) == (["b2", "a1"], False)
    model.reverse()
    assert (ids(model), view.descending) == (["a1", "b2"], True)
    model.sort_next()
    assert (view.sorted_by.name, view.descending) == ("tasks", True)


def test_the_columns_come_round_again() -> None:
    model = live(agent())
    model.show(Tab.AGENTS)
    view = model.views[Tab.AGENTS]
    names = []
    for _ in view.kind.columns:
        model.sort_next()
        names.append(view.sorted_by.name)
    assert sorted(names) == sorted(column.name for column in view.kind.columns)
    assert names[-1] == "agent"


def test_the_tabs_go_round() -> None:
    model = live()
    for expected in (Tab.TASKS, Tab.AGENTS, Tab.JOBS):
        model.step(1)
        assert model.tab is expected
    model.step(-1)
    assert model.tab is Tab.AGENTS


def test_the_cursor_says_what_is_selected() -> None:
    model = live(job("a1"), job("b2", created=NOW))
    model.move(1)
    assert model.selected == job("a1")
    model.show(Tab.AGENTS)
    assert model.selected is None


def test_only_what_changed_is_painted() -> None:
    model = live(job(), agent())
    assert model.drain().rows == {}
    assert not model.drain().frame
    model.apply(changed(job(counts=Counts(done=40))), NOW)
    dirty = model.drain()
    assert dirty.rows == {Tab.JOBS: {"k3f9"}}
    assert dirty.frame
    model.apply(changed(agent("cellar")), NOW)
    assert model.drain().rows == {Tab.AGENTS: None}
