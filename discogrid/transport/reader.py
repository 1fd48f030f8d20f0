"""ZeroMQ's sockets on an asyncio loop."""

import asyncio
from collections.abc import Callable

import zmq


class Reader:
    """Calls `take` until it says that nothing is left, whenever a ZeroMQ socket may be readable.

    ZeroMQ's file descriptor is edge-triggered and speaks for sending too, so readiness is asked of EVENTS, not of it.
    """

    def __init__(self, socket: zmq.Socket[bytes], take: Callable[[], bool]) -> None:
        """Begin to look; `take` reads what is there and says whether there may be more."""
        self._socket = socket
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.fd)
        self._scheduled = False
        self._closed = False
        self._loop.add_reader(self._fd, self._run)
        self.wake()

    def wake(self) -> None:
        """Look at the socket soon."""
        if not (self._scheduled or self._closed):
            self._scheduled = True
            self._loop.call_soon(self._run)

    def close(self) -> None:
        """Look no more."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)

    def _run(self) -> None:
        self._scheduled = False
        if self._closed or not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            return
        try:
            self._take()
        finally:
            if not self._closed and int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
                self.wake()
