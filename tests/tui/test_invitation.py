"""The sheet that invites a machine: what it shows, and that it is open for exactly as long as it is shown."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from discogrid.errors import DiscogridError, GridError
from discogrid.keys import new_identity, shown_id
from discogrid.pairing.addresses import Address
from discogrid.pairing.codes import Code
from discogrid.pairing.frames import Reason
from discogrid.pairing.news import GuessedWrong, Joined, News, Trouble
from discogrid.trust.owner import member_of
from discogrid.types import Role
from discogrid_tui.app import Dashboard
from discogrid_tui.invitation import ASKING_MAX, NEWS_MAX, Invitation
from discogrid_tui.model import Model
from discogrid_tui.screens.invitation import Inviting
from tests.grid.machines import Machine
from tests.tui.conftest import Clock, Stage
from tests.tui.fakes import NOW, FakeGrid
from tests.tui.test_screens import SIZES, check
from tests.tui.test_terminal import terminal

CELLAR = member_of(new_identity().statement(), "cellar", (Role.AGENT,))
OPEN = Invitation().opened("4-crater-mango", "192.168.7.2:7718", NOW + 600, found=True)


class FakeDoor:
    """One invitation, by which nobody joins unless the test says so."""

    secret = Code("4", ("crater", "mango"))
    addresses = (Address("192.168.7.2", 7718),)
    multicast = True

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.refusal: DiscogridError | None = None
        self.machines: list[tuple[str, str]] = []
        self.tell: Callable[[News], None] = lambda _: None
        self.end: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def open(self, told: Callable[[News], None]) -> AsyncIterator["FakeDoor"]:
        if self.refusal is not None:
            raise self.refusal
        self.tell = told
        self.opened += 1
        try:
            yield self
        finally:
            self.closed += 1

    async def ended(self) -> Reason:
        return await self.end

    async def asking(self) -> list[tuple[str, str]]:
        await asyncio.sleep(0.01)
        return self.machines


@asynccontextmanager
async def invited(door: FakeDoor, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Stage]:
    """A dashboard whose user has asked for a code."""
    clock, grid = Clock(), FakeGrid()
    app = Dashboard(Model("home", NOW), grid.connect, clock, Inviting(door.open, door.asking))
    async with app.run_test(size=size) as pilot:
        shown = Stage(app, pilot, grid, clock)
        await shown.until(lambda: shown.model.complete)
        await shown.press("I")
        yield shown


async def test_the_code_is_open_while_it_is_shown_and_withdrawn_with_the_sheet() -> None:
    door = FakeDoor()
    async with invited(door) as shown:
        await shown.until(lambda: "discogrid agent --join 4-crater-mango" in shown.text())
        assert (door.opened, door.closed) == (1, 0)
        for key in ("enter", "q", "i", "question_mark"):
            await shown.press(key)  # none of which withdraws it by chance
        assert (door.opened, door.closed) == (1, 0)
        await shown.press("escape")
        await shown.until(lambda: door.closed == 1)
        assert shown.app.screen is shown.main


async def test_leaving_the_dashboard_withdraws_the_code() -> None:
    door = FakeDoor()
    async with invited(door) as shown:
        await shown.until(lambda: door.opened == 1)
        shown.app.exit()
    assert door.closed == 1


async def test_who_asks_and_who_comes_is_told_until_the_code_is_used() -> None:
    door = FakeDoor()
    async with invited(door) as shown:
        await shown.until(lambda: "nobody on this network" in shown.text())
        door.machines = [("cellar", "192.168.7.3")]
        await shown.until(lambda: "cellar at 192.168.7.3" in shown.text())
        door.tell(Joined(CELLAR, kept=True))
        door.tell(Trouble(GridError("another was not let in")))
        door.end.set_result(Reason.USED)
        await shown.until(lambda: "the code is used" in shown.text())
        assert f"cellar as agent: {shown_id(CELLAR.id)}" in shown.text()
        assert "another was not let in" in shown.text()
        assert "crater" not in shown.text()
        await shown.until(lambda: door.closed == 1)


async def test_a_wrong_guess_burns_the_code_and_says_so() -> None:
    door = FakeDoor()
    async with invited(door) as shown:
        await shown.until(lambda: door.opened == 1)
        door.tell(GuessedWrong("4", "192.168.7.66", burnt=True))
        door.end.set_result(Reason.BURNT)
        await shown.until(lambda: "burnt by a wrong guess" in shown.text())
        assert "192.168.7.66" in shown.text()


async def test_an_invitation_that_cannot_be_opened_says_why_and_what_to_do() -> None:
    door = FakeDoor()
    door.refusal = GridError("the coordinator did not answer", fix="Start it with `discogrid up`.")
    async with invited(door) as shown:
        await shown.until(lambda: "did not answer" in shown.text())
        assert "Start it with `discogrid up`." in shown.text()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_what_it_looks_like(size: tuple[int, int]) -> None:
    door = FakeDoor()
    door.machines = [("cellar", "192.168.7.3"), ("loft", "192.168.7.4")]
    async with invited(door, size) as shown:
        await shown.until(lambda: "loft" in shown.text() or size[1] == 12)
        check("invitation", size, shown.text())


@pytest.mark.parametrize("why", ["The owner's key is not on this machine.", "It has no other machines."])
async def test_where_nobody_can_be_invited_the_key_says_why(why: str) -> None:
    app = Dashboard(Model("home", NOW, no_invitations=why), FakeGrid().connect, Clock())
    async with app.run_test(notifications=True) as pilot:
        await pilot.press("I")
        assert [notice.message for notice in app._notifications] == [why]


def test_lists_of_strangers_are_bounded_and_cannot_steer_the_terminal() -> None:
    many = [(f"m\x1b[2J{number}", "10.0.0.1") for number in range(ASKING_MAX + 5)]
    lines = OPEN.asked(many).lines(NOW)
    assert [label for label, _ in lines].count("asks to join") == ASKING_MAX + 1
    assert lines[-1] == ("asks to join", "5 more")
    assert not any("\x1b" in text for _, text in lines)
    noisy = OPEN
    for number in range(NEWS_MAX + 5):
        noisy = noisy.guessed_wrong(f"10.0.0.{number}")
    assert [text for label, text in noisy.lines(NOW) if label == "wrong guess"][-1].startswith(
        "from 10.0.0.12"
    )
    assert len(noisy.news) == NEWS_MAX


def test_the_address_is_part_of_the_code_where_nothing_is_found() -> None:
    assert ("if not found", "4-crater-mango@192.168.7.2:7718") in OPEN.lines(NOW)
    hidden = Invitation().opened("4-crater-mango", "192.168.7.2:7718", NOW + 600, found=False)
    assert ("in full", "4-crater-mango@192.168.7.2:7718") in hidden.lines(NOW)
    nowhere = Invitation().opened("4-crater-mango", "", NOW + 600, found=True)
    assert not any("@" in text for _, text in nowhere.lines(NOW))


def test_the_time_that_is_left_is_counted_down() -> None:
    assert ("good for", "one machine and 10m00s, while this is shown") in OPEN.lines(NOW)
    assert ("good for", "one machine and 0.0 s, while this is shown") in OPEN.lines(NOW + 601)


def test_who_was_not_let_in_and_who_has_kept_nothing_is_told() -> None:
    told = OPEN.joined("cellar", ("agent",), "abcd2345-xy", kept=False).not_let_in(GridError("it is full"))
    lines = told.lines(NOW)
    assert ("joined", "cellar as agent: abcd2345-xy") in lines
    assert ("", "It has not confirmed that it kept what it needs.") in lines
    assert ("not let in", "it is full") in lines


def test_a_machine_joins_by_a_code_that_a_real_dashboard_shows(tmp_path: Path) -> None:
    with closing(Machine(tmp_path / "host")) as host, closing(Machine(tmp_path / "guest")) as guest:
        host.coordinate()
        with terminal("discogrid", "tui", size=(110, 30), DISCOGRID_HOME=str(host.home)) as screen:
            screen.until("live")
            screen.press("I")
            screen.until("while this is shown")
            shown = re.search(r"(\d+-[a-z]+-[a-z]+)@\S+:(\d+)", screen.last)
            assert shown is not None
            joined = guest.run("join", f"{shown[1]}@127.0.0.1:{shown[2]}", "--name", "laptop")
            assert joined.returncode == 0, joined.stderr
            screen.until("the code is used")
            screen.press("\x1b")
            screen.until(
                "discogrid demo"
            )  # which the sheet hid: a key too early would be a part of the escape
            screen.press("q")
            assert screen.ended() == 0
        assert guest.run("status").returncode == 0
