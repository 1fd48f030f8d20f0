"""Whether a dialled connection stands, as libzmq finds out by its own pings, which cost no message."""

from collections.abc import Callable

import zmq
from zmq.utils.monitor import parse_monitor_message

from discogrid.transport.reader import Reader

WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class Carrier:
    """Says True when the connection is made, by somebody who has the right key, and False when such a one is no more."""

    def __init__(self, socket: "zmq.Socket[bytes]", on_change: Callable[[bool], None]) -> None:
        """Watch a socket that has not dialled yet."""
        self._socket = socket
        self._on_change = on_change
        self._stands = False
        self._monitor = socket.get_monitor_socket(WATCHED)
        self._reader = Reader(self._monitor, self._take)

    def close(self) -> None:
        """Watch no more; before the socket is closed."""
        self._reader.close()
        self._socket.disable_monitor()
        self._monitor.close(linger=0)

    def _take(self) -> None:
        event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))["event"]
        stands = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        if stands is not self._stands:  # who fails the handshake was never connected
            self._stands = stands
            self._on_change(stands)
