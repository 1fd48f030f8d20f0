"""Announces services that claim a grid's tag where somebody with another key answers: `liar.py TAG HOW`.

HOW is `answering`, or `silent` for one that takes calls and says nothing. Says `lying`, then `dialled` at each call.
"""

import asyncio
import contextlib
import sys

from discogrid.discovery import EVERYWHERE, Announcement
from tests.wire.peers import house

LIES = 3


def told(word: str) -> None:
    print(word, flush=True)


async def take(leaving: contextlib.AsyncExitStack, answering: bool) -> int:
    """The port of one that takes calls, and passes them on to a real coordinator's socket if it is to answer."""
    grid = await leaving.enter_async_context(house())

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told("dialled")
        with contextlib.suppress(OSError):
            if not answering:
                await reader.read()
                return
            port = int(grid.link.endpoint.rpartition(":")[2])
            answers, questions = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pass_on(reader, questions), pass_on(answers, writer))

    server = await leaving.enter_async_context(await asyncio.start_server(listen, "0.0.0.0", 0))
    return int(server.sockets[0].getsockname()[1])


async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while said := await source.read(1 << 16):
        target.write(said)
        await target.drain()
    target.close()


async def main() -> None:
    tag, how = sys.argv[1:]
    claims = {"v": "1", "grid": tag, "role": "coordinator"}
    async with contextlib.AsyncExitStack() as leaving:
        for number in range(LIES):
            port = await take(leaving, how == "answering")
            assert await Announcement(f"a-lie-{number}", claims, port, EVERYWHERE[0]).begin()
        told("lying")
        await asyncio.Event().wait()


asyncio.run(main())
