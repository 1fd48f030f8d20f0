"""Whether somebody at an address has a key: one handshake, in which nothing is said."""

import asyncio

import zmq
from zmq.utils.monitor import parse_monitor_message

from discogrid.transport.limits import CONNECT_MS, CONTROL_FRAME_BYTES_MAX, HANDSHAKE_MS
from discogrid.transport.reader import Reader
from discogrid.transport.sockets import CurveKeys, new_context, secure_socket

_HANDSHAKE_ENDED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
)


async def proves_key(endpoint: str, keys: CurveKeys, server_key: bytes) -> bool:
    """Whether who answers there owns `server_key` (Z85) and admits `keys`."""
    context = new_context()
    socket = secure_socket(context, zmq.DEALER, keys, frame_bytes_max=CONTROL_FRAME_BYTES_MAX)
    socket.curve_serverkey = server_key
    socket.set(zmq.IPV6, int("[" in endpoint))
    outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    monitor = socket.get_monitor_socket(_HANDSHAKE_ENDED)

    def take() -> None:
        event = parse_monitor_message(monitor.recv_multipart(zmq.NOBLOCK))["event"]
        if not outcome.done():
            outcome.set_result(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)

    reader = Reader(monitor, take)
    try:
        socket.connect(endpoint)
        async with asyncio.timeout((CONNECT_MS + HANDSHAKE_MS) / 1000):
            return await outcome
    except (TimeoutError, zmq.ZMQError):  # ZMQError: what was announced is no address
        return False
    finally:
        reader.close()
        socket.disable_monitor()
        context.destroy(linger=0)
