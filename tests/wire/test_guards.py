"""Peers that take too much: whoever does is cut or passed over, and a good peer beside is not disturbed."""

import asyncio
import contextlib
import os
import resource
import socket as plain
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from discogrid import transport
from discogrid.errors import DiscogridError
from discogrid.rates import Rates
from discogrid.transport import Connections, Doorkeeper, limits, link
from discogrid.transport.connections import UNKNOWN, Moved
from discogrid.transport.doorkeeper import OPENINGS_MAX
from discogrid.transport.gate import connections_max, memory_bytes, raise_files_limit
from tests.wire.peers import ARRIVES_S, House, gate_of, house, new_keys, raw_dealer, works

MIB = 1 << 20
MEGABYTE = b"x" * MIB


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    end = time.monotonic() + ARRIVES_S
    while not true():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def tcp(host: House) -> Iterator[plain.socket]:
    port = int(host.link.endpoint.rpartition(":")[2])
    with plain.create_connection(("127.0.0.1", port)) as socket:
        socket.settimeout(ARRIVES_S)
        yield socket


async def is_cut(socket: plain.socket) -> None:
    """The other side ends the connection: TimeoutError if it does not."""

    def read_to_end() -> None:
        with contextlib.suppress(ConnectionError):
            while socket.recv(4096):
                pass

    await asyncio.to_thread(read_to_end)


# One message without end.


async def test_one_message_without_end_costs_its_member_the_connection_before_it_costs_us_the_memory() -> (
    None
):
    """libzmq bounds each frame, not how many there are, and delivers nothing before the last one has come."""
    async with house(connections=Connections(100, unread_max=16 * MIB)) as host:
        await works(host)
        keys = new_keys()
        host.known[keys.public] = "mallory"
        with raw_dealer(None, keys, host.keys.public) as mallory:
            monitor = mallory.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            mallory.connect(host.link.endpoint)
            before = most = memory_bytes()
            pouring = asyncio.create_task(
                asyncio.to_thread(mallory.send_multipart, [MEGABYTE] * 512, copy=False)
            )
            while not await asyncio.to_thread(monitor.poll, 10):
                most = max(most, memory_bytes())
                assert most - before < 400 * MIB, "it was collected"
            await pouring
            monitor.close(linger=0)
        assert gate_of(host).cut >= 1
        await works(host)
        assert host.inbox.empty


async def test_as_much_in_whole_messages_is_taken() -> None:
    async with house(connections=Connections(100, unread_max=16 * MIB)) as host:
        guest, _ = host.guest("attic")
        for number in range(512):
            guest.send([b"%d" % number, MEGABYTE])
            assert (await host.inbox.frames())[0] == b"%d" % number
        assert gate_of(host).cut == 0


def test_what_all_connections_together_have_not_finished_is_bounded_and_the_greediest_goes_first() -> None:
    connections = Connections(100, unread_max=100, unread_all_max=250)
    for fd in range(4):
        connections.opened(fd, "192.0.2.1", 0.0)
        connections.delivered(fd, 0, "attic")
    came = {fd: Moved(received) for fd, received in enumerate((60, 99, 98, 97))}
    assert cut(connections, came) == [1, 2]
    connections.delivered(1, 90, "attic")
    assert cut(connections, came) == [2]
    connections.closed(2)
    assert cut(connections, came) == []


def cut(connections: Connections, moved: dict[int, Moved]) -> list[int]:
    """Whose connection is too much, at the beginning of time."""
    return [excess.connection.fd for excess in connections.greedy(moved.get, 0.0)]


def test_what_strangers_have_sent_is_bounded_apart_and_costs_no_member_its_connection() -> None:
    connections = Connections(100, unread_max=100, unread_all_max=250, unheard_all_max=70)
    for fd in range(6):
        connections.opened(fd, "192.0.2.1", 0.0)
    connections.delivered(0, 0, "attic")
    connections.delivered(1, 0, "attic")
    came = {0: Moved(90), 1: Moved(90), **{fd: Moved(30 + fd) for fd in range(2, 6)}}
    assert cut(connections, came) == [5, 4]
    for fd in (2, 3, 4, 5):
        connections.delivered(fd, 30, "attic")
    assert cut(connections, came) == []


def test_what_connections_do_not_take_is_bounded_for_one_and_for_all() -> None:
    connections = Connections(100, untaken_max=100, untaken_all_max=150)
    for fd in range(3):
        connections.opened(fd, "192.0.2.1", 0.0)
        connections.delivered(fd, 0, "attic", b"route %d" % fd)
    connections.sent(b"route 0", 101)
    connections.sent(b"route 1", 90)
    connections.sent(b"route 2", 80)
    connections.sent(b"nobody", 1000)
    assert cut(connections, {fd: Moved() for fd in range(3)}) == [0, 1]
    assert cut(connections, {0: Moved(taken=1), 1: Moved(taken=90), 2: Moved()}) == [0]
    assert cut(connections, {0: Moved(taken=101), 1: Moved(taken=90), 2: Moved()}) == []


def test_pings_that_were_taken_do_not_make_room_for_more() -> None:
    connections = Connections(100, untaken_max=100)
    connections.opened(1, "192.0.2.1", 0.0)
    connections.delivered(1, 0, "attic", b"route")
    assert cut(connections, {1: Moved(taken=1000)}) == []
    connections.sent(b"route", 101)
    assert cut(connections, {1: Moved(taken=1000)}) == [1]


def test_a_route_that_another_connection_has_now_is_counted_there() -> None:
    connections = Connections(100, untaken_max=100)
    for fd in (1, 2):
        connections.opened(fd, "192.0.2.1", 0.0)
        connections.delivered(fd, 0, "attic", b"route")
    connections.closed(1)
    connections.sent(b"route", 101)
    assert cut(connections, {2: Moved()}) == [2]


def test_where_the_kernel_says_nothing_nobody_is_cut_for_what_is_on_the_way() -> None:
    connections = Connections(100, unread_max=1, untaken_max=1)
    connections.opened(1, "192.0.2.1", 0.0)
    connections.delivered(1, 1000, "attic", b"route")
    connections.sent(b"route", 1000)
    assert cut(connections, {1: UNKNOWN}) == []


def test_pings_of_an_idle_connection_do_not_add_up_to_an_excess() -> None:
    connections = Connections(100, unread_max=1000)
    connections.opened(1, "192.0.2.1", 0.0)
    day_s = 86_400.0
    assert connections.greedy(lambda _: Moved(int(day_s * 20)), day_s) == []
    assert connections.greedy(lambda _: Moved(int(day_s * 40)), day_s)


def test_a_message_that_is_delivered_before_its_connection_is_told_of_counts() -> None:
    connections = Connections(100, unread_max=1000)
    connections.delivered(1, 900, "attic")
    connections.opened(1, "192.0.2.1", 0.0)
    assert cut(connections, {1: Moved(1800)}) == []


# Floods of connections.


async def test_connections_over_the_limit_of_a_host_are_cut_and_earlier_ones_stay() -> None:
    async with house(connections=Connections(100, address_max=5)) as host:
        guest, _ = host.guest("attic")
        guest.send([b"first"])
        assert await host.inbox.frames() == [b"first"]
        with contextlib.ExitStack() as strangers:
            sockets = [strangers.enter_context(tcp(host)) for _ in range(20)]
            await asyncio.gather(*(is_cut(socket) for socket in sockets[4:]))
            guest.send([b"second"])
            assert await host.inbox.frames() == [b"second"]
        assert gate_of(host).cut >= 16
        await until(lambda: len(gate_of(host).connections) == 1)  # what has gone makes room
        await works(host)


async def test_connections_within_the_limit_of_a_host_are_all_heard() -> None:
    async with house(connections=Connections(100, address_max=5)) as host:
        for number in range(5):
            guest, _ = host.guest(f"guest-{number}")
            guest.send([b"hello"])
            assert await host.inbox.frames() == [b"hello"]
        assert gate_of(host).cut == 0


async def test_a_flood_of_connections_from_many_hosts_ends_at_the_total() -> None:
    connections = Connections(3)
    assert [connections.opened(fd, f"192.0.2.{fd}", 0.0) for fd in range(3)] == [None] * 3
    assert connections.opened(3, "192.0.2.3", 0.0) is not None
    connections.closed(3)
    connections.closed(0)
    assert connections.opened(4, "192.0.2.4", 0.0) is None


def test_a_host_that_connects_again_and_again_is_slowed_down_and_another_is_not() -> None:
    connections = Connections(10)
    told = []
    for _ in range(limits.CONNECTS_BURST + 1):
        told.append(connections.opened(1, "2001:db8::1", 0.0))
        connections.closed(1)
    assert told[-2] is None
    assert told[-1] is not None
    assert connections.opened(1, "2001:db8::ffff", 0.0) is not None, "the same network"
    assert connections.opened(2, "2001:db8:1::1", 0.0) is None, "another one"
    assert connections.opened(3, "2001:db8::1", 1.0) is None, "a second later"


async def test_a_member_has_so_many_connections_and_another_member_does_not_feel_it() -> None:
    async with house(connections=Connections(100, member_max=3)) as host:
        keys = new_keys()
        host.known[keys.public] = "mallory"
        with contextlib.ExitStack() as dialled:
            for _ in range(4):
                peer = dialled.enter_context(raw_dealer(host.link.endpoint, keys, host.keys.public))
                assert gate_of(host).cut == 0
                peer.send(b"me")
                await host.inbox.next()
            await until(lambda: gate_of(host).cut >= 1)
            await works(host)


def test_a_member_heard_before_its_connection_was_told_of_is_counted_all_the_same() -> None:
    """Two threads tell of them, in any order."""
    connections = Connections(100, member_max=2)
    for fd in range(2):
        assert connections.opened(fd, "192.0.2.1", 0.0) is None
        assert connections.delivered(fd, 40, "mallory", b"%d" % fd) is None
    assert connections.delivered(2, 40, "mallory", b"2") is None
    excess = connections.opened(2, "192.0.2.1", 0.0)
    assert excess is not None
    assert (excess.connection.fd, excess.connection.delivered) == (2, 40)
    assert "this member has 2 connections" in excess.reason


def test_a_descriptor_s_next_connection_belongs_to_whoever_is_heard_on_it() -> None:
    connections = Connections(100, member_max=1)
    connections.opened(1, "192.0.2.1", 0.0)
    connections.closed(1)
    connections.delivered(1, 40, "attic", b"old")  # its last word, told late
    assert connections.opened(1, "192.0.2.2", 0.0) is None
    assert connections.delivered(1, 40, "cellar", b"new") is None
    assert connections.opened(2, "192.0.2.1", 0.0) is None
    assert connections.delivered(2, 40, "attic", b"again") is None, "its only one"


async def test_a_flood_leaves_descriptors_for_the_coordinator_s_own_files() -> None:
    """Else its journal cannot be written, and libzmq aborts where it needs one itself."""
    async with house(connections=Connections(50)) as host:
        before = len(os.listdir("/proc/self/fd"))
        with contextlib.ExitStack() as strangers:
            for _ in range(400):
                strangers.enter_context(tcp(host))
            await until(lambda: len(os.listdir("/proc/self/fd")) - before - 400 <= 60)
        await works(host)


def test_as_many_descriptors_as_the_system_allows_are_asked_for_and_some_kept_back() -> None:
    assert raise_files_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert connections_max(20_000) * 2 + limits.FILES_RESERVE <= 20_000
    assert connections_max(1_024) >= 64


# Messages.


async def test_what_a_member_sends_over_its_rate_is_dropped_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link, "MESSAGES_BURST", 100)
    monkeypatch.setattr(link, "MESSAGES_S_MAX", 0.001)
    async with house() as host:
        mallory, _ = host.guest("mallory")
        for number in range(1000):
            mallory.send([b"%d" % number])
        for number in range(100):
            assert await host.inbox.frames() == [b"%d" % number]
        await works(host)
        assert host.inbox.empty
    assert len([line for line in caplog.messages if "of member mallory were dropped" in line]) == 1


async def test_two_seconds_of_ten_thousand_jobs_a_second_are_within_the_rate() -> None:
    rates = Rates(limits.MESSAGES_BURST, limits.MESSAGES_S_MAX, 10)
    assert all(rates.take("client", number / 10_000) for number in range(100_000))
    assert not all(rates.take("mallory", number / 30_000) for number in range(200_000))


def test_ten_thousand_agents_that_beat_are_within_their_rates() -> None:
    rates = Rates(limits.MESSAGES_BURST, limits.MESSAGES_S_MAX, limits.MEMBERS_REMEMBERED_MAX)
    assert all(rates.take(f"agent-{n}", second + n / 20_000) for second in range(3) for n in range(10_000))


def test_rates_remember_a_bounded_number_of_names() -> None:
    rates = Rates(10, 1, 100)
    assert all(rates.take(f"name-{number}", 0.0) for number in range(1000))
    assert len(rates) <= 100


async def test_a_peer_that_never_reads_costs_a_full_queue_and_nobody_waits_for_it() -> None:
    async with house(frame_bytes_max=transport.BLOB_FRAME_BYTES_MAX) as host:
        keys = new_keys()
        host.known[keys.public] = "deaf"
        with raw_dealer(None, keys, host.keys.public) as deaf:
            deaf.set(zmq.RCVHWM, 1)
            deaf.set(zmq.RCVBUF, 4096)
            deaf.connect(host.link.endpoint)
            deaf.send(b"push to me")
            route = (await host.inbox.next()).route
            sent = 0
            while host.link.send([MEGABYTE], route):
                sent += 1
                assert sent < 1000, "the queue has no end"
                await asyncio.sleep(0)
            assert host.link.dropped == 1
            await works(host)


async def test_a_member_that_asks_and_does_not_read_costs_its_connection_before_it_costs_us_the_memory() -> (
    None
):
    """libzmq counts the messages that wait for a peer, not their bytes: ten thousand of 4 MiB would be 40 GiB."""
    async with house(connections=Connections(100, untaken_max=32 * MIB)) as host:
        await works(host)
        keys = new_keys()
        host.known[keys.public] = "deaf"
        with raw_dealer(None, keys, host.keys.public) as deaf:
            deaf.set(zmq.RCVHWM, 1)
            deaf.set(zmq.RCVBUF, 4096)
            deaf.connect(host.link.endpoint)
            deaf.send(b"tell me everything")
            route = (await host.inbox.next()).route
            before = most = memory_bytes()
            while host.link.send([os.urandom(4 * MIB)], route):
                most = max(most, memory_bytes())
                assert most - before < 400 * MIB, "it was collected"
                await asyncio.sleep(0.001)  # as answers come in turn with questions
        assert gate_of(host).cut >= 1
        await until(lambda: memory_bytes() - before < 100 * MIB)
        await works(host)


async def test_a_member_that_reads_what_it_asks_for_gets_all_of_it() -> None:
    async with house(connections=Connections(100, untaken_max=32 * MIB)) as host:
        guest, inbox = host.guest("attic")
        guest.send([b"tell me everything"])
        route = (await host.inbox.next()).route
        for number in range(100):
            assert host.link.send([b"%d" % number, MEGABYTE * 4], route)
            assert (await inbox.frames())[0] == b"%d" % number
        assert gate_of(host).cut == 0


# The doorkeeper.


async def ask_zap(host: House, *request: bytes) -> None:
    with host.context.socket(zmq.DEALER) as guest:
        guest.linger = int(ARRIVES_S * 1000)  # it is heard also when this end is closed first
        guest.connect(transport.ZAP_ENDPOINT)
        guest.send_multipart(list(request))


@pytest.mark.parametrize(
    "request_",
    [
        (b"",),
        (b"no delimiter",),
        (b"", b"1.0"),
        (b"", b"9.9", b"1", b"discogrid", b"", b"", b"CURVE", b"k" * 32),
        (b"", b"1.0", b"1", b"discogrid", b"", b"", b"CURVE"),
        (b"", b"1.0", b"1", b"discogrid", b"", b"", b"CURVE", b"too short"),
        (b"", b"1.0", b"1", b"discogrid", b"", b"", b"CURVE", b"k" * 32, b"more"),
        (b"", b"1.0", b"1", b"discogrid", b"", b"", b"\xff\xfe", b"k" * 32),
        (b"",) * 1000,
    ],
)
async def test_a_malformed_authentication_request_does_not_end_the_doorkeeper(
    request_: tuple[bytes, ...],
) -> None:
    async with house() as host:
        await ask_zap(host, *request_)
        host.doorkeeper.prove()
        await works(host)


async def test_a_doorkeeper_whose_socket_fails_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house() as host:
        answer = host.doorkeeper._answer
        failed: list[list[bytes]] = []

        def fails_once(request: list[bytes]) -> None:
            if not failed:
                failed.append(request)
                raise zmq.ZMQError(zmq.ENOTSOCK)
            answer(request)

        monkeypatch.setattr(host.doorkeeper, "_answer", fails_once)
        await ask_zap(host, b"", b"1.0")
        await until(lambda: bool(failed))
        await until(lambda: len(host.doorkeeper._openings) == 2)
        await works(host)


async def test_a_doorkeeper_that_cannot_go_on_says_so_and_nobody_listens_any_more() -> None:
    context, ended = transport.new_context(), asyncio.Event()
    loop = asyncio.get_running_loop()
    doorkeeper = Doorkeeper(context, lambda _: "x", lambda _: loop.call_soon_threadsafe(ended.set))

    def fails(request: list[bytes]) -> None:
        raise zmq.ZMQError(zmq.ENOTSOCK)

    doorkeeper._answer = fails  # type: ignore[method-assign]
    with contextlib.suppress(zmq.ZMQError):
        for _ in range(OPENINGS_MAX):
            with context.socket(zmq.DEALER) as guest:
                guest.linger = 0
                guest.connect(transport.ZAP_ENDPOINT)
                openings = len(doorkeeper._openings)
                guest.send_multipart([b"", b"?"])
                await until(lambda: len(doorkeeper._openings) > openings or not doorkeeper.answering)  # noqa: B023
    await asyncio.wait_for(ended.wait(), ARRIVES_S)
    await until(lambda: not doorkeeper.answering)
    with pytest.raises(DiscogridError, match="everybody"):
        transport.listen(context, "tcp://127.0.0.1:0", new_keys(), doorkeeper, lambda _: None)
    doorkeeper.close()
    context.destroy(linger=0)


async def test_nobody_listens_behind_a_doorkeeper_that_lets_everybody_in() -> None:
    context = transport.new_context()
    doorkeeper = Doorkeeper(context, lambda _: "anybody")
    with pytest.raises(DiscogridError, match="everybody"):
        transport.listen(context, "tcp://127.0.0.1:0", new_keys(), doorkeeper, lambda _: None)
    doorkeeper.close()
    context.destroy(linger=0)


async def test_a_handshake_does_not_wait_for_a_busy_event_loop() -> None:
    async with house() as host:
        keys = new_keys()
        host.known[keys.public] = "attic"
        with raw_dealer(None, keys, host.keys.public) as guest:
            monitor = guest.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
            guest.connect(host.link.endpoint)
            assert monitor.poll(int(ARRIVES_S * 1000)), "the loop, which waits here, was needed"
            monitor.close(linger=0)


async def test_a_look_at_the_connections_that_fails_does_not_end_the_gate(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with house() as host:
        gate, failed = gate_of(host), asyncio.Event()
        hear = gate._hear

        def fails_once(event: int, fd: int) -> None:
            if not failed.is_set():
                failed.set()
                raise ValueError("a bug")
            hear(event, fd)

        monkeypatch.setattr(gate, "_hear", fails_once)
        with tcp(host):
            await until(failed.is_set)
        await works(host)
        assert gate.watching
    assert "a look at the connections failed" in caplog.text
