"""Who dials with plain TCP and begins a handshake that it does not finish: refused, or cut when its time is over.

Each of them dials at once, while honest peers come and go. What of a handshake has to be true was recorded from a true
one: a HELLO is good for whoever sends it, and the server answers it.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from discogrid.transport.gate import memory_bytes
from discogrid.transport.limits import HANDSHAKE_MS
from tests.wire.peers import ARRIVES_S, House, gate_of, house, new_keys, raw_dealer, works

MIB = 1 << 20
HANDSHAKE_S = HANDSHAKE_MS / 1000
LATE_S = 1.5  # a busy machine may be later with the cut
MEMORY_BYTES_MAX = 64 * MIB
GREETING_BYTES = 64
HELLO_BYTES = 202
DRIP_S = 0.05
HALF_OPEN = 300


def greeting(mechanism: bytes, *, server: bool = False) -> bytes:
    signature, version = b"\xff" + b"\0" * 8 + b"\x7f", b"\x03\x00"
    return signature + version + mechanism.ljust(20, b"\0") + bytes([server]) + b"\0" * 31


def command(name: bytes, body: bytes) -> bytes:
    content = bytes([len(name)]) + name + body
    return b"\x04" + bytes([len(content)]) + content


GIANT = b"\x06" + struct.pack(">Q", 1 << 62) + b"\x08INITIATE"  # the header of a command of 2^62 bytes
GIANT_MESSAGE = b"\x02" + struct.pack(">Q", 1 << 40)


@dataclass(frozen=True)
class Opening:
    """What a stranger says: so many bytes of a true handshake, at once or drop by drop; then, when answered, something else."""

    true_bytes: int = 0
    then: bytes = b""
    slow: bool = False
    refused: bool = False  # at once, for what it says; the others only when their time is over
    answered: bytes = b""  # what it is told first


OPENINGS = {
    "nothing": Opening(),
    "half a greeting": Opening(32),
    "a greeting drop by drop": Opening(GREETING_BYTES, slow=True),
    "a greeting": Opening(GREETING_BYTES, answered=b"CURVE"),
    "half a HELLO": Opening(GREETING_BYTES + HELLO_BYTES // 2, answered=b"CURVE"),
    "a HELLO drop by drop": Opening(GREETING_BYTES + HELLO_BYTES, slow=True),
    "a HELLO, and INITIATE is withheld": Opening(GREETING_BYTES + HELLO_BYTES, answered=b"\x07WELCOME"),
    "a HELLO and half an INITIATE": Opening(
        GREETING_BYTES + HELLO_BYTES,
        b"\x06" + struct.pack(">Q", 300) + b"\x08INITIATE",
        answered=b"\x07WELCOME",
    ),
    "a HELLO and a false INITIATE": Opening(
        GREETING_BYTES + HELLO_BYTES,
        b"\x06" + struct.pack(">Q", 300) + b"\x08INITIATE" + b"x" * 291,
        refused=True,
        answered=b"\x07WELCOME",
    ),
    "a HELLO and a giant INITIATE": Opening(
        GREETING_BYTES + HELLO_BYTES, GIANT, refused=True, answered=b"\x07WELCOME"
    ),
    "a HELLO and a giant message": Opening(
        GREETING_BYTES + HELLO_BYTES, GIANT_MESSAGE, refused=True, answered=b"\x07WELCOME"
    ),
    "a giant frame in place of HELLO": Opening(GREETING_BYTES, GIANT, refused=True),
    "NULL": Opening(
        then=greeting(b"NULL") + command(b"READY", b"\x0bSocket-Type\0\0\0\x06DEALER"), refused=True
    ),
    "PLAIN": Opening(then=greeting(b"PLAIN") + command(b"HELLO", b"\x05admin\x05admin"), refused=True),
    "a mechanism of its own": Opening(then=greeting(b"FRIENDS"), refused=True),
}


async def true_handshake(server_key: bytes) -> bytes:
    """The greeting and the HELLO that a true peer says to the server of this key."""
    said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def pose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting(b"CURVE", server=True))
        with contextlib.suppress(asyncio.IncompleteReadError):
            content = await reader.readexactly(GREETING_BYTES + HELLO_BYTES)
            if not said.done():
                said.set_result(content)
        await hang_up(writer)

    async with await asyncio.start_server(pose, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with raw_dealer(f"tcp://127.0.0.1:{port}", new_keys(), server_key):
            content = await asyncio.wait_for(said, ARRIVES_S)
    assert content[GREETING_BYTES:].startswith(b"\x04\xc8\x05HELLO")
    return content


@dataclass(frozen=True)
class Fate:
    """How long a stranger was borne with, and what it was told."""

    seconds: float
    heard: bytes


async def dial(host: House, opening: Opening, true: bytes) -> Fate:
    """Say it, and wait for the other side to end the connection: TimeoutError if it does not."""
    port = int(host.link.endpoint.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    speaking = asyncio.create_task(speak(writer, true[: opening.true_bytes], slow=opening.slow))
    heard, left = b"", opening.then
    try:
        with contextlib.suppress(ConnectionError):
            while True:
                if opening.answered in heard:
                    writer.write(left)
                    left = b""
                if not (part := await asyncio.wait_for(reader.read(4096), ARRIVES_S)):
                    break
                heard += part
        return Fate(time.monotonic() - began, heard)
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
        await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def speak(writer: asyncio.StreamWriter, said: bytes, *, slow: bool) -> None:
    with contextlib.suppress(ConnectionError):
        if not slow:
            writer.write(said)
            return
        for at in range(len(said)):
            writer.write(said[at : at + 1])
            await asyncio.sleep(DRIP_S)


@contextlib.asynccontextmanager
async def honest_peers(host: House) -> AsyncIterator[None]:
    """One after the other comes, is heard and answered, as long as the block lasts; and memory stays bounded."""
    before = memory_bytes()

    async def come() -> None:
        while True:
            await asyncio.wait_for(works(host), HANDSHAKE_S)
            assert memory_bytes() - before < MEMORY_BYTES_MAX
            await asyncio.sleep(0.1)

    coming = asyncio.create_task(come())
    try:
        yield
    finally:
        coming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await coming


async def test_a_handshake_that_is_not_finished_is_refused_or_cut_and_honest_peers_work_meanwhile() -> None:
    async with house() as host:
        true = await true_handshake(host.keys.public)
        async with honest_peers(host):
            fates = await asyncio.gather(*(dial(host, opening, true) for opening in OPENINGS.values()))
        for (name, opening), fate in zip(OPENINGS.items(), fates, strict=True):
            assert opening.answered in fate.heard, name
            if opening.refused:
                assert fate.seconds < HANDSHAKE_S / 2, name
            else:
                assert HANDSHAKE_S / 2 < fate.seconds < HANDSHAKE_S + LATE_S, name
        await works(host)
        assert host.inbox.empty


async def test_many_half_open_connections_keep_no_honest_peer_out_and_are_all_gone_in_time() -> None:
    async with house() as host:
        true = await true_handshake(host.keys.public)
        half = Opening(GREETING_BYTES + HELLO_BYTES)
        async with honest_peers(host):
            fates = await asyncio.gather(*(dial(host, half, true) for _ in range(HALF_OPEN)))
        assert max(fate.seconds for fate in fates) < HANDSHAKE_S + LATE_S
        assert all(b"\x07WELCOME" in fate.heard for fate in fates)
        end = time.monotonic() + ARRIVES_S
        while len(gate_of(host).connections) > len(host._guests):
            assert time.monotonic() < end, "some are still counted"
            await asyncio.sleep(0.01)
        await works(host)
        assert host.inbox.empty


async def test_the_same_handshake_finished_in_time_is_not_cut() -> None:
    """The harmless twin: what ends the others is what they leave out, not that they are dialled by plain TCP."""
    async with house() as host:
        port = int(host.link.endpoint.rpartition(":")[2])

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while part := await reader.read(4096):
                    await asyncio.sleep(DRIP_S)
                    writer.write(part)
            await hang_up(writer)

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))
            over.set()

        over = asyncio.Event()
        keys = new_keys()
        host.known[keys.public] = "slow"
        async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
            where = server.sockets[0].getsockname()[1]
            with raw_dealer(f"tcp://127.0.0.1:{where}", keys, host.keys.public) as peer:
                peer.send(b"early")
                assert (await host.inbox.next()).frames == [b"early"]
                await asyncio.sleep(HANDSHAKE_S + 0.5)
                peer.send(b"late")
                heard = await host.inbox.next()
                assert (heard.sender, heard.frames) == ("slow", [b"late"])
            await asyncio.wait_for(over.wait(), ARRIVES_S)
