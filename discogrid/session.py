"""One process's conversation with a coordinator: dial, greet, ask, be pushed to, notice when it is gone."""

import asyncio
import logging
import platform
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from discogrid import __version__, transport
from discogrid.blobs import BlobStore
from discogrid.channel import Channel, Received
from discogrid.errors import (
    DiscogridError,
    GridError,
    HandshakeRefused,
    JobGone,
    JobOver,
    NoAgentFits,
    QuotaExceeded,
    SignatureRefused,
    UsageError,
)
from discogrid.grid import Grid
from discogrid.messages import (
    PROTOCOL,
    Answer,
    BlobsMissing,
    CallsDone,
    CallsLost,
    CallSlots,
    CallsOver,
    Changed,
    Goodbye,
    Heartbeat,
    Hello,
    JobAccepted,
    JobContent,
    LogPushed,
    Message,
    PublishRoster,
    Refused,
    Results,
    Resync,
    RosterPushed,
    Unwatch,
    Welcome,
)
from discogrid.own import ensure_own_grid
from discogrid.silence import Silence
from discogrid.transfer import BlobClient, dial_blobs
from discogrid.types import JobId, Role
from discogrid.whereabouts import find_coordinator, moved_to, remember

CONNECT_S = 5.0  # a grid that does not answer in this time is not in reach
SEARCH_AFTER_S = 1.0  # then it is looked for at other addresses too
OWN_TRIES = 3  # at this machine's own grid, within that time
ANSWER_S = 30.0  # any single answer
PING_S = 3.0
QUEUE_PUSHES_MAX = 10_000

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked and is not answered yet; every one may be asked twice and does what it does once."""

    message: Message
    payload: tuple[bytes, ...]
    answer: asyncio.Future[Received]


class CallListener(Protocol):
    """Who is told of a job of calls."""

    def told(self, received: Received) -> None:
        """A CallsDone, CallsLost, CallsOver or CallSlots of it has come."""

    def greeted(self) -> None:
        """The coordinator has let this session in again: what was sent before may not have come."""

    def put_out(self, error: DiscogridError) -> None:
        """The coordinator does not let this session in any more."""


class Session:
    """One connection of a client. Use `async with Session(grid, "program") as session`."""

    def __init__(self, grid: Grid, program: str) -> None:
        """`program` is the name that the coordinator's log shows; GridError when nobody said where the grid is."""
        if grid.endpoint is None:
            raise GridError(f"nobody has said yet where the coordinator of the grid {grid.name!r} is")
        self.welcome: Welcome | None = None
        self._grid = grid
        self._endpoint = grid.endpoint
        self._program = program
        self._session = secrets.token_hex(8)
        self._requests = 0
        self._questions: dict[int, Question] = {}
        self._pushes: dict[int, asyncio.Queue[Received | DiscogridError]] = {}
        self._silence = Silence(time.monotonic())
        self._published = False
        self._greeted: asyncio.Future[Welcome] | None = None
        self._call_listeners: dict[JobId, CallListener] = {}
        self._blob_clients: dict[BlobStore | None, BlobClient] = {}

    async def __aenter__(self) -> Self:
        """Connect; GridError after CONNECT_S without an answer, HandshakeRefused when the grid says no."""
        self._grid.check_membership()
        if self._grid.own:
            await asyncio.to_thread(
                ensure_own_grid
            )  # who dials before it listens waits before dialling again
        self._context = transport.new_context()
        self._dial()
        self._greeted = asyncio.get_running_loop().create_future()
        try:
            await self._greeting(self._greeted)
        except TimeoutError:
            await self._close(linger=False)
            raise self._unreachable(
                f"the coordinator at {self._endpoint} did not answer within {CONNECT_S:.0f} s"
            ) from None
        except DiscogridError:
            await self._close(linger=False)
            raise
        self._watching = asyncio.create_task(self._watch_line())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye; jobs go on."""
        self._watching.cancel()
        self._channel.send(Goodbye())
        await self._close(linger=True)

    async def ask(
        self,
        build: Callable[[int], Message],
        *payload: bytes,
        timeout: float = ANSWER_S,  # noqa: ASYNC109
    ) -> Received:
        """The answer to what `build` makes of a request number; the refusal is raised, GridError when none comes in time."""
        self._requests += 1
        request = self._requests
        asked = Question(build(request), payload, asyncio.get_running_loop().create_future())
        if not self._channel.send(asked.message, *payload):
            raise self._unreachable("the line to the coordinator is full")
        self._questions[request] = asked
        try:
            async with asyncio.timeout(timeout):
                return await asked.answer
        except TimeoutError:
            raise self._unreachable(f"the coordinator did not answer within {timeout:.0f} s") from None
        finally:
            self._questions.pop(request, None)

    @asynccontextmanager
    async def pushed(self, build: Callable[[int], Message]) -> AsyncIterator[AsyncIterator[Received]]:
        """What the coordinator pushes for a request until the block ends; GridError when it is gone."""
        self._requests += 1
        request = self._requests
        queue: asyncio.Queue[Received | DiscogridError] = asyncio.Queue()
        self._pushes[request] = queue
        self._channel.send(build(request))

        async def pushes() -> AsyncIterator[Received]:
            while isinstance(pushed := await queue.get(), Received):
                yield pushed
            raise pushed

        try:
            yield pushes()
        finally:
            self._pushes.pop(request, None)
            self._channel.send(Unwatch(request=request))

    def send(self, message: Message, *payload: bytes) -> bool:
        """Say something that needs no answer; False when the line takes no more."""
        return self._channel.send(message, *payload)

    def listen(self, job: JobId, listener: CallListener | None) -> None:
        """Tell this one, or nobody any more, of a job of calls."""
        if listener is None:
            self._call_listeners.pop(job, None)
        else:
            self._call_listeners[job] = listener

    def blobs(self, store: BlobStore | None) -> BlobClient:
        """The blob connection, opened at first use; downloads go into `store`."""
        if store not in self._blob_clients:
            assert self.welcome is not None
            where = transport.dialled(self.welcome.blob_endpoint, self._endpoint)
            keys = transport.CurveKeys(self._grid.identity.curve_public, self._grid.identity.curve_secret)
            server = self._grid.roster.coordinator().curve
            self._blob_clients[store] = dial_blobs(self._context, where, keys, server, store)
        return self._blob_clients[store]

    # -- the line

    def _dial(self) -> None:
        keys = transport.CurveKeys(self._grid.identity.curve_public, self._grid.identity.curve_secret)
        server = self._grid.roster.coordinator().curve
        self._channel = Channel(
            lambda take: transport.dial(self._context, self._endpoint, keys, server, take), self._receive
        )

    def _dial_again(self, endpoint: str | None) -> None:
        """A new line, to another address if there is one; what was asked on the old line gets no answer any more."""
        if endpoint is not None:
            self._endpoint = endpoint
            remember(self._grid, endpoint)
            self._close_blobs()  # they listen at the other address, too
        self._channel.close(linger_ms=0)
        self._end_all(self._gone())
        self._dial()
        self._hello()

    async def _greeting(self, greeted: asyncio.Future[Welcome]) -> None:
        """Wait for the coordinator's answer, and look for it elsewhere when it stays away."""
        if self._grid.own:
            await self._greeting_here(greeted)
            return
        self._hello()
        searching = asyncio.create_task(self._search())
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.shield(greeted)
        finally:
            searching.cancel()
            await asyncio.wait({searching})

    async def _greeting_here(self, greeted: asyncio.Future[Welcome]) -> None:
        """This machine's own grid is started when it does not run, or is just leaving."""
        for attempt in range(1, OWN_TRIES + 1):
            if attempt > 1:
                await asyncio.to_thread(ensure_own_grid)
            self._hello()
            try:
                async with asyncio.timeout(CONNECT_S / OWN_TRIES):
                    await asyncio.shield(greeted)
            except TimeoutError:
                if attempt == OWN_TRIES:
                    raise
            else:
                return

    async def _search(self) -> None:
        await asyncio.sleep(SEARCH_AFTER_S)
        found = await find_coordinator(self._grid)
        if found not in (None, self._endpoint):
            self._dial_again(found)

    def _hello(self) -> None:
        self._channel.send(
            Hello(
                protocol=PROTOCOL,
                software=__version__,
                role=Role.SUBMITTER,
                session=self._session,
                name=self._program,
                platform=sys.platform,
                python=platform.python_version(),
                clock=time.time(),
                roster=self._grid.roster.version,
            )
        )

    def _receive(self, batch: list[Received]) -> None:
        self._silence.heard(time.monotonic())
        for received in batch:
            message = received.message
            match message:
                case CallsDone() | CallsLost() | CallsOver() | CallSlots():
                    if (listener := self._call_listeners.get(message.job)) is not None:
                        listener.told(received)
                case Welcome():
                    self._share_roster(received)
                    self._on_welcome(message)
                case Resync():
                    self._on_resync()
                case RosterPushed():
                    self._grid.keeper.exchange(received.payload, time.time())
                case Refused(request=0):
                    self._refused(message)
                case Changed() | LogPushed():
                    self._push(message.request, received)
                case Refused() if message.request in self._pushes:
                    self._push(message.request, refusal(message))
                case Refused() | JobAccepted() | BlobsMissing() | Answer() | Results() | JobContent():
                    self._answer(message.request, received)
                case _:
                    pass  # HeartbeatSeen and whatever a newer coordinator may say

    def _on_resync(self) -> None:
        """It was started again, and has thrown away what it was asked before this greeting."""
        self._hello()
        self._end_pushes(self._gone())
        for question in self._questions.values():
            if not question.answer.done():
                self._channel.send(question.message, *question.payload)

    def _refused(self, refused: Refused) -> None:
        """We are not let in; or we were, and are put out."""
        error = HandshakeRefused(refused.what, why=refused.why, fix=refused.fix)
        if refused.code == "expired" and not self._published and self._in_time():
            self._published = True  # the coordinator may have an older roster than this node
            self._channel.send(PublishRoster(), self._grid.roster.envelope)
            self._hello()
        elif self._greeted and not self._greeted.done():
            self._greeted.set_exception(error)
        else:
            self._end_all(error)
            for listener in list(self._call_listeners.values()):
                listener.put_out(error)

    def _in_time(self) -> bool:
        return time.time() <= self._grid.roster.body.expires

    def _share_roster(self, welcome: Received) -> None:
        """Let the newer roster win on both sides: the owner may be in reach of this node only."""
        if newer := self._grid.keeper.exchange(welcome.payload, time.time()):
            self._channel.send(PublishRoster(), newer)

    def _push(self, request: int, pushed: Received | DiscogridError) -> None:
        queue = self._pushes.get(request)
        if queue is None:
            return
        if queue.qsize() == QUEUE_PUSHES_MAX:
            pushed = GridError("this program reads what it watches too slowly; watch again for a new picture")
        if queue.qsize() <= QUEUE_PUSHES_MAX:
            queue.put_nowait(pushed)

    def _answer(self, request: int, received: Received) -> None:
        question = self._questions.pop(request, None)
        if question is None or question.answer.done():
            return
        if isinstance(received.message, Refused):
            question.answer.set_exception(refusal(received.message))
        else:
            question.answer.set_result(received)

    def _on_welcome(self, welcome: Welcome) -> None:
        if self.welcome is not None and self.welcome.blob_endpoint != welcome.blob_endpoint:
            self._close_blobs()  # it was started again, and they listen elsewhere now
        for blobs in self._blob_clients.values():
            blobs.wake()
        self.welcome = welcome
        for listener in list(self._call_listeners.values()):
            listener.greeted()
        if self._greeted and not self._greeted.done():
            self._greeted.set_result(welcome)

    def _close_blobs(self) -> None:
        for blobs in self._blob_clients.values():
            blobs.close()
        self._blob_clients.clear()

    async def _watch_line(self) -> None:
        """Ping, and begin a new line when the coordinator has said nothing for too long."""
        self._silence.heard(time.monotonic())
        while True:
            await asyncio.sleep(min(PING_S, self._silence.due - time.monotonic()))
            if self._silence.due > time.monotonic():
                self._channel.send(Heartbeat())
                continue
            self._end_all(self._gone())
            moved = await self._moved()
            if self._silence.due > time.monotonic():
                continue  # it has spoken meanwhile, on the line that we have
            self._dial_again(moved)
            self._silence.searched(time.monotonic())

    async def _moved(self) -> str | None:
        try:
            return await moved_to(self._grid, self._endpoint)
        except Exception:  # only a hint: the address that is known is dialled in any case
            log.exception("the network could not be searched")
            return None

    def _end_pushes(self, error: DiscogridError) -> None:
        for request in self._pushes:
            self._push(request, error)

    def _end_all(self, error: DiscogridError) -> None:
        """Whoever waits for the coordinator hears that there will be nothing."""
        self._end_pushes(error)
        for question in self._questions.values():
            if not question.answer.done():
                question.answer.set_exception(error)

    def _gone(self) -> GridError:
        return self._unreachable("the coordinator is gone")

    def _unreachable(self, what: str) -> GridError:
        return GridError(
            what,
            why="It does not run, another machine has its address, or the network between is down.",
            fix="Start it with `discogrid up`, or run on this machine alone with --local.",
        )

    async def _close(self, *, linger: bool) -> None:
        self._close_blobs()
        self._channel.close()
        if not linger:
            self._context.destroy(linger=0)
        else:
            await asyncio.to_thread(self._context.term)


def refusal(refused: Refused) -> DiscogridError:
    """The error that a refusal of the coordinator stands for."""
    kinds: dict[str, type[DiscogridError]] = {
        "unknown-job": UsageError,
        "usage": UsageError,
        "signature": SignatureRefused,
        "unplaceable": NoAgentFits,
        "permission": UsageError,
        "quota": QuotaExceeded,
        "over": JobOver,
        "gone": JobGone,
    }
    return kinds.get(refused.code, GridError)(refused.what, why=refused.why, fix=refused.fix)
