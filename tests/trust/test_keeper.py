"""The newest roster stays the newest: no older one takes its place, whoever offers it and whatever process kept it."""

from pathlib import Path

import pytest

from discogrid.errors import SignatureRefused
from discogrid.keys import new_identity
from discogrid.trust.keeper import RosterKeeper, begin
from discogrid.trust.owner import Owner, member_of
from discogrid.trust.roster import Roster
from discogrid.types import Role
from tests.trust.forge import HOUR, NOW, member, roster_envelope


def founded() -> tuple[Owner, Roster]:
    owner = Owner(new_identity())
    return owner, owner.found("home", member_of(new_identity().statement(), "desk", tuple(Role)), NOW)


def test_a_newer_roster_is_kept_and_told(tmp_path: Path) -> None:
    owner, roster = founded()
    keeper = begin(tmp_path, roster)
    told: list[tuple[int, int]] = []
    keeper.on_change(lambda before, after: told.append((before.version, after.version)))
    assert keeper.offer(owner.renew(roster, NOW).envelope, NOW)
    assert told == [(1, 2)]
    assert RosterKeeper.load(tmp_path, owner.public).current.version == 2


def test_an_older_roster_and_the_same_one_change_nothing(tmp_path: Path) -> None:
    owner, roster = founded()
    keeper = begin(tmp_path, roster)
    newer = owner.renew(roster, NOW)
    keeper.offer(newer.envelope, NOW)
    assert not keeper.offer(roster.envelope, NOW)
    assert not keeper.offer(newer.envelope, NOW)
    assert keeper.current.version == 2


def test_a_restart_brings_no_older_roster_back(tmp_path: Path) -> None:
    owner, roster = founded()
    begin(tmp_path, roster).offer(owner.renew(roster, NOW).envelope, NOW)
    assert begin(tmp_path, roster).current.version == 2


def test_two_processes_of_one_home_never_go_back(tmp_path: Path) -> None:
    owner, roster = founded()
    one, other = begin(tmp_path, roster), begin(tmp_path, roster)
    second = owner.renew(roster, NOW)
    third = owner.renew(second, NOW)
    one.offer(third.envelope, NOW)
    assert other.offer(second.envelope, NOW)
    assert other.current.version == 3
    assert RosterKeeper.load(tmp_path, owner.public).current.version == 3


def test_another_owner_s_roster_is_refused_however_high_its_version() -> None:
    _, roster = founded()
    keeper, thief = RosterKeeper(roster), new_identity()
    with pytest.raises(SignatureRefused):
        keeper.offer(roster_envelope(thief, [member(thief)], version=99), NOW)
    assert keeper.current is roster


def test_a_newer_roster_whose_time_is_over_is_refused() -> None:
    signer, first = new_identity(), new_identity()
    owner = Owner(signer)
    keeper = RosterKeeper(owner.found("home", member(first), NOW))
    with pytest.raises(SignatureRefused, match="expired"):
        keeper.offer(roster_envelope(signer, [member(first)], version=9, expires=NOW - HOUR), NOW)
    assert keeper.current.version == 1


def test_a_damaged_file_does_not_stop_a_newer_roster(tmp_path: Path) -> None:
    owner, roster = founded()
    keeper = begin(tmp_path, roster)
    (tmp_path / "roster").write_bytes(b"no roster")
    assert keeper.offer(owner.renew(roster, NOW).envelope, NOW)
    assert RosterKeeper.load(tmp_path, owner.public).current.version == 2
