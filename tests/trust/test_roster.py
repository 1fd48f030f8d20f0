"""The roster: who signed it, until when, and that it does not contradict itself."""

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discogrid.errors import KeyFileError, SignatureRefused
from discogrid.keys import load_or_create, new_identity
from discogrid.trust.owner import own_keeper
from discogrid.trust.roster import ROSTER_TYPE, RosterBody, open_roster
from discogrid.types import Role
from tests.trust.forge import HOUR, cast, member, roster_envelope, roster_of

NOW = time.time()


def test_the_owner_s_roster_is_read() -> None:
    owner, node = new_identity(), new_identity()
    roster = open_roster(roster_envelope(owner, [member(node, Role.AGENT)]), owner.public, NOW)
    assert roster.grid == owner.id
    assert roster.may(node.id, Role.AGENT)
    assert roster.admitted(node.curve_public) == node.id


def test_a_roster_of_another_owner_is_refused() -> None:
    owner, other = new_identity(), new_identity()
    with pytest.raises(SignatureRefused, match="nobody"):
        open_roster(roster_envelope(other, [member(other)]), owner.public, NOW)


def test_a_roster_that_names_another_grid_is_refused() -> None:
    owner = new_identity()
    with pytest.raises(SignatureRefused, match="contradicts"):
        open_roster(roster_envelope(owner, [member(owner)], grid=new_identity().id), owner.public, NOW)


def test_a_roster_is_good_until_its_end() -> None:
    owner = new_identity()
    envelope = roster_envelope(owner, [member(owner)], expires=NOW + HOUR)
    assert open_roster(envelope, owner.public, NOW + HOUR)
    with pytest.raises(SignatureRefused, match="expired"):
        open_roster(envelope, owner.public, NOW + HOUR + 1)


def test_a_roster_whose_end_is_no_number_is_refused() -> None:
    owner = new_identity()
    with pytest.raises(SignatureRefused):
        open_roster(roster_envelope(owner, [member(owner)], expires=float("nan")), owner.public, NOW)


def test_an_id_that_is_not_that_of_its_key_is_refused() -> None:
    owner, node, mallory = new_identity(), new_identity(), new_identity()
    false = member(mallory, Role.SUBMITTER, id=node.id)
    with pytest.raises(SignatureRefused, match="does not belong"):
        open_roster(roster_envelope(owner, [false]), owner.public, NOW)


@pytest.mark.parametrize("shared", ["id", "curve"])
def test_two_members_with_one_id_or_key_are_refused(shared: str) -> None:
    owner, node, other = new_identity(), new_identity(), new_identity()
    twin = member(node, Role.SUBMITTER) if shared == "id" else member(other, curve=node.curve_public)
    with pytest.raises(SignatureRefused, match="share"):
        open_roster(roster_envelope(owner, [member(node, Role.AGENT), twin]), owner.public, NOW)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc0", msgspec.msgpack.encode({"version": 1}), b"\x90", msgspec.msgpack.encode("roster")],
)
def test_a_signed_roster_that_cannot_be_read_is_refused(payload: bytes) -> None:
    owner = new_identity()
    with pytest.raises(SignatureRefused, match="read"):
        open_roster(owner.seal(ROSTER_TYPE, payload), owner.public, NOW)


def test_a_member_does_what_its_roles_say_and_nothing_else() -> None:
    grid = cast()
    for role in Role:
        assert grid.roster.may(grid.agent.id, role) == (role is Role.AGENT)
        assert (grid.roster.signing_key(grid.agent.id, role) is not None) == (role is Role.AGENT)
    stranger = new_identity()
    assert grid.roster.member(stranger.id) is None
    assert grid.roster.admitted(stranger.curve_public) is None
    assert not grid.roster.may(stranger.id, Role.AGENT)


def test_a_grid_without_a_coordinator_says_so() -> None:
    owner = new_identity()
    with pytest.raises(SignatureRefused, match="no coordinator"):
        roster_of(owner, member(owner, Role.AGENT)).coordinator()


# This user's own.


def test_an_own_roster_is_made_once_and_gives_its_one_member_every_role(tmp_path: Path) -> None:
    identity = new_identity()
    made = own_keeper(tmp_path, identity, "attic").current
    assert all(made.may(identity.id, role) for role in Role)
    assert own_keeper(tmp_path, identity, "attic").current.envelope == made.envelope


def test_new_keys_of_the_same_user_get_a_newer_roster(tmp_path: Path) -> None:
    before, after = new_identity(), new_identity()
    first = own_keeper(tmp_path, before, "attic").current
    second = own_keeper(tmp_path, after, "attic").current
    assert second.body.version == first.body.version + 1
    assert second.admitted(before.curve_public) is None
    assert second.may(after.id, Role.SUBMITTER)


def _swapped(folder: Path, _: Any) -> None:
    other = new_identity()
    (folder / "roster").write_bytes(roster_envelope(other, [member(other)]))


def _cut(folder: Path, envelope: bytes) -> None:
    (folder / "roster").write_bytes(envelope[:-1])


def _flipped(folder: Path, envelope: bytes) -> None:
    (folder / "roster").write_bytes(envelope.replace(b"agent", b"Agent"))


@pytest.mark.parametrize("change", [_swapped, _cut, _flipped])
def test_a_kept_roster_that_is_not_the_owner_s_is_refused_with_its_name(tmp_path: Path, change: Any) -> None:
    identity = new_identity()
    change(tmp_path, own_keeper(tmp_path, identity, "attic").current.envelope)
    with pytest.raises(SignatureRefused, match=str(tmp_path / "roster")):
        own_keeper(tmp_path, identity, "attic")


def test_an_owner_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    identity = new_identity()
    own_keeper(tmp_path, identity, "attic")
    (tmp_path / "owner.json").chmod(0o644)
    with pytest.raises(KeyFileError):
        own_keeper(tmp_path, identity, "attic")


def test_no_draft_stays_behind(tmp_path: Path) -> None:
    own_keeper(tmp_path, new_identity(), "attic")
    assert sorted(os.listdir(tmp_path)) == [".roster.lock", "owner.json", "roster"]
    load_or_create(tmp_path / "owner.json")


def test_a_roster_says_all_of_itself_on_the_wire() -> None:
    grid = cast()
    assert isinstance(grid.roster.body, RosterBody)
    assert open_roster(grid.roster.envelope, grid.owner.public, NOW).body == grid.roster.body
