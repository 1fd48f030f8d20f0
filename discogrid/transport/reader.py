"""ZeroMQ's sockets on an asyncio loop."""

import asyncio
from collections.abc import Callable

import zmq

_READABLE = int(zmq.POLLIN)  # an enumeration's own `&` costs more than the question


class Reader:
    """Calls `take` until nothing is left, whenever a ZeroMQ socket may be readable.

    ZeroMQ's file descriptor is edge-triggered and speaks for sending too, so readiness is asked of EVENTS, not of it.
    """

    def __init__(self, socket: zmq.Socket[bytes], take: Callable[[], None]) -> None:
        """Begin to look; `take` reads what is there, all of it or a part."""
        self._socket = socket
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.fd)
        self._scheduled = False
        self._closed = False
        self._loop.add_reader(self._fd, self._run)
        self.wake()

    @property
    def readable(self) -> bool:
        """Whether something is there now."""
        return bool(int(self._socket.get(zmq.EVENTS)) & _READABLE)

    def wake(self) -> None:
        """Look at the socket soon if something is there, of which its descriptor may not speak any more."""
        if not (self._scheduled or self._closed) and self.readable:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def close(self) -> None:
        """Look no more."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)

    def _run(self) -> None:
        self._scheduled = False
        if self._closed or not self.readable:
            return
        try:
            self._take()
        finally:
            self.wake()
