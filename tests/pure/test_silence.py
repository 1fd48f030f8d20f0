from math import inf, nan

import pytest

from discogrid.silence import (
    ANSWER_S_MAX,
    BEAT_S_MAX,
    BEAT_S_MIN,
    BROKEN_S_MAX,
    SEARCH_S,
    SILENCE_S_MAX,
    Silence,
    rhythm,
)
from discogrid.transport.limits import PING_MS, PING_TIMEOUT_MS
from discogrid_coordinator import policies

PROMISED_S = 15.0


def in_a_grid_of(agents: int) -> Silence:
    """What an agent of such a grid goes by, which has just been welcomed."""
    silence = Silence(0.0)
    silence.heard(0.0)
    silence.expect(rhythm(policies.heartbeat_interval(agents)))
    return silence


def test_a_silence_is_noticed_in_the_time_that_is_promised() -> None:
    silence = Silence(100.0)

    silence.heard(107.0)

    assert silence.due == 107.0 + SILENCE_S_MAX
    assert SILENCE_S_MAX < PROMISED_S


@pytest.mark.parametrize("agents", [1, 800, 1_000, 10_000, 100_000])
def test_a_host_that_is_gone_is_noticed_in_the_time_that_is_promised_in_a_grid_of_any_size(
    agents: int,
) -> None:
    silence = in_a_grid_of(agents)
    pinged_in_vain_s = (PING_MS + PING_TIMEOUT_MS) / 1000  # at the latest the connection is given up

    silence.broke(pinged_in_vain_s)

    assert silence.due < PROMISED_S


@pytest.mark.parametrize("agents", [1, 800, 1_000, 10_000, 100_000])
def test_a_coordinator_that_hangs_behind_a_connection_is_noticed_after_one_beat_without_an_answer(
    agents: int,
) -> None:
    silence = in_a_grid_of(agents)
    patience_s = max(SILENCE_S_MAX, min(policies.heartbeat_interval(agents), BEAT_S_MAX) + ANSWER_S_MAX)

    assert silence.due == patience_s  # from the welcome on: the first beat is not due before
    silence.heard(10.0)
    assert silence.due == 10.0 + patience_s


def test_a_connection_that_is_made_again_soon_is_no_silence() -> None:
    silence = in_a_grid_of(10_000)
    before = silence.due

    silence.broke(1.0)
    silence.stands()

    assert silence.due == before


def test_a_connection_that_comes_and_goes_without_a_word_postpones_nothing() -> None:
    silence = in_a_grid_of(1)
    for second in range(1, 20):
        silence.broke(float(second))
        silence.stands()

    assert silence.due == SILENCE_S_MAX


def test_a_word_that_was_on_its_way_when_the_connection_broke_does_not_mend_it() -> None:
    silence = in_a_grid_of(10_000)

    silence.broke(1.0)
    silence.heard(1.1)
    silence.broke(2.0)

    assert silence.due == 1.0 + BROKEN_S_MAX


def test_who_searches_does_not_search_more_often_because_connections_break() -> None:
    silence = in_a_grid_of(1)
    silence.broke(1.0)
    silence.searched(4.0)

    silence.broke(4.5)

    assert silence.due == 4.0 + SEARCH_S[0]


def test_searches_in_vain_become_rarer_until_something_is_heard() -> None:
    silence = Silence(0.0)
    waits = []
    for _ in range(7):
        silence.searched(0.0)
        waits.append(silence.due)

    silence.heard(0.0)
    silence.searched(0.0)

    assert waits == [*SEARCH_S, SEARCH_S[-1], SEARCH_S[-1]]
    assert silence.due == SEARCH_S[0]


@pytest.mark.parametrize(
    ("asked_s", "kept_s"),
    [
        (2.0, 2.0),
        (50.0, 50.0),
        (600.0, BEAT_S_MAX),
        (inf, BEAT_S_MAX),
        (0.0, BEAT_S_MIN),
        (-1.0, BEAT_S_MIN),
        (nan, BEAT_S_MIN),
    ],
)
def test_an_agent_beats_as_it_is_asked_to_within_bounds(asked_s: float, kept_s: float) -> None:
    assert rhythm(asked_s) == kept_s
