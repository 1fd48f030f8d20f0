"""A real coordinator in this process: server, journal and blobs in a folder, and members who dial it."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from discogrid import transport
from discogrid.channel import Channel, Received
from discogrid.keys import Identity
from discogrid.messages import PROTOCOL, Hello, Message
from discogrid.submission import Prepared, Submission, prepare
from discogrid.types import Role
from discogrid_coordinator.server import Server
from tests.trust.forge import Cast

ARRIVES_S = 20.0  # until a test gives up; nothing waits for it to pass

M = TypeVar("M", bound=Message)


class Caller:
    """A member, or a stranger, that says what it likes and hears what it is told."""

    def __init__(self, cast: Cast, identity: Identity, endpoint: str) -> None:
        self._context = transport.new_context()
        keys = transport.CurveKeys(identity.curve_public, identity.curve_secret)
        server = cast.coordinator.curve_public
        self.heard: list[Received] = []
        self.passed: list[Received] = []  # everything that was heard and is not waited for any more
        self._news = asyncio.Event()
        self._channel = Channel(
            lambda take: transport.dial(self._context, endpoint, keys, server, take), self._receive
        )

    def send(self, message: Message, *payload: bytes) -> None:
        self._channel.send(message, *payload)

    async def next(self, kind: type[M], true: Callable[[M], bool] = lambda _: True) -> Received:
        """The first message of this kind that nobody has taken yet; what came before it is passed over."""
        while True:
            for at, received in enumerate(self.heard):
                if isinstance(received.message, kind) and true(received.message):
                    self.passed += self.heard[: at + 1]
                    del self.heard[: at + 1]
                    return received
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), ARRIVES_S)

    async def ask(self, message: Message, kind: type[M], *payload: bytes) -> M:
        self.send(message, *payload)
        answer = (await self.next(kind)).message
        assert isinstance(answer, kind)
        return answer

    def close(self) -> None:
        self._channel.close()
        self._context.destroy(linger=0)

    def _receive(self, batch: list[Received]) -> None:
        self.heard += batch
        self._news.set()


class House:
    """A coordinator that serves, and whoever has come."""

    def __init__(self, cast: Cast, server: Server, endpoint: str) -> None:
        self.cast = cast
        self.server = server
        self.endpoint = endpoint
        self._callers: list[Caller] = []

    def caller(self, identity: Identity) -> Caller:
        caller = Caller(self.cast, identity, self.endpoint)
        self._callers.append(caller)
        return caller

    def leave(self) -> None:
        for caller in self._callers:
            caller.close()


@contextlib.asynccontextmanager
async def serving(cast: Cast, folder: Path, endpoint: str = "tcp://127.0.0.1:0") -> AsyncIterator[House]:
    os.makedirs(folder, exist_ok=True)
    server = Server(cast.grid(cast.coordinator), folder, listen=endpoint)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(server.run(ready.set_result))
    either: set[asyncio.Future[Any]] = {running, ready}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    house = House(cast, server, ready.result())
    try:
        yield house
    finally:
        house.leave()
        server.stop()
        await asyncio.wait_for(running, ARRIVES_S)


def hello(role: Role, **other: Any) -> Hello:
    known = Hello(
        protocol=PROTOCOL,
        software="0",
        role=role,
        session="session",
        name="attic",
        platform="linux",
        python="3.11",
        clock=time.time(),
        slots=2,
        memory_bytes=1 << 33,
        sandbox="strict",
    )
    return msgspec.structs.replace(known, **other)


def prepared(cast: Cast, folder: Path, inputs: int = 1, **other: Any) -> Prepared:
    """A true job of the submitter over small files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.py").write_text("print('hello')")
    files = [folder / f"in{index}.txt" for index in range(inputs)]
    for file in files:
        file.write_text(file.name)
    submission = Submission(script=folder / "script.py", inputs=files, **other)
    return prepare(submission, cast.grid(cast.submitter), folder, time.time())
