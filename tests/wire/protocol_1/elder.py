"""A node that speaks protocol 1 and nothing else: plain msgpack, in the shapes that were written down with its own code.

It uses nothing of today's messages, so that no change of theirs can change it.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from discogrid import transport
from discogrid.keys import Identity

ARRIVES_S = 20.0  # until a test gives up; nothing waits for it to pass
HERE = Path(__file__).parent

Plain = dict[str, Any]


def headers() -> list[tuple[str, str, bytes]]:
    """Every header frame that was written down: tag, `full` or `bare`, frame."""
    lines = (line.split() for line in (HERE / "messages.txt").read_text().splitlines())
    return [(tag, fill, bytes.fromhex(frame)) for tag, fill, frame in lines]


def documents() -> dict[str, bytes]:
    """Every signed document that was written down."""
    lines = (line.split() for line in (HERE / "documents.txt").read_text().splitlines())
    return {name: bytes.fromhex(content) for name, content in lines}


FULL = {tag: msgpack.unpackb(frame) for tag, fill, frame in headers() if fill == "full"}
BARE = {tag: msgpack.unpackb(frame) for tag, fill, frame in headers() if fill == "bare"}
[RESULT] = msgpack.unpackb(msgpack.unpackb(documents()["result"])[1])


@dataclass(frozen=True)
class Heard:
    """One message."""

    said: Plain
    payload: list[bytes]


class Elder:
    """Says and hears messages of protocol 1. What it would not have understood is in `strange`."""

    def __init__(self, identity: Identity, endpoint: str, server_key: bytes) -> None:
        self.identity = identity
        self.strange: list[Plain] = []
        self._heard: list[Heard] = []
        self._news = asyncio.Event()
        self._context = transport.new_context()
        keys = transport.CurveKeys(identity.curve_public, identity.curve_secret)
        self._link = transport.dial(self._context, endpoint, keys, server_key, self._receive)

    def close(self) -> None:
        self._link.close()
        self._context.destroy(linger=0)

    def say(self, tag: str, /, *payload: bytes, **fields: object) -> None:
        assert fields.keys() <= FULL[tag].keys(), "protocol 1 had no such field"
        self._link.send([msgpack.packb({**BARE[tag], **fields}), *payload])

    def hello(self, role: str, **other: object) -> None:
        known = {"protocol": 1, "role": role, "clock": time.time(), "slots": 2, "memory_bytes": 1 << 33}
        self.say("hello", **{**known, "sandbox": "strict", "name": "elder", **other})

    async def next(self, tag: str, true: Callable[[Plain], bool] = lambda _: True) -> Heard:
        """The first message of this kind that was not taken yet; others before it wait."""
        while True:
            for at, heard in enumerate(self._heard):
                if heard.said["type"] == tag and true(heard.said):
                    return self._heard.pop(at)
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), ARRIVES_S)

    def result(self, job: str, attempt: Plain, archive: str, size: int) -> tuple[bytes, Plain]:
        """A signed result of this node's, and what is told of it."""
        outcome = {"outcome": "succeeded", "exit": 0, "archive": archive, "archive_bytes": size}
        body = {**RESULT, **outcome, "job": job, "agent": self.identity.id, "outputs": []}
        body |= {field: attempt[field] for field in ("index", "number", "lease")}
        envelope = self.identity.seal("discogrid/result/1", msgpack.packb([body]))
        [told, _] = FULL["tasks-done"]["tasks"]
        return envelope, {**told, **outcome, "attempt": attempt, "inline": True, "reason": ""}

    def _receive(self, deliveries: list[transport.Delivery]) -> None:
        for delivery in deliveries:
            said = msgpack.unpackb(delivery.frames[0])
            # All that its code asks for must be there; what is there besides it would have passed over.
            if not BARE.get(said["type"], {"unknown": None}).keys() <= said.keys():
                self.strange.append(said)
            self._heard.append(Heard(said, delivery.frames[1:]))
        self._news.set()
