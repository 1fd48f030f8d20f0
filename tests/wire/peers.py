"""Peers for tests: what a link received, and strangers with sockets of their own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import zmq
import zmq.utils.monitor

from discogrid import transport
from discogrid.transport import CurveKeys, Delivery, Doorkeeper, Link
from discogrid.transport.gate import Gate

ARRIVES_S = 10.0  # until a test gives up; nothing waits for it to pass
REFUSALS = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)


def new_keys() -> CurveKeys:
    return CurveKeys(*zmq.curve_keypair())


class Inbox:
    """What arrived, in order."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()

    def take(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._queue.put_nowait(delivery)

    async def next(self) -> Delivery:
        return await asyncio.wait_for(self._queue.get(), ARRIVES_S)

    async def frames(self) -> list[bytes]:
        return (await self.next()).frames

    @property
    def empty(self) -> bool:
        return self._queue.empty()


@dataclass
class House:
    """A listening link whose doorkeeper knows the keys in `known`."""

    context: "zmq.Context[zmq.Socket[bytes]]"
    keys: CurveKeys
    known: dict[bytes, str]
    doorkeeper: Doorkeeper
    link: Link
    inbox: Inbox
    _guests: list[Callable[[], None]] = field(default_factory=list)

    def guest(self, name: str, **options: Any) -> tuple[Link, Inbox]:
        """A peer that is known by this name, dialled in."""
        keys, inbox = new_keys(), Inbox()
        self.known[keys.public] = name
        link = transport.dial(self.context, self.link.endpoint, keys, self.keys.public, inbox.take, **options)
        self._guests.append(lambda: link.close(linger_ms=0))
        return link, inbox

    def close(self) -> None:
        for leave in self._guests:
            leave()
        self.link.close(linger_ms=0)
        self.doorkeeper.close()


async def works(host: House, word: bytes = b"still there?") -> None:
    """A new good guest is heard and answered."""
    guest, inbox = host.guest("good")
    guest.send([word])
    heard = await host.inbox.next()
    assert (heard.sender, heard.frames) == ("good", [word])
    host.link.send([b"yes"], heard.route)
    assert await inbox.frames() == [b"yes"]


def gate_of(host: House) -> Gate:
    assert host.link.gate is not None
    return host.link.gate


@contextlib.asynccontextmanager
async def house(
    endpoint: str = "tcp://127.0.0.1:0",
    *,
    admit: Callable[[bytes], str | None] | None = None,
    keys: CurveKeys | None = None,
    frame_bytes_max: int = transport.CONTROL_FRAME_BYTES_MAX,
    connections: transport.Connections | None = None,
) -> AsyncIterator[House]:
    context = transport.new_context()
    known: dict[bytes, str] = {}
    keys, inbox = keys or new_keys(), Inbox()
    doorkeeper = Doorkeeper(context, admit or known.get)
    link = transport.listen(
        context,
        endpoint,
        keys,
        doorkeeper,
        inbox.take,
        frame_bytes_max=frame_bytes_max,
        connections=connections,
    )
    built = House(context, keys, known, doorkeeper, link, inbox)
    try:
        yield built
    finally:
        built.close()
        context.destroy(linger=0)


@contextlib.contextmanager
def raw_dealer(
    endpoint: str | None, keys: CurveKeys | None, server_key: bytes, routing_id: bytes = b""
) -> Iterator["zmq.Socket[bytes]"]:
    """A DEALER with none of our bounds; without keys it does not even encrypt, without endpoint it has not dialled yet."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    if routing_id:
        socket.set(zmq.ROUTING_ID, routing_id)
    if keys is not None:
        socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
        socket.curve_serverkey = server_key
    try:
        if endpoint is not None:
            socket.connect(endpoint)
        yield socket
    finally:
        socket.disable_monitor()
        context.destroy(linger=0)


async def refusal(socket: "zmq.Socket[bytes]", endpoint: str) -> int:
    """Which event told this socket, which is not connected yet, that it is not wanted."""
    monitor = socket.get_monitor_socket(REFUSALS | zmq.EVENT_HANDSHAKE_SUCCEEDED)
    socket.connect(endpoint)
    socket.send(b"let me in")

    def heard() -> int:
        assert monitor.poll(int(ARRIVES_S * 1000)), "neither accepted nor refused"
        return int(zmq.utils.monitor.recv_monitor_message(monitor)["event"])

    try:
        return await asyncio.to_thread(heard)
    finally:
        monitor.close(linger=0)
