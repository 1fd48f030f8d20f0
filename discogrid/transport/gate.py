"""Watches the connections of one listening TCP socket, in a thread of its own, and cuts those that are too much.

libzmq bounds a frame and a queue in messages, not in bytes: what a member sends as one endless message, or asks for and
does not read, is collected outside our reach. The kernel knows how much each connection has sent and taken, the link
how much of it was delivered and sent: the differences are bounded.
A thread, because the event loop may be busy for seconds while a flood goes on.
"""

import contextlib
import logging
import os
import socket as plain
import struct
import threading
import time
from collections.abc import Iterator
from typing import Final

import zmq
import zmq.utils.monitor

from discogrid.transport.connections import UNKNOWN, Connections, Excess, Moved
from discogrid.transport.limits import (
    COMPLAINT_S,
    FILES_FEW,
    FILES_RESERVE,
    MONITOR_EVENTS_MAX,
    SCAN_GROWTH_BYTES,
    SCAN_IDLE_S,
    SCAN_MS,
)

CONNECTIONS_MIN = 64  # of a socket, however few descriptors there are
LISTENING_MAX = 2  # sockets of a process that share its descriptors: messages and blobs
WATCHED = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED
TCP_INFO_BYTES = 136
TCP_INFO_MOVED_AT = 120  # tcpi_bytes_acked and tcpi_bytes_received in Linux' struct tcp_info

log: Final = logging.getLogger(__name__)


class Gate:
    """Counts who comes and what they send; `connections` holds the books."""

    def __init__(self, socket: "zmq.Socket[bytes]", connections: Connections) -> None:
        """Hear of every connection of a socket that is not bound yet; `watch` begins to count, `close` ends it."""
        self.connections = connections
        self.cut: int = 0  # connections
        self._socket = socket
        self._port = 0
        self._family: int = plain.AF_INET
        self._complained = float("-inf")
        self._memory = memory_bytes()
        self._scanned = time.monotonic()
        self._closing = False
        where = f"inproc://gate-{id(self)}"
        socket.monitor(where, WATCHED)
        self._events = socket.context.socket(zmq.PAIR)
        self._events.linger = 0
        self._events.set(zmq.RCVHWM, MONITOR_EVENTS_MAX)
        self._events.connect(where)
        self._thread = threading.Thread(target=self._watch, name="gate", daemon=True)

    def watch(self, port: int, family: int) -> None:
        """The socket is bound to this port: begin."""
        self._port, self._family = port, family
        self._thread.start()

    @property
    def watching(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Watch no more; a second time does nothing."""
        if self._closing:
            return
        self._closing = True
        self._socket.disable_monitor()  # its last event wakes the thread
        if self._thread.ident is None:
            self._events.close()
        else:
            self._thread.join()

    def delivered(self, fd: int, size: int, member: str, route: bytes) -> None:
        """The link has handed over a whole message of this connection."""
        if excess := self.connections.delivered(fd, size, member, route):
            self._cut(excess)

    def _watch(self) -> None:
        with contextlib.closing(self._events):
            while not self._closing:
                try:
                    self._look()
                except zmq.ContextTerminated:
                    return
                except Exception:
                    # A gate that ends would hold up every accept: libzmq waits for who reads its events.
                    log.exception("a look at the connections failed")

    def _look(self) -> None:
        for count in range(MONITOR_EVENTS_MAX):
            if not self._events.poll(0 if count else SCAN_MS):
                break
            event = zmq.utils.monitor.parse_monitor_message(self._events.recv_multipart())
            self._hear(int(event["event"]), int(event["value"]))
        now = time.monotonic()
        memory = memory_bytes()
        self._memory = min(self._memory, memory)
        if memory - self._memory > SCAN_GROWTH_BYTES or now - self._scanned > SCAN_IDLE_S:
            self._memory, self._scanned = memory, now
            for excess in self.connections.greedy(self._moved, now):
                self._cut(excess)

    def _hear(self, event: int, fd: int) -> None:
        if event == zmq.EVENT_ACCEPTED:
            address = self._peer(fd)
            if address is None:
                return  # it has gone again
            if excess := self.connections.opened(fd, address, time.monotonic()):
                self._cut(excess)
        elif event == zmq.EVENT_DISCONNECTED:
            self.connections.closed(fd)

    def _cut(self, excess: Excess) -> None:
        """End a connection as its network could: libzmq cleans up what it has collected of it."""
        connection = excess.connection
        self.cut += 1  # before who was cut notices
        with contextlib.suppress(OSError), self._borrowed(connection.fd) as own:
            own.shutdown(plain.SHUT_RDWR)
        now = time.monotonic()
        if now - self._complained > COMPLAINT_S:
            self._complained = now
            who = f"member {connection.member[:8]}" if connection.member else "somebody"
            log.warning(
                "a connection of %s at %s was cut (number %d): %s",
                who,
                connection.address,
                self.cut,
                excess.reason,
            )

    def _peer(self, fd: int) -> str | None:
        try:
            with self._borrowed(fd) as own:
                return str(own.getpeername()[0])
        except OSError:
            return None

    def _moved(self, fd: int) -> Moved | None:
        """What has come from this connection and gone to it; None when it is gone itself."""
        try:
            with self._borrowed(fd) as own:
                if not hasattr(plain, "TCP_INFO"):
                    return UNKNOWN
                told = own.getsockopt(plain.IPPROTO_TCP, plain.TCP_INFO, TCP_INFO_BYTES)
        except OSError:
            return None
        if len(told) < TCP_INFO_BYTES:
            return UNKNOWN
        taken, received = struct.unpack_from("QQ", told, TCP_INFO_MOVED_AT)
        return Moved(received, taken)

    @contextlib.contextmanager
    def _borrowed(self, fd: int) -> Iterator[plain.socket]:
        """A descriptor of libzmq's, which may have closed it: OSError unless it is a connection of this socket."""
        own = plain.socket(self._family, plain.SOCK_STREAM, 0, fileno=fd)
        try:
            if own.getsockname()[1] != self._port:
                raise OSError("the descriptor belongs to something else now")
            yield own
        finally:
            own.detach()


def raise_files_limit() -> int:
    """Allow this process as many descriptors as the system lets it have, and say how many; warns when they are few."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return FILES_FEW
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft < FILES_FEW:
        log.warning(
            "only %d open files are allowed to this process: at most %d connections are taken; "
            "raise it with ulimit -n or LimitNOFILE=",
            soft,
            connections_max(soft),
        )
    return soft


def connections_max(files: int) -> int:
    """How many connections one listening socket may have in a process of so many descriptors."""
    return max(CONNECTIONS_MIN, (files - FILES_RESERVE) // LISTENING_MAX)


def memory_bytes() -> int:
    """What this process has in memory; 0 where that cannot be read."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
