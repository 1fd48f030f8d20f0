"""Both ends of a blob line on real sockets with CURVE; either end can be played by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import zmq

from discogrid import transport
from discogrid.blobs import BlobStore
from discogrid.channel import Channel, Received
from discogrid.errors import DiscogridError
from discogrid.transfer import BlobClient, BlobServer, Patience
from discogrid.types import Digest

PATIENT = Patience(first_s=0.5, longest_s=2.0, tries=10)
QUICK = Patience(first_s=0.2, longest_s=0.3, tries=3)
REBIND_TRIES = 200


def everybody(_peer: str, _digest: Digest, _size: int = 0) -> bool:
    return True


class Line:
    """A context with its doorkeeper, the server's keys, and whatever ends a test opens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context: zmq.Context[zmq.Socket[bytes]] = transport.new_context()
        self.keys = transport.CurveKeys(*zmq.curve_keypair())
        self.client_keys = transport.CurveKeys(*zmq.curve_keypair())
        self.doorkeeper = transport.Doorkeeper(
            self.context, lambda key: key.decode() if key == self.client_keys.public else None
        )
        self.endpoint = "tcp://127.0.0.1:0"
        self._ends: list[BlobServer | BlobClient | Channel] = []

    def store(self, name: str, capacity_bytes: int = 1 << 40) -> BlobStore:
        return BlobStore(self.folder / name, capacity_bytes, free_floor_bytes=0)

    def serve(
        self,
        store: BlobStore,
        may_read: Callable[[str, Digest], bool] = everybody,
        may_write: Callable[[str, Digest, int], bool] = everybody,
    ) -> BlobServer:
        server = BlobServer(self._listen, store, may_read=may_read, may_write=may_write)
        self.endpoint = server.endpoint
        self._ends.append(server)
        return server

    async def serve_again(
        self, store: BlobStore, may_read: Callable[[str, Digest], bool] = everybody
    ) -> None:
        """At the same address, as soon as the socket before has let go of it."""
        for _ in range(REBIND_TRIES):
            with suppress(DiscogridError):
                self.serve(store, may_read)
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the address did not come free")

    def dial(self, store: BlobStore | None = None, patience: Patience = PATIENT) -> BlobClient:
        client = BlobClient(self._dial, store, patience=patience)
        self._ends.append(client)
        return client

    def play_server(self, on_message: Callable[[Channel, Received], None]) -> Channel:
        """A server whose answers the test gives."""

        def take(batch: list[Received]) -> None:
            for received in batch:
                on_message(channel, received)

        channel = Channel(self._listen, take)
        self.endpoint = channel.endpoint
        self._ends.append(channel)
        return channel

    def play_client(self, answers: "asyncio.Queue[Received]") -> Channel:
        """A client whose messages the test sends."""

        def take(batch: list[Received]) -> None:
            for received in batch:
                answers.put_nowait(received)

        channel = Channel(self._dial, take)
        self._ends.append(channel)
        return channel

    def close(self) -> None:
        for end in self._ends:
            end.close()
        self.doorkeeper.close()
        self.context.destroy(linger=0)

    def _listen(self, take: Callable[[list[transport.Delivery]], None]) -> transport.Link:
        return transport.listen(
            self.context,
            self.endpoint,
            self.keys,
            self.doorkeeper,
            take,
            frame_bytes_max=transport.BLOB_FRAME_BYTES_MAX,
        )

    def _dial(self, take: Callable[[list[transport.Delivery]], None]) -> transport.Link:
        return transport.dial(
            self.context,
            self.endpoint,
            self.client_keys,
            self.keys.public,
            take,
            frame_bytes_max=transport.BLOB_FRAME_BYTES_MAX,
        )


async def until(true: Callable[[], object]) -> None:
    """Look again and again until it is true; the test's own limit ends it."""
    while not true():  # noqa: ASYNC110 - what is looked at lies on a disk or in another library
        await asyncio.sleep(0.005)


@asynccontextmanager
async def line(folder: Path) -> AsyncIterator[Line]:
    opened = Line(folder)
    try:
        yield opened
    finally:
        opened.close()
