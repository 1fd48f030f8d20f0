"""What an agent serves to others, on real sockets: to whom the coordinator has named it, and no more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from discogrid import transport
from discogrid.channel import Channel, Received
from discogrid.errors import BlobError, BlobRefusal
from discogrid.keys import Identity, new_identity
from discogrid.messages import (
    BlobChunk,
    BlobNews,
    BlobRefused,
    BlobSource,
    GetBlob,
    Message,
    ServeBlob,
    WantBlob,
)
from discogrid.transfer import BlobClient, dial_blobs
from discogrid.transfer.chunks import CHUNK_BYTES
from discogrid.types import AgentId, Digest, FileRef, NodeId, Role
from discogrid.wire import decode, encode
from discogrid_agent import peer_blobs
from discogrid_agent.peer_blobs import PEER_UPLOADS_MAX, PeerBlobs
from tests.store.sockets import QUICK, Line, line, until
from tests.store.test_transfer import content_of
from tests.trust.forge import Cast, cast, member, roster_envelope

ARRIVES_S = 20.0
SIZE = 2 * CHUNK_BYTES + 1


def keys_of(identity: Identity) -> transport.CurveKeys:
    return transport.CurveKeys(identity.curve_public, identity.curve_secret)


class Lender:
    """An agent's dealings with others, and a coordinator that answers what the test says."""

    def __init__(self, grid: Cast, coordinator: Line) -> None:
        self.cast = grid
        self.line = coordinator
        self.said: list[Message] = []
        self.answer: Callable[[Message], Message | None] = lambda asked: (
            BlobSource(digest=asked.digest) if isinstance(asked, WantBlob) else None
        )
        self._context = transport.new_context()
        self.store = coordinator.store("agent")
        self.blobs = PeerBlobs(
            self._context,
            grid.grid(grid.agent),
            keys_of(grid.agent),
            self.store,
            self._hear,
            "tcp://127.0.0.1:1",
        )
        self.blobs.welcomed("tcp://127.0.0.1:1", WantBlob.since)
        coordinator.client_keys = keys_of(grid.agent)
        self.remote = coordinator.store("coordinator")
        coordinator.serve(self.remote)
        self._relay = coordinator.dial(self.store)
        self._readers: list[BlobClient | Channel] = []
        self._contexts = [self._context]

    async def hold(self, size: int = SIZE) -> tuple[bytes, FileRef]:
        """A blob that has come from the coordinator."""
        content, digest = content_of(size)
        self.remote.put_bytes(content)
        await self.blobs.get(FileRef("tree", digest, size), lambda: self._relay)
        return content, FileRef("tree", digest, size)

    def allow(self, reader: Identity, digest: Digest) -> None:
        told = decode(encode(ServeBlob(digest=digest, reader=reader.id)))
        assert isinstance(told, ServeBlob)
        self.blobs.serve(told)

    def reader(self, identity: Identity) -> BlobClient:
        """Somebody with these keys who gets blobs here."""
        context = transport.new_context()
        self._contexts.append(context)
        client = dial_blobs(
            context,
            f"tcp://127.0.0.1:{self.blobs.port}",
            keys_of(identity),
            self.cast.agent.curve_public,
            self.line.store(identity.id),
            patience=QUICK,
        )
        self._readers.append(client)
        return client

    def by_hand(self, identity: Identity) -> "tuple[Channel, asyncio.Queue[Received]]":
        """The same, whose questions the test asks."""
        context = transport.new_context()
        self._contexts.append(context)
        answers: asyncio.Queue[Received] = asyncio.Queue()

        def take(batch: list[Received]) -> None:
            for received in batch:
                answers.put_nowait(received)

        channel = Channel(
            lambda heard: transport.dial(
                context,
                f"tcp://127.0.0.1:{self.blobs.port}",
                keys_of(identity),
                self.cast.agent.curve_public,
                heard,
                frame_bytes_max=transport.BLOB_FRAME_BYTES_MAX,
            ),
            take,
        )
        self._readers.append(channel)
        return channel, answers

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
        self.blobs.close()
        for context in self._contexts:
            context.destroy(linger=0)

    def _hear(self, message: Message) -> None:
        self.said.append(decode(encode(message)))
        answer = self.answer(message)
        if isinstance(answer, BlobSource):
            asyncio.get_running_loop().call_soon(self.blobs.named, answer)


@pytest.fixture
async def lender(tmp_path: Path) -> AsyncIterator[Lender]:
    async with line(tmp_path) as coordinator:
        with closing(Lender(cast(), coordinator)) as opened:
            yield opened


async def test_what_is_held_is_said_and_served_to_whom_the_coordinator_names_it(lender: Lender) -> None:
    content, file = await lender.hold()
    assert lender.said == [WantBlob(digest=file.digest), BlobNews(held=(file.digest,))]
    lender.allow(lender.cast.other_agent, file.digest)
    await lender.reader(lender.cast.other_agent).get(file.digest, file.size)
    assert lender.line.store(lender.cast.other_agent.id).path(file.digest).read_bytes() == content


async def test_a_small_blob_is_neither_asked_for_nor_told_of(lender: Lender) -> None:
    await lender.hold(CHUNK_BYTES - 1)
    assert lender.said == []


async def test_a_blob_that_this_agent_has_not_spoken_of_is_not_served(lender: Lender) -> None:
    _, file = await lender.hold(CHUNK_BYTES - 1)
    lender.allow(lender.cast.other_agent, file.digest)
    with pytest.raises(BlobRefusal, match="may not read"):
        await lender.reader(lender.cast.other_agent).get(file.digest, file.size)


async def test_a_coordinator_of_a_version_before_is_asked_for_the_blob_alone(lender: Lender) -> None:
    lender.blobs.welcomed("tcp://127.0.0.1:1", WantBlob.since - 1)
    _, file = await lender.hold()
    lender.blobs.dropped((file.digest,))
    assert lender.said == []


async def test_a_session_that_begins_anew_is_told_what_is_here(lender: Lender) -> None:
    _, file = await lender.hold()
    lender.said.clear()
    lender.blobs.welcomed("tcp://127.0.0.1:1", WantBlob.since)
    assert lender.said == [BlobNews(held=(file.digest,))]


async def test_a_search_that_is_given_up_is_told(lender: Lender) -> None:
    lender.answer = lambda asked: (
        BlobSource(digest=asked.digest, wait=True) if isinstance(asked, WantBlob) else None
    )
    content, digest = content_of(SIZE)
    lender.remote.put_bytes(content)
    getting = asyncio.create_task(lender.blobs.get(FileRef("tree", digest, SIZE), lambda: lender._relay))
    await until(lambda: lender.said)
    getting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await getting
    assert lender.said[-1] == BlobNews(dropped=(digest,))


async def test_a_blob_that_moves_on_is_told_of_until_it_is_here(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_blobs, "PROGRESS_S", 0.01)
    content, digest = content_of(SIZE)
    coming = BlobNews(coming=(digest,))
    held_back: list[Received] = []

    def send(channel: Channel, received: Received) -> None:
        asked = received.message
        assert isinstance(asked, GetBlob)
        if asked.offset and coming not in lender.said:
            held_back.append(received)
            return
        chunk = BlobChunk(digest=digest, offset=asked.offset, size=SIZE)
        channel.send(chunk, content[asked.offset : asked.offset + CHUNK_BYTES], route=received.route)

    lender.line.endpoint = "tcp://127.0.0.1:0"
    server = lender.line.play_server(send)
    relay = lender.line.dial(lender.store)
    getting = asyncio.create_task(lender.blobs.get(FileRef("tree", digest, SIZE), lambda: relay))
    async with asyncio.timeout(ARRIVES_S):
        await until(lambda: coming in lender.said and held_back)
        for received in held_back:
            send(server, received)
        await getting
    assert lender.said[-1] == BlobNews(held=(digest,))


class Names:
    """A coordinator that first names barn for every blob, and itself when that has failed."""

    def __init__(self, node: NodeId, endpoint: str) -> None:
        self.node = node
        self.endpoint = endpoint

    def __call__(self, asked: Message) -> Message | None:
        if not isinstance(asked, WantBlob):
            return None
        if asked.failed is not None:
            return BlobSource(digest=asked.digest)
        return BlobSource(digest=asked.digest, agent=AgentId("barn"), node=self.node, endpoint=self.endpoint)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("ipc:///tmp/agent.sock", "it is said to be where no agent can be"),
        ("inproc://zeromq.zap.01", "it is said to be where no agent can be"),
        ("tcp://nowhere", "is no address"),
    ],
)
async def test_a_coordinator_that_names_what_is_no_address_of_an_agent_has_the_blob_itself(
    lender: Lender, caplog: pytest.LogCaptureFixture, endpoint: str, why: str
) -> None:
    lender.answer = Names(lender.cast.other_agent.id, endpoint)
    content, file = await lender.hold()
    assert lender.store.path(file.digest).read_bytes() == content
    assert [asked.failed for asked in lender.said if isinstance(asked, WantBlob)] == [None, "barn"]
    assert why in caplog.text


async def test_who_failed_is_left_alone_for_the_next_blob_too(
    lender: Lender, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discogrid_agent.peer_blobs.random.random", lambda: 0.99)
    lender.answer = Names(lender.cast.submitter.id, "tcp://127.0.0.1:1")
    await lender.hold()
    await lender.hold()
    asked = [message.avoid for message in lender.said if isinstance(message, WantBlob)]
    assert asked == [(), ("barn",), ("barn",), ("barn",)]
    assert "it is no agent of this grid" in caplog.text


async def test_an_agent_that_the_coordinator_has_not_named_gets_nothing(lender: Lender) -> None:
    _, file = await lender.hold()
    _, other = await lender.hold()
    lender.allow(lender.cast.other_agent, other.digest)
    with pytest.raises(BlobRefusal, match="may not read"):
        await lender.reader(lender.cast.other_agent).get(file.digest, file.size)


@pytest.mark.parametrize("stranger", [False, True], ids=["a submitter", "a stranger"])
async def test_who_is_no_agent_of_the_grid_is_not_let_in(lender: Lender, stranger: bool) -> None:
    _, file = await lender.hold()
    reader = new_identity() if stranger else lender.cast.submitter
    lender.allow(reader, file.digest)
    with pytest.raises(BlobError, match="no answer"):
        await lender.reader(reader).get(file.digest, file.size)


async def test_who_is_put_out_of_the_grid_gets_nothing_more_in_the_middle_of_a_blob(lender: Lender) -> None:
    _, file = await lender.hold()
    lender.allow(lender.cast.other_agent, file.digest)
    channel, answers = lender.by_hand(lender.cast.other_agent)
    async with asyncio.timeout(ARRIVES_S):
        channel.send(GetBlob(digest=file.digest))
        assert isinstance((await answers.get()).message, BlobChunk)
        members = [member(lender.cast.coordinator, Role.COORDINATOR), member(lender.cast.agent, Role.AGENT)]
        now = lender.cast.roster.body.issued + 1
        lender.cast.keeper.offer(roster_envelope(lender.cast.owner, members, version=2), now)
        channel.send(GetBlob(digest=file.digest, offset=CHUNK_BYTES))
        assert isinstance((await answers.get()).message, BlobRefused)


async def test_nobody_writes_to_an_agent(lender: Lender) -> None:
    await lender.hold()
    content, digest = content_of(10)
    with pytest.raises(BlobRefusal, match="may not store"):
        await lender.reader(lender.cast.other_agent).put(content, digest, 10)
    assert not lender.store.has(digest)


async def test_what_is_not_here_any_more_is_refused(lender: Lender) -> None:
    _, file = await lender.hold()
    lender.allow(lender.cast.other_agent, file.digest)
    lender.store.remove(file.digest)
    lender.blobs.dropped((file.digest,))
    assert lender.said[-1] == BlobNews(dropped=(file.digest,))
    with pytest.raises(BlobRefusal):
        await lender.reader(lender.cast.other_agent).get(file.digest, file.size)


async def test_one_upload_too_many_is_refused_until_another_has_ended(lender: Lender) -> None:
    files = [(await lender.hold())[1] for _ in range(PEER_UPLOADS_MAX + 1)]
    channel, answers = lender.by_hand(lender.cast.other_agent)

    async def ask(file: FileRef, offset: int = 0) -> Message:
        channel.send(GetBlob(digest=file.digest, offset=offset))
        return (await answers.get()).message

    async with asyncio.timeout(ARRIVES_S):
        for file in files:
            lender.allow(lender.cast.other_agent, file.digest)
        *under_way, late = files
        assert all([isinstance(await ask(file), BlobChunk) for file in under_way])
        refused = await ask(late)
        assert isinstance(refused, BlobRefused)
        assert "too many" in refused.reason
        assert isinstance(await ask(under_way[0], 2 * CHUNK_BYTES), BlobChunk)  # its last one
        assert isinstance(await ask(late), BlobChunk)
