"""The pairing of two machines by a password that both were told: decides, and touches nothing.

    joiner                              inviter
    Opening  pledge, share       ─▶
                                 ◀─     Reply  pledge, share
    Confirm                      ─▶                           a wrong one burns the code
                                 ◀─     Confirm
    Sealed   introduction        ─▶
                                 ◀─     Sealed  grant
    Sealed   receipt             ─▶

Nobody learns anything that a guess could be tested against before the other side has proved its key, except the
inviter of the joiner: so the joiner, too, gives a code up as soon as its own confirmation was not answered rightly.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import assert_never

from nacl.signing import VerifyKey

from discogrid.envelope import unseal
from discogrid.errors import SignatureRefused, WireError
from discogrid.pairing.frames import (
    VERSION,
    AnyFrame,
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
from discogrid.pairing.sealing import LETTER_BYTES_MAX, Direction, KeySchedule, Seal, SealBroken, pledge, same
from discogrid.pairing.spake import Exchange, ShareRefused, Side
from discogrid.wire import pack_parts, unpack_parts

PAIRING_TYPE = "discogrid/pairing/1"
STEP_S = 5.0  # the other side's patience for one frame
GRANT_S = 45.0  # in which the inviter has the new roster taken by its coordinator
LETTER_PARTS = 4
PUBLIC_BYTES = 32


class Fault(StrEnum):
    """Why a pairing failed."""

    WRONG_CODE = "wrong-code"  # the other side has another password
    TAMPERED = "tampered"  # what came can only be somebody in the middle
    GARBLED = "garbled"  # what came is no pairing at all
    SILENT = "silent"
    LOST = "lost"
    REFUSED = "refused"  # the inviter said why


@dataclass(frozen=True, slots=True)
class Party:
    """One side: its public identity key, and the random bytes it may use."""

    public: bytes
    salt: bytes = field(repr=False)
    entropy: bytes = field(repr=False)

    @property
    def pledge(self) -> bytes:
        """What is shown of the identity before the key is confirmed."""
        return pledge(self.public, self.salt)


# -- events


@dataclass(frozen=True, slots=True)
class LineOpened:
    """The joiner has a connection."""


@dataclass(frozen=True, slots=True)
class FrameArrived:
    """The other side sent something."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class LineClosed:
    """The connection is gone."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It may be later than the deadline."""


@dataclass(frozen=True, slots=True)
class InvitationFound:
    """The answer to Asked: the password of this invitation."""

    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to the inviter's Confirmed: this use of the invitation is the joiner's."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The inviter's invitation does not hold, or no longer."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Spoken:
    """This side's letter, with the envelope in which its identity signed the statement."""

    proof: bytes
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """The joiner has stored what it was granted."""


OwnEvent = LineOpened | InvitationFound | Claimed | Spoken | Kept
Event = OwnEvent | FrameArrived | LineClosed | TimePassed | Withdrawn


# -- actions


@dataclass(frozen=True, slots=True)
class Send:
    """Send a frame."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """Find the invitation: InvitationFound or Withdrawn is the answer."""

    nameplate: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Both have the same key. The inviter claims a use, the joiner speaks; each signs this statement when it speaks."""

    statement: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Heard:
    """The other side's letter, from the identity that it pledged and proved."""

    public: bytes
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Paired:
    """All is done; close the line."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Close the line. `spent`: the code was used or guessed at, and is not to be used again."""

    fault: Fault
    spent: bool
    reason: Reason | None = None


Action = Send | Asked | Confirmed | Heard | Paired | Failed


class _State(Enum):
    """What a side waits for."""

    LINE = auto()
    OPENING = auto()
    INVITATION = auto()
    REPLY = auto()
    CLAIM = auto()
    CONFIRM = auto()
    OWN_LETTER = auto()
    THEIR_LETTER = auto()
    KEEPING = auto()
    RECEIPT = auto()
    ENDED = auto()


class _Machine(ABC):
    """What both sides do alike."""

    me: Direction
    they: Direction

    def __init__(self, party: Party, state: _State, now: float) -> None:
        self._party = party
        self._state = state
        self._deadline = now + STEP_S
        self._their_pledge = b""
        self._keys: KeySchedule
        self._own_seal: Seal
        self._their_seal: Seal
        self._in_play = False  # from here on a strange frame is no accident
        self._spent = False

    def deadline(self) -> float | None:
        """When TimePassed is due."""
        return None if self._state is _State.ENDED else self._deadline

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self._state is _State.ENDED

    @property
    def rank(self) -> int:
        """How far it came: 0 nothing was said, 1 shares were exchanged, 2 the code was right. Crowds leave from below."""
        return 2 if self._spent else 1 if self._in_play else 0

    def handle(self, event: Event, now: float) -> list[Action]:
        """What to do about an event; nothing once the pairing has ended."""
        if self._state is _State.ENDED:
            return []
        match event:
            case FrameArrived():
                try:
                    frame = decode(event.raw)
                except WireError:
                    return self._fail(self._strange())
                return self._on_frame(frame, event.raw, now)
            case LineClosed():
                return self._fail(Fault.LOST)
            case TimePassed():
                return self._fail(Fault.SILENT) if now >= self._deadline else []
            case Withdrawn():
                return [_send(Refusal(reason=event.reason)), *self._fail(Fault.REFUSED, event.reason)]
            case LineOpened() | InvitationFound() | Claimed() | Spoken() | Kept():
                return self._on_own(event, now)
            case _:
                assert_never(event)

    @abstractmethod
    def _on_frame(self, frame: AnyFrame, raw: bytes, now: float) -> list[Action]:
        """What the other side said."""

    @abstractmethod
    def _on_own(self, event: OwnEvent, now: float) -> list[Action]:
        """What this side's shell says."""

    # -- what follows

    def _wait(self, state: _State, now: float, seconds: float = STEP_S) -> None:
        self._state, self._deadline = state, now + seconds

    def _agree(self, exchange: Exchange, share: bytes, opening: bytes, reply: bytes) -> None:
        self._keys = KeySchedule(exchange.key(share), opening, reply)
        self._own_seal, self._their_seal = self._keys.seal(self.me), self._keys.seal(self.they)

    def _confirmed_by(self, mac: bytes) -> bool:
        return same(mac, self._keys.confirmation(self.they))

    def _own_confirm(self) -> Send:
        return _send(Confirm(mac=self._keys.confirmation(self.me)))

    def _letter(self, spoken: Spoken) -> list[Action]:
        letter = pack_parts([self._party.public, self._party.salt, spoken.proof, spoken.body])
        return [_send(Sealed(box=box)) for box in self._own_seal.close(letter)]

    def _hear(self, box: bytes) -> Heard | None:
        """The whole letter of the identity that was pledged; SealBroken for anything else."""
        letter = self._their_seal.open(box)
        if letter is None:
            return None
        try:
            public, salt, proof, body = unpack_parts(
                letter, part_bytes_max=LETTER_BYTES_MAX, parts_max=LETTER_PARTS
            )
            key = VerifyKey(public)
            signed = unseal(proof, PAIRING_TYPE, lambda _signer: key).payload
        except (WireError, SignatureRefused, ValueError):
            raise SealBroken from None
        if pledge(public, salt) != self._their_pledge or signed != self._keys.statement(self.they):
            raise SealBroken
        return Heard(public, body)

    def _strange(self) -> Fault:
        """What a frame that does not belong here means."""
        return Fault.TAMPERED if self._in_play else Fault.GARBLED

    def _fail(self, fault: Fault, reason: Reason | None = None) -> list[Action]:
        self._state = _State.ENDED
        spent = self._spent or fault in (Fault.WRONG_CODE, Fault.TAMPERED)
        told = [_send(Refusal(reason=Reason.BURNT))] if fault in (Fault.WRONG_CODE, Fault.TAMPERED) else []
        return [*told, Failed(fault, spent, reason)]


class Joiner(_Machine):
    """The side on which the code is typed."""

    me: Direction = Direction.JOINER
    they: Direction = Direction.INVITER

    def __init__(self, nameplate: str, password: bytes, party: Party, now: float) -> None:
        """`password` is the code's or the token's."""
        super().__init__(party, _State.LINE, now)
        self._exchange = Exchange(Side.JOINER, password, party.entropy)
        opening = Opening(
            version=VERSION, nameplate=nameplate, pledge=party.pledge, share=self._exchange.share
        )
        self._opening = encode(opening)

    def _on_own(self, event: OwnEvent, now: float) -> list[Action]:
        match event:
            case LineOpened() if self._state is _State.LINE:
                self._wait(_State.REPLY, now)
                return [Send(self._opening)]
            case Spoken() if self._state is _State.OWN_LETTER:
                self._wait(_State.THEIR_LETTER, now, GRANT_S)
                return self._letter(event)
            case Kept() if self._state is _State.KEEPING:
                self._state = _State.ENDED
                return [*(_send(Sealed(box=box)) for box in self._own_seal.close(b"")), Paired()]
            case _:
                raise AssertionError(f"{event} while waiting for {self._state}")

    def _on_frame(self, frame: AnyFrame, raw: bytes, now: float) -> list[Action]:
        match frame:
            case Refusal():
                return self._fail(Fault.REFUSED, frame.reason)
            case Reply() if self._state is _State.REPLY:
                return self._on_reply(frame, raw, now)
            case Confirm() if self._state is _State.CONFIRM:
                if not self._confirmed_by(frame.mac):
                    return self._fail(Fault.TAMPERED)
                self._wait(_State.OWN_LETTER, now)
                return [Confirmed(self._keys.statement(self.me))]
            case Sealed() if self._state is _State.THEIR_LETTER:
                return self._on_sealed(frame, now)
            case _:
                return self._fail(self._strange())

    def _on_reply(self, reply: Reply, raw: bytes, now: float) -> list[Action]:
        try:
            self._agree(self._exchange, reply.share, self._opening, raw)
        except ShareRefused:
            return self._fail(Fault.TAMPERED)
        self._their_pledge = reply.pledge
        self._in_play = self._spent = True  # whoever gets our confirmation can test one guess against it
        self._wait(_State.CONFIRM, now)
        return [self._own_confirm()]

    def _on_sealed(self, sealed: Sealed, now: float) -> list[Action]:
        try:
            heard = self._hear(sealed.box)
        except SealBroken:
            return self._fail(Fault.TAMPERED)
        if heard is None:
            return []
        self._wait(_State.KEEPING, now)
        return [heard]


class Inviter(_Machine):
    """The side that shows the code, for one connection."""

    me: Direction = Direction.INVITER
    they: Direction = Direction.JOINER

    def __init__(self, party: Party, now: float) -> None:
        """Which invitation is meant is asked for when the joiner has named it."""
        super().__init__(party, _State.OPENING, now)
        self._opening = b""
        self._share = b""

    def _on_own(self, event: OwnEvent, now: float) -> list[Action]:
        match event:
            case InvitationFound() if self._state is _State.INVITATION:
                return self._reply(event.password, now)
            case Claimed() if self._state is _State.CLAIM:
                self._spent = True
                self._wait(_State.THEIR_LETTER, now)
                return [self._own_confirm()]
            case Spoken() if self._state is _State.OWN_LETTER:
                self._wait(_State.RECEIPT, now)
                return self._letter(event)
            case _:
                raise AssertionError(f"{event} while waiting for {self._state}")

    def _on_frame(self, frame: AnyFrame, raw: bytes, now: float) -> list[Action]:
        match frame:
            case Opening() if self._state is _State.OPENING:
                if frame.version != VERSION:
                    return self.handle(Withdrawn(Reason.VERSION), now)
                self._their_pledge, self._opening, self._share = frame.pledge, raw, frame.share
                self._wait(_State.INVITATION, now)
                return [Asked(frame.nameplate)]
            case Confirm() if self._state is _State.CONFIRM:
                if not self._confirmed_by(frame.mac):
                    return self._fail(Fault.WRONG_CODE)
                self._wait(_State.CLAIM, now)
                return [Confirmed(self._keys.statement(self.me))]
            case Sealed() if self._state in (_State.THEIR_LETTER, _State.RECEIPT):
                return self._on_sealed(frame, now)
            case _:
                return self._fail(self._strange())

    def _reply(self, password: bytes, now: float) -> list[Action]:
        exchange = Exchange(Side.INVITER, password, self._party.entropy)
        reply = encode(Reply(pledge=self._party.pledge, share=exchange.share))
        try:
            self._agree(exchange, self._share, self._opening, reply)
        except ShareRefused:
            return self._fail(Fault.TAMPERED)
        self._in_play = True
        self._wait(_State.CONFIRM, now)
        return [Send(reply)]

    def _on_sealed(self, sealed: Sealed, now: float) -> list[Action]:
        try:
            if self._state is _State.RECEIPT:
                return self._on_receipt(self._their_seal.open(sealed.box))
            heard = self._hear(sealed.box)
        except SealBroken:
            return self._fail(Fault.TAMPERED)
        if heard is None:
            return []
        self._wait(_State.OWN_LETTER, now, GRANT_S)
        return [heard]

    def _on_receipt(self, receipt: bytes | None) -> list[Action]:
        if receipt != b"":
            raise SealBroken
        self._state = _State.ENDED
        return [Paired()]


def _send(frame: Frame) -> Send:
    return Send(encode(frame))
