"""Serves and takes blobs: what a coordinator does for everybody, and an agent for its peers.

A get needs no memory here: every chunk is asked for. A put is remembered by who sends it, so that it goes on where it
was after a reconnect; what is not whole after IDLE_S is dropped. Authority is asked for with every message.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

from discogrid.blobs import BlobStore, Incoming
from discogrid.channel import Channel, Received
from discogrid.errors import BlobError, DiscogridError
from discogrid.kept_memory import keep_memory
from discogrid.messages import BlobChunk, BlobRefused, BlobStored, GetBlob, Message, OfferBlob, WantChunks
from discogrid.transfer.chunks import CHUNK_BYTES, CREDIT_CHUNKS, chunk_length
from discogrid.transfer.uploads import Uploads
from discogrid.transport import Delivery, Link
from discogrid.types import Digest

INCOMING_MAX = 512  # blobs on their way in, all peers: each is an open file
INCOMING_PEER_MAX = 64  # of one peer
TAKEOVER_S = 2.0  # a peer that was silent for so long may go on over another connection
IDLE_S = 60.0  # an upload nobody goes on with is dropped after this
SWEEP_S = 5.0

log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Upload:
    incoming: Incoming
    route: bytes
    granted: int  # the offset after the last chunk that was asked for
    heard: float


class BlobServer:
    """Answers on one socket with the blobs of one store."""

    def __init__(
        self,
        open_link: Callable[[Callable[[list[Delivery]], None]], Link],
        store: BlobStore,
        *,
        may_read: Callable[[str, Digest], bool],
        may_write: Callable[[str, Digest, int], bool],
        uploads_max: int | None = None,
    ) -> None:
        """`may_read(peer, digest)` and `may_write(peer, digest, size)` say what a peer's authenticated key allows.

        With `uploads_max`, who asks for another blob while so many are sent is refused.
        """
        self.sent_bytes: int = 0  # of blobs, chunks that were sent again included
        self._sending = None if uploads_max is None else Uploads(uploads_max)
        self._store = store
        self._may_read = may_read
        self._may_write = may_write
        self._uploads: dict[tuple[str, Digest], _Upload] = {}
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(open_link, self._receive)
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return self._channel.endpoint

    def close(self) -> None:
        """Stop serving; what was not whole is dropped."""
        if self.sent_bytes:
            log.info("%d bytes of blobs were sent from here", self.sent_bytes)
        self._sweeping.cancel()
        self._channel.close()
        for upload in self._uploads.values():
            upload.incoming.discard()
        self._uploads.clear()

    def _receive(self, batch: list[Received]) -> None:
        for received in batch:
            match received.message:
                case GetBlob() | OfferBlob() | BlobChunk() as message:
                    self._hear(received, message)
                case other:
                    log.warning(
                        "a %s of %s on the blob socket was dropped", type(other).__name__, received.sender[:8]
                    )

    def _hear(self, received: Received, message: GetBlob | OfferBlob | BlobChunk) -> None:
        """Act; what goes wrong ends this peer's upload of the blob and is told to it."""
        try:
            match message:
                case GetBlob():
                    self._on_get(received, message)
                case OfferBlob():
                    self._on_offer(received, message)
                case BlobChunk():
                    self._on_chunk(received, message)
                case _:
                    assert_never(message)
        except (DiscogridError, OSError) as error:
            self._drop((received.sender, message.digest))
            reason = error.what if isinstance(error, DiscogridError) else str(error)
            self._reply(received, BlobRefused(digest=message.digest, reason=reason))

    def _on_get(self, received: Received, asked: GetBlob) -> None:
        digest = asked.digest
        if not self._may_read(received.sender, digest):
            raise BlobError("this node may not read the blob")
        size = self._store.size(digest)
        if size is None:
            raise BlobError("the blob is not here")
        if chunk_length(size, asked.offset) < 0:
            raise BlobError(f"the blob has no chunk at {asked.offset}")
        if self._sending is not None and not self._sending.take(received.sender, digest, self._loop.time()):
            raise BlobError("too many blobs are sent from here already")
        if asked.offset == 0:
            self._store.use(digest)
        for number in range(min(asked.count, CREDIT_CHUNKS)):
            offset = asked.offset + number * CHUNK_BYTES
            if (length := chunk_length(size, offset)) < 0:
                break
            chunk = self._store.read(digest, offset, length)
            self._reply(received, BlobChunk(digest=digest, offset=offset, size=size), chunk)
            self.sent_bytes += length
            if self._sending is not None and offset + length >= size:
                self._sending.end(received.sender, digest)

    def _on_offer(self, received: Received, offer: OfferBlob) -> None:
        digest, size = offer.digest, offer.size
        self._check_write(received, digest, size)
        if (here := self._store.size(digest)) is not None:
            if here != size:
                raise BlobError(f"the blob has {here} bytes, not {size}")
            self._reply(received, BlobStored(digest=digest))
        elif size <= CHUNK_BYTES:
            content = received.payload[0] if received.payload else b""
            if len(content) != size:
                raise BlobError(f"an offer of {size} bytes came with {len(content)}")
            self._store.put_bytes(content, digest, passing=offer.passing)
            self._reply(received, BlobStored(digest=digest))
        elif (upload := self._upload_of(received, offer)) is None:
            self._reply(received, WantChunks(digest=digest, offset=0, count=0))  # not now: offer it again
        elif upload.route != received.route:
            self._reply(received, WantChunks(digest=digest, offset=upload.incoming.received, count=0))
        else:
            start = upload.incoming.received
            upload.granted = start + CREDIT_CHUNKS * CHUNK_BYTES
            self._reply(received, WantChunks(digest=digest, offset=start, count=CREDIT_CHUNKS))

    def _upload_of(self, received: Received, offer: OfferBlob) -> _Upload | None:
        """The peer's upload of this blob, begun if need be; None when too many are open.

        Another connection of the peer takes an upload over only when the one before has gone silent: two processes of
        one user may send the same file at once.
        """
        now = self._loop.time()
        digest, size = offer.digest, offer.size
        key = (received.sender, digest)
        upload = self._uploads.get(key)
        if upload is not None and upload.incoming.size != size:
            self._drop(key)
            upload = None
        if upload is None:
            of_peer = sum(1 for peer, _ in self._uploads if peer == received.sender)
            if len(self._uploads) >= INCOMING_MAX or of_peer >= INCOMING_PEER_MAX:
                return None
            incoming = self._store.begin(digest, size, passing=offer.passing)
            upload = self._uploads[key] = _Upload(incoming, received.route, 0, now)
        elif upload.route != received.route and now - upload.heard > TAKEOVER_S:
            upload.route = received.route
        if upload.route == received.route:
            upload.heard = now
        return upload

    def _on_chunk(self, received: Received, chunk: BlobChunk) -> None:
        digest = chunk.digest
        self._check_write(received, digest, chunk.size)
        key = (received.sender, digest)
        upload = self._uploads.get(key)
        if upload is None:
            if self._store.has(digest):
                self._reply(received, BlobStored(digest=digest))
            else:
                self._reply(received, WantChunks(digest=digest, offset=0, count=0))
            return
        keep_memory()  # of chunks, which come and go without an end
        incoming = upload.incoming
        if upload.route != received.route or chunk.offset != incoming.received:
            # Late or double; answered all the same, because each chunk takes a place in its sender's window.
            self._reply(received, WantChunks(digest=digest, offset=incoming.received, count=0))
            return
        content = received.payload[0] if received.payload else b""
        if len(content) != chunk_length(incoming.size, chunk.offset):
            raise BlobError("a chunk has another length than it must have")
        incoming.append(content)
        upload.heard = self._loop.time()
        if incoming.received == incoming.size:
            incoming.finish()
            self._drop(key)
            self._reply(received, BlobStored(digest=digest))
            return
        more = int(upload.granted < incoming.size)
        self._reply(received, WantChunks(digest=digest, offset=upload.granted, count=more))
        upload.granted += more * CHUNK_BYTES

    def _check_write(self, received: Received, digest: Digest, size: int) -> None:
        if size < 0 or not self._may_write(received.sender, digest, size):
            raise BlobError("this node may not store the blob")

    def _reply(self, received: Received, message: Message, *payload: bytes) -> None:
        """What the peer's queue has no room for is lost: it asks again."""
        self._channel.send(message, *payload, route=received.route)

    def _drop(self, key: tuple[str, Digest]) -> None:
        if (upload := self._uploads.pop(key, None)) is not None:
            upload.incoming.discard()

    def _sweep(self) -> None:
        """Drop the uploads that nobody goes on with."""
        now = self._loop.time()
        for key in [key for key, upload in self._uploads.items() if now - upload.heard > IDLE_S]:
            self._drop(key)
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
