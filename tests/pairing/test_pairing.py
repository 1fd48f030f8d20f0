"""Two machines are paired over real TCP; and are not, when a code is wrong, spent, or somebody stands in between."""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from discogrid.errors import GridError, PairingFailed, SignatureRefused
from discogrid.grid import joined, open_grid
from discogrid.keys import new_identity
from discogrid.pairing import join as joining
from discogrid.pairing.addresses import Address
from discogrid.pairing.codes import NAMEPLATE_MAX, Code, Target, new_code
from discogrid.pairing.desk import GUESSES_TOLD_MAX
from discogrid.pairing.frames import Opening, Reason, Reply, decode, encode
from discogrid.pairing.handshake import STEP_S, Event, Failed, Fault, Inviter, Paired, Party
from discogrid.pairing.host import free_nameplate
from discogrid.pairing.join import Secret, join
from discogrid.pairing.letters import Grant
from discogrid.pairing.line import CALLERS_AN_ADDRESS_MAX, Line, Listener, Question
from discogrid.pairing.news import GuessedWrong, Joined, Trouble
from discogrid.pairing.spake import Exchange, Side
from discogrid.pairing.tokens import Token
from discogrid.trust.roster import Member
from discogrid.types import Role
from tests.pairing.house import House, inviting
from tests.pairing.proxy import Change, between

AGENT, SUBMITTER = (Role.AGENT,), (Role.SUBMITTER,)
ME = new_identity()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCOGRID_HOME", str(tmp_path / "home"))

    async def at_once(_: object, endpoints: tuple[str, ...]) -> str:
        return endpoints[0]

    monkeypatch.setattr(joining, "_that_answers", at_once)  # there is no coordinator in these tests


def told(code: Code, at: Address) -> Secret:
    return Secret.of(Target(code, at))


# Joining.


async def test_one_code_brings_one_machine_into_the_grid() -> None:
    async with inviting() as house:
        grid = await join(told(house.code(), house.address), ME, "cellar", AGENT)
        news = await house.next(Joined)
    assert (news.kept, news.member.name, news.member.roles) == (True, "cellar", AGENT)
    assert house.roster.may(ME.id, Role.AGENT)
    assert (grid.name, grid.roster.version) == ("attic", 2)
    assert joined() == ["attic"]
    assert open_grid("attic").roster.owner == house.owner.public


async def test_a_used_code_opens_nothing_any_more() -> None:
    async with inviting() as house:
        code = house.code()
        await join(told(code, house.address), ME, "cellar", AGENT)
        with pytest.raises(PairingFailed, match="used by another machine"):
            await join(told(code, house.address), new_identity(), "loft", AGENT)
        assert len(house.roster.body.members) == 2


async def test_a_machine_gets_what_it_asked_for_and_never_admin_by_itself() -> None:
    async with inviting() as house:
        await join(told(house.code(), house.address), ME, "cellar", (Role.SUBMITTER, Role.ADMIN))
        assert house.roster.may(ME.id, Role.SUBMITTER)
        assert not house.roster.may(ME.id, Role.ADMIN, Role.AGENT, Role.COORDINATOR)


async def test_an_invitation_for_admins_makes_one_of_who_submits_and_not_of_who_lends() -> None:
    everything = frozenset({Role.AGENT, Role.SUBMITTER, Role.ADMIN})
    async with inviting() as house:
        lender = new_identity()
        await join(told(house.code(roles=everything), house.address), ME, "desk", SUBMITTER)
        await join(told(house.code(roles=everything), house.address), lender, "cellar", AGENT)
        assert house.roster.may(ME.id, Role.ADMIN)
        assert not house.roster.may(lender.id, Role.ADMIN)


async def test_a_role_that_the_invitation_is_not_for_is_refused_on_both_sides() -> None:
    async with inviting() as house:
        code = house.code(roles=frozenset({Role.AGENT}))
        with pytest.raises(PairingFailed, match="could not let this machine in"):
            await join(told(code, house.address), ME, "cellar", SUBMITTER)
        assert "which this invitation is not for" in (await house.next(Trouble)).error.what
    assert joined() == []


async def test_a_coordinator_out_of_reach_lets_nobody_in_and_is_said() -> None:
    async with inviting() as house:
        house.fails = True
        with pytest.raises(PairingFailed, match="could not let this machine in"):
            await join(told(house.code(), house.address), ME, "cellar", AGENT)
        assert (await house.next(Trouble)).error.what == "the coordinator did not answer"
    assert joined() == []


async def test_nobody_at_the_address_is_an_error_that_costs_no_code() -> None:
    async with inviting() as house:
        code, nowhere = house.code(), Address("127.0.0.1", 9)
        with pytest.raises(GridError, match="nobody answers"):
            await join(told(code, nowhere), ME, "cellar", AGENT)
        await join(told(code, house.address), ME, "cellar", AGENT)


# Codes that are wrong.


async def test_one_wrong_guess_burns_the_code_and_both_sides_say_so() -> None:
    async with inviting() as house:
        right = house.code(words=b"\x01\x02")
        wrong = replace(right, words=new_code(4, b"\x01\x03").words)
        with pytest.raises(PairingFailed, match="guessed wrong"):
            await join(told(wrong, house.address), ME, "cellar", AGENT)
        news = await house.next(GuessedWrong)
        assert (news.burnt, news.source) == (True, "127.0.0.1")
        with pytest.raises(PairingFailed, match="burnt"):
            await join(told(right, house.address), ME, "cellar", AGENT)
        assert len(house.roster.body.members) == 1
    assert joined() == []


async def test_two_that_guess_at_the_same_time_get_one_guess() -> None:
    async with inviting() as house:
        right = house.code(words=b"\x01\x02")
        guesses = [replace(right, words=new_code(4, bytes((1, last))).words) for last in (3, 4, 5)]
        ends = await asyncio.gather(
            *(join(told(guess, house.address), new_identity(), "x", AGENT) for guess in (*guesses, right)),
            return_exceptions=True,
        )
        assert all(isinstance(end, PairingFailed) for end in ends[:3])
        guessed = [news for news in house.news if isinstance(news, GuessedWrong)]
        assert len(guessed) <= 1 or isinstance(ends[3], PairingFailed)
        assert len(guessed) + sum(isinstance(news, Joined) for news in house.news) <= 1


async def test_a_code_of_another_number_costs_nothing() -> None:
    async with inviting() as house:
        right = house.code()
        with pytest.raises(GridError, match="shows another code"):
            await join(told(replace(right, nameplate="5"), house.address), ME, "cellar", AGENT)
        await join(told(right, house.address), ME, "cellar", AGENT)


async def test_an_expired_code_opens_nothing() -> None:
    async with inviting() as house:
        code = house.code(seconds=0.0)
        with pytest.raises(PairingFailed, match="expired"):
            await join(told(code, house.address), ME, "cellar", AGENT)


# A man in the middle.


async def test_a_wire_that_only_passes_on_lets_them_pair() -> None:
    async with inviting() as house, between(house.address, lambda _joiner, _number, frame: frame) as middle:
        await join(told(house.code(), middle), ME, "cellar", AGENT)
        assert (await house.next(Joined)).kept


def _other_share(joiner: bool, number: int, frame: bytes) -> bytes:
    if joiner and number == 0:
        opening = decode(frame)
        assert isinstance(opening, Opening)
        return encode(
            Opening(
                version=1,
                nameplate=opening.nameplate,
                pledge=opening.pledge,
                share=Exchange(Side.JOINER, b"a guess", b"\x07" * 64).share,
            )
        )
    return frame


def _other_reply(joiner: bool, number: int, frame: bytes) -> bytes:
    if not joiner and number == 0:
        reply = decode(frame)
        assert isinstance(reply, Reply)
        return encode(Reply(pledge=hashlib.sha256(b"another identity").digest(), share=reply.share))
    return frame


def _other_pledge(joiner: bool, number: int, frame: bytes) -> bytes:
    if joiner and number == 0:
        opening = decode(frame)
        assert isinstance(opening, Opening)
        pledge = hashlib.sha256(b"another identity").digest()
        return encode(Opening(version=1, nameplate=opening.nameplate, pledge=pledge, share=opening.share))
    return frame


def _flipped(*, of_joiner: bool, which: int) -> Change:
    def change(joiner: bool, number: int, frame: bytes) -> bytes:
        return frame[:-1] + bytes((frame[-1] ^ 1,)) if (joiner, number) == (of_joiner, which) else frame

    return change


@pytest.mark.parametrize(
    "change",
    [
        _other_share,
        _other_reply,
        _other_pledge,
        _flipped(of_joiner=True, which=1),
        _flipped(of_joiner=False, which=1),
        _flipped(of_joiner=True, which=2),
    ],
    ids=["its own share", "its own reply", "its own pledge", "confirmation", "answer", "introduction"],
)
async def test_a_man_in_the_middle_fails_burns_the_code_and_is_said(change: Change) -> None:
    async with inviting() as house:
        code = house.code()
        async with between(house.address, change) as middle:
            with pytest.raises(PairingFailed):
                await join(told(code, middle), ME, "cellar", AGENT)
        with pytest.raises(PairingFailed, match=r"burnt|used"):
            await join(told(code, house.address), ME, "cellar", AGENT)
        assert not any(isinstance(news, Joined) for news in house.news)
        assert len(house.roster.body.members) == 1
    assert joined() == []


async def test_a_man_in_the_middle_who_changes_the_grant_joins_nobody_to_his_grid() -> None:
    async with inviting() as house, between(house.address, _flipped(of_joiner=False, which=2)) as middle:
        with pytest.raises(PairingFailed, match="stands between"):
            await join(told(house.code(), middle), ME, "cellar", AGENT)
        assert not (await house.next(Joined)).kept  # its owner is told that it may have to be put out
    assert joined() == []


async def test_a_false_grid_that_shows_the_nameplate_learns_nothing_and_the_code_is_given_up() -> None:
    async with inviting() as thief, inviting() as house:
        code = house.code(words=b"\x01\x02")
        thief.code(words=b"\x09\x09")  # it does not know the words
        with pytest.raises(PairingFailed, match=r"does not know this code|burnt"):
            await join(told(code, thief.address), ME, "cellar", AGENT)
    assert joined() == []


def test_a_nameplate_that_somebody_else_shows_is_not_taken() -> None:
    every = frozenset(map(str, range(1, NAMEPLATE_MAX + 1)))
    assert free_nameplate(every - {"57"}) == 57
    assert str(free_nameplate(every)) in every


# Tokens.


def token_of(house: House, **other: Any) -> Token:
    fingerprint = hashlib.sha256(house.owner.public).digest()
    return replace(Token(b"s" * 16, fingerprint, (house.address,)), **other)


async def test_a_token_lets_as_many_in_as_it_is_for() -> None:
    async with inviting() as house:
        token = token_of(house)
        house.offer(token.nameplate, token.password, uses=2, guessable=False)
        for name in ("cellar", "loft"):
            await join(Secret.of(token), new_identity(), name, AGENT)
        with pytest.raises(PairingFailed, match="used"):
            await join(Secret.of(token), new_identity(), "barn", AGENT)
        assert [member.name for member in house.roster.body.members] == ["desk", "cellar", "loft"]


async def test_a_stolen_token_makes_no_false_grid() -> None:
    async with inviting() as house, inviting() as thief:
        token = token_of(house, addresses=(thief.address,))
        thief.offer(token.nameplate, token.password, guessable=False)
        with pytest.raises(SignatureRefused, match="not the owner of the token's grid"):
            await join(Secret.of(token), ME, "cellar", AGENT)
    assert joined() == []


# A crowd.


async def test_a_crowd_that_says_nothing_keeps_nobody_out() -> None:
    async with inviting() as house:
        code = house.code()
        crowd = [await asyncio.open_connection(house.address.host, house.port) for _ in range(40)]
        await join(told(code, house.address), ME, "cellar", AGENT)
        for _, writer in crowd:
            writer.close()
        assert len(house.desk._listener._callers) <= CALLERS_AN_ADDRESS_MAX


@pytest.mark.parametrize("noise", [b"\xff" * 8, b"\x00\x00\x00\x05hello", b"GET / HTTP/1.1\r\n\r\n", b""])
async def test_noise_at_the_door_burns_nothing(noise: bytes) -> None:
    async with inviting() as house:
        code = house.code()
        _, writer = await asyncio.open_connection(house.address.host, house.port)
        writer.write(noise)
        writer.close()
        await join(told(code, house.address), ME, "cellar", AGENT)


async def test_a_flood_of_callers_who_never_prove_anything_keeps_nobody_out_who_comes_from_elsewhere() -> (
    None
):
    async with inviting() as house:
        code, flooded = house.code(), asyncio.Event()

        async def flood() -> None:
            share = Exchange(Side.JOINER, b"a guess", b"\x07" * 64).share
            opening = encode(
                Opening(version=1, nameplate=code.nameplate, pledge=b"p" * 32, share=share),
            )
            while True:
                _, writer = await asyncio.open_connection(
                    house.address.host, house.address.port, local_addr=("127.0.0.2", 0)
                )
                open_lines.append(writer)
                writer.write(len(opening).to_bytes(4, "big") + opening)
                if len(open_lines) >= 50:
                    flooded.set()

        open_lines: list[asyncio.StreamWriter] = []
        flooding = [asyncio.create_task(flood()) for _ in range(4)]
        await asyncio.wait_for(flooded.wait(), 20)
        await join(told(code, house.address), ME, "cellar", AGENT)
        for task in flooding:
            task.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)
        for writer in open_lines:
            writer.close()
        assert not any(isinstance(news, GuessedWrong) for news in house.news)  # to ask is no guess


@pytest.mark.parametrize("says", [b"", b"\x00\x00\x00\x80\x00\x00"], ids=["nothing", "half a frame"])
async def test_a_caller_who_is_slow_is_hung_up_on_in_time(says: bytes) -> None:
    """Its patience is nearly over when it starts: what it says in between does not begin it anew."""
    party = Party(ME.public, b"s" * 32, b"e" * 64)
    ends: list[Paired | Failed] = []

    async def answer(_line: Line, _question: Question) -> Event:
        raise AssertionError("it asked for nothing")

    listener = Listener(
        lambda now: Inviter(party, now - STEP_S + 0.3), answer, lambda _, end: ends.append(end)
    )
    port = await listener.open("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for byte in says:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.02)
    assert await asyncio.wait_for(reader.read(), 3.0) == b""
    assert [end.fault for end in ends if isinstance(end, Failed)] == [Fault.SILENT]
    writer.close()
    await listener.close()


async def test_an_owner_whose_disk_is_full_lets_nobody_in_and_the_invitation_ends() -> None:
    async with inviting() as house:

        async def admit(_member: Member, _here: str) -> tuple[Member, Grant]:
            raise OSError(28, "No space left on device")

        house.desk._admit = admit
        code = house.code()
        with pytest.raises(PairingFailed, match="could not let this machine in"):
            await join(told(code, house.address), ME, "cellar", AGENT)
        assert "No space left" in (await house.next(Trouble)).error.what
        assert await house.desk.ended(code.nameplate) is Reason.USED


@pytest.mark.parametrize("steps", range(5))
async def test_an_invitation_can_be_withdrawn_in_the_very_moment_in_which_something_comes_of_it(
    steps: int,
) -> None:
    async with inviting() as house:
        waiting = asyncio.create_task(house.desk.ended(house.code().nameplate))
        await asyncio.sleep(0.01)
        house.desk._changed.set()
        for _ in range(steps):  # of the event loop, between the two
            await asyncio.sleep(0)
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=3.0)
        assert done, "the withdrawal was lost"
        assert waiting.cancelled()


async def test_guesses_at_a_token_do_not_burn_it_and_do_not_fill_the_terminal() -> None:
    async with inviting() as house:
        token = token_of(house)
        house.offer(token.nameplate, token.password, guessable=False)
        for _ in range(GUESSES_TOLD_MAX + 2):
            wrong = replace(Secret.of(token), password=b"another")
            with pytest.raises(PairingFailed):
                await join(wrong, ME, "cellar", AGENT)
        assert sum(isinstance(news, GuessedWrong) for news in house.news) == GUESSES_TOLD_MAX
        await join(Secret.of(token), ME, "cellar", AGENT)
