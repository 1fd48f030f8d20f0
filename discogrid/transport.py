"""The one place that makes sockets: CURVE always, every bound set, receives in batches.

No socket without CURVE exists here, also not for same-user ipc. The identity of a sender is the key it authenticated
with (`Delivery.sender`), never its ZeroMQ routing id: a routing id can be taken over, and only says where to answer.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import zmq
import zmq.utils.z85

from discogrid.errors import DiscogridError, WireError
from discogrid.wire import FRAMES_MAX, PACKED_BYTES_MAX

CURVE_OVERHEAD_BYTES = 1024  # a frame's box and flags count against MAXMSGSIZE
CONTROL_FRAME_BYTES_MAX = PACKED_BYTES_MAX + CURVE_OVERHEAD_BYTES
CHUNK_BYTES_MAX = 1 << 20
BLOB_FRAME_BYTES_MAX = CHUNK_BYTES_MAX + CURVE_OVERHEAD_BYTES
HANDSHAKE_MS = 2_000  # a silent connection is gone after this
PING_MS = 5_000
PING_TIMEOUT_MS = 15_000  # a host without power is noticed after this
QUEUE_MESSAGES_MAX = 10_000  # a peer, each direction
BLOB_QUEUE_MESSAGES_MAX = (
    64  # the same where a message is a chunk: a peer that does not read costs 64 MiB, not 10 GiB
)
CONNECTIONS_PENDING_MAX = 128
SOCKETS_MAX = 4_096
RECONNECT_MS = 100
RECONNECT_MS_MAX = 2_000
LINGER_MS = 500  # how long a last goodbye may take to leave
RECEIVE_BATCH = 256  # messages before other work gets a turn
BLOB_RECEIVE_BATCH = 8  # the same where a message is a chunk that takes most of a millisecond
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"discogrid"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """A CURVE key pair in Z85, 40 characters each."""

    public: bytes
    secret: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """One received message. `route` says where to answer (empty on dialled sockets), `sender` who it authenticated as."""

    route: bytes
    sender: str
    frames: list[bytes]


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """A ZeroMQ context with its number of sockets bounded."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
    return context


class Doorkeeper:
    """Answers ZeroMQ's authentication requests (ZAP, RFC 27) of one context for as long as it lives.

    Ours, because the library's authenticator ends for good at the first exception of its callback.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], admit: Callable[[bytes], str | None]) -> None:
        """`admit` maps a CURVE public key (Z85) to the name its messages carry, or to None: refused."""
        self._admit = admit
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(ZAP_ENDPOINT)
        self._reader = _Reader(self._socket, self._answer)
        self.answering = True

    def close(self) -> None:
        """Stop answering; from now on nobody new gets in."""
        self.answering = False
        self._reader.close()
        self._socket.close()

    def _answer(self) -> bool:
        version, sequence, domain, _address, _identity, mechanism, *credentials = self._socket.recv_multipart(
            zmq.NOBLOCK
        )
        name: str | None = None
        try:
            if domain == ZAP_DOMAIN and mechanism == b"CURVE" and len(credentials) == 1:
                name = self._admit(zmq.utils.z85.encode(credentials[0]))
        except Exception:
            log.exception("the roster could not be asked; the connection is refused")
        status, text = (b"200", b"") if name else (b"400", b"unknown key")
        self._socket.send_multipart([version, sequence, status, text, (name or "").encode(), b""])
        return True


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
    ) -> None:
        """Use `listen` or `dial`."""
        self._socket = socket
        self._on_messages = on_messages
        self._routed = routed
        self._frame_bytes_max = frame_bytes_max - CURVE_OVERHEAD_BYTES
        self._receive_batch = _receive_batch(frame_bytes_max)
        self.endpoint = endpoint
        self.dropped = 0  # messages a full or vanished peer did not take; heartbeats heal what they said
        self._reader = _Reader(socket, self._receive)

    def send(self, frames: Sequence[bytes], route: bytes = b"") -> bool:
        """Hand a message to the peer's queue; False when the peer is gone or its queue full, WireError when it is too large."""
        if (largest := max(map(len, frames))) > self._frame_bytes_max:
            # The peer would drop the whole connection, and nobody would learn why.
            raise WireError(f"a frame of {largest} bytes is over {self._frame_bytes_max}")
        try:
            self._socket.send_multipart([route, *frames] if self._routed else frames, zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self.dropped += 1
            return False
        finally:
            # Sending may swallow the edge that announces a message.
            self._reader.wake()
        return True

    def close(self, *, linger_ms: int = LINGER_MS) -> None:
        """Close; what is queued has `linger_ms` to leave."""
        self._reader.close()
        self._socket.close(linger=linger_ms)

    def _receive(self) -> bool:
        batch: list[Delivery] = []
        more = True
        while len(batch) < self._receive_batch:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                more = False
                break
            if (delivery := self._delivery(frames)) is not None:
                batch.append(delivery)
        if batch:
            self._on_messages(batch)
        return more

    def _delivery(self, frames: Sequence[zmq.Frame]) -> Delivery | None:
        route = frames[0].bytes if self._routed else b""
        payload = frames[1:] if self._routed else frames
        if not 1 <= len(payload) <= FRAMES_MAX:
            log.warning(
                "a message of %d frames was dropped; at most %d are allowed", len(payload), FRAMES_MAX
            )
            return None
        sender = ""
        if self._routed:
            try:
                sender = str(payload[-1].get("User-Id"))
            except zmq.ZMQError:
                log.warning("a message without an authenticated sender was dropped")
                return None
        return Delivery(route, sender, [frame.bytes for frame in payload])


class _Reader:
    """Calls `take` until it says that nothing is left, whenever a ZeroMQ socket may be readable.

    ZeroMQ's file descriptor is edge-triggered and speaks for sending too, so readiness is asked of EVENTS, not of it.
    """

    def __init__(self, socket: zmq.Socket[bytes], take: Callable[[], bool]) -> None:
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


def listen(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    keys: CurveKeys,
    doorkeeper: Doorkeeper,
    on_messages: Callable[[list[Delivery]], None],
    *,
    frame_bytes_max: int = CONTROL_FRAME_BYTES_MAX,
) -> Link:
    """A ROUTER that admits whom the doorkeeper knows. `endpoint` may end in `:0` (any free port) or be `ipc://PATH`."""
    if not doorkeeper.answering:
        raise DiscogridError("a socket without a doorkeeper would let everybody in")
    socket = secure_socket(context, zmq.ROUTER, keys, frame_bytes_max=frame_bytes_max)
    socket.curve_server = True
    socket.set(zmq.IPV6, int("[" in endpoint))
    socket.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else everybody gets in when no doorkeeper answers any more
    socket.set(zmq.ROUTER_MANDATORY, 1)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        raise DiscogridError(
            f"cannot listen on {endpoint}: {error}",
            why="Another program, perhaps another coordinator, has this address.",
            fix="Choose another with --listen HOST:PORT, or stop the other one.",
        ) from None
    bound = socket.get(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    name = bound.rstrip(b"\0").decode()
    return Link(socket, on_messages, routed=True, endpoint=name, frame_bytes_max=frame_bytes_max)


def dial(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    keys: CurveKeys,
    server_key: bytes,
    on_messages: Callable[[list[Delivery]], None],
    *,
    frame_bytes_max: int = CONTROL_FRAME_BYTES_MAX,
) -> Link:
    """A DEALER to the one server that owns `server_key` (Z85); it connects, and connects again, by itself."""
    socket = secure_socket(context, zmq.DEALER, keys, frame_bytes_max=frame_bytes_max)
    socket.curve_serverkey = server_key
    socket.set(zmq.IPV6, int("[" in endpoint))
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        raise WireError(f"{endpoint} is no address: {error}") from None
    return Link(socket, on_messages, routed=False, endpoint=endpoint, frame_bytes_max=frame_bytes_max)


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


def _receive_batch(frame_bytes_max: int) -> int:
    return BLOB_RECEIVE_BATCH if frame_bytes_max == BLOB_FRAME_BYTES_MAX else RECEIVE_BATCH
