"""An agent that is named to another one and lies, is silent, dies or is not there: the blob comes from elsewhere."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from discogrid import transport
from discogrid.channel import Channel, Received
from discogrid.client import AsyncClient
from discogrid.messages import BlobChunk, BlobNews, BlobRefused, GetBlob, RunTasks, ServeBlob, Welcome
from discogrid.transfer import Patience
from discogrid.transfer.chunks import CHUNK_BYTES
from discogrid.types import Digest, JobId, Role, TaskState
from discogrid_agent import peer_blobs, sources
from discogrid_agent.sandbox.box import Box
from tests.coordinator.house import Caller, hello
from tests.grid.crowd import Crowd, crowd, mounted

ENDS_S = 40.0
TREE_BYTES = 2 * CHUNK_BYTES + 5
Answer = Callable[["FalsePeer", Received, GetBlob], None]


class FalsePeer:
    """An agent of the grid, called barn, that says it holds a blob; what it answers to who asks is the test's matter."""

    def __init__(self, opened: Crowd, answer: Answer) -> None:
        identity = opened.identities[1]
        self.asked: list[GetBlob] = []
        self.size = 0  # of the blob that it is believed to hold
        self.first = b""  # its first chunk
        self.caller: Caller = opened.house.caller(identity)
        self._answer = answer
        self._context = transport.new_context()
        self._doorkeeper = transport.Doorkeeper(self._context, opened.cast.keeper.admitted)
        self.channel: Channel | None = Channel(
            lambda take: transport.listen(
                self._context,
                "tcp://127.0.0.1:0",
                transport.CurveKeys(identity.curve_public, identity.curve_secret),
                self._doorkeeper,
                take,
                frame_bytes_max=transport.BLOB_FRAME_BYTES_MAX,
            ),
            self._hear,
        )
        self.port = int(self.channel.endpoint.rpartition(":")[2])

    async def pose(self, digest: Digest) -> None:
        """Take a task of the job, so that it is believed to hold the blob."""
        await self.caller.next(RunTasks)
        self.caller.send(BlobNews(held=(digest,)))

    def leave(self) -> None:
        """Its listening socket is gone, as if it had died."""
        if self.channel is not None:
            self.channel.close(linger_ms=0)
            self.channel = None

    def close(self) -> None:
        self.leave()
        self._doorkeeper.close()
        self._context.destroy(linger=0)

    def _hear(self, batch: list[Received]) -> None:
        for received in batch:
            if isinstance(received.message, GetBlob) and self.channel is not None:
                self.asked.append(received.message)
                self._answer(self, received, received.message)


def sends(peer: FalsePeer, received: Received, asked: GetBlob, *, size: int, content: bytes) -> None:
    assert peer.channel is not None
    message = BlobChunk(digest=asked.digest, offset=asked.offset, size=size)
    peer.channel.send(message, content, route=received.route)


def other_bytes(peer: FalsePeer, received: Received, asked: GetBlob) -> None:
    size = peer.size
    sends(peer, received, asked, size=size, content=bytes(min(CHUNK_BYTES, size - asked.offset)))


def another_size(peer: FalsePeer, received: Received, asked: GetBlob) -> None:
    sends(peer, received, asked, size=7, content=bytes(7))


def nothing(peer: FalsePeer, received: Received, asked: GetBlob) -> None:
    """It hangs."""


def a_refusal(peer: FalsePeer, received: Received, asked: GetBlob) -> None:
    assert peer.channel is not None
    peer.channel.send(BlobRefused(digest=asked.digest, reason="n\x1b\no"), route=received.route)


def one_chunk_then_death(peer: FalsePeer, received: Received, asked: GetBlob) -> None:
    if not asked.offset:
        sends(peer, received, asked, size=peer.size, content=peer.first)
    asyncio.get_running_loop().call_soon(peer.leave)


@pytest.fixture
async def opened(tmp_path: Path, strict: Box, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Crowd]:
    monkeypatch.setattr(peer_blobs, "PATIENCE", Patience(first_s=0.2, longest_s=0.2, tries=2))
    async with crowd(tmp_path, strict, 2) as it:
        yield it


async def done(client: AsyncClient, job: JobId, index: int) -> None:
    while (await client.tasks(job))[index].state is not TaskState.DONE:  # noqa: ASYNC110 - it is the coordinator's word
        await asyncio.sleep(0.02)


async def delivered_in_spite_of(
    opened: Crowd, peer: FalsePeer, caplog: pytest.LogCaptureFixture, *, port: int | None = None
) -> list[str]:
    """What the honest agent logs while it gets a blob that barn is believed to hold."""
    job = mounted(opened.cast, opened.folder / "job", TREE_BYTES, 2)
    [mount] = job.job.manifest.mounts
    peer.size = mount.tree.size
    peer.first = job.files[mount.tree.digest].read_bytes()[:CHUNK_BYTES]
    said = hello(Role.AGENT, name="barn", slots=1, blob_port=port or peer.port)
    await peer.caller.ask(said, Welcome)
    cast = opened.cast
    with caplog.at_level(logging.WARNING):
        async with AsyncClient(cast.grid(cast.submitter, opened.house.endpoint)) as client:
            async with asyncio.timeout(ENDS_S):
                id_ = await client.submit(job)
                await peer.pose(mount.tree.digest)
                opened.lend(0)
                await done(client, id_, 1)
                assert (await client.tasks(id_))[1].failures == 0
                told = await peer.caller.next(ServeBlob)
    assert told.message == ServeBlob(digest=mount.tree.digest, reader=opened.identities[0].id)
    assert opened.relayed_bytes == mount.tree.size
    return [record.getMessage() for record in caplog.records if record.name == "discogrid_agent.peer_blobs"]


@pytest.mark.parametrize(
    ("answer", "why", "asked"),
    [
        (other_bytes, "is not what its digest says", 3),
        (another_size, "7 bytes are offered", 1),
        (nothing, "got stuck", 1),
        (a_refusal, "was refused: no", 2),
        (one_chunk_then_death, "got stuck", 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_false_peer_costs_a_moment_and_its_name_is_in_the_log(
    opened: Crowd, caplog: pytest.LogCaptureFixture, answer: Any, why: str, asked: int
) -> None:
    with closing(FalsePeer(opened, answer)) as peer:
        [line] = await delivered_in_spite_of(opened, peer, caplog)
        assert line.isprintable()
        assert line.startswith("agent barn did not deliver a blob, it comes from elsewhere")
        assert why in line
        assert len(peer.asked) >= asked


async def test_a_peer_that_cannot_be_reached_costs_a_moment(
    opened: Crowd, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, closing(FalsePeer(opened, nothing)) as peer:
        # It takes connections and says nothing, as behind a firewall that drops what it does not like.
        [line] = await delivered_in_spite_of(opened, peer, caplog, port=deaf.getsockname()[1])
    assert "got stuck: no answer" in line
    assert peer.asked == []


async def test_a_peer_that_is_slow_without_end_costs_a_bounded_time(
    opened: Crowd, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_blobs, "PATIENCE", Patience(first_s=60.0))
    monkeypatch.setattr(sources, "PEER_S", 0.2)
    monkeypatch.setattr(sources, "PEER_BYTES_S_MIN", 1 << 30)
    with closing(FalsePeer(opened, nothing)) as peer:
        [line] = await delivered_in_spite_of(opened, peer, caplog)
    assert "it took longer than" in line
