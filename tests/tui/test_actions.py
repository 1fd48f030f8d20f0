import pytest

from discogrid.types import Counts
from discogrid_tui.actions import ACTIONS, action, command, row_id
from discogrid_tui.app import Dashboard
from discogrid_tui.details import details, moment
from discogrid_tui.model import Model, Tab
from tests.tui.fakes import NOW, a_task_of_each_state, agent, job, task
from tests.tui.test_model import K3F9, changed, live


def test_every_action_can_be_performed_and_told() -> None:
    for row in ACTIONS:
        assert callable(getattr(Dashboard, f"do_{row.name}"))
        assert row.title
        assert row.does
        assert action(row.name) is row


def test_no_two_actions_share_a_key_and_keys_of_later_actions_are_free() -> None:
    keys = [key for row in ACTIONS for key in row.keys]
    assert len(set(keys)) == len(keys)
    assert not {"space", "l", "w"} & set(keys)


def test_an_action_says_why_it_cannot_be_done() -> None:
    empty, full = live(), live(job())
    for name in ("open", "details", "copy_id"):
        assert action(name).refusal(empty) == "There is no row under the cursor."
        assert action(name).refusal(full) is None
    assert action("quit").refusal(empty) is None
    assert action("back").refusal(full) == "There is nothing to go back from."
    assert action("reconnect").refusal(full) == "The grid answers already."
    full.set_filter(Tab.JOBS, "x")
    full.disconnected(NOW, "gone")
    assert action("back").refusal(full) is None
    assert action("reconnect").refusal(full) is None
    empty.show(Tab.AGENTS)
    assert action("back").refusal(empty) is None


def test_the_equivalent_command() -> None:
    model = live(job(), agent())
    assert command(model) == "discogrid show k3f9"
    model.show(Tab.AGENTS)
    assert command(model) == "discogrid agents"
    model.open(K3F9)
    assert command(model) == "discogrid tasks k3f9"
    model.apply_tasks(K3F9, changed(task(12)))
    assert command(model) == "discogrid show k3f9-012"
    nothing = Model("own", NOW, flags="--local")
    assert command(nothing) == "discogrid ls --local"
    nothing.show(Tab.AGENTS)
    assert command(nothing) == "discogrid agents --local"
    nothing.show(Tab.TASKS)
    assert command(nothing) == "discogrid ls --local"


def test_ids_are_what_a_user_types() -> None:
    assert [row_id(row) for row in (job(), task(12), agent())] == ["k3f9", "k3f9-012", "attic"]


def test_details_of_a_job() -> None:
    found = dict(details(job(reason="line\nbreak", counts=Counts(done=3, failed=1)), NOW))
    assert found["state"] == "● running"
    assert found["tasks"] == "4 of 4 ended, 1 failed"
    assert found["note"] == r"line\nbreak"
    assert found["took"] == "1m00s so far"


@pytest.mark.parametrize("row", a_task_of_each_state(), ids=lambda row: str(row.state))
def test_details_of_a_task_in_every_state(row: object) -> None:
    for _, value in details(row, NOW):  # type: ignore[arg-type]
        assert value
        assert "\n" not in value


def test_details_of_a_task_name_the_commands_that_go_on() -> None:
    found = dict(details(a_task_of_each_state()[2], NOW, "--local"))
    assert found["attempt"] == "2, 2 failed before"
    assert found["output"] == "discogrid logs k3f9-002 --local"
    assert found["files"] == "discogrid get k3f9 --local"
    assert found["took"] == "5.0 s"
    assert dict(details(task(), NOW))["output"] == "discogrid logs k3f9-000"


def test_details_of_an_agent() -> None:
    found = dict(details(agent(state="asleep"), NOW))
    assert found["state"] == "? asleep"
    assert found["slots"] == "2 of 4 busy, 1 more tasks held"
    assert found["seen"] == "3.0 s ago"


def test_a_moment_is_written_in_utc() -> None:
    assert moment(0.0) == "1970-01-01 00:00:00 UTC"
    assert moment(None) == "-"
