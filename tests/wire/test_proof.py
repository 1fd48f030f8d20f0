"""Whether somebody owns a key is found out before anything is said to them."""

import asyncio
import socket

import pytest

from discogrid.transport import proves_key
from tests.wire.peers import house, new_keys


async def test_a_server_that_owns_the_key_and_knows_us_proves_it() -> None:
    ours = new_keys()
    async with house() as grid:
        grid.known[ours.public] = "us"

        assert await proves_key(grid.link.endpoint, ours, grid.keys.public)
        assert grid.inbox.empty


async def test_a_server_with_another_key_proves_nothing() -> None:
    ours = new_keys()
    async with house() as stranger:
        stranger.known[ours.public] = "us"

        assert not await proves_key(stranger.link.endpoint, ours, new_keys().public)


async def test_a_server_that_does_not_know_us_is_none_of_ours() -> None:
    async with house() as grid:
        assert not await proves_key(grid.link.endpoint, new_keys(), grid.keys.public)


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:1", "tcp://not a host:7717", "tcp://127.0.0.1:0", "nonsense"]
)
async def test_where_nobody_listens_nothing_is_proven(endpoint: str) -> None:
    assert not await proves_key(endpoint, new_keys(), new_keys().public)


@pytest.mark.parametrize(
    "first_words",
    [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff\0\0\0\0\0\0\0\1\x7f\3\1NULL" + b"\0" * 48],
    ids=["silence", "another protocol", "no encryption"],
)
async def test_what_speaks_no_curve_proves_nothing(first_words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop, calls = asyncio.get_running_loop(), []
        listener.setblocking(False)

        async def answer() -> None:
            while True:
                call, _ = await loop.sock_accept(listener)
                calls.append(call)
                await loop.sock_sendall(call, first_words)

        answering = loop.create_task(answer())
        proven = await proves_key(
            f"tcp://127.0.0.1:{listener.getsockname()[1]}", new_keys(), new_keys().public
        )
        answering.cancel()
        for call in calls:
            call.close()

        assert calls
        assert not proven
