"""What an agent has finished and the coordinator has not acknowledged. Pure: part of the agent machine."""

from dataclasses import dataclass
from enum import Enum, auto

from discogrid.types import Attempt, Outcome
from discogrid_agent.events import Action, DropArchive, SendDone

SENDS_MAX = 8
"""Results on their way at the same time."""
SEND_TRIES_MAX = 8
"""Failed uploads of one result before the attempt is reported as a failed transfer."""
SEND_PAUSE_S = 1.0
"""Before the second try; doubles with each further one."""
SEND_PAUSE_MAX_S = 60.0
ACK_S = 10.0
"""A result sent and not acknowledged for so long is offered again."""


class _State(Enum):
    WAITING = auto()
    LEAVING = auto()
    SENT = auto()


@dataclass(slots=True)
class _Parcel:
    outcome: Outcome
    reason: str
    result: object
    state: _State = _State.WAITING
    tries: int = 0
    due: float = 0.0  # WAITING: when to send; SENT: when to offer it again


class Outbox:
    """Results, oldest first, each kept until the coordinator has committed or discarded it."""

    def __init__(self) -> None:
        self._parcels: dict[Attempt, _Parcel] = {}
        self._leaving = 0

    def __len__(self) -> int:
        """How many results are not acknowledged."""
        return len(self._parcels)

    def __contains__(self, attempt: Attempt) -> bool:
        """Whether the attempt's result is kept."""
        return attempt in self._parcels

    def attempts(self) -> list[Attempt]:
        """Whose results are kept."""
        return list(self._parcels)

    def put(self, attempt: Attempt, outcome: Outcome, reason: str, result: object = None) -> None:
        """A result to be offered until it is acknowledged."""
        self._parcels[attempt] = _Parcel(outcome, reason, result)

    def drop(self, attempt: Attempt) -> list[Action]:
        """Acknowledged, or wanted by nobody any more."""
        parcel = self._parcels.pop(attempt, None)
        if parcel is None:
            return []
        self._leaving -= parcel.state is _State.LEAVING
        return [] if parcel.result is None else [DropArchive(attempt)]

    def on_sent(self, attempt: Attempt, now: float) -> None:
        """On its way to the coordinator."""
        if parcel := self._departing(attempt):
            parcel.state, parcel.due = _State.SENT, now + ACK_S

    def on_send_failed(self, attempt: Attempt, reason: str, now: float) -> list[Action]:
        """The upload failed; after the last try only the news of it goes out."""
        parcel = self._departing(attempt)
        if parcel is None:
            return []
        parcel.state = _State.WAITING
        parcel.tries += 1
        parcel.due = now + min(SEND_PAUSE_MAX_S, SEND_PAUSE_S * 2.0 ** min(parcel.tries - 1, 16))
        if parcel.tries < SEND_TRIES_MAX or parcel.result is None:
            return []
        parcel.outcome, parcel.reason, parcel.result = Outcome.TRANSFER_FAILED, reason, None
        return [DropArchive(attempt)]

    def on_line_lost(self) -> None:
        """Whatever was under way may not have arrived: offer it again on the next line."""
        self._leaving = 0
        for parcel in self._parcels.values():
            parcel.state, parcel.due = _State.WAITING, 0.0

    def step(self, now: float) -> list[Action]:
        """The results to send now, the line being up."""
        actions: list[Action] = []
        for attempt, parcel in self._parcels.items():
            if self._leaving >= SENDS_MAX:
                break
            if parcel.state is not _State.LEAVING and parcel.due <= now:
                parcel.state = _State.LEAVING
                self._leaving += 1
                actions.append(SendDone(attempt, parcel.outcome, parcel.reason, parcel.result))
        return actions

    def deadline(self) -> float | None:
        """When the next result is to be sent, the line being up."""
        if self._leaving >= SENDS_MAX:
            return None
        resting = (parcel.due for parcel in self._parcels.values() if parcel.state is not _State.LEAVING)
        return min(resting, default=None)

    def _departing(self, attempt: Attempt) -> _Parcel | None:
        parcel = self._parcels.get(attempt)
        if parcel is None or parcel.state is not _State.LEAVING:
            return None
        self._leaving -= 1
        return parcel

    def check(self) -> None:
        """Every invariant."""
        leaving = sum(parcel.state is _State.LEAVING for parcel in self._parcels.values())
        assert leaving == self._leaving <= SENDS_MAX
