"""Gets and puts blobs over one dialled socket: many at once, in turn, in a window that follows the line.

The window of chunks on their way grows with every chunk that arrives and falls to one when the other side is silent:
a fast line is filled, a slow one is not flooded with repeated questions.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq

from discogrid.blobs import BlobStore
from discogrid.channel import Channel, Received
from discogrid.errors import BlobError, BlobRefusal, DiscogridError, IntegrityError
from discogrid.messages import BlobChunk, BlobRefused, BlobStored, WantChunks
from discogrid.pieces import Pieces
from discogrid.transfer.moves import Get, Put
from discogrid.transport import BLOB_FRAME_BYTES_MAX, CurveKeys, Delivery, Link, dial
from discogrid.types import Digest

WINDOW_FIRST = 4  # chunks on their way, all blobs together
WINDOW_MAX = 16
MOVES_MAX = 64  # blobs at once: each is an open file; others wait
TICK_S = 0.25  # how often silence is looked for
QUEUE_FULL_S = 0.05  # until a message that the socket did not take is tried again

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long silence about one blob is borne: `first_s`, then twice as long up to `longest_s`, `tries` times in all."""

    first_s: float = 2.0
    longest_s: float = 16.0
    tries: int = 6

    def wait_s(self, tries: int) -> float:
        """Seconds to wait after so many tries without an answer."""
        return float(min(self.first_s * 2**tries, self.longest_s))


@dataclass(slots=True)
class _Turn:
    """A move's place in the round, and when its silence has lasted too long."""

    move: Get | Put
    due: float
    tries: int = 0


@dataclass(slots=True)
class _Shared:
    """One transfer that several callers wait for."""

    task: asyncio.Task[None]
    waiting: int = 0


class BlobClient:
    """Moves blobs between one server and this machine."""

    def __init__(
        self,
        open_link: Callable[[Callable[[list[Delivery]], None]], Link],
        store: BlobStore | None = None,
        *,
        patience: Patience = Patience(),
    ) -> None:
        """`store` takes what is got; without one there is only `put`."""
        self._store = store
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._gate = asyncio.Semaphore(MOVES_MAX)
        self._round: deque[_Turn] = deque()
        self._getting: dict[Digest, _Shared] = {}
        self._window = WINDOW_FIRST
        self._heard = 0.0  # when anything came
        self._ticking: asyncio.TimerHandle | None = None
        self._retrying: asyncio.TimerHandle | None = None
        self._closed = False
        self._channel = Channel(open_link, self._receive)

    async def get(self, digest: Digest, size: int, *, passing: bool = False) -> None:
        """Have the blob in the store, whole and verified; BlobError when it cannot be had.

        Several callers of one blob share one transfer. `passing`: it is needed once, and soon.
        """
        assert self._store is not None, "a client without a store cannot get"
        if self._store.has(digest):
            self._store.use(digest)
            return
        if (shared := self._getting.get(digest)) is None:
            task = self._loop.create_task(self._get(digest, size, self._store, passing=passing))
            shared = self._getting[digest] = _Shared(task)
        shared.waiting += 1
        try:
            await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting:
                # Nobody listens any more: who asks from now on starts anew.
                del self._getting[digest]
                shared.task.cancel()

    async def put(
        self, source: Path | bytes | Pieces, digest: Digest, size: int, *, passing: bool = False
    ) -> None:
        """Returns when the server has the blob, whole and verified; BlobError when it cannot or will not.

        `passing`: it is needed once, and soon.
        """
        async with self._gate:
            try:
                move = Put(source, digest, size, passing=passing)
            except OSError as error:
                raise BlobError(f"{source!s:.200} cannot be read", why=str(error)) from None
            await self._finished(move)

    def received(self, digest: Digest) -> int:
        """Bytes that have come of a blob that is on its way in."""
        return sum(turn.move.received for turn in self._of(digest) if isinstance(turn.move, Get))

    def wake(self) -> None:
        """The other side is back, as is known from elsewhere: ask at once for what it was silent about."""
        now = self._loop.time()
        for turn in self._round:
            if turn.tries:
                turn.tries, turn.due = 0, now

    def close(self) -> None:
        """End: what is on its way fails."""
        self._closed = True
        for timer in (self._ticking, self._retrying):
            if timer is not None:
                timer.cancel()
        for turn in list(self._round):
            self._fail(turn.move, BlobError("the connection for blobs was closed"))
        self._channel.close()

    async def _get(self, digest: Digest, size: int, store: BlobStore, *, passing: bool) -> None:
        async with self._gate:
            move = Get(digest, size, store, passing=passing)
            await self._finished(move)

    async def _finished(self, move: Get | Put) -> None:
        """Give a move its turns until it is done."""
        if self._closed:
            move.end()
            raise BlobError("the connection for blobs was closed")
        turn = _Turn(move, self._loop.time() + self._patience.wait_s(0))
        self._round.append(turn)
        if self._ticking is None:
            self._ticking = self._loop.call_later(TICK_S, self._tick)
        self._pump()
        try:
            await move.done
        finally:
            self._round.remove(turn)
            move.end()
            self._pump()

    # -- sending

    def _pump(self) -> None:
        """Send while the window has room, one message of each move in turn."""
        room = self._window - sum(turn.move.in_flight for turn in self._round)
        passed = 0
        while room > 0 and passed < len(self._round) and not self._closed:
            turn = self._round[0]
            self._round.rotate(-1)
            if not turn.move.ready:
                passed += 1
                continue
            passed = 0
            if not self._send(turn.move):
                return
            room -= 1

    def _send(self, move: Get | Put) -> bool:
        """Send a move's next message; False when the socket takes no more for now."""
        try:
            message, payload = move.message()
        except (DiscogridError, OSError) as error:
            self._fail(move, error)
            return True
        if self._channel.send(message, *payload):
            move.sent()
            return True
        if self._retrying is None:
            self._retrying = self._loop.call_later(QUEUE_FULL_S, self._retry)
        return False

    def _retry(self) -> None:
        self._retrying = None
        self._pump()

    # -- receiving

    def _receive(self, batch: list[Received]) -> None:
        self._heard = self._loop.time()
        for received in batch:
            match received.message:
                case BlobChunk() as chunk:
                    self._on_chunk(chunk, received.payload)
                case WantChunks() as want:
                    self._on_want(want)
                case BlobStored(digest=digest):
                    self._on_stored(digest)
                case BlobRefused(digest=digest, reason=reason):
                    self._on_refused(digest, reason)
                case other:
                    log.warning("a %s on the blob socket was dropped", type(other).__name__)
        self._pump()

    def _on_chunk(self, chunk: BlobChunk, payload: list[bytes]) -> None:
        for turn in self._of(chunk.digest):
            if isinstance(turn.move, Get):
                try:
                    if turn.move.take(chunk, payload):
                        self._progress(turn)
                except (DiscogridError, OSError) as error:
                    self._fail(turn.move, error)

    def _on_want(self, want: WantChunks) -> None:
        for turn in self._of(want.digest):
            if isinstance(turn.move, Put) and turn.move.take(want):
                self._progress(turn)

    def _on_stored(self, digest: Digest) -> None:
        for turn in self._of(digest):
            if isinstance(turn.move, Put) and not turn.move.done.done():
                turn.move.done.set_result(None)
                self._progress(turn)

    def _on_refused(self, digest: Digest, reason: str) -> None:
        for turn in self._of(digest):
            self._fail(
                turn.move,
                BlobRefusal(f"the blob {digest.removeprefix('blake3:')[:12]} was refused: {reason:.500}"),
            )

    def _of(self, digest: Digest) -> list[_Turn]:
        return [turn for turn in self._round if turn.move.digest == digest]

    # -- patience

    def _progress(self, turn: _Turn) -> None:
        self._window = min(self._window + 1, WINDOW_MAX)
        turn.tries = 0
        turn.due = self._loop.time() + self._patience.wait_s(0)

    def _tick(self) -> None:
        """Start those moves again whose other side has been silent for too long, and give up in the end."""
        now = self._loop.time()
        self._ticking = self._loop.call_later(TICK_S, self._tick) if self._round else None
        alive = now - self._heard < self._patience.wait_s(0)
        full = sum(turn.move.in_flight for turn in self._round) >= self._window
        for turn in list(self._round):
            if alive and full and turn.move.ready and not turn.move.in_flight:
                turn.due = now + self._patience.wait_s(turn.tries)  # it waits for its turn, not for an answer
            elif now >= turn.due:
                self._lapse(turn, now)
        self._pump()

    def _lapse(self, turn: _Turn, now: float) -> None:
        turn.tries += 1
        if turn.tries >= self._patience.tries:
            self._fail(
                turn.move,
                BlobError(
                    f"the blob {turn.move.digest.removeprefix('blake3:')[:12]} got stuck: no answer in {turn.tries} tries",
                    why="The other side is gone, overloaded, or the network between is down.",
                    fix="What was sent is not lost; try again when it is back.",
                ),
            )
            return
        self._window = 1
        turn.move.restart()
        turn.due = now + self._patience.wait_s(turn.tries)

    def _fail(self, move: Get | Put, error: DiscogridError | OSError) -> None:
        if not move.done.done():
            if isinstance(error, (OSError, IntegrityError)):
                error = BlobError(str(error))
            move.done.set_exception(error)
            move.done.exception()  # seen: a client that is closed at the very end has nobody left to wait for it


def dial_blobs(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    keys: CurveKeys,
    server_key: bytes,
    store: BlobStore | None = None,
    *,
    patience: Patience = Patience(),
) -> BlobClient:
    """A client of the blob server at `endpoint`, over a socket of its own; what is got goes into `store`."""
    return BlobClient(
        lambda take: dial(context, endpoint, keys, server_key, take, frame_bytes_max=BLOB_FRAME_BYTES_MAX),
        store,
        patience=patience,
    )
