"""Blobs from and for other agents: a listening socket, the searches under way, and what the coordinator is told of them.

Nothing is served that the coordinator has not named this agent for, to nobody who is no agent in this agent's own copy
of the roster at that moment; and nothing can be written here. What comes is verified by its digest like any other blob.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

import zmq

from discogrid import transport
from discogrid.blobs import BlobStore
from discogrid.errors import BlobError, BlobRefusal, DiscogridError
from discogrid.grid import Grid
from discogrid.messages import BlobNews, BlobSource, Message, ServeBlob, WantBlob
from discogrid.transfer import BlobClient, BlobServer, Patience, dial_blobs
from discogrid.types import Digest, FileRef, NodeId, Role
from discogrid_agent.sources import (
    Ask,
    FromCoordinator,
    FromPeer,
    Named,
    Pairs,
    Readers,
    Search,
    Step,
    Wait,
)

PEER_BYTES_MIN = 1 << 20  # a smaller blob comes from the coordinator at once: to ask would take as long
PEER_UPLOADS_MAX = 10  # blobs that are sent from here at once
PATIENCE = Patience(first_s=1.0, longest_s=2.0, tries=3)  # an agent that cannot be reached costs 5 s
REFUSED_AGAIN_S = 0.5  # its coordinator's word may come after its reader
PROGRESS_S = 2.0  # between two words on a blob that comes
NEWS_MAX = 256  # digests in one message

log = logging.getLogger(__name__)


class PeerBlobs:
    """This agent's dealings in blobs with other agents. Use `close` at the end."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        grid: Grid,
        keys: transport.CurveKeys,
        store: BlobStore,
        send: Callable[[Message], object],
        coordinator: str,
    ) -> None:
        """`send` tells the coordinator, which was dialled at the endpoint `coordinator`; DiscogridError when it cannot listen."""
        self._context = context
        self._grid = grid
        self._keys = keys
        self._store = store
        self._send = send
        self._coordinator = coordinator
        self._names_peers = False  # whether the coordinator can be asked
        self._loop = asyncio.get_running_loop()
        self._pairs = Pairs()
        self._readers = Readers()
        self._held: dict[Digest, None] = {}
        self._words: dict[Digest, asyncio.Future[BlobSource]] = {}
        self._doorkeeper = transport.Doorkeeper(context, self._admitted)
        try:
            self._server = BlobServer(
                lambda take: transport.listen(
                    context,
                    _listening(coordinator),
                    keys,
                    self._doorkeeper,
                    take,
                    frame_bytes_max=transport.BLOB_FRAME_BYTES_MAX,
                ),
                store,
                may_read=self._may_read,
                may_write=lambda *_: False,
                uploads_max=PEER_UPLOADS_MAX,
            )
        except DiscogridError:
            self._doorkeeper.close()
            raise

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.endpoint.rpartition(":")[2])

    def close(self) -> None:
        """Serve nobody any more."""
        self._server.close()
        self._doorkeeper.close()

    # -- the coordinator

    def welcomed(self, coordinator: str, protocol: int) -> None:
        """A session has begun with the coordinator at this endpoint, which may know nothing of what is here."""
        self._coordinator = coordinator
        self._names_peers = protocol >= WantBlob.since
        held = tuple(self._held)
        for at in range(0, len(held), NEWS_MAX):
            self._tell(BlobNews(held=held[at : at + NEWS_MAX]))

    def named(self, source: BlobSource) -> None:
        """Where the coordinator says that a blob is."""
        word = self._words.get(source.digest)
        if word is not None and not word.done():
            word.set_result(source)

    def serve(self, told: ServeBlob) -> None:
        """The coordinator has named this agent to another one."""
        self._readers.allow(told.reader, told.digest, self._loop.time())

    def dropped(self, digests: tuple[Digest, ...]) -> None:
        """These blobs leave the disk."""
        gone = [digest for digest in digests if digest in self._held]
        for digest in gone:
            del self._held[digest]
        for at in range(0, len(gone), NEWS_MAX):
            self._tell(BlobNews(dropped=tuple(gone[at : at + NEWS_MAX])))

    def _tell(self, message: Message) -> None:
        if self._names_peers:
            self._send(message)

    # -- in

    async def get(self, file: FileRef, coordinator: Callable[[], BlobClient]) -> None:
        """Have the blob in the store, from wherever it is; BlobError when even the coordinator does not deliver it."""
        if file.size < PEER_BYTES_MIN or not self._names_peers:
            await coordinator().get(file.digest, file.size)
            return
        search = Search(file.size, self._loop.time())
        step: Step | None = search.begin(self._loop.time())
        try:
            while step is not None:
                step = await self._follow(step, search, file, coordinator)
        except BaseException:
            self._tell(BlobNews(dropped=(file.digest,)))
            raise
        self._held[file.digest] = None
        self._tell(BlobNews(held=(file.digest,)))

    async def _follow(
        self, step: Step, search: Search, file: FileRef, coordinator: Callable[[], BlobClient]
    ) -> Step | None:
        """Do the step and say what the next one is; None: the blob is here."""
        if isinstance(step, FromCoordinator):
            await self._moving(coordinator(), file)
            return None
        if isinstance(step, FromPeer):
            try:
                await self._from_peer(step, file)
            except (DiscogridError, OSError) as error:
                now, agent = self._loop.time(), step.peer.agent
                reason = error.what if isinstance(error, DiscogridError) else str(error)
                told = "".join(filter(str.isprintable, reason))  # some of it is the other's own words
                log.warning("agent %s did not deliver a blob, it comes from elsewhere: %s", agent, told)
                self._pairs.failed(agent, now, random.random())
                return search.peer_failed(agent, now)
            self._pairs.worked(step.peer.agent)
            return None
        if (source := await self._word(step, search, file.digest)) is None:
            return search.heard_nothing(self._loop.time())
        named = None
        if source.agent is not None and source.node is not None:
            named = Named(source.agent, source.node, source.endpoint)
        return search.told(named, self._loop.time(), wait=source.wait)

    async def _word(self, step: Ask | Wait, search: Search, digest: Digest) -> BlobSource | None:
        """What the coordinator says in time."""
        word: asyncio.Future[BlobSource] = self._loop.create_future()
        self._words[digest] = word
        try:
            if isinstance(step, Ask):
                resting = {*search.failed, *self._pairs.resting(self._loop.time())}
                self._tell(WantBlob(digest=digest, avoid=tuple(sorted(resting)), failed=step.failed))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(step.until):
                    return await word
            return None
        finally:
            del self._words[digest]

    async def _from_peer(self, step: FromPeer, file: FileRef) -> None:
        peer = step.peer
        member = self._grid.roster.member(peer.node)
        if member is None or not self._grid.roster.may(peer.node, Role.AGENT):
            raise BlobError("it is no agent of this grid")
        # ZeroMQ would also dial sockets of this machine and of this process.
        if not peer.endpoint.startswith("tcp://"):
            raise BlobError("it is said to be where no agent can be")
        endpoint = transport.dialled(peer.endpoint, self._coordinator)
        client = dial_blobs(self._context, endpoint, self._keys, member.curve, self._store, patience=PATIENCE)
        try:
            async with asyncio.timeout(step.within_s):
                try:
                    await self._moving(client, file)
                except BlobRefusal:
                    await asyncio.sleep(REFUSED_AGAIN_S)
                    await self._moving(client, file)
        except TimeoutError:
            raise BlobError(f"it took longer than {step.within_s:.0f} s") from None
        finally:
            client.close()

    async def _moving(self, client: BlobClient, file: FileRef) -> None:
        """Get the blob, and let the coordinator know as long as it moves on."""
        telling = self._loop.create_task(self._tell_progress(client, file.digest))
        try:
            await client.get(file.digest, file.size)
        finally:
            telling.cancel()

    async def _tell_progress(self, client: BlobClient, digest: Digest) -> None:
        before = 0
        while True:
            await asyncio.sleep(PROGRESS_S)
            if (received := client.received(digest)) > before:
                before = received
                self._tell(BlobNews(coming=(digest,)))

    # -- out

    def _admitted(self, curve: bytes) -> NodeId | None:
        node = self._grid.keeper.admitted(curve)
        return node if node is not None and self._grid.roster.may(node, Role.AGENT) else None

    def _may_read(self, peer: str, digest: Digest) -> bool:
        return (
            digest in self._held
            and self._grid.roster.may(NodeId(peer), Role.AGENT)
            and self._readers.may(peer, digest, self._loop.time())
        )


def _listening(coordinator: str) -> str:
    """Every address of this machine by which others may come; its own alone when the coordinator is on it, too."""
    host = coordinator.removeprefix("tcp://").rpartition(":")[0]
    if host.startswith("127.") or host == "localhost":
        return "tcp://127.0.0.1:0"
    if host == "[::1]":
        return "tcp://[::1]:0"
    return "tcp://[::]:0" if "[" in host else "tcp://0.0.0.0:0"
