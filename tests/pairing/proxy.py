"""A man in the middle of a pairing: passes bytes on, changed or not, or plays each side to the other."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from discogrid.pairing.addresses import Address

Change = Callable[[bool, int, bytes], bytes | None]
"""Of a frame: whether the joiner sent it, which one it is of its direction, its bytes. None drops it."""

_LENGTH = struct.Struct(">I")


@asynccontextmanager
async def between(house: Address, change: Change) -> AsyncIterator[Address]:
    """Where the joiner is to call."""
    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter, *, joiner: bool) -> None:
        number = 0
        try:
            while True:
                (size,) = _LENGTH.unpack(await source.readexactly(4))
                frame = change(joiner, number, await source.readexactly(size))
                number += 1
                if frame is not None:
                    to.write(_LENGTH.pack(len(frame)) + frame)
                    await to.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            to.close()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(house.host, house.port)
        for task in (
            asyncio.create_task(pass_on(reader, ours, joiner=True)),
            asyncio.create_task(pass_on(theirs, writer, joiner=False)),
        ):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
