"""Speaks as an agent of this machine, without a pause, until it is refused; then it asks to be let in again.

`chatter.py GRID` prints `let in`, and when both were refused what it saw as JSON: when it was refused, when it asked
again and was refused again, in seconds of the clock that all hosts share, and what else it was answered in between.
"""

import asyncio
import json
import platform
import sys
import time

from discogrid import __version__, transport
from discogrid.channel import Channel, Received
from discogrid.grid import Grid, open_grid
from discogrid.messages import PROTOCOL, Heartbeat, Hello, Refused, Welcome
from discogrid.types import Role

PAUSE_S = 0.01


class Chatter:
    def __init__(self, grid: Grid) -> None:
        assert grid.endpoint is not None
        identity, server, endpoint = grid.identity, grid.roster.coordinator().curve, grid.endpoint
        keys = transport.CurveKeys(identity.curve_public, identity.curve_secret)
        self._context = transport.new_context()
        self._channel = Channel(
            lambda take: transport.dial(self._context, endpoint, keys, server, take), self._receive
        )
        self._refused = self._asked = 0.0
        self._answers: list[str] = []  # to what it said after the first refusal
        self._over = asyncio.Event()

    async def speak(self) -> None:
        self._hello()
        while not self._refused:
            self._channel.send(Heartbeat())
            await asyncio.sleep(PAUSE_S)
        await self._over.wait()
        self._channel.close(linger_ms=0)
        self._context.destroy(linger=0)

    def _receive(self, batch: list[Received]) -> None:
        now = time.monotonic()
        for received in batch:
            match received.message:
                case Welcome() if not self._refused:
                    print("let in", flush=True)
                case Refused() if not self._refused:
                    self._refused = now
                    self._asked = time.monotonic()
                    self._hello()
                case Refused():
                    self._tell(now)
                case answer if self._refused:
                    self._answers.append(type(answer).__name__)
                case _:
                    pass

    def _tell(self, again: float) -> None:
        seen = {"refused": self._refused, "asked": self._asked, "again": again, "answers": self._answers}
        print(json.dumps(seen), flush=True)
        self._over.set()

    def _hello(self) -> None:
        self._channel.send(
            Hello(
                protocol=PROTOCOL,
                software=__version__,
                role=Role.AGENT,
                session="chatter",
                name="chatter",
                platform=sys.platform,
                python=platform.python_version(),
                clock=time.time(),
                sandbox="strict",
            )
        )


async def main() -> None:
    await Chatter(open_grid(sys.argv[1])).speak()


asyncio.run(main())
