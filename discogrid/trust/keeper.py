"""The newest roster that this node has seen: kept in a file, replaced by a newer one only."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from discogrid.errors import SignatureRefused
from discogrid.locks import waiting_for
from discogrid.private_files import replace_file
from discogrid.trust.roster import ROSTER_BYTES_MAX, Roster, open_roster
from discogrid.types import NodeId

FILE = "roster"

log: Final = logging.getLogger(__name__)


class RosterKeeper:
    """Answers who belongs to the grid, now. One a process and grid; processes of one home share the file."""

    def __init__(self, roster: Roster, file: Path | None = None) -> None:
        """Begin with `roster`; without a `file` nothing outlives the process."""
        self._roster = roster
        self._file = file
        self._listeners: list[Callable[[Roster, Roster], None]] = []

    @classmethod
    def load(cls, folder: Path, owner: bytes) -> "RosterKeeper":
        """The roster kept in `folder`; FileNotFoundError when there is none, SignatureRefused when it is not the owner's."""
        file = folder / FILE
        return cls(_read(file, owner), file)

    @property
    def current(self) -> Roster:
        """The newest roster; it may have expired, see `Roster.check_time`."""
        return self._roster

    def admitted(self, curve: bytes) -> NodeId | None:
        """The member that owns this CURVE key (Z85), by the newest roster of this moment."""
        return self._roster.admitted(curve)

    def on_change(self, listener: Callable[[Roster, Roster], None]) -> Callable[[], None]:
        """Call `listener(before, after)` whenever a newer roster has taken an older one's place; call the answer to end."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def offer(self, envelope: bytes, now: float) -> bool:
        """Take a newer roster of the same owner: keep it, then go by it. False when it is not newer.

        SignatureRefused when the owner did not sign it, or it has expired; nothing changes then.
        """
        offered = open_roster(envelope, self._roster.owner, now)
        if offered.version <= self._roster.version:
            return False
        if self._file is not None:
            offered = _keep(self._file, offered)
        before, self._roster = self._roster, offered
        for listener in tuple(self._listeners):
            listener(before, offered)
        return True

    def exchange(self, payload: Sequence[bytes], now: float) -> bytes | None:
        """Take the roster that another node goes by (none, when it has ours); ours when that one should take it.

        One that is not taken is written to the log, and ours stays.
        """
        if not payload:
            return None
        try:
            taken = self.offer(payload[0], now)
        except SignatureRefused as error:
            log.warning("another node's roster is not used: %s", error)
            return None
        if taken or payload[0] == self._roster.envelope:
            return None
        log.info(
            "another node's roster is not used: it is not newer than ours, version %d", self._roster.version
        )
        return self._roster.envelope


def _keep(file: Path, roster: Roster) -> Roster:
    """Write the roster unless the file has a newer one, of another process; the newer of both."""
    with waiting_for(file.with_name(f".{file.name}.lock")):
        try:
            kept = _read(file, roster.owner)
        except (FileNotFoundError, SignatureRefused):
            kept = None
        if kept is not None and kept.version >= roster.version:
            return kept
        replace_file(file, roster.envelope)
    return roster


def _read(file: Path, owner: bytes) -> Roster:
    with file.open("rb") as kept:
        envelope = kept.read(ROSTER_BYTES_MAX + 1)
    try:
        return open_roster(envelope, owner, None)
    except SignatureRefused as error:
        raise SignatureRefused(
            f"the roster {file} cannot be used: {error.what}",
            fix="Put back a copy of it, or move it away to begin with a new one.",
        ) from None


def begin(folder: Path, roster: Roster) -> RosterKeeper:
    """Keep the first roster of a grid in `folder`; a newer one that lies there stays."""
    file = folder / FILE
    return RosterKeeper(_keep(file, roster), file)
