"""Two machines pair by a password: what an honest run says, and what every kind of dishonesty comes to."""

import hashlib
from collections import deque
from collections.abc import Callable

import msgspec
import pytest

from discogrid.keys import Identity, new_identity
from discogrid.pairing.frames import (
    PART_BYTES_MAX,
    Confirm,
    Frame,
    Opening,
    Reason,
    Refusal,
    Reply,
    Sealed,
    decode,
    encode,
)
from discogrid.pairing.handshake import (
    GRANT_S,
    PAIRING_TYPE,
    STEP_S,
    Action,
    Asked,
    Claimed,
    Confirmed,
    Event,
    Failed,
    Fault,
    FrameArrived,
    Heard,
    InvitationFound,
    Inviter,
    Joiner,
    Kept,
    LineClosed,
    LineOpened,
    Paired,
    Party,
    Send,
    Spoken,
    TimePassed,
    Withdrawn,
)
from discogrid.pairing.sealing import LETTER_BYTES_MAX, Direction, KeySchedule, Seal, SealBroken
from discogrid.pairing.spake import Exchange, ShareRefused, Side

RIGHT, WRONG = b"4-crater-mango", b"4-crater-melon"
INTRODUCTION, GRANT = b"I am attic", b"welcome" * 10_000

Bend = Callable[[str, bytes], bytes | None]


def party(identity: Identity, seed: str) -> Party:
    """A side with the entropy that the test chose."""
    return Party(
        identity.public, hashlib.sha256(seed.encode()).digest(), hashlib.sha512(seed.encode()).digest()
    )


class Pair:
    """A joiner and an inviter, the shells around them, and a network that `bend` may change: (speaker, frame) to frame."""

    def __init__(
        self, typed: bytes = RIGHT, shown: bytes = RIGHT, bend: Bend | None = None, grant: bytes = GRANT
    ) -> None:
        self.laptop, self.owner = new_identity(), new_identity()
        self.joiner = Joiner("4", typed, party(self.laptop, "joiner"), now=0.0)
        self.inviter = Inviter(party(self.owner, "inviter"), now=0.0)
        self.shown, self.introduction, self.grant = shown, INTRODUCTION, grant
        self.statement: dict[str, bytes] = {}
        self.bend = bend or (lambda _speaker, frame: frame)
        self.travelling: deque[tuple[str, bytes]] = deque()
        self.sent: list[tuple[str, bytes]] = []
        self.heard: dict[str, Heard] = {}
        self.ends: dict[str, Paired | Failed] = {}
        self.proofs = {"joiner": self.laptop, "inviter": self.owner}

    def run(self) -> "Pair":
        """Let everything happen that can."""
        self.joiner_does(LineOpened())
        while self.travelling:
            speaker, raw = self.travelling.popleft()
            if (bent := self.bend(speaker, raw)) is None:
                continue
            if speaker == "joiner":
                self.inviter_does(FrameArrived(bent))
            else:
                self.joiner_does(FrameArrived(bent))
        return self

    def joiner_does(self, event: Event) -> None:
        for action in self.joiner.handle(event, 1.0):
            self.perform("joiner", action)

    def inviter_does(self, event: Event) -> None:
        for action in self.inviter.handle(event, 1.0):
            self.perform("inviter", action)

    def perform(self, side: str, action: Action) -> None:
        match action:
            case Send():
                self.travelling.append((side, action.raw))
                self.sent.append((side, action.raw))
            case Asked():
                assert action.nameplate == "4"
                self.inviter_does(InvitationFound(self.shown))
            case Confirmed():
                self.statement[side] = action.statement
                if side == "inviter":
                    self.inviter_does(Claimed())
                else:
                    self.joiner_does(Spoken(self.proof("joiner"), self.introduction))
            case Heard():
                self.heard[side] = action
                if side == "inviter":
                    self.inviter_does(Spoken(self.proof("inviter"), self.grant))
                else:
                    self.joiner_does(Kept())
            case Paired() | Failed():
                self.ends[side] = action

    def proof(self, side: str) -> bytes:
        return self.proofs[side].seal(PAIRING_TYPE, self.statement[side])


def frames(pair: Pair, speaker: str) -> list[str]:
    return [type(decode(raw)).__name__ for side, raw in pair.sent if side == speaker]


def at(kind: type, speaker: str, change: Callable[[bytes], bytes | None]) -> Bend:
    """Change the frames of one kind and speaker."""

    def bend(who: str, raw: bytes) -> bytes | None:
        return change(raw) if who == speaker and isinstance(decode(raw), kind) else raw

    return bend


def flip_last_bit(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


# -- the honest run


def test_two_who_know_the_code_are_paired_and_hear_each_other() -> None:
    pair = Pair().run()
    assert pair.ends == {"joiner": Paired(), "inviter": Paired()}
    assert pair.heard["inviter"] == Heard(pair.laptop.public, INTRODUCTION)
    assert pair.heard["joiner"] == Heard(pair.owner.public, GRANT)
    assert pair.joiner.deadline() is None
    assert pair.inviter.rank == 2


def test_the_joiner_confirms_before_the_inviter_says_anything_that_a_guess_could_be_tested_against() -> None:
    pair = Pair().run()
    order = [(side, type(decode(raw)).__name__) for side, raw in pair.sent][:5]
    assert order == [
        ("joiner", "Opening"),
        ("inviter", "Reply"),
        ("joiner", "Confirm"),
        ("inviter", "Confirm"),
        ("joiner", "Sealed"),
    ]


def test_nothing_that_identifies_a_side_or_its_letter_travels_in_the_clear() -> None:
    pair = Pair().run()
    for _, raw in pair.sent:
        for secret in (pair.laptop.public, pair.owner.public, INTRODUCTION, b"welcome", RIGHT):
            assert secret not in raw


def test_a_letter_of_the_greatest_size_travels_in_parts() -> None:
    grant = bytes(LETTER_BYTES_MAX - 1000)
    pair = Pair(grant=grant).run()
    assert pair.heard["joiner"].body == grant
    assert frames(pair, "inviter").count("Sealed") == -(-(len(grant) + 500) // PART_BYTES_MAX)


def test_a_letter_over_the_limit_is_refused() -> None:
    pair = Pair(grant=bytes(LETTER_BYTES_MAX)).run()
    assert pair.ends["joiner"] == Failed(Fault.TAMPERED, spent=True)


# -- a wrong code


def test_a_wrong_code_is_told_to_both_and_burns_it() -> None:
    pair = Pair(typed=WRONG).run()
    assert pair.ends["inviter"] == Failed(Fault.WRONG_CODE, spent=True)
    assert pair.ends["joiner"] == Failed(Fault.REFUSED, spent=True, reason=Reason.BURNT)
    assert frames(pair, "inviter") == ["Reply", "Refusal"]
    assert not pair.heard


def test_an_inviter_that_does_not_know_the_code_learns_nothing_but_a_confirmation() -> None:
    """An impostor shows another password: the joiner says no more after its confirmation was not answered."""
    pair = Pair(shown=WRONG)
    pair.inviter._confirmed_by = lambda mac: True  # type: ignore[method-assign]  # an impostor does not refuse
    pair.run()
    assert pair.ends["joiner"] == Failed(Fault.TAMPERED, spent=True)
    assert frames(pair, "joiner") == ["Opening", "Confirm", "Refusal"]


# -- somebody in the middle


@pytest.mark.parametrize(
    ("kind", "speaker", "inviter_end"),
    [
        (Opening, "joiner", Fault.WRONG_CODE),
        (Reply, "inviter", Fault.WRONG_CODE),
        (Confirm, "joiner", Fault.WRONG_CODE),
        (Confirm, "inviter", Fault.TAMPERED),
        (Sealed, "joiner", Fault.TAMPERED),
    ],
)
def test_one_flipped_bit_ends_the_pairing_and_the_code(kind: type, speaker: str, inviter_end: Fault) -> None:
    def flip(raw: bytes) -> bytes:
        if kind in (Opening, Reply):
            plain = msgspec.msgpack.decode(raw)
            plain["pledge"] = flip_last_bit(plain["pledge"])
            return msgspec.msgpack.encode(plain)
        return flip_last_bit(raw) if kind is Sealed else encode(Confirm(mac=flip_last_bit(raw[-32:])))

    pair = Pair(bend=at(kind, speaker, flip)).run()
    assert pair.ends["inviter"] == Failed(inviter_end, spent=True)
    joiner_end = pair.ends["joiner"]
    assert isinstance(joiner_end, Failed)
    assert joiner_end.spent
    assert "joiner" not in pair.heard


def test_a_flipped_bit_in_the_grant_is_told_to_both() -> None:
    pair = Pair(bend=at(Sealed, "inviter", flip_last_bit)).run()
    assert pair.ends["joiner"] == Failed(Fault.TAMPERED, spent=True)
    assert pair.ends["inviter"] == Failed(Fault.TAMPERED, spent=True)


def test_parts_of_a_letter_that_change_places_are_refused() -> None:
    held: list[bytes] = []

    def swap(raw: bytes) -> bytes | None:
        if not held:
            held.append(raw)
            return None
        return raw

    pair = Pair(bend=at(Sealed, "inviter", swap)).run()
    assert pair.ends["joiner"] == Failed(Fault.TAMPERED, spent=True)


@pytest.mark.parametrize("replacement", [b"A", b"B"])
@pytest.mark.parametrize(("kind", "speaker"), [(Opening, "joiner"), (Reply, "inviter")])
def test_a_share_that_is_no_element_of_the_group_is_refused(
    kind: type, speaker: str, replacement: bytes
) -> None:
    def change(raw: bytes) -> bytes:
        plain = msgspec.msgpack.decode(raw)
        plain["share"] = replacement + bytes(31) + b"\x7f"
        return msgspec.msgpack.encode(plain)

    pair = Pair(bend=at(kind, speaker, change)).run()
    assert "joiner" not in pair.heard
    receiver = "inviter" if speaker == "joiner" else "joiner"
    assert pair.ends[receiver] == Failed(Fault.TAMPERED, spent=True)


def test_a_reflected_message_is_refused() -> None:
    pair = Pair()
    pair.joiner_does(LineOpened())
    opening = decode(pair.sent[0][1])
    assert isinstance(opening, Opening)
    pair.joiner_does(FrameArrived(encode(Reply(pledge=opening.pledge, share=opening.share))))
    assert pair.ends["joiner"] == Failed(Fault.TAMPERED, spent=True)


def test_a_reflected_confirmation_is_refused() -> None:
    pair = Pair()
    pair.bend = at(
        Confirm,
        "inviter",
        lambda _raw: next(r for s, r in pair.sent if s == "joiner" and isinstance(decode(r), Confirm)),
    )
    pair.run()
    assert pair.ends["joiner"] == Failed(Fault.TAMPERED, spent=True)


@pytest.mark.parametrize("side", ["joiner", "inviter"])
def test_an_identity_whose_key_the_speaker_does_not_hold_is_refused(side: str) -> None:
    pair = Pair()
    pair.proofs[side] = new_identity()
    pair.run()
    listener = "inviter" if side == "joiner" else "joiner"
    assert pair.ends[listener] == Failed(Fault.TAMPERED, spent=True)
    assert listener not in pair.heard


@pytest.mark.parametrize("side", ["joiner", "inviter"])
def test_another_identity_than_the_pledged_one_is_refused(side: str) -> None:
    pair, other = Pair(), new_identity()
    machine: Joiner | Inviter = getattr(pair, side)
    pledged = machine._party

    def change_mind(_speaker: str, raw: bytes) -> bytes:
        if isinstance(decode(raw), Confirm):  # after the pledges have travelled
            machine._party = Party(other.public, pledged.salt, pledged.entropy)
            pair.proofs[side] = other
        return raw

    pair.bend = change_mind
    pair.run()
    listener = "inviter" if side == "joiner" else "joiner"
    assert pair.ends[listener] == Failed(Fault.TAMPERED, spent=True)
    assert listener not in pair.heard


def test_a_proof_of_another_exchange_is_refused() -> None:
    old = Pair().run()
    replayed = old.laptop.seal(PAIRING_TYPE, old.statement["joiner"])
    pair = Pair()
    pair.joiner = Joiner("4", RIGHT, party(old.laptop, "another day"), now=0.0)  # the same machine again
    pair.proof = lambda side: replayed if side == "joiner" else b""  # type: ignore[method-assign]
    pair.run()
    assert pair.ends["inviter"] == Failed(Fault.TAMPERED, spent=True)
    assert "inviter" not in pair.heard


@pytest.mark.parametrize("receipt", [b"surprise", bytes(PART_BYTES_MAX + 1)])
def test_a_receipt_that_says_something_is_refused(receipt: bytes) -> None:
    pair = Pair()

    def bend(speaker: str, raw: bytes) -> bytes:
        if speaker == "joiner" and "joiner" in pair.heard:
            seal = pair.joiner._keys.seal(Direction.JOINER)
            seal._count = 1  # the introduction was one part
            return encode(Sealed(box=next(seal.close(receipt))))
        return raw

    pair.bend = bend
    pair.run()
    assert pair.ends["inviter"] == Failed(Fault.TAMPERED, spent=True)


# -- noise, silence, ends


@pytest.mark.parametrize(
    "noise", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xc1", b"\x81\xa4type\xa4nope", bytes(70_000)]
)
def test_noise_at_the_door_burns_nothing(noise: bytes) -> None:
    pair = Pair()
    pair.inviter_does(FrameArrived(noise))
    assert pair.ends["inviter"] == Failed(Fault.GARBLED, spent=False)
    pair.joiner_does(LineOpened())
    pair.joiner_does(FrameArrived(noise))
    assert pair.ends["joiner"] == Failed(Fault.GARBLED, spent=False)


def test_noise_after_the_shares_is_no_accident() -> None:
    pair = Pair(bend=at(Confirm, "joiner", lambda _raw: b"noise")).run()
    assert pair.ends["inviter"] == Failed(Fault.TAMPERED, spent=True)


@pytest.mark.parametrize(
    "frame", [Confirm(mac=bytes(32)), Sealed(box=b""), Reply(pledge=bytes(32), share=bytes(33))]
)
def test_a_frame_out_of_turn_is_refused(frame: Frame) -> None:
    pair = Pair()
    pair.inviter_does(FrameArrived(encode(frame)))
    assert pair.ends["inviter"] == Failed(Fault.GARBLED, spent=False)


def test_a_joiner_of_another_version_is_told_so() -> None:
    pair = Pair()
    pair.inviter_does(
        FrameArrived(encode(Opening(version=2, nameplate="4", pledge=bytes(32), share=bytes(33))))
    )
    assert pair.ends["inviter"] == Failed(Fault.REFUSED, spent=False, reason=Reason.VERSION)
    assert pair.sent == [("inviter", encode(Refusal(reason=Reason.VERSION)))]


def test_a_withdrawn_invitation_ends_the_calls_about_it() -> None:
    pair = Pair(bend=at(Confirm, "joiner", lambda _raw: None)).run()
    pair.inviter_does(Withdrawn(Reason.BURNT))
    assert pair.ends["inviter"] == Failed(Fault.REFUSED, spent=False, reason=Reason.BURNT)
    pair.inviter_does(FrameArrived(encode(Confirm(mac=bytes(32)))))
    assert pair.sent[-1][1] == encode(Refusal(reason=Reason.BURNT))  # nothing more was said


def test_a_refusal_before_anything_was_given_away_leaves_the_code_as_it_is() -> None:
    pair = Pair()
    pair.joiner_does(LineOpened())
    pair.joiner_does(FrameArrived(encode(Refusal(reason=Reason.UNKNOWN))))
    assert pair.ends["joiner"] == Failed(Fault.REFUSED, spent=False, reason=Reason.UNKNOWN)


def test_a_side_that_hears_nothing_gives_up_in_time() -> None:
    pair = Pair()
    assert pair.inviter.deadline() == STEP_S
    assert pair.inviter.rank == 0
    assert pair.inviter.handle(TimePassed(), STEP_S - 0.1) == []
    assert pair.inviter.handle(TimePassed(), STEP_S) == [Failed(Fault.SILENT, spent=False)]
    assert pair.inviter.deadline() is None
    assert pair.inviter.ended


def test_the_joiner_waits_longer_while_the_roster_is_published() -> None:
    pair = Pair(bend=at(Sealed, "inviter", lambda _raw: None)).run()
    assert pair.joiner.deadline() == 1.0 + GRANT_S


def test_parts_that_trickle_in_do_not_prolong_the_wait() -> None:
    first = iter([True])
    pair = Pair(bend=at(Sealed, "inviter", lambda raw: raw if next(first, False) else None)).run()
    assert pair.joiner.deadline() == 1.0 + GRANT_S
    assert pair.joiner.handle(TimePassed(), 1.0 + GRANT_S) == [Failed(Fault.SILENT, spent=True)]


@pytest.mark.parametrize(("kind", "spent"), [(Opening, False), (Confirm, True)])
def test_a_lost_line_spends_the_code_only_when_a_guess_may_have_been_tested(kind: type, spent: bool) -> None:
    pair = Pair(bend=at(kind, "joiner", lambda _raw: None)).run()
    pair.joiner_does(LineClosed())
    assert pair.ends["joiner"] == Failed(Fault.LOST, spent=spent)
    pair.inviter_does(LineClosed())
    assert pair.ends["inviter"] == Failed(Fault.LOST, spent=False)


@pytest.mark.parametrize("event", [LineOpened(), Kept(), Spoken(b"", b""), Claimed(), InvitationFound(b"")])
def test_a_shell_that_answers_what_was_not_asked_is_a_fault(event: Event) -> None:
    pair = Pair()
    with pytest.raises(AssertionError):
        pair.inviter_does(event)
    if not isinstance(event, LineOpened):
        with pytest.raises(AssertionError):
            pair.joiner_does(event)


# -- the pieces


def test_the_key_depends_on_every_frame_and_direction() -> None:
    keys = KeySchedule(bytes(32), b"opening", b"reply")
    others = [
        KeySchedule(bytes(32), b"opening", b"repl"),
        KeySchedule(bytes(32), b"openingr", b"eply"),
        KeySchedule(b"1" * 32, b"opening", b"reply"),
    ]
    for other in others:
        assert keys.confirmation(Direction.JOINER) != other.confirmation(Direction.JOINER)
    assert keys.confirmation(Direction.JOINER) != keys.confirmation(Direction.INVITER)
    assert keys.statement(Direction.JOINER) != keys.statement(Direction.INVITER)


def test_a_sealed_part_opens_once_and_in_order() -> None:
    keys = KeySchedule(bytes(32), b"", b"")
    boxes = list(keys.seal(Direction.JOINER).close(bytes(PART_BYTES_MAX + 1)))
    assert len(boxes) == 2
    opened = Seal(keys._derive("seal joiner"))
    assert opened.open(boxes[0]) is None
    assert opened.open(boxes[1]) == bytes(PART_BYTES_MAX + 1)
    with pytest.raises(SealBroken):
        opened.open(boxes[1])


def test_an_exchange_refuses_a_share_of_another_length() -> None:
    with pytest.raises(ShareRefused):
        Exchange(Side.JOINER, RIGHT, bytes(range(64))).key(b"B")


def test_the_exchange_agrees_with_itself_and_only_on_the_same_password() -> None:
    def keys(one: bytes, other: bytes) -> tuple[bytes, bytes]:
        joiner, inviter = Exchange(Side.JOINER, one, b"1" * 64), Exchange(Side.INVITER, other, b"2" * 64)
        return joiner.key(inviter.share), inviter.key(joiner.share)

    assert len(set(keys(RIGHT, RIGHT))) == 1
    assert len(set(keys(RIGHT, WRONG))) == 2


def test_a_letter_from_a_key_that_is_none_is_refused() -> None:
    pair = Pair()
    pair.joiner = Joiner("4", RIGHT, Party(b"short", bytes(32), bytes(range(64))), now=0.0)
    pair.run()
    assert pair.ends["inviter"] == Failed(Fault.TAMPERED, spent=True)


def test_a_letter_that_is_none_is_refused() -> None:
    pair = Pair()
    pair.joiner._letter = lambda spoken: [  # type: ignore[method-assign]
        Send(encode(Sealed(box=box))) for box in pair.joiner._own_seal.close(b"nothing of the kind")
    ]
    pair.run()
    assert pair.ends["inviter"] == Failed(Fault.TAMPERED, spent=True)


def test_a_letter_of_many_parts_is_put_together() -> None:
    pair = Pair()
    pair.introduction = bytes(2 * PART_BYTES_MAX)
    pair.run()
    assert pair.heard["inviter"].body == pair.introduction
