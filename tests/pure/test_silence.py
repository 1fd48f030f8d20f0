from discogrid.silence import SEARCH_S, SILENCE_S_MAX, Silence


def test_a_silence_is_noticed_in_the_time_that_is_promised() -> None:
    silence = Silence(100.0)

    silence.heard(107.0)

    assert silence.due == 107.0 + SILENCE_S_MAX
    assert SILENCE_S_MAX < 15.0


def test_a_coordinator_of_many_agents_may_answer_more_rarely() -> None:
    silence = Silence(0.0)

    silence.expect(50.0)
    silence.heard(1.0)

    assert silence.due == 151.0


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
