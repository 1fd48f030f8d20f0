"""What the holder of a grid's owner key does, and what becomes of signatures by those who were put out."""

import msgspec
import pytest

from discogrid.errors import SignatureRefused, UsageError
from discogrid.keys import Identity, new_identity
from discogrid.trust.keeper import RosterKeeper
from discogrid.trust.owner import ROSTER_S, Owner, free_name, member_of, printable_name, renew_in_time
from discogrid.trust.roster import MEMBERS_MAX, REVOKED_MAX, ROSTER_BYTES_MAX, Roster, open_roster
from discogrid.types import Quotas, Role
from tests.trust.forge import NOW, member, roster_envelope

DAY = 86400.0


def founded() -> tuple[Owner, Identity, Roster]:
    owner, first = Owner(new_identity()), new_identity()
    return owner, first, owner.found("home", member_of(first.statement(), "desk", tuple(Role)), NOW)


def test_a_new_grid_has_its_founder_as_coordinator() -> None:
    owner, first, roster = founded()
    assert (roster.grid, roster.version, roster.body.name) == (owner.id, 1, "home")
    assert roster.coordinator().id == first.id


def test_who_is_admitted_can_do_what_its_roles_say_and_no_more() -> None:
    owner, _, roster = founded()
    node = new_identity()
    roster = owner.admit(roster, member_of(node.statement(), "attic", (Role.AGENT,)), NOW)
    assert roster.version == 2
    assert roster.may(node.id, Role.AGENT)
    assert not roster.may(node.id, Role.SUBMITTER, Role.ADMIN, Role.COORDINATOR)


def test_two_machines_of_one_name_get_two_names() -> None:
    owner, _, roster = founded()
    for expected in ("attic", "attic-2", "attic-3"):
        node = new_identity()
        roster = owner.admit(roster, member_of(node.statement(), "attic", (Role.AGENT,)), NOW)
        assert roster.name_of(node.id) == expected


def test_a_member_that_joins_again_keeps_its_name_and_gains_the_role() -> None:
    owner, _, roster = founded()
    node = new_identity()
    roster = owner.admit(roster, member_of(node.statement(), "attic", (Role.AGENT,)), NOW)
    roster = owner.admit(roster, member_of(node.statement(), "loft", (Role.SUBMITTER,)), NOW)
    assert roster.name_of(node.id) == "attic"
    assert roster.may(node.id, Role.AGENT)
    assert roster.may(node.id, Role.SUBMITTER)
    assert len(roster.body.members) == 2


def test_what_a_revoked_member_signed_before_its_time_counts_and_nothing_later() -> None:
    owner, _, roster = founded()
    node = new_identity()
    roster = owner.admit(roster, member_of(node.statement(), "attic", (Role.AGENT,)), NOW)
    roster = owner.revoke(roster, node.id, NOW + 10, NOW + 20)
    assert roster.member(node.id) is None
    assert roster.admitted(node.curve_public) is None
    assert roster.signing_key(node.id, Role.AGENT) is None
    assert roster.signing_key(node.id, Role.AGENT, at=NOW + 9) is not None
    assert roster.signing_key(node.id, Role.AGENT, at=NOW + 10) is None
    assert roster.signing_key(node.id, Role.SUBMITTER, at=NOW + 9) is None


def test_nobody_is_revoked_from_a_time_to_come_on() -> None:
    owner, _, roster = founded()
    node = new_identity()
    roster = owner.admit(roster, member_of(node.statement(), "attic", (Role.AGENT,)), NOW)
    roster = owner.revoke(roster, node.id, NOW + DAY, NOW)
    assert roster.signing_key(node.id, Role.AGENT, at=NOW + 1) is None


def test_a_member_gets_other_roles_and_quotas_and_keeps_its_keys() -> None:
    owner, first, roster = founded()
    node = new_identity()
    known = member_of(node.statement(), "attic", (Role.AGENT,))
    roster = owner.admit(roster, known, NOW)
    wanted = msgspec.structs.replace(
        known, roles=(Role.SUBMITTER,), quotas=Quotas(jobs_open=1), name="other", signing=b"x" * 32
    )
    roster = owner.change(roster, wanted, NOW)
    found = roster.member(node.id)
    assert found is not None
    assert (found.name, found.signing, found.roles, found.quotas.jobs_open) == (
        "attic",
        node.public,
        (Role.SUBMITTER,),
        1,
    )
    with pytest.raises(UsageError, match="no member"):
        owner.change(roster, member_of(new_identity().statement(), "x", ()), NOW)
    with pytest.raises(UsageError, match="coordinates"):
        owner.change(roster, member_of(first.statement(), "desk", (Role.AGENT,)), NOW)


def test_who_was_put_out_may_be_let_in_again() -> None:
    owner, _, roster = founded()
    node = new_identity()
    joining = member_of(node.statement(), "attic", (Role.AGENT,))
    roster = owner.admit(owner.revoke(owner.admit(roster, joining, NOW), node.id, NOW, NOW), joining, NOW)
    assert roster.may(node.id, Role.AGENT)
    assert roster.body.revoked == ()


def test_the_coordinator_cannot_be_put_out() -> None:
    owner, first, roster = founded()
    with pytest.raises(UsageError, match="coordinates"):
        owner.revoke(roster, first.id, NOW, NOW)


def test_who_is_no_member_can_be_neither_revoked_nor_given_new_keys() -> None:
    owner, _, roster = founded()
    stranger = new_identity()
    with pytest.raises(UsageError, match="no member"):
        owner.revoke(roster, stranger.id, NOW, NOW)
    with pytest.raises(UsageError, match="no member"):
        owner.rotate(roster, stranger.id, stranger.statement(), NOW)


def test_new_keys_take_over_name_and_roles_and_the_old_ones_count_no_more() -> None:
    owner, _, roster = founded()
    old, new = new_identity(), new_identity()
    roster = owner.admit(roster, member_of(old.statement(), "attic", (Role.AGENT,)), NOW)
    roster = owner.rotate(roster, old.id, new.statement(), NOW + 5)
    assert roster.name_of(new.id) == "attic"
    assert roster.may(new.id, Role.AGENT)
    assert not roster.may(old.id, Role.AGENT)
    assert roster.admitted(old.curve_public) is None
    assert roster.signing_key(old.id, Role.AGENT, at=NOW) is not None
    assert roster.signing_key(old.id, Role.AGENT, at=NOW + 6) is None


def test_another_node_s_statement_cannot_make_a_member() -> None:
    statement = bytearray(new_identity().statement())
    statement[-1] ^= 1
    with pytest.raises(SignatureRefused):
        member_of(bytes(statement), "attic", (Role.AGENT,))


def test_a_member_whose_curve_key_its_own_statement_does_not_name_is_refused() -> None:
    owner, node, other = new_identity(), new_identity(), new_identity()
    false = member(node, Role.AGENT, curve=other.curve_public, statement=node.statement())
    with pytest.raises(SignatureRefused, match="not bound"):
        open_roster(roster_envelope(owner, [false]), owner.public, NOW)


def test_a_roster_near_its_end_is_renewed_and_a_fresh_one_is_left_alone() -> None:
    owner, _, roster = founded()
    keeper = RosterKeeper(roster)
    renew_in_time(keeper, owner, NOW + ROSTER_S / 2 - 1)
    assert keeper.current.version == 1
    renew_in_time(keeper, owner, NOW + ROSTER_S / 2 + 1)
    assert keeper.current.version == 2
    assert keeper.current.body.expires == NOW + ROSTER_S / 2 + 1 + ROSTER_S
    assert keeper.current.body.members == roster.body.members


def test_a_grid_of_the_most_members_fits_an_envelope() -> None:
    owner, _, roster = founded()
    empty, members = len(roster.envelope), []
    for count in range(4):
        members.append(member_of(new_identity().statement(), f"{'n' * 63}{count}", tuple(Role)))
        roster = owner.admit(roster, members[-1], NOW)
    with_members = len(roster.envelope)
    for gone in members:
        roster = owner.revoke(roster, gone.id, NOW, NOW)
    each, put_out = (with_members - empty) / 4, (len(roster.envelope) - empty) / 4
    assert each * MEMBERS_MAX + put_out * REVOKED_MAX < ROSTER_BYTES_MAX


def test_a_full_grid_says_what_to_do() -> None:
    owner, first, roster = founded()
    many = tuple(member(first, name="é" * 400) for _ in range(MEMBERS_MAX))
    roster = Roster(msgspec.structs.replace(roster.body, members=many), b"", owner.public)
    with pytest.raises(UsageError, match="over 1048576"):
        owner.renew(roster, NOW)
    with pytest.raises(UsageError, match="at most"):
        owner.admit(roster, member_of(new_identity().statement(), "attic", (Role.AGENT,)), NOW)


@pytest.mark.parametrize(
    ("said", "shown"),
    [("attic", "attic"), ("at/tic \x1b[31m", "attic[31m"), ("", "nameless"), ("é" * 80, "é" * 64)],
)
def test_a_name_is_shown_without_what_could_deceive(said: str, shown: str) -> None:
    assert printable_name(said) == shown


def test_a_free_name_is_left_as_it_is() -> None:
    assert free_name("attic", ["loft"]) == "attic"
