from pathlib import Path

import pytest

from discogrid import grid as grids
from discogrid.errors import ExitCode
from discogrid.keys import new_identity
from discogrid.trust.owner import Owner, member_of
from discogrid.types import Role
from discogrid_tui.app import Dashboard, flags_for, run
from tests.trust.forge import NOW
from tests.tui.test_terminal import terminal


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("DISCOGRID_HOME", str(home))
    monkeypatch.delenv(grids.COORDINATOR_VARIABLE, raising=False)


def test_commands_need_no_flags_when_they_mean_the_same_grid() -> None:
    assert flags_for(grids.open_grid(grids.OWN)) == ""


def test_commands_say_local_when_another_grid_is_joined() -> None:
    grids.remember_address(grids.HOME, "tcp://attic:7717")
    assert flags_for(grids.open_grid(grids.OWN)) == "--local"
    assert flags_for(grids.open_grid(grids.HOME)) == ""


def test_commands_name_a_coordinator_that_is_not_the_usual_one() -> None:
    grids.open_grid(grids.HOME)
    assert flags_for(grids.choose_grid(coordinator="attic:7000")) == "--coordinator tcp://attic:7000"


def test_commands_name_one_of_several_joined_grids() -> None:
    for name in ("club", "barn"):
        owner = Owner(new_identity())
        roster = owner.found(name, member_of(new_identity().statement(), "desk", tuple(Role)), NOW)
        grids.adopt_grid(owner.public, roster.envelope, "tcp://attic:7717", NOW)
    assert flags_for(grids.open_grid("club")) == "--grid club"
    elsewhere = grids.choose_grid(grid="club", coordinator="attic:7000")
    assert flags_for(elsewhere) == "--grid club --coordinator tcp://attic:7000"


def test_a_broken_setting_elsewhere_does_not_keep_the_dashboard_from_opening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = grids.open_grid(grids.OWN)
    monkeypatch.setenv(grids.COORDINATOR_VARIABLE, "no:port:at:all")
    assert flags_for(own) == "--local"


@pytest.mark.parametrize(("reached", "code"), [(True, ExitCode.SUCCEEDED), (False, ExitCode.NO_GRID)])
def test_the_exit_code_says_whether_the_grid_was_ever_there(
    monkeypatch: pytest.MonkeyPatch, reached: bool, code: ExitCode
) -> None:
    def shown(dashboard: Dashboard) -> None:
        if reached:
            dashboard.model.connected(0.0)

    monkeypatch.setattr(Dashboard, "run", shown)
    assert run(grids.open_grid(grids.OWN)) == code


def test_without_a_grid_the_dashboard_opens_and_says_what_to_do(tmp_path: Path) -> None:
    grids.open_grid(grids.HOME)
    with terminal(
        "discogrid_tui", DISCOGRID_COORDINATOR="127.0.0.1:9", DISCOGRID_HOME=str(tmp_path / "home")
    ) as screen:
        screen.until("Looking for the coordinator of the grid home")
        screen.press("q")
        assert screen.ended() == ExitCode.NO_GRID
