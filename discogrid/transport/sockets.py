"""Makes every socket: CURVE always, every bound set; the only file that does, but for inproc ends of its neighbours.

No socket without CURVE exists here, also not for same-user ipc. The identity of a sender is the key it authenticated
with (`Delivery.sender`), never its ZeroMQ routing id: a routing id can be taken over, and only says where to answer.
"""

import errno
import socket as plain
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import zmq

from discogrid.errors import DiscogridError, WireError
from discogrid.transport.carrier import Carrier
from discogrid.transport.connections import Connections
from discogrid.transport.doorkeeper import ZAP_DOMAIN, Doorkeeper
from discogrid.transport.gate import Gate, connections_max, raise_files_limit
from discogrid.transport.limits import (
    BLOB_FRAME_BYTES_MAX,
    BLOB_QUEUE_MESSAGES_MAX,
    CONNECT_MS,
    CONNECTIONS_PENDING_MAX,
    CONTROL_FRAME_BYTES_MAX,
    HANDSHAKE_MS,
    LINGER_MS,
    PING_MS,
    PING_TIMEOUT_MS,
    QUEUE_MESSAGES_MAX,
    RECONNECT_MS,
    RECONNECT_MS_MAX,
    SOCKETS_MAX,
)
from discogrid.transport.link import Delivery, Link


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """A CURVE key pair in Z85, 40 characters each."""

    public: bytes
    secret: bytes


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """A ZeroMQ context with its number of sockets bounded."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
    return context


def listen(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    keys: CurveKeys,
    doorkeeper: Doorkeeper,
    on_messages: Callable[[list[Delivery]], None],
    *,
    frame_bytes_max: int = CONTROL_FRAME_BYTES_MAX,
    connections: Connections | None = None,
) -> Link:
    """A ROUTER that admits whom the doorkeeper knows. `endpoint` may end in `:0` (any free port) or be `ipc://PATH`.

    DiscogridError when the doorkeeper does not answer, or the address is taken. `connections` bounds who may come over
    TCP, as many as this process has descriptors for unless given; at a socket file everybody is the same user.
    """
    doorkeeper.prove()
    socket = secure_socket(context, zmq.ROUTER, keys, frame_bytes_max=frame_bytes_max)
    socket.curve_server = True
    socket.set(zmq.IPV6, int("[" in endpoint))
    socket.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else everybody gets in when no doorkeeper answers any more
    socket.set(zmq.ROUTER_MANDATORY, 1)
    if connections is None:
        connections = Connections(connections_max(raise_files_limit()))
    gate = Gate(socket, connections) if endpoint.startswith("tcp:") else None
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if gate is not None:
            gate.close()
        socket.close(linger=0)
        raise _deaf(endpoint, error) from None
    bound = socket.get(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    name = bound.rstrip(b"\0").decode()
    if gate is not None:
        gate.watch(int(name.rpartition(":")[2]), plain.AF_INET6 if "[" in endpoint else plain.AF_INET)
    return Link(socket, on_messages, routed=True, endpoint=name, frame_bytes_max=frame_bytes_max, gate=gate)


def _deaf(endpoint: str, error: zmq.ZMQError) -> DiscogridError:
    """Why nobody can be heard there."""
    what = f"cannot listen on {endpoint}: {error}"
    if error.errno == errno.ENAMETOOLONG:
        return DiscogridError(
            what,
            why=f"The name of a socket file has at most {zmq.IPC_PATH_MAX_LEN} characters.",
            fix="Set XDG_RUNTIME_DIR to a folder with a shorter name.",
        )
    if error.errno == errno.EADDRINUSE:
        return DiscogridError(
            what,
            why="Another program, perhaps another coordinator, has this address.",
            fix="Choose another with --listen HOST:PORT, or stop the other one.",
        )
    return DiscogridError(
        what,
        why="This machine has no such address, or this user may not use it.",
        fix="Choose another with --listen HOST:PORT.",
    )


def dial(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    keys: CurveKeys,
    server_key: bytes,
    on_messages: Callable[[list[Delivery]], None],
    *,
    frame_bytes_max: int = CONTROL_FRAME_BYTES_MAX,
    on_line: Callable[[bool], None] | None = None,
) -> Link:
    """A DEALER to the one server that owns `server_key` (Z85); it connects, and connects again, by itself.

    `on_line` is told of that: True for a connection that is made, False for one that is no more.
    """
    socket = secure_socket(context, zmq.DEALER, keys, frame_bytes_max=frame_bytes_max)
    socket.curve_serverkey = server_key
    socket.set(zmq.IPV6, int("[" in endpoint))
    carrier = Carrier(socket, on_line) if on_line is not None else None
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        if carrier is not None:
            carrier.close()
        socket.close(linger=0)
        raise WireError(f"{endpoint} is no address: {error}") from None
    return Link(
        socket,
        on_messages,
        routed=False,
        endpoint=endpoint,
        frame_bytes_max=frame_bytes_max,
        carrier=carrier,
    )


def dialled(endpoint: str, control: str) -> str:
    """Where to dial what a peer announced: a `*` stands for the host of `control`, which was dialled already."""
    if not endpoint.startswith("tcp://*:"):
        return endpoint
    host = urlsplit(control).netloc.rpartition(":")[0]
    return f"tcp://{host}:{endpoint.rpartition(':')[2]}"


def secure_socket(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, keys: CurveKeys, *, frame_bytes_max: int
) -> zmq.Socket[bytes]:
    """A socket with CURVE keys and all limits set, not yet bound or connected."""
    socket = context.socket(kind)
    queue = BLOB_QUEUE_MESSAGES_MAX if frame_bytes_max == BLOB_FRAME_BYTES_MAX else QUEUE_MESSAGES_MAX
    socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
    for option, value in (
        (zmq.MAXMSGSIZE, frame_bytes_max),
        (zmq.CONNECT_TIMEOUT, CONNECT_MS),
        (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
        (zmq.HEARTBEAT_IVL, PING_MS),
        (zmq.HEARTBEAT_TIMEOUT, PING_TIMEOUT_MS),
        (zmq.HEARTBEAT_TTL, PING_TIMEOUT_MS),
        (zmq.SNDHWM, queue),
        (zmq.RCVHWM, queue),
        (zmq.BACKLOG, CONNECTIONS_PENDING_MAX),
        (zmq.RECONNECT_IVL, RECONNECT_MS),
        (zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX),
        (zmq.LINGER, LINGER_MS),
        (zmq.IMMEDIATE, 0),
    ):
        socket.set(option, value)
    return socket
