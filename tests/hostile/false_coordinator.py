"""A coordinator that was stolen: it has the real CURVE key and says what it likes, to a real agent over real sockets."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from discogrid import merkle, transport
from discogrid.archive import open_archive
from discogrid.blobs import BlobStore
from discogrid.bundle import Job, Leaf, encode_leaf, job_id_candidates, open_results, seal_job
from discogrid.channel import Channel, Received
from discogrid.messages import (
    PROTOCOL,
    BlobChunk,
    CallsAnswered,
    GetBlob,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    JobSpec,
    LogChunk,
    Message,
    RunTasks,
    TaskDone,
    TasksCommitted,
    TasksDone,
    TasksStarted,
    Welcome,
)
from discogrid.transfer import BlobServer
from discogrid.transfer.chunks import CHUNK_BYTES
from discogrid.types import (
    GIB,
    AgentId,
    Attempt,
    Digest,
    FileRef,
    JobId,
    Limits,
    Offer,
    Outcome,
    Run,
    SandboxLevel,
)
from discogrid.wire import pack_parts, unpack_parts
from discogrid_agent.rules import Rule
from discogrid_agent.rules_file import RulesFile
from discogrid_agent.sandbox.box import Box, Boxed, Scene
from discogrid_agent.service import Service
from tests.trust.forge import Cast

ARRIVES_S = 20.0  # until a test gives up; nothing waits for it to pass
LEASE = 7
SCRIPT = b"""import pathlib, sys
pathlib.Path("run-result/canary").write_text(repr((sys.argv[1:], pathlib.Path(sys.argv[1]).read_text())))
"""
EVIL_SCRIPT = b"""import pathlib
pathlib.Path("run-result/canary").write_text("EVIL")
"""
INPUTS = {"a.txt": b"alpha", "b.txt": b"beta", "c.txt": b"gamma"}


class CountingBox:
    """A real box that remembers what it was asked to start."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self.started: list[tuple[str, ...]] = []

    @property
    def level(self) -> SandboxLevel:
        return self._box.level

    def start(self, scene: Scene) -> Boxed:
        self.started.append(tuple(scene.command))
        return self._box.start(scene)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._box, name)


@dataclass
class Parcel:
    """A job with what its tasks travel with, all of which may be exchanged."""

    job: Job
    leaves: list[bytes]
    id: JobId = field(default=JobId(""))

    def __post_init__(self) -> None:
        self.id = self.id or job_id_candidates(self.job.digest)[0]

    @property
    def tree(self) -> merkle.Tree:
        return merkle.Tree([merkle.leaf_hash(leaf) for leaf in self.leaves])

    def run(self, start: int, stop: int, number: int = 1, lease: int = LEASE) -> Run:
        return Run(self.id, start, stop, number, lease)


class FalseCoordinator:
    """Speaks to one agent. What the agent says is kept in order; `told` picks from it."""

    def __init__(self, cast: Cast, folder: Path) -> None:
        self.cast = cast
        self.store = BlobStore(folder / "blobs", GIB)
        self.heard: list[Message] = []
        self.done: dict[Attempt, tuple[TaskDone, bytes, bytes | None]] = {}
        self.answers: dict[Attempt, tuple[bytes, bytes]] = {}  # to calls, with the envelope
        self.logs: defaultdict[tuple[Attempt, str], bytes] = defaultdict(bytes)
        self.swapped: dict[Digest, bytes] = {}  # what is served instead
        self._news = asyncio.Condition()
        self._route = b""
        self._twins = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        self._context = transport.new_context()
        keys = transport.CurveKeys(self.cast.coordinator.curve_public, self.cast.coordinator.curve_secret)
        self._doorkeeper = transport.Doorkeeper(self._context, self.cast.roster.admitted)

        def listen(take: Callable[[list[transport.Delivery]], None]) -> transport.Link:
            return transport.listen(self._context, "tcp://127.0.0.1:0", keys, self._doorkeeper, take)

        def listen_for_blobs(take: Callable[[list[transport.Delivery]], None]) -> transport.Link:
            return transport.listen(
                self._context,
                "tcp://127.0.0.1:0",
                keys,
                self._doorkeeper,
                take,
                frame_bytes_max=transport.BLOB_FRAME_BYTES_MAX,
            )

        self._blobs = BlobServer(
            listen_for_blobs, self.store, may_read=lambda *_: True, may_write=lambda *_: True
        )
        self._lies = Channel(listen_for_blobs, self._lie)
        self._channel = Channel(listen, self._receive)
        self.endpoint = self._channel.endpoint

    def close(self) -> None:
        self._channel.close()
        self._blobs.close()
        self._lies.close()
        self._doorkeeper.close()
        self._context.destroy(linger=0)

    # -- what it makes

    def put(self, content: bytes, name: str) -> FileRef:
        return FileRef(name, self.store.put_bytes(content), len(content))

    def parcel(self, inputs: Sequence[str] = tuple(INPUTS), **other: Any) -> Parcel:
        """A true job of the submitter, in every field but `other`; its blobs are here."""
        leaves = [encode_leaf(Leaf(index, self.put(INPUTS[name], name))) for index, name in enumerate(inputs)]
        script = self.put(SCRIPT, "canary.py")
        known = {"script": script, "arguments": ("argument",), "limits": Limits(seconds=60, memory_bytes=GIB)}
        manifest = self.cast.manifest(leaves, time.time(), **{**known, **other})
        return Parcel(seal_job(manifest, self.cast.submitter), leaves)

    # -- what it says

    async def send(self, message: Message, *payload: bytes) -> None:
        if not self._route:
            await self.until(lambda: bool(self._route))
        self._channel.send(message, *payload, route=self._route)

    async def offer(self, parcel: Parcel, *riders: bytes, envelope: bytes | None = None) -> None:
        """The job's manifest, or another envelope under its name."""
        await self.send(
            JobSpec(job=parcel.id), parcel.job.envelope if envelope is None else envelope, pack_parts(riders)
        )

    async def assign(
        self, parcel: Parcel, run: Run, leaves: list[bytes] | None = None, proof: list[bytes] | None = None
    ) -> None:
        """Tasks of the job with their true leaves and proof, or with others."""
        leaves = parcel.leaves[run.start : run.stop] if leaves is None else leaves
        proof = parcel.tree.prove(run.start, run.stop) if proof is None else proof
        await self.send(RunTasks(runs=(run,)), pack_parts(leaves), pack_parts([pack_parts(proof)]), b"")

    async def twin(self) -> bytes:
        """A harmless job, run to its end: all that was said before it has been dealt with. What its task wrote."""
        return self.canary(await self.ended_twin())

    async def ended_twin(self) -> tuple[TaskDone, bytes, bytes | None]:
        """A harmless job, run to its end, however that is."""
        self._twins += 1
        parcel = self.parcel(["a.txt"], nonce=b"twin %d" % self._twins)
        await self.offer(parcel)
        await self.assign(parcel, parcel.run(0, 1))
        return await self.ended(parcel.run(0, 1))

    # -- what it heard

    async def until(self, true: Callable[[], bool]) -> None:
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(true), ARRIVES_S)

    async def ended(self, run: Run) -> tuple[TaskDone, bytes, bytes | None]:
        """How the first attempt of the run ended, with its envelope and archive."""
        attempt = run.attempts()[0]
        await self.until(lambda: attempt in self.done)
        return self.done[attempt]

    def canary(self, ended: tuple[TaskDone, bytes, bytes | None]) -> bytes:
        """What the script wrote, taken from an archive whose signature holds."""
        done, envelope, archive = ended
        assert done.outcome is Outcome.SUCCEEDED, done
        assert archive is not None
        [body] = open_results(envelope, self.cast.roster)
        assert body.archive == done.archive
        path = self.store.folder / "result.zip"
        path.write_bytes(archive)
        with open_archive(path) as opened:
            return opened.read("canary", 1000)

    def started(self, job: JobId) -> list[Run]:
        return [
            run
            for message in self.heard
            if isinstance(message, TasksStarted)
            for run in message.runs
            if run.job == job
        ]

    # -- the shell

    def welcome(self) -> Welcome:
        endpoint = self._lies.endpoint if self.swapped else self._blobs.endpoint
        return Welcome(
            protocol=PROTOCOL,
            software="0",
            name=AgentId("attic"),
            coordinator=self.cast.coordinator.id,
            lease=LEASE,
            heartbeat_s=0.5,
            lease_s=15,
            clock=time.time(),
            blob_endpoint=f"tcp://*:{endpoint.rpartition(':')[2]}",
        )

    def _receive(self, batch: list[Received]) -> None:
        for received in batch:
            message = received.message
            self.heard.append(message)
            match message:
                case Hello():
                    self._route = received.route
                    self._channel.send(self.welcome(), self.cast.roster.envelope, route=self._route)
                case Heartbeat():
                    self._channel.send(HeartbeatSeen(), route=self._route)
                case LogChunk(attempt=attempt, stream=stream):
                    self.logs[attempt, stream] += received.payload[0]
                case TasksDone(tasks=tasks):
                    self._keep(tasks, *received.payload)
                case CallsAnswered(runs=runs):
                    packed, envelope = unpack_parts(received.payload[0], part_bytes_max=1 << 20)
                    attempts = [attempt for run in runs for attempt in run.attempts()]
                    self.answers.update(dict.fromkeys(attempts, (packed, envelope)))
                    self._channel.send(TasksCommitted(attempts=tuple(attempts)), route=self._route)
                case _:
                    pass
        task = asyncio.get_running_loop().create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _keep(self, tasks: tuple[TaskDone, ...], envelopes: bytes, archives: bytes) -> None:
        inline = iter(unpack_parts(archives, part_bytes_max=1 << 20))
        for done, envelope in zip(tasks, unpack_parts(envelopes, part_bytes_max=1 << 20), strict=True):
            self.done[done.attempt] = (done, envelope, next(inline) if done.inline else None)
        message = TasksCommitted(attempts=tuple(done.attempt for done in tasks))
        self._channel.send(message, route=self._route)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def _lie(self, batch: list[Received]) -> None:
        for received in batch:
            if isinstance(asked := received.message, GetBlob):
                content = self.swapped.get(asked.digest) or self.store.path(asked.digest).read_bytes()
                chunk = BlobChunk(digest=asked.digest, offset=asked.offset, size=len(content))
                part = content[asked.offset : asked.offset + CHUNK_BYTES]
                self._lies.send(chunk, part, route=received.route)


@contextlib.asynccontextmanager
async def lent(coordinator: FalseCoordinator, box: Box, folder: Path) -> AsyncIterator[Service]:
    """A real agent that has dialled in."""
    coordinator.open()
    service = Service(
        coordinator.cast.grid(coordinator.cast.agent),
        coordinator.endpoint,
        folder / "agent",
        name="attic",
        offer=Offer(slots=2, memory_bytes=4 * GIB, sandbox=box.level),
        limits=Limits(),
        rules=RulesFile(folder / "rules.toml", Rule()),
        box=box,
    )
    serving = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        service.stop()
        await asyncio.wait_for(serving, ARRIVES_S)
        coordinator.close()
