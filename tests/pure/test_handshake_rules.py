"""Two sides of a pairing on a network that loses, doubles, reorders, bends, reflects and replays, driven by Hypothesis."""

from collections import deque

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from discogrid.keys import new_identity
from discogrid.pairing.frames import Reason
from discogrid.pairing.handshake import (
    PAIRING_TYPE,
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

IDENTITIES = {"joiner": new_identity(), "inviter": new_identity()}
LETTERS = {"joiner": b"I am attic", "inviter": b"welcome" * 3000}
OTHER = {"joiner": "inviter", "inviter": "joiner"}
EARLIER: list[tuple[str, bytes]] = []  # frames of former exchanges with the same identities
EARLIER_MAX = 64
sides = st.sampled_from(sorted(OTHER))


class PairingRules(RuleBasedStateMachine):
    """One exchange; every frame waits until a rule lets it through, or does something worse."""

    @initialize(right=st.booleans(), seed=st.binary(min_size=64, max_size=64))
    def begin(self, right: bool, seed: bytes) -> None:
        self.right = right
        self.now = 0.0
        self.wires: dict[str, deque[bytes]] = {"joiner": deque(), "inviter": deque()}  # by who receives
        self.said: dict[str, list[bytes]] = {"joiner": [], "inviter": []}
        self.heard: dict[str, Heard] = {}
        self.ends: dict[str, Paired | Failed] = {}
        typed = b"crater-mango" if right else b"crater-melon"
        parties = {side: Party(IDENTITIES[side].public, seed[:32], seed) for side in OTHER}
        self.machines: dict[str, Joiner | Inviter] = {
            "joiner": Joiner("4", typed, parties["joiner"], 0.0),
            "inviter": Inviter(parties["inviter"], 0.0),
        }
        self.tell("joiner", LineOpened())

    def tell(self, side: str, event: Event) -> None:
        over = side in self.ends
        actions = self.machines[side].handle(event, self.now)
        assert not (over and actions), "a side acted after its end"
        for action in actions:
            self.perform(side, action)

    def perform(self, side: str, action: Action) -> None:
        match action:
            case Send():
                self.wires[OTHER[side]].append(action.raw)
                self.said[side].append(action.raw)
                EARLIER.append((side, action.raw))
                del EARLIER[:-EARLIER_MAX]
            case Asked():
                found = action.nameplate == "4"
                self.tell(side, InvitationFound(b"crater-mango") if found else Withdrawn(Reason.UNKNOWN))
            case Confirmed():
                proof = IDENTITIES[side].seal(PAIRING_TYPE, action.statement)
                self.statement = action.statement
                if side == "inviter":
                    self.proof = proof
                    self.tell(side, Claimed())
                else:
                    self.tell(side, Spoken(proof, LETTERS[side]))
            case Heard():
                self.heard[side] = action
                self.tell(side, Spoken(self.proof, LETTERS[side]) if side == "inviter" else Kept())
            case Paired() | Failed():
                self.ends[side] = action

    # The network.

    @rule(side=sides)
    def deliver(self, side: str) -> None:
        if self.wires[side]:
            self.tell(side, FrameArrived(self.wires[side].popleft()))

    @rule()
    def deliver_all(self) -> None:
        while any(self.wires.values()):
            for side in OTHER:
                self.deliver(side)

    @rule(side=sides)
    def lose(self, side: str) -> None:
        if self.wires[side]:
            self.wires[side].popleft()

    @rule(side=sides)
    def double(self, side: str) -> None:
        if self.wires[side]:
            self.wires[side].appendleft(self.wires[side][0])

    @rule(side=sides)
    def reorder(self, side: str) -> None:
        self.wires[side].rotate(1)

    @rule(side=sides, at=st.integers(0, 1 << 20), bit=st.integers(0, 7))
    def bend(self, side: str, at: int, bit: int) -> None:
        if self.wires[side]:
            raw = bytearray(self.wires[side].popleft())
            raw[at % len(raw)] ^= 1 << bit
            self.wires[side].appendleft(bytes(raw))

    @rule(side=sides, noise=st.binary(max_size=80))
    def babble(self, side: str, noise: bytes) -> None:
        self.wires[side].appendleft(noise)

    @rule(side=sides, at=st.integers(0, 20))
    def reflect(self, side: str, at: int) -> None:
        if self.said[side]:
            self.wires[side].appendleft(self.said[side][at % len(self.said[side])])

    @precondition(lambda _self: bool(EARLIER))
    @rule(side=sides, at=st.integers(0, EARLIER_MAX))
    def replay(self, side: str, at: int) -> None:
        self.wires[side].appendleft(EARLIER[at % len(EARLIER)][1])

    @rule(side=sides, seconds=st.floats(0.0, 60.0))
    def pass_time(self, side: str, seconds: float) -> None:
        self.now += seconds
        self.tell(side, TimePassed())

    @rule(side=sides)
    def cut(self, side: str) -> None:
        self.tell(side, LineClosed())

    @rule()
    def withdraw(self) -> None:
        self.tell("inviter", Withdrawn(Reason.BURNT))

    # What holds whatever happens.

    @invariant()
    def who_does_not_know_the_code_is_told_nothing(self) -> None:
        assert self.right or not self.heard

    @invariant()
    def what_is_heard_is_what_the_other_said(self) -> None:
        for side, heard in self.heard.items():
            assert heard == Heard(IDENTITIES[OTHER[side]].public, LETTERS[OTHER[side]])

    @invariant()
    def the_inviter_is_done_only_when_the_joiner_has_kept_the_grant(self) -> None:
        if self.ends.get("inviter") == Paired():
            assert self.ends["joiner"] == Paired()
            assert set(self.heard) == {"joiner", "inviter"}

    @invariant()
    def whoever_said_what_a_guess_can_be_tested_against_gives_the_code_up(self) -> None:
        end = self.ends.get("joiner")
        if isinstance(end, Failed) and len(self.said["joiner"]) > 1:
            assert end.spent

    @invariant()
    def a_wrong_guess_is_always_noticed_by_the_inviter(self) -> None:
        end = self.ends.get("inviter")
        if isinstance(end, Failed) and end.fault in (Fault.WRONG_CODE, Fault.TAMPERED):
            assert end.spent

    @invariant()
    def nothing_that_tells_who_or_what_travels_in_the_clear(self) -> None:
        for raw in (*self.said["joiner"], *self.said["inviter"]):
            assert not any(identity.public in raw for identity in IDENTITIES.values())
            assert b"welcome" not in raw
            assert b"attic" not in raw


TestPairingRules = PairingRules.TestCase
TestPairingRules.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
