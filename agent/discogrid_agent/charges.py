"""What running attempts cost their submitters. Pure: starts and ends in, CPU seconds by submitter out.

A CPU second is a slot held for a second: what the owner lends, whether a task makes use of it or waits.
"""

from dataclasses import dataclass

from discogrid.types import Attempt, NodeId


@dataclass(slots=True)
class _Charge:
    submitter: NodeId
    cpus: int
    since: float  # what came before is booked


class Charges:
    """Who uses this machine just now. All times in seconds of a clock that never goes back."""

    def __init__(self) -> None:
        """Nobody."""
        self._running: dict[Attempt, _Charge] = {}
        self._over: dict[NodeId, float] = {}  # of attempts that have ended

    def begin(self, attempt: Attempt, submitter: NodeId, cpus: int, now: float) -> None:
        """The attempt holds its slots from now on."""
        self._running[attempt] = _Charge(submitter, cpus, now)

    def end(self, attempt: Attempt, now: float) -> None:
        """The attempt holds nothing any more; once more, nothing happens."""
        if charge := self._running.pop(attempt, None):
            self._add(self._over, charge, now)

    def open(self, submitter: NodeId, now: float) -> float:
        """The submitter's CPU seconds that are not booked yet."""
        seconds = dict(self._over)
        for charge in self._running.values():
            self._add(seconds, charge, now)
        return seconds.get(submitter, 0.0)

    def book(self, now: float) -> dict[NodeId, float]:
        """What is to be booked now, by submitter; from then on it is not open."""
        for charge in self._running.values():
            self._add(self._over, charge, now)
            charge.since = now
        seconds, self._over = self._over, {}
        return seconds

    @staticmethod
    def _add(seconds: dict[NodeId, float], charge: _Charge, now: float) -> None:
        used = (now - charge.since) * charge.cpus
        seconds[charge.submitter] = seconds.get(charge.submitter, 0.0) + used
