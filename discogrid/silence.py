"""When a line to a coordinator counts as dead, and when to look around again. Pure: times are told.

Two things bear witness: what the coordinator says, and whether the connection stands, which the transport's own pings
find out. A large grid speaks rarely, so that its agents go by the connection: a host that is gone breaks it.
"""

SILENCE_S_MAX = 14.0  # a coordinator that says nothing for so long is gone; people are promised 15 s
ANSWER_S_MAX = (
    10.0  # the same from a beat that is due to its answer, where the coordinator asks for few beats
)
BROKEN_S_MAX = 2.0  # a connection that is broken for so long: a coordinator that starts again is back sooner
BEAT_S_MIN, BEAT_S_MAX = 0.5, 60.0  # whatever the coordinator asks for
SEARCH_S = (5.0, 10.0, 20.0, 40.0, 60.0)  # from one search in vain to the next


def rhythm(asked_s: float) -> float:
    """Seconds between two beats of an agent that is asked for one every `asked_s`, which may be no number."""
    return min(asked_s, BEAT_S_MAX) if asked_s >= BEAT_S_MIN else BEAT_S_MIN


class Silence:
    """How long nothing was heard."""

    def __init__(self, now: float) -> None:
        """`now` counts as heard."""
        self._patience_s = SILENCE_S_MAX
        self._searches = 0
        self._words_due = now + SILENCE_S_MAX
        self._line_due: float | None = None  # set while the connection is broken

    @property
    def due(self) -> float:
        """When it will have lasted too long."""
        return self._words_due if self._line_due is None else min(self._words_due, self._line_due)

    def expect(self, beat_s: float) -> None:
        """Something is to be heard every `beat_s` seconds, as was just heard."""
        before, self._patience_s = self._patience_s, max(SILENCE_S_MAX, beat_s + ANSWER_S_MAX)
        self._words_due += self._patience_s - before

    def heard(self, now: float) -> None:
        """The coordinator has said something. It may have been on its way when the connection broke."""
        self._searches = 0
        self._words_due = now + self._patience_s

    def broke(self, now: float) -> None:
        """The connection is no more; who searches already does not search more often for that."""
        if self._line_due is None and not self._searches:
            self._line_due = now + BROKEN_S_MAX

    def stands(self) -> None:
        """There is a connection again, on which nothing was said yet."""
        self._line_due = None

    def searched(self, now: float) -> None:
        """It lasted too long, and what could be done was done: wait for an answer, each time longer."""
        self._line_due = None
        self._words_due = now + SEARCH_S[min(self._searches, len(SEARCH_S) - 1)]
        self._searches += 1
