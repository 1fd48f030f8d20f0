"""Several grids on one machine: joining, names, and which one a command means."""

from pathlib import Path

import pytest

from discogrid.errors import GridError, SignatureRefused, UsageError
from discogrid.grid import (
    HOME,
    OWN,
    adopt_grid,
    adopt_keys,
    choose_grid,
    joined,
    open_grid,
    remember_address,
    renewed_keys,
)
from discogrid.keys import new_identity, shown_id, to_json, typed_id
from discogrid.trust.owner import Owner, member_of
from discogrid.trust.roster import Roster
from discogrid.types import Role
from tests.trust.forge import HOUR, NOW, member, roster_envelope

THERE = "tcp://10.0.0.1:7717"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCOGRID_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DISCOGRID_COORDINATOR", raising=False)


def another_grid(name: str) -> tuple[Owner, Roster]:
    owner = Owner(new_identity())
    return owner, owner.found(name, member_of(new_identity().statement(), "desk", tuple(Role)), NOW)


def join(name: str) -> str:
    owner, roster = another_grid(name)
    return adopt_grid(owner.public, roster.envelope, THERE, NOW).name


def test_a_joined_grid_is_known_by_its_owner_s_name_and_found_again() -> None:
    owner, roster = another_grid("attic")
    adopt_grid(owner.public, roster.envelope, THERE, NOW)
    found = open_grid("attic")
    assert (found.endpoint, found.roster.grid) == (THERE, owner.id)
    assert found.owner() is None
    assert joined() == ["attic"]


def test_two_grids_of_one_name_and_the_reserved_ones_are_told_apart() -> None:
    assert [join(name) for name in ("attic", "attic", HOME, OWN, "", "../x")] == [
        "attic",
        "attic-2",
        "home-2",
        "own-2",
        "grid",
        "x",
    ]


def test_to_join_again_with_other_keys_puts_those_of_before_aside() -> None:
    owner, roster = another_grid("attic")
    adopt_grid(owner.public, roster.envelope, THERE, NOW)
    exchanged, node = renewed_keys(open_grid("attic")), open_grid("attic").identity
    adopt_keys(open_grid("attic"))
    assert open_grid("attic").identity.id == exchanged.id
    assert adopt_grid(owner.public, roster.envelope, THERE, NOW, exchanged).identity.id == exchanged.id
    assert adopt_grid(owner.public, roster.envelope, THERE, NOW, node).identity.id == node.id
    assert open_grid("attic").identity.id == node.id


def test_to_join_again_keeps_the_folder_and_never_an_older_roster() -> None:
    owner, roster = another_grid("attic")
    newer = owner.renew(roster, NOW)
    adopt_grid(owner.public, newer.envelope, THERE, NOW)
    again = adopt_grid(owner.public, roster.envelope, "tcp://10.0.0.2:7717", NOW)
    assert (again.name, again.roster.version) == ("attic", 2)
    assert open_grid("attic").endpoint == "tcp://10.0.0.2:7717"


def test_a_roster_of_another_owner_is_not_adopted() -> None:
    owner, thief = new_identity(), new_identity()
    with pytest.raises(SignatureRefused):
        adopt_grid(owner.public, roster_envelope(thief, [member(thief)]), THERE, NOW)
    with pytest.raises(SignatureRefused, match="expired"):
        adopt_grid(owner.public, roster_envelope(owner, [member(owner)], expires=NOW - HOUR), THERE, NOW)
    assert joined() == []


def test_one_joined_grid_needs_no_name_and_several_do() -> None:
    assert choose_grid().name == OWN
    join("attic")
    assert choose_grid().name == "attic"
    assert choose_grid(local=True).name == OWN
    join("barn")
    with pytest.raises(UsageError, match="attic, barn"):
        choose_grid()
    assert choose_grid(grid="barn").name == "barn"


def test_the_home_grid_goes_before_the_joined_ones() -> None:
    join("attic")
    open_grid(HOME)
    remember_address(HOME, THERE)
    assert choose_grid().name == HOME
    assert choose_grid(coordinator="10.0.0.9").endpoint == "tcp://10.0.0.9:7717"


def test_a_grid_nobody_joined_is_said_to_be_none() -> None:
    with pytest.raises(UsageError, match="'barn'"):
        choose_grid(grid="barn")
    with pytest.raises(GridError, match="joined no grid"):
        choose_grid(coordinator="10.0.0.9")
    with pytest.raises(GridError, match="'barn'"):
        open_grid("barn")


def test_the_home_grid_goes_on_after_its_owner_s_key_has_moved_away(tmp_path: Path) -> None:
    before = open_grid(HOME)
    assert before.owner() is not None
    (tmp_path / "home" / "grids" / HOME / "owner.json").unlink()
    after = open_grid(HOME)
    assert after.owner() is None
    assert after.roster.envelope == before.roster.envelope


def test_keys_exchanged_in_one_grid_are_used_in_that_grid_only(tmp_path: Path) -> None:
    name = join("attic")
    other = tmp_path / "home" / "grids" / name / "identity.json"
    other.write_text(to_json(new_identity()))
    other.chmod(0o600)
    assert open_grid(name).identity.id != open_grid(OWN).identity.id


def test_a_shown_node_id_betrays_a_slip() -> None:
    node = new_identity().id
    shown = shown_id(node)
    assert node.startswith(typed_id(shown.upper()))
    other = "a" if shown[0] != "a" else "b"
    for wrong in (other + shown[1:], shown[:8], shown[:-1], "", "attic"):
        with pytest.raises(UsageError, match="no node id"):
            typed_id(wrong)
