"""Who is sent to whom for a blob: the first to the coordinator, the others to each other, and nobody is held up for long."""

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from discogrid.types import AgentId, Digest
from discogrid_coordinator.tracker import (
    BLOBS_AGENT_MAX,
    COMING_S,
    DOUBT_S,
    HOLDERS_MAX,
    RATE_BYTES_S_MIN,
    STALL_S,
    UPLOADS_MAX,
    Advice,
    Tracker,
)

A, B, C, D, E = (AgentId(name) for name in "abcde")
TREE, FILM = Digest("blake3:tree"), Digest("blake3:film")
SIZE = 100 << 20


def tracker(*agents: AgentId) -> Tracker:
    made = Tracker()
    for agent in agents or (A, B, C, D, E):
        made.joined(agent, serves=True)
    return made


def relayed(agent: AgentId, digest: Digest = TREE) -> Advice:
    return Advice(agent, digest)


def waits(agent: AgentId, digest: Digest = TREE) -> Advice:
    return Advice(agent, digest, wait=True)


def test_one_gets_it_from_the_coordinator_and_what_is_held_doubles_from_round_to_round() -> None:
    of = tracker()
    assert of.want(A, TREE, SIZE, 0.0) == [relayed(A)]
    for agent in (B, C, D):
        assert of.want(agent, TREE, SIZE, 0.0) == [waits(agent)]
    assert of.held(A, TREE, 1.0) == [Advice(B, TREE, A)]
    assert of.held(B, TREE, 2.0) == [Advice(C, TREE, A), Advice(D, TREE, B)]
    assert of.held(C, TREE, 3.0) == of.held(D, TREE, 3.0) == []
    assert of.want(E, TREE, SIZE, 4.0) == [Advice(E, TREE, A)]
    of.check()


def test_who_has_a_blob_and_serves_others_is_known() -> None:
    of = tracker()
    of.joined(E, serves=False)
    for agent in (A, B, E):
        of.held(agent, TREE, 0.0)
    of.dropped(A, TREE, 1.0)
    assert (of.holders(TREE), of.holders(FILM), len(of)) == ((B,), (), 1)


def test_who_has_the_fewest_uploads_of_other_blobs_is_named_first() -> None:
    of = tracker()
    for digest in (TREE, FILM):
        for agent in (A, B):
            of.held(agent, digest, 0.0)
    assert of.want(C, TREE, SIZE, 0.0) == [Advice(C, TREE, A)]
    assert of.want(C, FILM, SIZE, 0.0) == [Advice(C, FILM, B)]
    assert of.want(D, TREE, SIZE, 0.0) == [Advice(D, TREE, B)]
    assert of.want(D, FILM, SIZE, 0.0) == [Advice(D, FILM, A)]
    assert of.held(D, FILM, 1.0) == []
    of.check()


def test_an_agent_that_sends_as_many_blobs_as_it_may_makes_others_wait() -> None:
    of = tracker()
    blobs = [Digest(f"blake3:{number}") for number in range(UPLOADS_MAX + 1)]
    for digest in blobs:
        of.held(A, digest, 0.0)
    for digest in blobs[:-1]:
        assert of.want(B, digest, SIZE, 0.0) == [Advice(B, digest, A)]
    assert of.want(C, blobs[-1], SIZE, 0.0) == [waits(C, blobs[-1])]
    of.check()


def test_who_has_got_the_coordinators_grant_and_dies_holds_nobody_up() -> None:
    of = tracker()
    of.want(A, TREE, SIZE, 0.0)
    of.want(B, TREE, SIZE, 0.0)
    of.want(C, TREE, SIZE, 0.0)
    assert of.left(A, 1.0) == [relayed(B)]
    of.check()
    assert of.held(B, TREE, 2.0) == [Advice(C, TREE, B)]


def test_who_falls_silent_with_a_blob_on_its_way_makes_nobody_wait() -> None:
    of = tracker()
    of.want(A, TREE, SIZE, 0.0)
    of.coming(A, TREE, 4.0)
    of.coming(D, TREE, 4.0)  # it never asked
    assert of.want(B, TREE, SIZE, 4.0 + STALL_S) == [waits(B)]
    assert of.want(B, TREE, SIZE, 4.0 + STALL_S + 0.1) == [relayed(B)]
    of.check()


def test_who_moves_on_and_is_too_slow_makes_nobody_wait() -> None:
    of = tracker()
    of.want(A, TREE, SIZE, 0.0)
    end = COMING_S + SIZE / RATE_BYTES_S_MIN
    for second in range(int(end) + 2):
        of.coming(A, TREE, float(second))
    assert of.want(B, TREE, SIZE, end) == [waits(B)]
    assert of.want(B, TREE, SIZE, end + 1.0) == [relayed(B)]


def test_who_waited_and_has_helped_itself_is_not_sent_anywhere() -> None:
    of = tracker()
    of.want(A, TREE, SIZE, 0.0)
    of.want(B, TREE, SIZE, 0.0)
    of.want(C, TREE, SIZE, 3.0)
    of.coming(A, TREE, 5.0)
    assert of.held(A, TREE, STALL_S + 1.0) == [Advice(C, TREE, A)]
    of.check()


def test_a_question_that_crosses_its_answer_is_answered_the_same_way() -> None:
    of = tracker()
    of.held(A, TREE, 0.0)
    assert of.want(B, TREE, SIZE, 0.0) == of.want(B, TREE, SIZE, 0.1) == [Advice(B, TREE, A)]
    assert of.want(C, FILM, SIZE, 0.0) == [relayed(C, FILM)]
    assert of.want(D, FILM, SIZE, 0.0) == [waits(D, FILM)]
    assert of.want(C, FILM, SIZE, 0.1) == [relayed(C, FILM)]
    of.check()


def test_who_failed_is_not_named_to_the_same_agent_and_its_place_goes_to_the_next() -> None:
    of = tracker()
    of.held(A, TREE, 0.0)
    of.want(B, TREE, SIZE, 0.0)
    assert of.want(C, TREE, SIZE, 0.0) == [waits(C)]
    assert of.want(B, TREE, SIZE, 5.0, avoid=[A], failed=A) == [relayed(B), Advice(C, TREE, A)]
    of.check()


def test_who_has_failed_two_is_named_to_nobody_until_that_is_long_ago() -> None:
    of = tracker()
    of.held(A, TREE, 0.0)
    for agent in (B, C):
        assert of.want(agent, TREE, SIZE, 0.0) == [Advice(agent, TREE, A)]
        of.want(agent, TREE, SIZE, 5.0, failed=A)
        of.dropped(agent, TREE, 5.0)
    assert of.want(D, TREE, SIZE, 6.0) == [relayed(D)]
    of.dropped(D, TREE, 7.0)
    assert of.want(D, TREE, SIZE, 5.0 + DOUBT_S) == [Advice(D, TREE, A)]


def test_who_delivers_is_not_doubted_any_more() -> None:
    of = tracker()
    of.held(A, TREE, 0.0)
    of.want(B, TREE, SIZE, 0.0)
    of.want(B, TREE, SIZE, 1.0, failed=A)
    of.want(C, TREE, SIZE, 1.0)
    of.held(C, TREE, 2.0)
    of.dropped(C, TREE, 2.0)
    of.want(D, TREE, SIZE, 2.0)
    of.want(D, TREE, SIZE, 3.0, failed=A)
    for agent in (B, D):
        of.dropped(agent, TREE, 3.0)
    assert of.want(E, TREE, SIZE, 3.0) == [Advice(E, TREE, A)]


def test_whoever_accuses_an_agent_that_it_was_not_sent_to_is_not_believed() -> None:
    of = tracker()
    of.held(A, TREE, 0.0)
    for agent in (B, C, D):
        of.want(agent, TREE, SIZE, 0.0, failed=A)
    assert of.want(E, TREE, SIZE, 0.0) == [Advice(E, TREE, A)]


def test_who_serves_nobody_makes_nobody_wait_and_is_served() -> None:
    of = tracker(B)
    of.joined(A, serves=True)
    of.joined(A, serves=False)
    assert of.want(A, TREE, SIZE, 0.0) == [relayed(A)]
    assert of.want(B, TREE, SIZE, 0.0) == [relayed(B)]
    assert of.held(A, TREE, 1.0) == []
    of.held(B, TREE, 1.0)
    assert of.want(C, TREE, SIZE, 1.0) == [Advice(C, TREE, B)]
    of.check()


def test_who_runs_inside_the_coordinators_machine_is_named_there_alone() -> None:
    of = tracker(C, D)
    for agent in (A, B):
        of.joined(agent, serves=True, inside=True)
    assert of.want(A, TREE, SIZE, 0.0) == [relayed(A)]
    assert of.want(B, TREE, SIZE, 0.0) == [waits(B)]
    assert of.want(C, TREE, SIZE, 0.0) == [relayed(C)], "nobody else waits for it"
    assert of.held(A, TREE, 1.0) == [Advice(B, TREE, A)]
    assert of.want(D, TREE, SIZE, 1.0) == [waits(D)]
    assert of.held(C, TREE, 2.0) == [Advice(D, TREE, C)]
    of.held(B, TREE, 2.0)
    of.left(A, 3.0)
    of.joined(A, serves=True)
    of.held(A, TREE, 3.0)
    of.joined(C, serves=False)
    assert of.want(E, TREE, SIZE, 3.0) == [Advice(E, TREE, A)]
    of.check()


def test_a_replica_that_is_gone_is_named_to_nobody() -> None:
    of = tracker()
    of.held(A, TREE, 0.0)
    assert of.dropped(A, TREE, 1.0) == of.dropped(A, TREE, 1.0) == of.dropped(A, FILM, 1.0) == []
    assert of.want(B, TREE, SIZE, 1.0) == [relayed(B)]
    assert of.held(B, TREE, 2.0) == []
    assert of.want(B, TREE, SIZE, 3.0) == [relayed(B)]  # it has lost it
    of.check()


def test_who_may_not_be_sent_where_the_next_one_may_lets_that_one_pass() -> None:
    of = tracker()
    of.want(A, TREE, SIZE, 0.0)
    of.want(E, TREE, SIZE, 0.0)
    of.want(B, TREE, SIZE, 0.0, avoid=[C])
    of.want(C, TREE, SIZE, 0.0)
    of.want(D, TREE, SIZE, 0.0, avoid=[A])
    assert of.held(A, TREE, 1.0) == [Advice(E, TREE, A)]
    of.check()
    assert of.held(E, TREE, 2.0) == [Advice(B, TREE, A), Advice(C, TREE, E)]
    of.check()


def test_replicas_and_blobs_are_bounded() -> None:
    of = tracker()
    for number in range(HOLDERS_MAX + 5):
        of.joined(AgentId(f"agent-{number}"), serves=True)
        of.held(AgentId(f"agent-{number}"), TREE, 0.0)
    assert len(of._blobs[TREE].holders) == HOLDERS_MAX
    for number in range(BLOBS_AGENT_MAX):
        of.held(A, Digest(f"blake3:{number}"), 0.0)
    assert of.want(A, FILM, SIZE, 0.0) == [relayed(A, FILM)]
    assert of.held(A, FILM, 0.0) == []
    assert FILM not in of._blobs
    of.check()
    assert of.left(A, 1.0) == []
    assert of._blobs.keys() == {TREE}


class Grid(RuleBasedStateMachine):
    """Agents that ask, get, fail, lie, leave and fall silent; the books stay right, and nobody is sent where it must not go."""

    agents = st.sampled_from([A, B, C, D, E])
    digests = st.sampled_from([TREE, FILM])

    def __init__(self) -> None:
        super().__init__()
        self.of = tracker()
        self.now = 0.0
        self.said: dict[tuple[AgentId, Digest], set[AgentId]] = {}

    def heard(self, told: Sequence[Advice]) -> None:
        for advice in told:
            blob = self.of._blobs[advice.digest]
            if advice.holder is not None:
                assert advice.holder != advice.agent
                assert advice.holder in blob.holders
                assert advice.holder not in self.said.get((advice.agent, advice.digest), ())
            assert advice.wait == (advice.agent in blob.waiting)

    @rule(agent=agents, digest=digests, avoid=st.sets(agents, max_size=2), failed=st.none() | agents)
    def asks(self, agent: AgentId, digest: Digest, avoid: set[AgentId], failed: AgentId | None) -> None:
        self.said[agent, digest] = avoid | ({failed} if failed else set())
        told = self.of.want(agent, digest, SIZE, self.now, avoid=avoid, failed=failed)
        assert [advice.agent for advice in told].count(agent) == 1
        self.heard(told)

    @rule(agent=agents, digest=digests)
    def gets(self, agent: AgentId, digest: Digest) -> None:
        self.heard(self.of.held(agent, digest, self.now))

    @rule(agent=agents, digest=digests)
    def lets_go(self, agent: AgentId, digest: Digest) -> None:
        self.heard(self.of.dropped(agent, digest, self.now))

    @rule(agent=agents, digest=digests)
    def moves_on(self, agent: AgentId, digest: Digest) -> None:
        self.of.coming(agent, digest, self.now)

    @rule(agent=agents, serves=st.booleans())
    def comes(self, agent: AgentId, serves: bool) -> None:
        self.of.joined(agent, serves=serves)

    @rule(agent=agents)
    def leaves(self, agent: AgentId) -> None:
        self.heard(self.of.left(agent, self.now))

    @rule(seconds=st.floats(0.1, 30.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_books_are_right(self) -> None:
        self.of.check()

    @invariant()
    def nobody_waits_for_nobody(self) -> None:
        for blob in self.of._blobs.values():
            assert not blob.waiting or blob.holders or blob.coming or not self.of._serving


TestGrid = Grid.TestCase
TestGrid.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
