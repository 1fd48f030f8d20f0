"""Sockets: who gets in, what gets through, and who is disturbed by whom. Real sockets, real CURVE."""

import asyncio
import contextlib
import os
import socket as plain
import struct
from pathlib import Path

import pytest
import zmq

from discogrid import transport
from discogrid.channel import Channel, Received
from discogrid.errors import DiscogridError, WireError
from discogrid.messages import Goodbye, Heartbeat
from discogrid.transport import CURVE_OVERHEAD_BYTES, RECEIVE_BATCH
from discogrid.wire import FRAMES_MAX, encode
from tests.wire.peers import ARRIVES_S, REFUSALS, Inbox, house, new_keys, raw_dealer, refusal, works

CURVE_GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00CURVE" + b"\0" * 15 + b"\0" + b"\0" * 31
NULL_GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00NULL" + b"\0" * 16 + b"\0" + b"\0" * 31
GARBAGE = {
    "nothing": b"",
    "noise": os.urandom(65_536),
    "a web browser": b"GET / HTTP/1.1\r\nHost: attic\r\n\r\n",
    "a greeting and nothing": CURVE_GREETING,
    "a greeting and a frame of 2^62 bytes": CURVE_GREETING
    + b"\x06"
    + struct.pack(">Q", 1 << 62)
    + b"A" * 100,
    "a greeting and a command nobody knows": CURVE_GREETING + b"\x04\x05\x04EVIL",
    "a greeting without encryption": NULL_GREETING + b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER",
    "the protocol of twenty years ago": b"\x01\x00" * 2000,
}


# Who gets in.


async def test_a_known_key_is_heard_under_its_name_and_answered() -> None:
    async with house() as host:
        await works(host)


async def test_an_unknown_key_is_refused() -> None:
    async with house() as host:
        with raw_dealer(None, new_keys(), host.keys.public) as stranger:
            assert await refusal(stranger, host.link.endpoint) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        await works(host)
        assert host.inbox.empty


async def test_a_known_key_is_let_in_where_an_unknown_one_is_refused() -> None:
    async with house() as host:
        keys = new_keys()
        host.known[keys.public] = "attic"
        with raw_dealer(None, keys, host.keys.public) as guest:
            assert await refusal(guest, host.link.endpoint) == zmq.EVENT_HANDSHAKE_SUCCEEDED


async def test_a_peer_without_encryption_is_refused() -> None:
    async with house() as host:
        with raw_dealer(None, None, host.keys.public) as stranger:
            assert await refusal(stranger, host.link.endpoint) & REFUSALS
        await works(host)
        assert host.inbox.empty


async def test_a_guest_does_not_talk_to_a_server_with_another_key() -> None:
    async with house() as host:
        keys = new_keys()
        host.known[keys.public] = "attic"
        with raw_dealer(None, keys, new_keys().public) as guest:
            assert await refusal(guest, host.link.endpoint) & REFUSALS
        await works(host)
        assert host.inbox.empty


async def test_a_routing_id_that_another_peer_claims_stays_with_its_first_owner_and_is_no_identity() -> None:
    async with house() as host:
        victim, mallory = new_keys(), new_keys()
        host.known |= {victim.public: "victim", mallory.public: "mallory"}
        endpoint = host.link.endpoint
        with raw_dealer(endpoint, victim, host.keys.public, b"agent-1") as first:
            first.send(b"mine")
            heard = await host.inbox.next()
            assert (heard.route, heard.sender) == (b"agent-1", "victim")
            with raw_dealer(endpoint, mallory, host.keys.public, b"agent-1") as second:
                second.send(b"no, mine")
                await works(host)
                assert host.link.send([b"for the victim"], b"agent-1")
                assert await asyncio.to_thread(first.recv) == b"for the victim"
        with raw_dealer(endpoint, mallory, host.keys.public, b"agent-1") as second:
            second.send(b"mine now")
            heard = await host.inbox.next()
            assert heard.sender == "mallory"


async def test_one_exception_of_the_roster_refuses_one_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    known: dict[bytes, str] = {}

    def admit(key: bytes) -> str | None:
        if not known:
            raise KeyError("the roster is being written")
        return known.get(key)

    async with house(admit=admit) as host:
        keys = new_keys()
        with raw_dealer(None, keys, host.keys.public) as early:
            assert await refusal(early, host.link.endpoint) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        known[keys.public] = "attic"
        with raw_dealer(None, keys, host.keys.public) as late:
            assert await refusal(late, host.link.endpoint) == zmq.EVENT_HANDSHAKE_SUCCEEDED
    assert "the roster could not be asked" in caplog.text


async def test_nobody_listens_without_a_doorkeeper() -> None:
    async with house() as host:
        host.doorkeeper.close()
        with pytest.raises(DiscogridError, match="everybody"):
            transport.listen(host.context, "tcp://127.0.0.1:0", new_keys(), host.doorkeeper, Inbox().take)


async def test_nobody_new_gets_in_when_the_doorkeeper_has_left() -> None:
    async with house() as host:
        known, unknown = new_keys(), new_keys()
        host.known[known.public] = "late"
        host.doorkeeper.close()
        for keys in (known, unknown):
            with raw_dealer(None, keys, host.keys.public) as late:
                assert await refusal(late, host.link.endpoint) & REFUSALS


# Addresses.


async def test_a_busy_address_is_named_with_what_to_do() -> None:
    async with house() as host:
        with pytest.raises(DiscogridError) as caught:
            transport.listen(host.context, host.link.endpoint, new_keys(), host.doorkeeper, Inbox().take)
        assert host.link.endpoint in caught.value.what
        assert "another coordinator" in caught.value.why
        assert "--listen" in caught.value.fix
        await works(host)


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("ipc:///tmp/" + "x" * 200, "socket file has at most"),
        ("ipc:///no-such-folder/socket", "no such address"),
        ("tcp://192.0.2.1:0", "no such address"),
    ],
)
async def test_an_address_that_cannot_be_had_is_not_said_to_be_busy(endpoint: str, reason: str) -> None:
    async with house() as host:
        with pytest.raises(DiscogridError) as caught:
            transport.listen(host.context, endpoint, new_keys(), host.doorkeeper, Inbox().take)
        assert reason in caught.value.why
        await works(host)


@pytest.mark.parametrize("endpoint", ["tcp://", "tcp://:x", "nowhere", "smoke://x", "tcp://a\0b:1"])
async def test_an_address_that_is_none_is_a_wire_error(endpoint: str) -> None:
    async with house() as host:
        with pytest.raises(WireError, match="no address"):
            transport.dial(host.context, endpoint, new_keys(), host.keys.public, Inbox().take)


async def test_a_socket_file_asks_for_keys_too(tmp_path: Path) -> None:
    async with house(f"ipc://{tmp_path / 'own.sock'}") as host:
        with raw_dealer(None, new_keys(), host.keys.public) as stranger:
            assert await refusal(stranger, host.link.endpoint) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        with raw_dealer(None, None, host.keys.public) as stranger:
            assert await refusal(stranger, host.link.endpoint) & REFUSALS
        await works(host)


# What gets through.


async def test_as_many_frames_as_allowed_arrive_and_one_more_is_dropped() -> None:
    async with house() as host:
        keys = new_keys()
        host.known[keys.public] = "attic"
        with raw_dealer(host.link.endpoint, keys, host.keys.public) as peer:
            peer.send_multipart([b"x"] * (FRAMES_MAX + 1))
            peer.send_multipart([b"x"] * 10_000)
            peer.send_multipart([b"y"] * FRAMES_MAX)
            assert await host.inbox.frames() == [b"y"] * FRAMES_MAX
            assert host.inbox.empty


async def test_a_frame_over_the_bound_costs_its_sender_the_connection_and_nobody_else() -> None:
    bound = 64 << 10
    async with house(frame_bytes_max=bound) as host:
        keys = new_keys()
        host.known[keys.public] = "attic"
        other, _ = host.guest("other")
        other.send([b"before"])
        assert await host.inbox.frames() == [b"before"]
        with raw_dealer(host.link.endpoint, keys, host.keys.public) as peer:
            peer.send(b"x" * (bound - CURVE_OVERHEAD_BYTES))
            assert len((await host.inbox.frames())[0]) == bound - CURVE_OVERHEAD_BYTES
            monitor = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
            peer.send(b"x" * (bound + 1))
            assert await asyncio.to_thread(monitor.poll, int(ARRIVES_S * 1000)), "the connection stayed"
            monitor.recv_multipart()
            assert await asyncio.to_thread(monitor.poll, int(ARRIVES_S * 1000)), "it did not come back"
            monitor.close(linger=0)
            peer.send(b"sorry")
            other.send([b"after"])
            heard = {
                (delivery.sender, delivery.frames[0])
                for delivery in [await host.inbox.next() for _ in range(2)]
            }
            assert heard == {("attic", b"sorry"), ("other", b"after")}


async def test_a_frame_that_the_other_side_would_drop_is_not_sent() -> None:
    async with house(frame_bytes_max=64 << 10) as host:
        guest, _ = host.guest("attic", frame_bytes_max=64 << 10)
        guest.send([b"header", b"x" * ((64 << 10) - CURVE_OVERHEAD_BYTES)])
        assert len((await host.inbox.frames())[1]) == (64 << 10) - CURVE_OVERHEAD_BYTES
        with pytest.raises(WireError, match="over"):
            guest.send([b"header", b"x" * ((64 << 10) - CURVE_OVERHEAD_BYTES + 1)])
        guest.send([b"next"])
        assert await host.inbox.frames() == [b"next"]


async def test_more_messages_than_one_batch_arrive_all_and_in_order() -> None:
    async with house() as host:
        guest, _ = host.guest("attic")
        count = RECEIVE_BATCH * 8 + 3
        for number in range(count):
            assert guest.send([str(number).encode()])
        assert [int((await host.inbox.frames())[0]) for _ in range(count)] == list(range(count))


async def test_two_who_talk_at_once_both_hear_everything() -> None:
    """Sending may swallow the edge that announces a message: nothing may be left lying."""
    async with house() as host:
        guest, inbox = host.guest("attic")
        guest.send([b"hello"])
        route = (await host.inbox.next()).route
        for number in range(2000):
            guest.send([b"%d" % number])
            host.link.send([b"%d" % number], route)
            if number % 100 == 0:
                await asyncio.sleep(0)
        for number in range(2000):
            assert await host.inbox.frames() == [b"%d" % number]
            assert await inbox.frames() == [b"%d" % number]


async def test_what_is_sent_to_somebody_who_is_gone_is_counted_as_dropped() -> None:
    async with house() as host:
        assert not host.link.send([b"x"], b"nobody")
        assert host.link.dropped == 1
        await works(host)


async def test_an_exception_while_hearing_one_message_does_not_end_the_link() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    complained = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda *_: complained.set())
    async with house() as host:
        keys = new_keys()
        host.known[keys.public] = "attic"

        def take(deliveries: list[transport.Delivery]) -> None:
            for delivery in deliveries:
                if delivery.frames[0] == b"bad":
                    raise ValueError("bad")
                heard.put_nowait(delivery.frames[0])

        guest = transport.dial(host.context, host.link.endpoint, keys, host.keys.public, take)
        guest.send([b"hello"])
        route = (await host.inbox.next()).route
        host.link.send([b"bad"], route)
        await asyncio.wait_for(complained.wait(), ARRIVES_S)
        host.link.send([b"good"], route)
        assert await asyncio.wait_for(heard.get(), ARRIVES_S) == b"good"
        guest.close(linger_ms=0)


async def test_a_frame_that_is_no_message_is_dropped_and_the_next_one_heard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with house() as host:
        received: asyncio.Queue[Received] = asyncio.Queue()
        keys = new_keys()
        host.known[keys.public] = "attic"
        channel = Channel(
            lambda take: transport.dial(host.context, host.link.endpoint, keys, host.keys.public, take),
            lambda batch: received.put_nowait(batch[0]),
        )
        channel.send(Heartbeat())
        route = (await host.inbox.next()).route
        host.link.send([b"\xc1 no message"], route)
        host.link.send([encode(Goodbye(reason="done")), b"payload"], route)
        one = await asyncio.wait_for(received.get(), ARRIVES_S)
        assert (one.message, one.payload) == (Goodbye(reason="done"), [b"payload"])
        assert "was dropped" in caplog.text
        channel.close()


# Strangers.


async def test_garbage_and_silence_do_not_disturb_a_good_peer() -> None:
    async with house() as host:
        guest, inbox = host.guest("good")
        guest.send([b"before"])
        route = (await host.inbox.next()).route
        port = int(host.link.endpoint.rpartition(":")[2])
        with contextlib.ExitStack() as strangers:
            for bytes_ in [*GARBAGE.values(), *[b""] * 50, *[CURVE_GREETING] * 50]:
                stranger = plain.create_connection(("127.0.0.1", port))
                strangers.callback(stranger.close)
                with contextlib.suppress(OSError):
                    stranger.sendall(bytes_)
            for number in range(50):
                guest.send([b"%d" % number])
                assert await host.inbox.frames() == [b"%d" % number]
                host.link.send([b"%d" % number], route)
                assert await inbox.frames() == [b"%d" % number]
            await works(host)
        assert host.inbox.empty


async def test_a_silent_connection_is_gone_after_the_handshake_time() -> None:
    """Else somebody who only connects holds a descriptor for ever."""
    async with house() as host:
        port = int(host.link.endpoint.rpartition(":")[2])
        with plain.create_connection(("127.0.0.1", port)) as silent:
            silent.settimeout(ARRIVES_S)

            def until_closed() -> bytes:
                last = b""
                while chunk := silent.recv(4096):
                    last = chunk
                return last

            await asyncio.to_thread(until_closed)  # raises TimeoutError if the server keeps it
        await works(host)


async def test_a_server_that_comes_back_is_found_again_by_itself() -> None:
    keys, guest_keys, inbox = new_keys(), new_keys(), Inbox()
    context = transport.new_context()
    async with house(keys=keys) as first:
        endpoint = first.link.endpoint
        first.known[guest_keys.public] = "attic"
        guest = transport.dial(context, endpoint, guest_keys, keys.public, inbox.take)
        guest.send([b"one"])
        assert await first.inbox.frames() == [b"one"]
    guest.send([b"two"])
    async with house(endpoint, keys=keys) as second:
        second.known[guest_keys.public] = "attic"
        sent = 0
        while second.inbox.empty:  # what went into the dying connection may be lost, not the line
            sent += 1
            assert sent < 100
            guest.send([b"three"])
            await asyncio.sleep(0.1)
        heard = await second.inbox.next()
        assert heard.sender == "attic"
        second.link.send([b"welcome back"], heard.route)
        assert await inbox.frames() == [b"welcome back"]
    guest.close(linger_ms=0)
    context.destroy(linger=0)


async def test_a_dialled_line_says_when_it_stands_and_when_it_is_no_more() -> None:
    keys, guest_keys = new_keys(), new_keys()
    context = transport.new_context()
    told: asyncio.Queue[bool] = asyncio.Queue()

    async def next_told() -> bool:
        return await asyncio.wait_for(told.get(), ARRIVES_S)

    async with house(keys=keys) as first:
        endpoint = first.link.endpoint
        first.known[guest_keys.public] = "attic"
        guest = transport.dial(
            context, endpoint, guest_keys, keys.public, Inbox().take, on_line=told.put_nowait
        )
        assert await next_told() is True
    assert await next_told() is False
    called = asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        called.set()

    host, port = endpoint.removeprefix("tcp://").split(":")
    async with await asyncio.start_server(hang_up, host, int(port)):
        await asyncio.wait_for(called.wait(), ARRIVES_S)  # who answers there, and proves nothing, is no line
    async with house(endpoint, keys=keys) as second:
        second.known[guest_keys.public] = "attic"
        assert await next_told() is True
        guest.close(linger_ms=0)
    assert told.empty()
    context.destroy(linger=0)


async def test_a_line_that_cannot_be_dialled_is_not_watched() -> None:
    context = transport.new_context()
    with pytest.raises(WireError, match="no address"):
        transport.dial(
            context, "tcp://nowhere", new_keys(), new_keys().public, Inbox().take, on_line=lambda _: None
        )
    context.destroy(linger=0)
