"""Blobs cross real sockets: honest, lying, silent, interrupted."""

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from discogrid.blobs import BlobStore, digest_of
from discogrid.channel import Channel, Received
from discogrid.errors import BlobError
from discogrid.messages import (
    BlobChunk,
    BlobRefused,
    BlobStored,
    GetBlob,
    Goodbye,
    Message,
    OfferBlob,
    WantChunks,
)
from discogrid.pieces import Pieces
from discogrid.transfer import Patience
from discogrid.transfer import server as server_module
from discogrid.transfer.chunks import CHUNK_BYTES, CREDIT_CHUNKS
from discogrid.types import Digest
from tests.store.sockets import QUICK, Line, line, until

SOON_S = 20.0


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Line]:
    async with line(tmp_path) as it:
        yield it


def content_of(size: int) -> tuple[bytes, Digest]:
    content = os.urandom(size)
    return content, digest_of(content)


def parts_in(store: BlobStore) -> list[Path]:
    return list((store.folder / "incoming").iterdir())


SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 20 * CHUNK_BYTES + 7]


@pytest.mark.parametrize("size", SIZES)
async def test_a_blob_goes_out_and_comes_back(opened: Line, size: int) -> None:
    content, digest = content_of(size)
    (opened.folder / "source").write_bytes(content)
    remote = opened.store("remote")
    opened.serve(remote)
    local = opened.store("local")
    client = opened.dial(local)
    await client.put(opened.folder / "source", digest, size)
    assert remote.path(digest).read_bytes() == content
    await client.get(digest, size)
    assert local.path(digest).read_bytes() == content
    assert parts_in(remote) == parts_in(local) == []


async def test_bytes_go_out_from_memory(opened: Line) -> None:
    remote = opened.store("remote")
    opened.serve(remote)
    content, digest = content_of(3 * CHUNK_BYTES)
    await opened.dial().put(content, digest, len(content))
    assert remote.path(digest).read_bytes() == content


@pytest.mark.parametrize("size", [10, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
async def test_what_passes_crosses_from_memory_to_memory(opened: Line, size: int) -> None:
    content, digest = content_of(size)
    remote, local = opened.store("remote"), opened.store("local")
    opened.serve(remote)
    client = opened.dial(local)
    await client.put(content, digest, size, passing=True)
    await client.get(digest, size, passing=True)
    assert isinstance(remote.source(digest), Pieces)
    there = local.source(digest)
    assert isinstance(there, Pieces)
    assert there.read(0, size) == content
    assert remote.remove(digest)
    await client.put(there, digest, size)
    assert remote.path(digest).read_bytes() == content
    assert remote.used_bytes == size


async def test_many_blobs_of_all_sizes_cross_both_ways_at_once(opened: Line) -> None:
    remote, local = opened.store("remote"), opened.store("local")
    opened.serve(remote)
    client = opened.dial(local)
    out = [content_of(size) for size in (0, 10, CHUNK_BYTES, 3 * CHUNK_BYTES + 5) * 25]
    there = [content_of(size) for size in (10, CHUNK_BYTES, 3 * CHUNK_BYTES + 5) * 25]
    for content, _ in there:
        remote.put_bytes(content)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for content, digest in out:
            group.create_task(client.put(content, digest, len(content)))
        for content, digest in there:
            group.create_task(client.get(digest, len(content)))
    assert all(remote.path(digest).read_bytes() == content for content, digest in out)
    assert all(local.path(digest).read_bytes() == content for content, digest in there)


async def test_what_is_there_already_does_not_cross_again(opened: Line) -> None:
    content, digest = content_of(5 * CHUNK_BYTES)
    offered: list[int] = []

    def may_write(_peer: str, _digest: Digest, size: int) -> bool:
        offered.append(size)
        return True

    remote, local = opened.store("remote"), opened.store("local")
    opened.serve(remote, may_write=may_write)
    client = opened.dial(local)
    remote.put_bytes(content)
    await client.put(content, digest, len(content))
    assert len(offered) == 1
    local.put_bytes(content)
    opened.keys = opened.client_keys  # nobody listens there
    await opened.dial(local).get(digest, len(content))
    assert local.path(digest).read_bytes() == content


async def test_callers_that_want_the_same_blob_share_one_transfer(opened: Line) -> None:
    content, digest = content_of(4 * CHUNK_BYTES)
    asked: list[Digest] = []

    def may_read(_peer: str, wanted: Digest) -> bool:
        asked.append(wanted)
        return True

    remote = opened.store("remote")
    remote.put_bytes(content)
    opened.serve(remote, may_read)
    local = opened.store("local")
    client = opened.dial(local)
    await asyncio.gather(*(client.get(digest, len(content)) for _ in range(5)))
    assert local.path(digest).read_bytes() == content
    assert len(asked) == 4


async def test_one_caller_that_goes_away_does_not_stop_the_others(opened: Line) -> None:
    content, digest = content_of(4 * CHUNK_BYTES)
    remote = opened.store("remote")
    remote.put_bytes(content)
    client = opened.dial(opened.store("local"))  # nobody listens yet
    opened_later = asyncio.create_task(client.get(digest, len(content)))
    leaving = asyncio.create_task(client.get(digest, len(content)))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    opened_later.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opened_later
    opened.serve(remote)
    local = opened.store("local")
    client = opened.dial(local)
    staying = asyncio.create_task(client.get(digest, len(content)))
    leaving = asyncio.create_task(client.get(digest, len(content)))
    await asyncio.sleep(0)
    leaving.cancel()
    await staying
    assert local.path(digest).read_bytes() == content


async def test_a_cancelled_transfer_leaves_nothing_behind(opened: Line) -> None:
    content, digest = content_of(64 * CHUNK_BYTES)
    remote, local = opened.store("remote"), opened.store("local")
    remote.put_bytes(content)
    opened.serve(remote)
    client = opened.dial(local)
    getting = asyncio.create_task(client.get(digest, len(content)))
    await until(lambda: parts_in(local))
    getting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await getting
    await asyncio.sleep(0)
    assert parts_in(local) == []
    await client.get(digest, len(content))
    assert local.path(digest).read_bytes() == content


async def test_a_small_blob_does_not_wait_behind_a_large_one(opened: Line) -> None:
    large, large_digest = content_of(100 * CHUNK_BYTES)
    small, small_digest = content_of(100)
    remote = opened.store("remote")
    remote.put_bytes(large)
    remote.put_bytes(small)
    opened.serve(remote)
    client = opened.dial(opened.store("local"))
    getting = asyncio.create_task(client.get(large_digest, len(large)))
    putting = asyncio.create_task(client.put(large[1:], digest_of(large[1:]), len(large) - 1))
    await asyncio.sleep(0.05)
    await client.get(small_digest, 100)
    await client.put(b"small", digest_of(b"small"), 5)
    assert not getting.done()
    assert not putting.done()
    await asyncio.gather(getting, putting)


# -- refusals


async def test_a_blob_that_is_not_there_is_said_at_once(opened: Line) -> None:
    opened.serve(opened.store("remote"))
    with pytest.raises(BlobError, match="refused: the blob is not here"):
        await opened.dial(opened.store("local")).get(digest_of(b"x"), 1)


async def test_a_peer_without_the_right_may_neither_read_nor_write(opened: Line) -> None:
    peers: set[str] = set()

    def nobody(peer: str, _digest: Digest, _size: int = 0) -> bool:
        peers.add(peer)
        return False

    remote, local = opened.store("remote"), opened.store("local")
    secret = remote.put_bytes(b"secret")
    opened.serve(remote, nobody, nobody)
    client = opened.dial(local)
    with pytest.raises(BlobError, match="may not read"):
        await client.get(secret, 6)
    for content in (b"evil", b"secret", bytes(2 * CHUNK_BYTES)):
        with pytest.raises(BlobError, match="may not store"):
            await client.put(content, digest_of(content), len(content))
    assert peers == {opened.client_keys.public.decode()}
    assert not local.has(secret)
    assert remote.used_bytes == 6


async def test_a_right_that_is_taken_away_ends_a_transfer_in_the_middle(opened: Line) -> None:
    content, digest = content_of(30 * CHUNK_BYTES)
    asked = 0

    def for_a_while(_peer: str, _digest: Digest, _size: int = 0) -> bool:
        nonlocal asked
        asked += 1
        return asked % 20 != 0

    remote, local = opened.store("remote"), opened.store("local")
    opened.serve(remote, for_a_while, for_a_while)
    client = opened.dial(local)
    with pytest.raises(BlobError, match="may not store"):
        await client.put(content, digest, len(content))
    assert parts_in(remote) == []
    remote.put_bytes(content)
    asked = 0
    with pytest.raises(BlobError, match="may not read"):
        await client.get(digest, len(content))
    assert parts_in(local) == []


async def test_a_full_store_refuses_on_either_side(opened: Line) -> None:
    content, digest = content_of(3 * CHUNK_BYTES)
    opened.serve(opened.store("remote", capacity_bytes=CHUNK_BYTES))
    with pytest.raises(BlobError, match="no room"):
        await opened.dial().put(content, digest, len(content))


async def test_a_full_store_of_ones_own_is_an_error(opened: Line) -> None:
    content, digest = content_of(3 * CHUNK_BYTES)
    remote = opened.store("remote")
    remote.put_bytes(content)
    opened.serve(remote)
    with pytest.raises(BlobError, match="no room"):
        await opened.dial(opened.store("local", capacity_bytes=CHUNK_BYTES)).get(digest, len(content))


async def test_a_source_that_cannot_be_read_or_has_changed_is_an_error(opened: Line) -> None:
    opened.serve(opened.store("remote"))
    client = opened.dial()
    with pytest.raises(BlobError, match="cannot be read"):
        await client.put(opened.folder / "missing", digest_of(b"x"), 1)
    (opened.folder / "source").write_bytes(b"longer than it was")
    with pytest.raises(BlobError, match="not the 3 bytes it was"):
        await client.put(opened.folder / "source", digest_of(b"abc"), 3)
    with pytest.raises(BlobError, match="others than promised"):
        await client.put(b"abd", digest_of(b"abc"), 3)
    content, digest = content_of(3 * CHUNK_BYTES)
    with pytest.raises(BlobError, match="not what its digest says"):
        await client.put(b"X" + content[1:], digest, len(content))


async def test_a_source_that_shrinks_on_the_way_is_an_error(opened: Line) -> None:
    content, digest = content_of(10 * CHUNK_BYTES)
    source = opened.folder / "source"
    source.write_bytes(content)

    def cut(_peer: str, _digest: Digest, _size: int) -> bool:
        os.truncate(source, CHUNK_BYTES)
        return True

    opened.serve(opened.store("remote"), may_write=cut)
    with pytest.raises(BlobError, match="bytes it was"):
        await opened.dial().put(source, digest, len(content))


async def test_a_closed_client_fails_what_is_on_its_way_and_what_comes_later(opened: Line) -> None:
    client = opened.dial(opened.store("local"))  # nobody listens
    getting = asyncio.create_task(client.get(digest_of(b"x"), 1))
    putting = asyncio.create_task(client.put(b"y", digest_of(b"y"), 1))
    await asyncio.sleep(0.01)
    client.close()
    (opened.folder / "z").write_bytes(b"z")
    later = asyncio.create_task(client.put(opened.folder / "z", digest_of(b"z"), 1))
    for waiting in (getting, putting, later):
        with pytest.raises(BlobError, match="was closed"):
            await waiting


# -- a server that lies


LARGE = bytes(range(256)) * (CHUNK_BYTES // 256) * 2


def wrong_bytes(asked: GetBlob) -> tuple[Message, bytes]:
    return BlobChunk(digest=asked.digest, offset=asked.offset, size=len(LARGE)), bytes(CHUNK_BYTES)


def wrong_size(asked: GetBlob) -> tuple[Message, bytes]:
    return BlobChunk(digest=asked.digest, offset=asked.offset, size=1 << 40), LARGE[:CHUNK_BYTES]


def short_chunk(asked: GetBlob) -> tuple[Message, bytes]:
    return BlobChunk(digest=asked.digest, offset=asked.offset, size=len(LARGE)), b"short"


def no_chunk(asked: GetBlob) -> tuple[Message, bytes]:
    return BlobChunk(digest=asked.digest, offset=asked.offset, size=len(LARGE)), b""


def another_blob(asked: GetBlob) -> tuple[Message, bytes]:
    return BlobChunk(digest=digest_of(b"other"), offset=asked.offset, size=len(LARGE)), LARGE[:CHUNK_BYTES]


def another_chunk(asked: GetBlob) -> tuple[Message, bytes]:
    return BlobChunk(digest=asked.digest, offset=asked.offset + CHUNK_BYTES, size=len(LARGE)), LARGE[
        :CHUNK_BYTES
    ]


def nonsense(asked: GetBlob) -> tuple[Message, bytes]:
    return Goodbye(), b""


def want(asked: GetBlob) -> tuple[Message, bytes]:
    return WantChunks(digest=asked.digest, offset=0, count=1 << 60), b""


def stored(asked: GetBlob) -> tuple[Message, bytes]:
    return BlobStored(digest=asked.digest), b""


def refused(asked: GetBlob) -> tuple[Message, bytes]:
    return BlobRefused(digest=asked.digest, reason="no " * 3000), b""


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (wrong_bytes, "not what its digest says"),
        (wrong_size, "are offered for a blob of"),
        (short_chunk, "are offered for a blob of"),
        (no_chunk, "are offered for a blob of"),
        (another_blob, "got stuck"),
        (another_chunk, "got stuck"),
        (nonsense, "got stuck"),
        (want, "got stuck"),
        (stored, "got stuck"),
        (refused, "refused: no no"),
    ],
)
async def test_a_server_that_lies_is_found_out_and_nothing_is_kept(
    opened: Line, lie: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(channel: Channel, received: Received) -> None:
        if isinstance(received.message, GetBlob):
            message, payload = lie(received.message)  # type: ignore[operator]
            channel.send(message, payload, route=received.route)

    caplog.set_level(logging.CRITICAL)
    opened.play_server(answer)
    local = opened.store("local")
    async with asyncio.timeout(SOON_S):
        with pytest.raises(BlobError, match=reason) as caught:
            await opened.dial(local, QUICK).get(digest_of(LARGE), len(LARGE))
    assert len(str(caught.value)) < 1500
    assert local.used_bytes == 0
    assert parts_in(local) == []
    assert local._reserved == 0


async def test_a_server_that_never_answers_is_given_up_on(opened: Line) -> None:
    heard: list[Message] = []
    opened.play_server(lambda _channel, received: heard.append(received.message))
    client = opened.dial(opened.store("local"), QUICK)
    async with asyncio.timeout(SOON_S):
        with pytest.raises(BlobError, match="no answer in 3 tries"):
            await client.get(digest_of(LARGE), len(LARGE))
        assert [type(message) for message in heard] == [GetBlob] * (2 + 1 + 1)
        with pytest.raises(BlobError, match="no answer in 3 tries"):
            await client.put(LARGE, digest_of(LARGE), len(LARGE))


async def test_who_hears_that_the_other_side_is_back_does_not_wait_for_the_next_try(opened: Line) -> None:
    heard: list[Message] = []
    opened.play_server(lambda _channel, received: heard.append(received.message))
    client = opened.dial(patience=Patience(first_s=0.01, longest_s=1000.0, tries=100))
    putting = asyncio.create_task(client.put(LARGE, digest_of(LARGE), len(LARGE)))
    async with asyncio.timeout(SOON_S):
        client.wake()  # nobody has been silent yet
        await until(lambda: len(heard) > 1)
        for turn in client._round:
            turn.due += 1000.0
        said = len(heard)
        client.wake()
        await until(lambda: len(heard) > said)
    putting.cancel()


async def test_nobody_at_the_address_is_given_up_on_even_when_the_queue_is_full(opened: Line) -> None:
    opened.endpoint = "tcp://127.0.0.1:9"  # the discard service: nobody has it
    client = opened.dial(patience=QUICK)
    contents = [b"%d" % number for number in range(100)]
    async with asyncio.timeout(SOON_S):
        outcomes = await asyncio.gather(
            *(client.put(content, digest_of(content), len(content)) for content in contents),
            return_exceptions=True,
        )
    assert all(isinstance(outcome, BlobError) for outcome in outcomes)


async def test_a_server_that_wants_without_end_gets_no_more_than_there_is(opened: Line) -> None:
    sent: list[int] = []

    def greedy(channel: Channel, received: Received) -> None:
        if isinstance(received.message, BlobChunk):
            sent.append(received.message.offset)
        digest = digest_of(LARGE)
        channel.send(WantChunks(digest=digest, offset=CHUNK_BYTES, count=1 << 50), route=received.route)
        channel.send(WantChunks(digest=digest, offset=-CHUNK_BYTES, count=3), route=received.route)
        channel.send(WantChunks(digest=digest, offset=7, count=3), route=received.route)
        if len(sent) > 20:
            channel.send(BlobStored(digest=digest), route=received.route)

    opened.play_server(greedy)
    async with asyncio.timeout(SOON_S):
        await opened.dial().put(LARGE, digest_of(LARGE), len(LARGE))
    assert set(sent) <= {0, CHUNK_BYTES}


# -- a client that lies


async def ask(opened: Line, *messages: tuple[Message, bytes]) -> tuple[list[Message], BlobStore, Channel]:
    """What an honest server answers to these messages of one client."""
    answers: asyncio.Queue[Received] = asyncio.Queue()
    remote = opened.store("remote")
    remote.put_bytes(LARGE + b"tail")
    opened.serve(remote)
    channel = opened.play_client(answers)
    for message, payload in messages:
        channel.send(message, *([payload] if payload is not None else []))
    end = digest_of(b"the end")
    channel.send(GetBlob(digest=end))
    got: list[Message] = []
    async with asyncio.timeout(SOON_S):
        while (answer := (await answers.get()).message) != BlobRefused(
            digest=end, reason="the blob is not here"
        ):
            got.append(answer)
    return got, remote, channel


BIG = LARGE + b"end"
BIG_DIGEST = digest_of(BIG)
KEPT = digest_of(LARGE + b"tail")


def offer(size: int = len(BIG)) -> tuple[Message, bytes]:
    return OfferBlob(digest=BIG_DIGEST, size=size), b""


def chunk(offset: int, content: bytes, size: int = len(BIG)) -> tuple[Message, bytes]:
    return BlobChunk(digest=BIG_DIGEST, offset=offset, size=size), content


FIRST, SECOND, THIRD = BIG[:CHUNK_BYTES], BIG[CHUNK_BYTES : 2 * CHUNK_BYTES], BIG[2 * CHUNK_BYTES :]
GRANT = WantChunks(digest=BIG_DIGEST, offset=0, count=CREDIT_CHUNKS)
END = CREDIT_CHUNKS * CHUNK_BYTES


def refusal(reason: str, digest: Digest = BIG_DIGEST) -> BlobRefused:
    return BlobRefused(digest=digest, reason=reason)


def wanted(offset: int, count: int = 0) -> WantChunks:
    return WantChunks(digest=BIG_DIGEST, offset=offset, count=count)


SHORT = BIG_DIGEST.removeprefix("blake3:")[:12]
CLIENTS: dict[str, tuple[list[tuple[Message, bytes]], list[Message]]] = {
    "honest": (
        [offer(), chunk(0, FIRST), chunk(CHUNK_BYTES, SECOND), chunk(2 * CHUNK_BYTES, THIRD)],
        [GRANT, wanted(END), wanted(END), BlobStored(digest=BIG_DIGEST)],
    ),
    "double and late chunks": (
        [
            offer(),
            chunk(0, FIRST),
            chunk(0, FIRST),
            chunk(2 * CHUNK_BYTES, THIRD),
            chunk(CHUNK_BYTES, SECOND),
            chunk(2 * CHUNK_BYTES, THIRD),
            chunk(2 * CHUNK_BYTES, THIRD),
        ],
        [
            GRANT,
            wanted(END),
            wanted(CHUNK_BYTES),
            wanted(CHUNK_BYTES),
            wanted(END),
            BlobStored(digest=BIG_DIGEST),
            BlobStored(digest=BIG_DIGEST),
        ],
    ),
    "offered twice": (
        [offer(), chunk(0, FIRST), offer()],
        [GRANT, wanted(END), wanted(CHUNK_BYTES, CREDIT_CHUNKS)],
    ),
    "chunk without an offer": ([chunk(0, FIRST)], [wanted(0)]),
    "wrong bytes": (
        [offer(), chunk(0, SECOND[::-1]), chunk(CHUNK_BYTES, SECOND), chunk(2 * CHUNK_BYTES, THIRD)],
        [GRANT, wanted(END), wanted(END), refusal(f"the blob {SHORT} is not what its digest says")],
    ),
    "short chunk": (
        [offer(), chunk(0, b"short")],
        [GRANT, refusal("a chunk has another length than it must have")],
    ),
    "long last chunk": (
        [offer(), chunk(0, FIRST), chunk(CHUNK_BYTES, SECOND), chunk(2 * CHUNK_BYTES, THIRD + b"!")],
        [GRANT, wanted(END), wanted(END), refusal("a chunk has another length than it must have")],
    ),
    "another size the second time": (
        [offer(), chunk(0, FIRST), offer(len(BIG) + 1)],
        [GRANT, wanted(END), GRANT],
    ),
    "negative size": ([offer(-1)], [refusal("this node may not store the blob")]),
    "endless size": (
        [offer(1 << 62)],
        [refusal("there is no room for another blob in {store}")],
    ),
    "another size than the blob that is here has": (
        [(OfferBlob(digest=KEPT, size=5), b"")],
        [refusal(f"the blob has {len(LARGE) + 4} bytes, not 5", KEPT)],
    ),
    "small offer with other bytes": (
        [(OfferBlob(digest=digest_of(b"good"), size=4), b"evil")],
        [refusal(f"the bytes of {digest_of(b'good')[7:19]} are others than promised", digest_of(b"good"))],
    ),
    "small offer of another size": (
        [(OfferBlob(digest=digest_of(b"good"), size=3), b"good")],
        [refusal("an offer of 3 bytes came with 4", digest_of(b"good"))],
    ),
    "a path as digest": (
        [
            (OfferBlob(digest=Digest("../../evil"), size=4), b"evil"),
            (GetBlob(digest=Digest("../../etc/passwd")), b""),
        ],
        [
            refusal("the bytes of ../../evil are others than promised", Digest("../../evil")),
            refusal("the blob is not here", Digest("../../etc/passwd")),
        ],
    ),
    "a path as a large digest": (
        [(OfferBlob(digest=Digest("../../evil"), size=len(BIG)), b"")],
        [refusal("'../../evil' is no digest", Digest("../../evil"))],
    ),
    "chunks that are not there": (
        [
            (GetBlob(digest=KEPT, offset=offset), b"")
            for offset in (-1, 1, -CHUNK_BYTES, 3 * CHUNK_BYTES, 1 << 62)
        ],
        [
            refusal(f"the blob has no chunk at {at}", KEPT)
            for at in (-1, 1, -CHUNK_BYTES, 3 * CHUNK_BYTES, 1 << 62)
        ],
    ),
    "more chunks than there are": (
        [(GetBlob(digest=KEPT, offset=CHUNK_BYTES, count=1 << 60), b"")],
        [BlobChunk(digest=KEPT, offset=at * CHUNK_BYTES, size=len(LARGE) + 4) for at in (1, 2)],
    ),
    "no chunk at all": ([(GetBlob(digest=KEPT, count=-5), b""), (GetBlob(digest=KEPT, count=0), b"")], []),
    "messages of another socket": ([(Goodbye(), b""), (wanted(0, 5), b"")], []),
}


@pytest.mark.parametrize("case", CLIENTS)
async def test_a_client_of_any_kind_gets_an_answer_and_spoils_nothing(
    opened: Line, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    messages, expected = CLIENTS[case]
    got, remote, _ = await ask(opened, *messages)
    expected = [
        refusal(message.reason.format(store=remote.folder), message.digest)
        if isinstance(message, BlobRefused)
        else message
        for message in expected
    ]
    assert got == expected
    assert remote.has(BIG_DIGEST) == (BlobStored(digest=BIG_DIGEST) in expected)
    assert remote.verify(KEPT)
    unfinished = bool(expected) and isinstance(expected[-1], WantChunks) and expected[-1] != wanted(0)
    assert len(parts_in(remote)) == int(unfinished)


async def test_a_client_that_asks_without_reading_does_not_fill_the_memory(opened: Line) -> None:
    """The server's queue for one peer is bounded in chunks; what does not fit is lost and asked for again."""
    remote = opened.store("remote")
    digest = remote.put_bytes(LARGE)
    read: list[Digest] = []

    def may_read(_peer: str, wanted_: Digest) -> bool:
        read.append(wanted_)
        return True

    server = opened.serve(remote, may_read)
    answers: asyncio.Queue[Received] = asyncio.Queue()
    channel = opened.play_client(answers)
    channel._link._reader.close()  # it reads no more
    for _ in range(2000):
        await until(lambda: channel.send(GetBlob(digest=digest)))
        if server._channel._link.dropped:
            break
    async with asyncio.timeout(SOON_S):
        await until(lambda: server._channel._link.dropped)
    assert len(read) < 1000


async def test_a_garbage_header_is_dropped_and_the_line_lives(
    opened: Line, caplog: pytest.LogCaptureFixture
) -> None:
    remote = opened.store("remote")
    opened.serve(remote)
    answers: asyncio.Queue[Received] = asyncio.Queue()
    channel = opened.play_client(answers)
    for frames in ([b""], [b"\xff" * 100], [b"\x80"], [b"\x91" * 60_000], [b"a", b"b", b"c", b"d"]):
        channel._link.send(frames)
    channel.send(GetBlob(digest=digest_of(b"x")))
    async with asyncio.timeout(SOON_S):
        assert isinstance((await answers.get()).message, BlobRefused)
    assert "dropped" in caplog.text


async def test_a_stranger_is_not_let_in(opened: Line) -> None:
    opened.serve(opened.store("remote"))
    opened.doorkeeper._admit = lambda _key: None
    async with asyncio.timeout(SOON_S):
        with pytest.raises(BlobError, match="got stuck"):
            await opened.dial(patience=QUICK).put(b"x", digest_of(b"x"), 1)


# -- interruptions


async def test_a_get_goes_on_where_it_was_after_the_server_was_restarted(
    opened: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, digest = content_of(40 * CHUNK_BYTES)
    remote = opened.store("remote")
    remote.put_bytes(content)
    asked_before: list[int] = []
    half = asyncio.Event()

    def count(_peer: str, _digest: Digest) -> bool:
        asked_before.append(1)
        if len(asked_before) == 32:  # of 40; all but a window of 16 have arrived by then
            monkeypatch.setattr(server._channel, "send", lambda *_, **__: False)  # the rest never leaves
            half.set()
        return True

    asked_after: list[int] = []

    def count_after(_peer: str, _digest: Digest) -> bool:
        asked_after.append(1)
        return True

    server = opened.serve(remote, count)
    local = opened.store("local")
    getting = asyncio.create_task(opened.dial(local).get(digest, len(content)))
    await half.wait()
    server._channel._link.close(linger_ms=0)
    await opened.serve_again(remote, count_after)
    async with asyncio.timeout(SOON_S):
        await getting
    assert local.path(digest).read_bytes() == content
    assert 0 < len(asked_after) < 40  # not from the start


async def test_a_put_starts_anew_after_the_server_was_restarted(opened: Line) -> None:
    content, digest = content_of(40 * CHUNK_BYTES)
    remote = opened.store("remote")
    half = asyncio.Event()
    chunks: list[int] = []

    def count(_peer: str, _digest: Digest, _size: int) -> bool:
        chunks.append(1)
        if len(chunks) == 20:
            half.set()
        return True

    server = opened.serve(remote, may_write=count)
    putting = asyncio.create_task(opened.dial().put(content, digest, len(content)))
    await half.wait()
    server.close()
    assert parts_in(remote) == []
    await opened.serve_again(remote)
    async with asyncio.timeout(SOON_S):
        await putting
    assert remote.path(digest).read_bytes() == content


async def test_a_put_goes_on_where_it_was_over_another_connection_once_the_first_is_silent(
    opened: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "TAKEOVER_S", 0.5)
    remote = opened.store("remote")
    received: list[int] = []

    def count(_peer: str, _digest: Digest, size: int) -> bool:
        received.append(size)
        return True

    opened.serve(remote, may_write=count)
    answers: asyncio.Queue[Received] = asyncio.Queue()
    first = opened.play_client(answers)
    first.send(OfferBlob(digest=BIG_DIGEST, size=len(BIG)))
    first.send(chunk(0, FIRST)[0], FIRST)
    async with asyncio.timeout(SOON_S):
        assert [(await answers.get()).message for _ in range(2)] == [GRANT, wanted(END)]
    received.clear()
    second: asyncio.Queue[Received] = asyncio.Queue()
    impatient = opened.play_client(second)
    impatient.send(OfferBlob(digest=BIG_DIGEST, size=len(BIG)))
    async with asyncio.timeout(SOON_S):
        assert (await second.get()).message == wanted(CHUNK_BYTES)  # not now: another connection is at it
    impatient.send(chunk(CHUNK_BYTES, SECOND)[0], SECOND)
    async with asyncio.timeout(SOON_S):
        assert (await second.get()).message == wanted(CHUNK_BYTES)
    received.clear()
    async with asyncio.timeout(SOON_S):
        await opened.dial().put(BIG, BIG_DIGEST, len(BIG))
    assert remote.path(BIG_DIGEST).read_bytes() == BIG
    assert len(received) <= 4 + 2  # offers, and the two chunks that lacked


@pytest.mark.parametrize("seed", range(3))
async def test_a_line_that_loses_messages_only_costs_time(opened: Line, seed: int) -> None:
    """A full queue drops what it cannot hold; here every tenth message of either side is lost."""
    luck = random.Random(seed)
    remote, local = opened.store("remote"), opened.store("local")
    server = opened.serve(remote)
    client = opened.dial(local, Patience(first_s=0.2, longest_s=0.5, tries=20))
    for end in (server, client):
        send = end._channel.send

        def lossy(*parts: Any, send: Any = send, **named: Any) -> bool:
            return luck.random() < 0.1 or send(*parts, **named)

        end._channel.send = lossy  # type: ignore[method-assign]
    out = [content_of(size) for size in (10, CHUNK_BYTES, 9 * CHUNK_BYTES + 1) * 2]
    there = [content_of(size) for size in (10, CHUNK_BYTES, 9 * CHUNK_BYTES + 1) * 2]
    for content, _ in there:
        remote.put_bytes(content)
    async with asyncio.timeout(60):
        await asyncio.gather(
            *(client.put(content, digest, len(content)) for content, digest in out),
            *(client.get(digest, len(content)) for content, digest in there),
        )
    assert all(remote.path(digest).read_bytes() == content for content, digest in out)
    assert all(local.path(digest).read_bytes() == content for content, digest in there)
    assert parts_in(local) == []


async def test_an_upload_nobody_goes_on_with_is_dropped(
    opened: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SWEEP_S", 0.05)
    monkeypatch.setattr(server_module, "IDLE_S", 0.2)
    _, remote, _ = await ask(opened, offer(), chunk(0, FIRST))
    assert len(parts_in(remote)) == 1
    async with asyncio.timeout(SOON_S):
        await until(lambda: not parts_in(remote))
    assert remote._reserved == 0


async def test_uploads_are_bounded_and_the_next_ones_wait(
    opened: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "INCOMING_PEER_MAX", 2)
    remote = opened.store("remote")
    open_at_once: list[int] = []

    def count(_peer: str, _digest: Digest, _size: int) -> bool:
        open_at_once.append(len(server._uploads))
        return True

    server = opened.serve(remote, may_write=count)
    client = opened.dial()
    contents = [content_of(4 * CHUNK_BYTES) for _ in range(6)]
    async with asyncio.timeout(SOON_S):
        await asyncio.gather(*(client.put(content, digest, len(content)) for content, digest in contents))
    assert all(remote.has(digest) for _, digest in contents)
    assert max(open_at_once) == 2


async def test_an_upload_that_is_offered_again_counts_as_alive(opened: Line) -> None:
    answers: asyncio.Queue[Received] = asyncio.Queue()
    remote = opened.store("remote")
    server = opened.serve(remote)
    channel = opened.play_client(answers)

    async def offer_again() -> None:
        channel.send(OfferBlob(digest=BIG_DIGEST, size=len(BIG)))
        async with asyncio.timeout(SOON_S):
            assert (await answers.get()).message == GRANT

    def grow_old_and_sweep(*, before: bool) -> int:
        for upload in server._uploads.values():
            upload.heard -= 1000.0 if before else 0.0
        server._sweeping.cancel()
        server._sweep()
        return len(parts_in(remote))

    await offer_again()
    assert grow_old_and_sweep(before=False) == 1
    for upload in server._uploads.values():
        upload.heard -= 1000.0
    await offer_again()
    assert grow_old_and_sweep(before=False) == 1
    assert grow_old_and_sweep(before=True) == 0


async def test_a_blob_that_is_served_counts_as_used(opened: Line) -> None:
    remote = opened.store("remote", capacity_bytes=30)
    opened.serve(remote)
    served, unused = remote.put_bytes(b"s" * 10), remote.put_bytes(b"u" * 10)
    await opened.dial(opened.store("local")).get(served, 10)
    remote.put_bytes(b"n" * 20)
    assert remote.has(served)
    assert not remote.has(unused)


async def test_a_server_that_ends_leaves_no_part_of_an_upload(opened: Line) -> None:
    answers: asyncio.Queue[Received] = asyncio.Queue()
    remote = opened.store("remote")
    server = opened.serve(remote)
    channel = opened.play_client(answers)
    channel.send(OfferBlob(digest=BIG_DIGEST, size=len(BIG)))
    async with asyncio.timeout(SOON_S):
        await answers.get()
    assert len(parts_in(remote)) == 1
    server.close()
    assert parts_in(remote) == []
