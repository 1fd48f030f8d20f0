"""What the owner's side does with its roster when a machine has proved the secret, and others change the roster, too."""

import time
from pathlib import Path

import pytest

from discogrid.errors import GridError, PairingFailed
from discogrid.grid import Grid
from discogrid.keys import Identity, new_identity
from discogrid.pairing.admission import Admission
from discogrid.trust.keeper import RosterKeeper, begin
from discogrid.trust.owner import Owner, member_of
from discogrid.trust.roster import Member
from discogrid.types import Role


class Home:
    """The owner's home: its grid as one process knows it, and what the coordinator was brought."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.owner = Owner(new_identity())
        me = new_identity()
        founded = self.owner.found("attic", member_of(me.statement(), "desk", tuple(Role)), time.time())
        self.grid = Grid("attic", me, begin(folder, founded), None)
        self.brought: list[bytes] = []
        self.fails = False

    def admission(self) -> Admission:
        return Admission(self.grid, self.owner, self.publish)

    async def publish(self, envelope: bytes) -> None:
        if self.fails:
            raise GridError("the coordinator did not answer")
        self.brought.append(envelope)

    def in_another_process(self, gone: Identity) -> None:
        """`discogrid trust rm`, of which this process has not heard yet."""
        keeper = RosterKeeper.load(self._folder, self.owner.public)
        now = time.time()
        keeper.offer(self.owner.revoke(keeper.current, gone.id, now, now).envelope, now)

    def hears(self, gone: Identity) -> None:
        """The same, when the coordinator has told this process."""
        now, keeper = time.time(), self.grid.keeper
        keeper.offer(self.owner.revoke(keeper.current, gone.id, now, now).envelope, now)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def agent(identity: Identity, name: str) -> Member:
    return member_of(identity.statement(), name, (Role.AGENT,))


async def test_who_is_let_in_is_in_the_roster_that_the_coordinator_was_brought(home: Home) -> None:
    cellar = new_identity()
    roster = await home.admission().admit(agent(cellar, "cellar"))
    assert roster.may(cellar.id, Role.AGENT)
    assert home.brought == [roster.envelope]
    assert home.grid.roster.version == roster.version == 2


async def test_a_ban_that_another_process_signed_meanwhile_is_not_undone(home: Home) -> None:
    cellar, loft = new_identity(), new_identity()
    admission = home.admission()
    await admission.admit(agent(cellar, "cellar"))
    home.in_another_process(cellar)
    roster = await admission.admit(agent(loft, "loft"))
    assert roster.may(loft.id, Role.AGENT)
    assert roster.member(cellar.id) is None
    assert home.brought[-1] == roster.envelope == home.grid.roster.envelope


async def test_a_token_in_a_service_does_not_undo_a_ban_that_came_after_it(home: Home) -> None:
    cellar = new_identity()
    admission = home.admission()
    await admission.admit(agent(cellar, "cellar"))
    home.hears(cellar)
    with pytest.raises(PairingFailed, match="was put out of the grid while this invitation was open"):
        await admission.admit(agent(cellar, "cellar"))
    assert home.grid.roster.member(cellar.id) is None


async def test_a_new_invitation_takes_a_banned_machine_back_and_a_second_ban_holds(home: Home) -> None:
    cellar = new_identity()
    await home.admission().admit(agent(cellar, "cellar"))
    home.hears(cellar)
    again = home.admission()
    assert (await again.admit(agent(cellar, "cellar"))).may(cellar.id, Role.AGENT)
    home.hears(cellar)
    with pytest.raises(PairingFailed):
        await again.admit(agent(cellar, "cellar"))


async def test_a_coordinator_that_cannot_be_told_is_said_with_what_to_do(home: Home) -> None:
    home.fails = True
    with pytest.raises(GridError, match="cellar was not let in: the coordinator did not answer") as failed:
        await home.admission().admit(agent(new_identity(), "cellar"))
    assert "trust rm cellar" in failed.value.fix
