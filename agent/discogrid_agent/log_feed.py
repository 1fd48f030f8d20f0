"""What of running attempts' output is sent to those who follow it, within a rate. Pure: the time is told.

Nothing waits here to be sent: a follower has a place in what the attempt's logs keep anyway. Who writes faster than the
rate loses the bytes that are cut there meanwhile; what is kept is sent, late. Attempts take turns, a piece each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from discogrid.rates import Bucket
from discogrid.types import Attempt
from discogrid_agent.log_keeper import LogKeeper

LOG_BYTES_S_MAX = 1 << 20  # of all attempts of this agent together, lasting
LOG_BURST_BYTES = 4 << 20  # the same at once: what two logs of the usual limit keep arrives without a pause
PIECE_BYTES_MAX = 64 << 10  # in one message; nothing else on the line waits for longer than that takes
MESSAGE_BYTES = 256  # what a piece costs beside its content
FOLLOWED_MAX = 4_096  # attempts; no agent runs more. The one that was asked for first is forgotten


@dataclass(frozen=True, slots=True)
class SendLog:
    """Output for the followers of an attempt."""

    attempt: Attempt
    stream: str
    offset: int  # bytes since the stream began
    content: bytes


@dataclass(frozen=True, slots=True)
class SayCut:
    """Something was left out, for the first time; this many bytes of the stream."""

    attempt: Attempt
    stream: str
    missing: int


Action = SendLog | SayCut


class LogFeed:
    """The followed attempts and how far each stream was sent."""

    def __init__(self, logs: Callable[[Attempt], Mapping[str, LogKeeper]], now: float) -> None:
        """`logs` are what a running attempt has written, by stream; none when it does not run."""
        self._logs = logs
        self._places: dict[Attempt, dict[str, int]] = {}
        self._turns: dict[
            tuple[Attempt, str], None
        ] = {}  # which streams may have something to send, in order
        self._cut: set[Attempt] = set()
        self._bucket = Bucket(LOG_BURST_BYTES, LOG_BYTES_S_MAX, now)

    def follow(self, attempt: Attempt) -> None:
        """From the beginning; once more from there when somebody else has come to follow it."""
        self._places.pop(attempt, None)
        if len(self._places) == FOLLOWED_MAX:  # somebody asks for what never runs here
            self.leave(next(iter(self._places)))
        self._places[attempt] = {}
        for stream in self._logs(attempt):
            self.wrote(attempt, stream)

    def begin_again(self) -> None:
        """All of them: the followers know by the place of a piece what they have already."""
        for attempt in tuple(self._places):
            self.follow(attempt)

    def leave(self, attempt: Attempt) -> None:
        """Nobody follows it any more, or it has ended."""
        self._places.pop(attempt, None)
        self._cut.discard(attempt)

    def wrote(self, attempt: Attempt, stream: str) -> None:
        """The attempt has written something."""
        if attempt in self._places:
            self._turns[attempt, stream] = None

    def next(self, now: float) -> list[Action]:
        """Everything that may be sent now."""
        actions: list[Action] = []
        while self._turns and self._bucket.due(PIECE_BYTES_MAX + MESSAGE_BYTES) <= now:
            turn = next(iter(self._turns))
            del self._turns[turn]
            if piece := self._piece(*turn):
                actions += self._send(piece, now)
                self._turns[turn] = None
        return actions

    def deadline(self) -> float | None:
        """When `next` has more; None until somebody follows or writes."""
        return self._bucket.due(PIECE_BYTES_MAX + MESSAGE_BYTES) if self._turns else None

    def _piece(self, attempt: Attempt, stream: str) -> SendLog | None:
        keeper = self._logs(attempt).get(stream)
        places = self._places.get(attempt)
        if keeper is None or places is None:
            return None
        offset, content = keeper.after(places.get(stream, 0), PIECE_BYTES_MAX)
        return SendLog(attempt, stream, offset, content) if content else None

    def _send(self, piece: SendLog, now: float) -> list[Action]:
        places = self._places[piece.attempt]
        missing = piece.offset - places.get(piece.stream, 0)
        places[piece.stream] = piece.offset + len(piece.content)
        self._bucket.part(len(piece.content) + MESSAGE_BYTES, now)
        if not missing or piece.attempt in self._cut:
            return [piece]
        self._cut.add(piece.attempt)
        return [SayCut(piece.attempt, piece.stream, missing), piece]
