"""A socket in the event loop: drained when readable, its messages handed over in batches, each sender within its rate."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import zmq

from discogrid.errors import WireError
from discogrid.rates import Complaints, Rates
from discogrid.transport.carrier import Carrier
from discogrid.transport.connections import wire_bytes
from discogrid.transport.gate import Gate
from discogrid.transport.limits import (
    BLOB_FRAME_BYTES_MAX,
    BLOB_RECEIVE_BATCH,
    COMPLAINT_S,
    CURVE_OVERHEAD_BYTES,
    LINGER_MS,
    MEMBERS_REMEMBERED_MAX,
    MESSAGES_BURST,
    MESSAGES_S_MAX,
    RECEIVE_BATCH,
)
from discogrid.transport.reader import Reader
from discogrid.wire import FRAMES_MAX

NOT_WAITING: Final = int(
    zmq.NOBLOCK
)  # as numbers: to join two flags of an enumeration costs as much as to send a frame
MORE_FOLLOW: Final = int(zmq.NOBLOCK | zmq.SNDMORE)

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One received message. `route` says where to answer (empty on dialled sockets), `sender` who it authenticated as.

    `address` is the host that it came from, as the kernel tells it; empty on dialled sockets and at a socket file.
    """

    route: bytes
    sender: str
    frames: list[bytes]
    address: str = ""


class Link:
    """One socket in the running event loop: drained when readable, its messages handed over in batches."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_messages: Callable[[list[Delivery]], None],
        *,
        routed: bool,
        endpoint: str,
        frame_bytes_max: int,
        gate: Gate | None = None,
        carrier: Carrier | None = None,
    ) -> None:
        """Use `listen` or `dial`."""
        self._socket = socket
        self._on_messages = on_messages
        self._routed = routed
        self._frame_bytes_max = frame_bytes_max - CURVE_OVERHEAD_BYTES
        self._receive_batch = _receive_batch(frame_bytes_max)
        self.gate = gate
        self._carrier = carrier
        self._rates = Rates(MESSAGES_BURST, MESSAGES_S_MAX, MEMBERS_REMEMBERED_MAX)
        self._complaints = Complaints(COMPLAINT_S)  # messages of a member that were over its rate
        self._loop = asyncio.get_running_loop()
        self.endpoint = endpoint
        self.dropped: int = 0  # messages a full or vanished peer did not take; heartbeats heal what they said
        self._reader = Reader(socket, self._receive)

    def send(self, frames: Sequence[bytes], route: bytes = b"") -> bool:
        """Hand a message to the peer's queue; False when the peer is gone or its queue full, WireError when it is too large."""
        if (largest := max(map(len, frames))) > self._frame_bytes_max:
            # The peer would drop the whole connection, and nobody would learn why.
            raise WireError(f"a frame of {largest} bytes is over {self._frame_bytes_max}")
        try:
            if self._routed:
                self._socket.send(route, MORE_FOLLOW)
            for frame in frames[:-1]:
                self._socket.send(frame, MORE_FOLLOW, copy=False)
            self._socket.send(frames[-1], NOT_WAITING, copy=False)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self.dropped += 1
            return False
        finally:
            # Sending may swallow the edge that announces a message.
            self._reader.wake()
        if self.gate is not None:
            self.gate.connections.sent(route, sum(map(wire_bytes, map(len, frames))))
        return True

    def close(self, *, linger_ms: int = LINGER_MS) -> None:
        """Close; what is queued has `linger_ms` to leave."""
        self._reader.close()
        if self.gate is not None:
            self.gate.close()
        if self._carrier is not None:
            self._carrier.close()
        self._socket.close(linger=linger_ms)

    def _receive(self) -> None:
        batch: list[Delivery] = []
        more = True
        while more and len(batch) < self._receive_batch:
            frames = [self._socket.recv(NOT_WAITING, copy=False)]
            while frames[-1].more:
                frames.append(self._socket.recv(NOT_WAITING, copy=False))
            if (delivery := self._delivery(frames)) is not None:
                batch.append(delivery)
            more = self._reader.readable
        if batch:
            self._on_messages(batch)

    def _delivery(self, frames: Sequence[zmq.Frame]) -> Delivery | None:
        route = frames[0].bytes if self._routed else b""
        payload = frames[1:] if self._routed else frames
        sender = address = ""
        if self._routed:
            try:
                sender = str(frames[-1].get("User-Id"))
                address = "" if self.gate is None else str(frames[-1].get("Peer-Address"))
            except zmq.ZMQError:
                log.warning("a message without an authenticated sender was dropped")
                return None
            if self.gate is not None:
                size = sum(map(wire_bytes, map(len, payload)))
                self.gate.delivered(int(frames[-1].get(zmq.SRCFD)), size, sender, route)
            if not self._rates.take(sender, self._loop.time()):
                self._complain(sender)
                return None
        if not 1 <= len(payload) <= FRAMES_MAX:
            log.warning(
                "a message of %d frames was dropped; at most %d are allowed", len(payload), FRAMES_MAX
            )
            return None
        return Delivery(route, sender, [frame.bytes for frame in payload], address)

    def _complain(self, sender: str) -> None:
        """A line about what was dropped, no more often than anybody reads it."""
        for member, count in self._complaints.add(sender, 1, self._loop.time()).items():
            log.warning(
                "%d messages of member %s were dropped: more than %.0f a second",
                count,
                member[:8],
                MESSAGES_S_MAX,
            )


def _receive_batch(frame_bytes_max: int) -> int:
    return BLOB_RECEIVE_BATCH if frame_bytes_max == BLOB_FRAME_BYTES_MAX else RECEIVE_BATCH
