"""The ROUTER shell: sockets and timers of a coordinator; who speaks is looked up here, what is said goes to a desk."""

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from discogrid import __version__, transport
from discogrid.alarm import Alarm
from discogrid.blobs import BlobStore
from discogrid.channel import Channel, Received
from discogrid.discovery import announced
from discogrid.errors import DiscogridError, WireError
from discogrid.grid import Grid
from discogrid.messages import (
    PROTOCOL,
    PROTOCOL_OLDEST,
    Hello,
    Message,
    PublishRoster,
    Refused,
    Resync,
    RotateKeys,
)
from discogrid.transfer import BlobServer
from discogrid.trust.roster import Roster
from discogrid.types import AgentId, NodeId, Role
from discogrid_coordinator import events
from discogrid_coordinator.agent_desk import AgentDesk
from discogrid_coordinator.blob_desk import BlobDesk, served_at
from discogrid_coordinator.call_desk import CallDesk
from discogrid_coordinator.client_desk import ClientDesk
from discogrid_coordinator.engine import Batch, Engine
from discogrid_coordinator.journal import Journal
from discogrid_coordinator.membership import Membership
from discogrid_coordinator.peers import CLIENT_SILENCE_S_MAX, Peer
from discogrid_coordinator.permits import Permits
from discogrid_coordinator.policies import HEARTBEAT_S, LEASE_S
from discogrid_coordinator.retention import KEEP_S
from discogrid_coordinator.watches import PUSH_S
from discogrid_coordinator.writer import Writer

CLOCK_SKEW_S_MAX = 300.0
SWEEP_S = 5.0
RETIRE_S = 60.0  # between two looks for jobs that are old enough to be forgotten
STORE_BYTES_MAX = 200 << 30
NAME_CHARACTERS_MAX = 64
WRITES_WAITING_MAX = 100_000  # rows; beyond them nobody is heard until the disk has caught up

log = logging.getLogger(__name__)


class Server:
    """One coordinator. Use `await Server(...).run()`; `stop` ends it."""

    def __init__(
        self,
        grid: Grid,
        folder: Path,
        *,
        listen: str,
        idle_s: float | None = None,
        keep_s: float = KEEP_S,
        announce: bool = False,
    ) -> None:
        """`listen` is a ZeroMQ endpoint; with `idle_s` it leaves after so many seconds without work and clients.

        `keep_s` is how long ended jobs are kept, in seconds.
        """
        self._grid = grid
        self._folder = folder
        self._listen = listen
        self._idle_s = idle_s
        self._keep_s = keep_s
        self._announce = announce
        self._stopping = asyncio.Event()
        self._push_due: asyncio.TimerHandle | None = None
        self._pushed = 0.0
        self._last_used = 0.0
        self._failure: DiscogridError | None = None
        self.endpoint = ""

    def stop(self) -> None:
        """End soon, in order: nothing accepted is lost."""
        self._stopping.set()

    async def run(self, on_ready: Callable[[str], None] = lambda _: None) -> None:
        """Serve until `stop`; `on_ready` gets the endpoint once clients and agents can dial it.

        DiscogridError when it cannot listen, or cannot keep any more what it is told.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, self.stop)
        with contextlib.ExitStack() as closing:
            self._open(closing)
            async with self._announced():
                on_ready(self.endpoint)
                await self._stopping.wait()
        if self._failure is not None:
            raise self._failure

    def _open(self, closing: contextlib.ExitStack) -> None:
        """Begin to listen; `closing` undoes it in turn, also when it fails half-way."""
        loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._time_passed)
        context = transport.new_context()
        closing.callback(context.destroy, linger=transport.LINGER_MS)
        keys = transport.CurveKeys(self._grid.identity.curve_public, self._grid.identity.curve_secret)
        doorkeeper = transport.Doorkeeper(
            context,
            self._grid.keeper.admitted,
            lambda failure: loop.call_soon_threadsafe(self._fail, failure),
        )
        closing.callback(doorkeeper.close)
        store = BlobStore(self._folder / "blobs", STORE_BYTES_MAX)
        journal = Journal(self._folder / "journal.sqlite")
        closing.callback(journal.close)
        blobs = self._blobs = BlobServer(
            lambda take: transport.listen(
                context,
                blob_endpoint_for(self._listen),
                keys,
                doorkeeper,
                take,
                frame_bytes_max=transport.BLOB_FRAME_BYTES_MAX,
            ),
            store,
            # Lambdas, because permits need the engine, and the engine this server's address.
            may_read=lambda peer, digest: self._permits.may_read(peer, digest),  # noqa: PLW0108
            may_write=lambda peer, digest, size: self._permits.may_write(peer, digest, size),  # noqa: PLW0108
        )
        closing.callback(blobs.close)
        # Before the jobs are taken up: who dials meanwhile is heard at once afterwards, instead of dialling again.
        self._channel = Channel(
            lambda take: transport.listen(context, self._listen, keys, doorkeeper, take), self._receive
        )
        closing.callback(self._channel.close)
        self.endpoint = self._channel.endpoint
        with _collector_off():
            self._engine = Engine(
                self._grid,
                store,
                journal,
                lease=secrets.randbits(31) | 1,
                blob_endpoint=advertised(blobs.endpoint),
                clock=loop.time,
                wall=time.time,
            )
        self._writer = Writer(journal, store, self._written)
        closing.callback(self._writer.close)
        self._permits = Permits(self._engine)
        calls = CallDesk(self._engine)
        self._agents = AgentDesk(self._engine, BlobDesk(self._engine, self._permits, loop.time), calls)
        self._clients = ClientDesk(self._engine, self._permits, calls)
        self._membership = Membership(self._grid, self._engine, self._clients)
        self._membership.end_jobs_of_strangers(self._grid.roster)
        closing.callback(self._grid.keeper.on_change(self._roster_changed))
        self._last_used = loop.time()
        sweeping = loop.create_task(self._sweep())
        closing.callback(sweeping.cancel)
        closing.callback(self._say_last_words)

    def _say_last_words(self) -> None:
        with self._kept():
            pass
        self._writer.close()
        self._alarm.cancel()
        if self._push_due is not None:
            self._push_due.cancel()

    # -- messages

    def _receive(self, batch: list[Received]) -> None:
        with self._kept():
            for received in batch:
                try:
                    self._hear(received)
                except sqlite3.Error:
                    raise
                except Exception:
                    # One peer's message must not end the grid for all others.
                    log.exception(
                        "a %s from %s was dropped", type(received.message).__name__, received.sender[:8]
                    )
        self._set_timers()

    def _hear(self, received: Received) -> None:
        message = received.message
        if isinstance(message, Hello):
            self._greet(received, message)
            return
        if isinstance(
            message, PublishRoster
        ):  # also of somebody who is not let in because the roster has expired
            self._membership.publish(received, message, time.time())
            return
        peer = self._engine.peers.get(received.route)
        if peer is None or peer.node != received.sender:
            self._engine.outbox.put(received.route, Resync())
            return
        if not self._grid.roster.may(peer.node, peer.role):
            self._membership.put_out(peer)
            return
        peer.heard = asyncio.get_running_loop().time()
        if isinstance(message, RotateKeys):
            self._membership.rotate(peer, received, message, time.time())
        elif peer.role is Role.AGENT:
            self._agents.hear(peer, received)
        else:
            self._last_used = peer.heard
            self._clients.hear(peer, received)

    def _greet(self, received: Received, hello: Hello) -> None:
        node = NodeId(received.sender)
        now = time.time()
        if refusal := refused(hello, node, self._grid.roster, now):
            self._engine.outbox.put(received.route, refusal)
            return
        name = "".join(filter(str.isprintable, hello.name))[:NAME_CHARACTERS_MAX] or node[:8]
        if hello.role is Role.AGENT:
            agent = self._engine.peers.free_name(name, node)
            self._agents.hello(self._peer(received, hello, agent), hello)
            return
        peer = self._peer(received, hello, AgentId(name))
        self._last_used = peer.heard
        self._engine.peers.add(peer)
        self._engine.welcome(peer, HEARTBEAT_S, LEASE_S, now)

    def _peer(self, received: Received, hello: Hello, name: AgentId) -> Peer:
        return Peer(
            route=received.route,
            node=NodeId(received.sender),
            role=hello.role,
            session=hello.session,
            name=name,
            heard=asyncio.get_running_loop().time(),
            protocol=hello.protocol,
            roster=hello.roster,
            blob_endpoint=served_at(received.address, hello.blob_port),
        )

    def _roster_changed(self, before: Roster, after: Roster) -> None:
        log.info("roster %d takes the place of %d", after.version, before.version)
        with self._kept():
            self._membership.changed(after)
        self._set_timers()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Nobody is told what happens inside before the disk has it; when that fails, the coordinator ends.

        To go on would be to promise what is not kept. A restart takes up what the journal has, and so all that
        anybody was told.
        """
        try:
            yield
        except sqlite3.Error as error:
            self._fail(_unkept(error))
        self._settle()

    def _settle(self) -> None:
        """Begin to write what waits, unless a batch is on its way: what comes meanwhile shares the next commit."""
        if self._failure is not None:
            return
        self._engine.outbox.send(self._engine.outbox.take_prompt(), self._send)
        if self._writer.busy:
            if len(self._engine.journal) > WRITES_WAITING_MAX:
                self._writer.wait()
            return
        batch = self._engine.take()
        if batch.writes:
            self._writer.begin(batch)
        else:
            self._engine.let_go(batch, self._send)

    def _written(self, batch: Batch, failure: BaseException | None) -> None:
        """The batch is durable, or the disk would not have it."""
        if failure is not None:
            self._fail(_unkept(failure))
        if self._failure is None:
            self._engine.let_go(batch, self._send)
            self._settle()

    def _fail(self, failure: DiscogridError) -> None:
        """End loudly: without this nothing useful can go on."""
        log.critical("%s", failure.what)
        self._failure = self._failure or failure
        self.stop()

    def _set_timers(self) -> None:
        loop = asyncio.get_running_loop()
        self._alarm.set(self._engine.scheduler.deadline())
        if self._engine.news and self._push_due is not None:
            self._push_due.cancel()
            self._push_due = None
        if self._push_due is None and len(self._engine.watches):
            due = loop.time() if self._engine.news else max(loop.time(), self._pushed + PUSH_S)
            self._push_due = loop.call_at(due, self._push)

    def _send(self, route: bytes, message: Message, payload: Sequence[bytes]) -> None:
        try:
            self._channel.send(message, *payload, route=route)
        except WireError:
            log.exception("a %s was not sent", type(message).__name__)  # the others still leave

    # -- time

    def _time_passed(self) -> None:
        with self._kept():
            self._engine.tell(events.TimePassed())
        self._set_timers()

    def _push(self) -> None:
        self._push_due = None
        loop = asyncio.get_running_loop()
        self._pushed = loop.time()
        more = False
        with self._kept():
            more = self._engine.push()
        if more:
            self._push_due = loop.call_at(self._pushed + PUSH_S, self._push)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        retire_at = loop.time()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            self._membership.watch_the_time(time.time())
            with self._kept():
                if now >= retire_at and not self._engine.retire(self._keep_s):
                    retire_at = now + RETIRE_S
                for peer in self._engine.peers.clients():
                    if now - peer.heard > CLIENT_SILENCE_S_MAX:
                        self._clients.leave(peer)
            self._set_timers()
            if self._engine.busy or self._engine.peers.clients():
                self._last_used = now
            if self._idle_s is not None and now - self._last_used > self._idle_s:
                log.info("nothing to do for %.0f s: leaving", self._idle_s)
                self.stop()

    # -- presence

    def _announced(self) -> contextlib.AbstractAsyncContextManager[object]:
        if not self._announce:
            return contextlib.nullcontext()
        host = self._listen.removeprefix("tcp://").rpartition(":")[0]
        return announced(self._grid.roster.grid, Role.COORDINATOR, port_of(self.endpoint), host)


@contextlib.contextmanager
def _collector_off() -> Iterator[None]:
    """What is made inside stays: the collector would look at all of it again and again, then and later, and free nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _unkept(failure: BaseException) -> DiscogridError:
    what = failure.what if isinstance(failure, DiscogridError) else str(failure)
    return DiscogridError(
        f"the journal cannot be written: {what}",
        why="Most likely the disk is full.",
        fix="Free some disk space and start again: nothing that was acknowledged is lost.",
    )


def refused(hello: Hello, node: NodeId, roster: Roster, now: float) -> Refused | None:
    """Why a node is not let in, with the line that fixes it; None when it is."""
    if not roster.may(node, hello.role):
        return Refused(
            code="role",
            what=f"this node is no {hello.role.value} of the grid",
            fix="The grid's owner can give it that role.",
        )
    if not now <= roster.body.expires:
        return Refused(
            code="expired",
            what="the roster of this grid has expired",
            why="Nobody has used the machine with its owner's key for a long time.",
            fix="On that machine, run: discogrid trust renew",
        )
    if not PROTOCOL_OLDEST <= hello.protocol <= PROTOCOL:
        return _refused_protocol(hello)
    if not abs(hello.clock - now) <= CLOCK_SKEW_S_MAX:  # true for what is no number, too
        return Refused(
            code="clock",
            what=f"the clocks of this machine and of the coordinator differ by {abs(hello.clock - now):.0f} s",
            fix="Set the clock that is wrong (timedatectl set-ntp true); at most 300 s are accepted.",
        )
    return None


def _refused_protocol(hello: Hello) -> Refused:
    """Says which side is to be updated: the older one."""
    newer = hello.protocol > PROTOCOL
    software = "".join(filter(str.isprintable, hello.software))[:NAME_CHARACTERS_MAX]
    where, version = ("the coordinator's machine", software) if newer else ("this machine", __version__)
    return Refused(
        code="protocol",
        what=f"discogrid {software} here speaks protocol {hello.protocol}; "
        f"the grid's coordinator ({__version__}) speaks {PROTOCOL_OLDEST} to {PROTOCOL}",
        why=f"The {'coordinator' if newer else 'software here'} is too old.",
        fix=f"Update discogrid on {where}: pip install discogrid=={version}",
    )


def blob_endpoint_for(control: str) -> str:
    """Where the blob socket listens beside a control socket: a socket file beside its file, or any free port."""
    parts = urlsplit(control)
    if parts.scheme == "ipc":
        return control.removesuffix(".sock") + ".blobs"
    host = control.removeprefix("tcp://").rpartition(":")[0]
    return f"tcp://{host}:0"


def advertised(endpoint: str) -> str:
    """A bound endpoint as others may dial it: a TCP host becomes `*`, the host that was dialled already."""
    return f"tcp://*:{port_of(endpoint)}" if endpoint.startswith("tcp://") else endpoint


def port_of(endpoint: str) -> int:
    """The TCP port of an endpoint."""
    return int(endpoint.rpartition(":")[2])
