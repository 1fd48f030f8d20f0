"""The TCP under a pairing: the one place beside `transport` that has sockets.

Frames are four bytes of length and a body. Whoever calls is a stranger, so that every wait has an end, every buffer a
size, and a crowd of callers who say nothing makes room for one who does.
"""

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from discogrid.errors import GridError
from discogrid.pairing.addresses import PORT_DEFAULT, Address
from discogrid.pairing.frames import FRAME_BYTES_MAX
from discogrid.pairing.handshake import (
    Action,
    Asked,
    Confirmed,
    Event,
    Failed,
    FrameArrived,
    Heard,
    Inviter,
    Joiner,
    LineClosed,
    LineOpened,
    Paired,
    Send,
    TimePassed,
)

DIAL_S = 3.0
CALLERS_MAX = 16
CALLERS_AN_ADDRESS_MAX = 4
BACKLOG = 64

_LENGTH = struct.Struct(">I")

Question = Asked | Confirmed | Heard
Answer = Callable[[Question], Awaitable[Event]]

log: Final = logging.getLogger(__name__)


class Line:
    """Runs one machine over one connection; what the machine asks is answered by `answer`."""

    def __init__(
        self,
        machine: Joiner | Inviter,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answer,
        ended: Callable[[Paired | Failed], None] = lambda _: None,
    ) -> None:
        """The streams' limits are the caller's business, their end is this class's.

        `ended` is told how it ended at the moment it does, before anything else is heard by anybody.
        """
        self._ended = ended
        self.machine = machine
        self.end: Paired | Failed | None = None
        self._reader, self._writer = reader, writer
        self._answer = answer
        self._questions: list[Question] = []
        self._clock = asyncio.get_running_loop().time

    @property
    def here(self) -> str:
        """The address of this machine that the other side reaches."""
        return str(self._writer.get_extra_info("sockname", ("",))[0])

    @property
    def source(self) -> str:
        """The address of the other side."""
        return str(self._writer.get_extra_info("peername", ("",))[0])

    async def run(self) -> Paired | Failed:
        """How it ended; the connection is closed then."""
        try:
            while self.end is None:
                if self._questions:
                    self.feed(await self._answer(self._questions.pop(0)))
                else:
                    self.feed(await self._next())
        finally:
            self.feed(LineClosed())  # nothing, unless it was cancelled or an answer failed
            await self._close()
        return self.end

    def feed(self, event: Event) -> None:
        """Let the machine handle an event, and do at once what it decides."""
        for action in self.machine.handle(event, self._clock()):
            self._do(action)

    def hang_up(self) -> None:
        """End it without a word: the read that waits fails."""
        self._writer.transport.abort()

    def _do(self, action: Action) -> None:
        match action:
            case Send():
                self._writer.write(_LENGTH.pack(len(action.raw)) + action.raw)
            case Asked() | Confirmed() | Heard():
                self._questions.append(action)
            case Paired() | Failed():
                self.end = action
                self._ended(action)
                self._reader.feed_eof()  # whoever waits for the next frame need not

    async def _next(self) -> Event:
        try:
            async with asyncio.timeout_at(self.machine.deadline()):
                await self._writer.drain()
                (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                if size > FRAME_BYTES_MAX:
                    return FrameArrived(b"")  # what is no frame is for the machine to judge
                return FrameArrived(await self._reader.readexactly(size))
        except TimeoutError:
            return TimePassed()
        except (asyncio.IncompleteReadError, OSError):
            return LineClosed()

    async def _close(self) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(DIAL_S):
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()


async def call(
    address: Address, machine: Callable[[float], Joiner], answer: Answer, *, dial_s: float = DIAL_S
) -> Paired | Failed:
    """Dial, and run the joining side; GridError when nobody answers at the address."""
    try:
        async with asyncio.timeout(dial_s):
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=FRAME_BYTES_MAX)
    except (OSError, TimeoutError):
        raise GridError(
            f"nobody answers at {address}",
            why="The invitation has ended, or a firewall is between.",
            fix="Run `discogrid invite` on the grid's side and keep it open.",
        ) from None
    line = Line(machine(asyncio.get_running_loop().time()), reader, writer, answer)
    line.feed(LineOpened())
    return await line.run()


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """A connection that was taken, and since when."""

    line: Line
    source: str
    since: float


class Listener:
    """Takes calls while open, at most CALLERS_MAX at once and CALLERS_AN_ADDRESS_MAX from one address."""

    def __init__(
        self,
        new_machine: Callable[[float], Inviter],
        answer: Callable[[Line, Question], Awaitable[Event]],
        ended: Callable[[Line, Paired | Failed], None],
    ) -> None:
        """A machine is made for each call; `answer` and `ended` are told which call it is about."""
        self._new_machine = new_machine
        self._answer = answer
        self._ended = ended
        self._callers: set[Caller] = set()
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int = PORT_DEFAULT) -> int:
        """Listen; the port, any free one when `port` is taken. GridError when there is no such address here."""
        for wanted in (port, 0):
            try:
                self._server = await asyncio.start_server(
                    self._take, host, wanted, limit=FRAME_BYTES_MAX, backlog=BACKLOG
                )
            except OSError as error:
                reason = error
                continue
            return int(self._server.sockets[0].getsockname()[1])
        raise GridError(
            f"cannot listen at {Address(host, port)}: {reason.strerror}", fix="Name another with --listen."
        )

    async def close(self) -> None:
        """Take no more calls and end those that are open."""
        if self._server is not None:
            self._server.close()
        for caller in list(self._callers):
            caller.line.hang_up()
        if self._server is not None:
            await self._server.wait_closed()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = str(writer.get_extra_info("peername", ("",))[0])
        if not self._make_room(source):
            writer.transport.abort()
            return
        now = asyncio.get_running_loop().time()

        def answer(question: Question) -> Awaitable[Event]:
            return self._answer(line, question)

        def ended(end: Paired | Failed) -> None:
            self._ended(line, end)

        line = Line(self._new_machine(now), reader, writer, answer, ended)
        caller = Caller(line, source, now)
        self._callers.add(caller)
        try:
            await line.run()
        finally:
            self._callers.discard(caller)

    def _make_room(self, source: str) -> bool:
        """Whether there is room for one more; the one that came least far, and is the oldest of these, goes for it."""
        alike = [caller for caller in self._callers if caller.source == source]
        crowd = alike if len(alike) >= CALLERS_AN_ADDRESS_MAX else list(self._callers)
        if crowd is not alike and len(crowd) < CALLERS_MAX:
            return True
        last = min(crowd, key=lambda caller: (caller.line.machine.rank, caller.since))
        if last.line.machine.rank == 2:
            return False
        self._callers.discard(last)
        last.line.hang_up()
        return True
