"""Sends followed output when the log feed says so: its timer, its words to the coordinator and to the log."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import assert_never

from discogrid.messages import LogChunk, Message
from discogrid.types import Attempt
from discogrid_agent.log_feed import LOG_BYTES_S_MAX, LogFeed, SayCut, SendLog
from discogrid_agent.log_keeper import LogKeeper

log = logging.getLogger(__name__)


class LiveLogs:
    """One agent's; `send` hands a message and its payload to the line."""

    def __init__(
        self, logs: Callable[[Attempt], Mapping[str, LogKeeper]], send: Callable[[Message, bytes], object]
    ) -> None:
        """`logs` are those of a running attempt, by stream."""
        self._loop = asyncio.get_running_loop()
        self._feed = LogFeed(logs, self._loop.time())
        self._send = send
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, attempt: Attempt, *, follow: bool) -> None:
        """Somebody follows the attempt, or nobody any more."""
        if follow:
            self._feed.follow(attempt)
            self._pump()
        else:
            self._feed.leave(attempt)

    def begin_again(self) -> None:
        """Whoever follows may have missed something."""
        self._feed.begin_again()
        self._pump()

    def wrote(self, attempt: Attempt, stream: str) -> None:
        """The attempt has written something."""
        self._feed.wrote(attempt, stream)
        self._pump()

    def ended(self, attempt: Attempt) -> None:
        """Its archive has the rest."""
        self._feed.leave(attempt)

    def close(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _pump(self) -> None:
        for action in self._feed.next(self._loop.time()):
            match action:
                case SendLog(attempt, stream, offset, content):
                    self._send(LogChunk(attempt=attempt, stream=stream, offset=offset), content)
                case SayCut(attempt, stream, missing):
                    log.warning(
                        "%d bytes of %s of %s are left out for who follows it: it writes more than is kept, "
                        "or than may be sent (%d bytes/s); this is said once",
                        missing,
                        stream,
                        attempt,
                        LOG_BYTES_S_MAX,
                    )
                case _:
                    assert_never(action)
        self.close()
        due = self._feed.deadline()
        self._timer = None if due is None else self._loop.call_at(due, self._pump)
