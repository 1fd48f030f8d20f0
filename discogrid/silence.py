"""When a line to a coordinator counts as dead, and when to look around again. Pure: times are told."""

SILENCE_S_MAX = 14.0  # a coordinator that says nothing for so long is gone; people are promised 15 s
BEATS_MISSED_MAX = 3  # the same where the coordinator asks to be spoken to more rarely than that
SEARCH_S = (5.0, 10.0, 20.0, 40.0, 60.0)  # from one search in vain to the next


class Silence:
    """How long nothing was heard."""

    def __init__(self, now: float) -> None:
        """`now` counts as heard."""
        self._patience_s = SILENCE_S_MAX
        self._searches = 0
        self.due = now + SILENCE_S_MAX
        """When it will have lasted too long."""

    def expect(self, beat_s: float) -> None:
        """Something is to be heard every `beat_s` seconds."""
        self._patience_s = max(SILENCE_S_MAX, BEATS_MISSED_MAX * beat_s)

    def heard(self, now: float) -> None:
        """The line lives."""
        self._searches = 0
        self.due = now + self._patience_s

    def searched(self, now: float) -> None:
        """It lasted too long, and what could be done was done: wait for an answer, each time longer."""
        self.due = now + SEARCH_S[min(self._searches, len(SEARCH_S) - 1)]
        self._searches += 1
