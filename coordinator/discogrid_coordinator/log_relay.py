"""Passes the output of running tasks on to who follows them: each task's from the agent that runs it, within a rate.

An honest agent keeps a rate of its own (`discogrid_agent/log_feed.py`), a quarter of this one; whoever is over this one
may have been stuck on its line for long, or floods its followers.
"""

import logging

from discogrid.messages import FollowLogs, LogChunk, Message
from discogrid.rates import Complaints, Rates
from discogrid.transport import COMPLAINT_S, MEMBERS_REMEMBERED_MAX
from discogrid.types import Attempt, TaskState
from discogrid_coordinator.books import Books
from discogrid_coordinator.peers import Peer
from discogrid_coordinator.watches import Watches

LOG_BYTES_S_MAX = 4 << 20  # of one member, however many agents it is; lasting
LOG_BURST_BYTES = 24 << 20  # the same at once: what an agent sends while its line is stuck for 20 s
MESSAGE_BYTES = 256  # what a piece costs beside its content

log = logging.getLogger(__name__)


class LogRelay:
    """What agents say of running tasks, for the followers in `watches`."""

    def __init__(self, books: Books, watches: Watches) -> None:
        """`books` know which agent runs what."""
        self._books = books
        self._watches = watches
        self._rates = Rates(LOG_BURST_BYTES, LOG_BYTES_S_MAX, MEMBERS_REMEMBERED_MAX)
        self._complaints = Complaints(COMPLAINT_S)

    def hear(self, peer: Peer, chunk: LogChunk, content: bytes) -> Message | None:
        """Pass a piece on; what the agent is to be told, if anything: that nobody wants this."""
        attempt = chunk.attempt
        if not self._watches.followers(attempt.job, attempt.index) or not self._runs(peer, attempt):
            return FollowLogs(attempt=attempt, follow=False)
        cost = MESSAGE_BYTES + len(content)
        granted = self._rates.part(peer.node, cost, peer.heard)
        if granted > MESSAGE_BYTES:
            passed = content[: granted - MESSAGE_BYTES]
            self._watches.output(attempt, chunk.stream, chunk.offset, passed)
        if granted < cost:
            self._complain(peer, cost - granted)
        return None

    def _runs(self, peer: Peer, attempt: Attempt) -> bool:
        view = self._books.tasks(attempt.job, attempt.index, attempt.index + 1)[0]
        return (view.state, view.agent, view.attempt) == (TaskState.RUNNING, peer.name, attempt.number)

    def _complain(self, peer: Peer, dropped: int) -> None:
        for name, count in self._complaints.add(peer.name, dropped, peer.heard).items():
            log.warning(
                "%d bytes of the logs that agent %s sent were dropped: more than %d a second",
                count,
                name,
                LOG_BYTES_S_MAX,
            )
