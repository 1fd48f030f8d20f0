"""From whom an agent gets a blob: every search ends at the coordinator at the latest, and who failed is left alone."""

import pytest

from discogrid.types import AgentId, Digest, NodeId
from discogrid_agent.sources import (
    AGAIN_S,
    ANSWER_S,
    PAIRS_MAX,
    PAUSE_S,
    PAUSE_S_MAX,
    PEER_BYTES_S_MIN,
    PEER_S,
    PEERS_TRIED_MAX,
    READ_S,
    READERS_MAX,
    WAIT_S_MAX,
    Ask,
    FromCoordinator,
    FromPeer,
    Named,
    Pairs,
    Readers,
    Search,
    Wait,
)

SIZE = 100 << 20
BARN, LOFT = AgentId("barn"), AgentId("loft")
TREE = Digest("blake3:tree")


def named(agent: AgentId = BARN) -> Named:
    return Named(agent, NodeId(f"node of {agent}"), "tcp://10.0.0.2:7")


def asked(now: float = 0.0) -> Search:
    search = Search(SIZE, now)
    assert search.begin(now) == Ask(now + ANSWER_S)
    return search


def test_the_coordinator_names_an_agent() -> None:
    assert asked().told(named(), 1.0) == FromPeer(named(), PEER_S + SIZE / PEER_BYTES_S_MIN)


def test_the_coordinator_names_nobody() -> None:
    assert asked().told(None, 1.0) == FromCoordinator()


def test_a_coordinator_that_says_nothing_is_where_the_blob_is() -> None:
    assert asked().heard_nothing(ANSWER_S) == FromCoordinator()


def test_who_is_told_to_wait_asks_again_when_the_word_is_lost() -> None:
    search = asked()
    assert search.told(None, 1.0, wait=True) == Wait(1.0 + AGAIN_S)
    assert search.heard_nothing(3.0) == Ask(3.0 + ANSWER_S)
    assert search.heard_nothing(5.0) == FromCoordinator()  # now it is silent altogether


def test_nobody_waits_for_ever() -> None:
    search, now = asked(), 0.0
    while isinstance(step := search.told(None, now, wait=True), Wait):
        now = step.until
        assert isinstance(search.heard_nothing(now), Ask)
    assert step == FromCoordinator()
    assert now == WAIT_S_MAX


def test_who_fails_is_said_and_not_tried_again() -> None:
    search = asked()
    search.told(named(), 0.0)
    assert search.peer_failed(BARN, 5.0) == Ask(5.0 + ANSWER_S, BARN)
    assert search.told(named(LOFT), 6.0) == FromPeer(named(LOFT), PEER_S + SIZE / PEER_BYTES_S_MIN)
    assert search.told(named(BARN), 6.0) == FromCoordinator()


def test_after_so_many_in_vain_it_is_the_coordinator() -> None:
    search = asked()
    steps = [search.peer_failed(AgentId(str(number)), 1.0) for number in range(PEERS_TRIED_MAX)]
    assert isinstance(steps[-2], Ask)
    assert steps[-1] == FromCoordinator()


def test_a_pair_that_failed_rests_longer_each_time_and_never_too_long() -> None:
    pairs = Pairs()
    longest = []
    now = 0.0
    for _ in range(20):
        pairs.failed(BARN, now, 0.5)
        rests = next(second / 2 for second in range(1000) if BARN not in pairs.resting(now + second / 2))
        longest.append(rests)
        now += rests
    assert longest[:3] == [PAUSE_S / 2, PAUSE_S, PAUSE_S * 2]
    assert longest[-1] == PAUSE_S_MAX / 2
    pairs.worked(BARN)
    pairs.worked(LOFT)
    pairs.failed(BARN, now, 0.5)
    assert pairs.resting(now) == (BARN,)
    assert pairs.resting(now + PAUSE_S / 2) == ()


def test_pairs_and_readers_that_are_remembered_are_bounded() -> None:
    pairs, readers = Pairs(), Readers()
    for number in range(PAIRS_MAX + 5):
        pairs.failed(AgentId(str(number)), 0.0, 0.9)
    assert len(pairs.resting(0.0)) == PAIRS_MAX
    for number in range(READERS_MAX + 1):
        readers.allow(str(number), TREE, 0.0)
    assert [readers.may(str(number), TREE, 0.0) for number in (0, 1)] == [False, True]


@pytest.mark.parametrize(("after_s", "may"), [(READ_S, True), (READ_S + 1, False)])
def test_a_reader_may_read_for_a_while(after_s: float, may: bool) -> None:
    readers = Readers()
    assert not readers.may("barn", TREE, 0.0)
    readers.allow("barn", TREE, 0.0)
    assert readers.may("barn", TREE, 100.0)  # and from then on as long
    assert readers.may("barn", TREE, 100.0 + after_s) is may
    assert not readers.may("loft", TREE, 0.0)
