"""A coordinator that lies to a client: nothing that an agent of the grid did not sign for that task is accepted or written."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from discogrid import transport
from discogrid.archive import ArchiveWriter
from discogrid.blobs import BlobStore
from discogrid.bundle import Job, ResultBody, job_id_candidates, seal_result
from discogrid.channel import Channel, Received
from discogrid.client import AsyncClient
from discogrid.download import Download, Wish
from discogrid.errors import DiscogridError, IntegrityError, SignatureRefused
from discogrid.keys import Identity
from discogrid.messages import (
    PROTOCOL,
    BlobsMissing,
    GetJob,
    GetResults,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    JobAccepted,
    JobContent,
    Message,
    Results,
    SubmitJob,
    Welcome,
)
from discogrid.submission import Submission, prepare
from discogrid.transfer import BlobServer
from discogrid.types import (
    GIB,
    AgentId,
    Attempt,
    Counts,
    Digest,
    FileRef,
    JobId,
    JobState,
    SandboxLevel,
    TaskState,
)
from discogrid.views import JobView, TaskView
from discogrid.wire import pack_parts
from tests.trust.forge import Cast, body_of, cast, digest_of, leaves_of

SMALL, LARGE = b"small output", b"large output" * 20_000


@dataclass(frozen=True)
class Made:
    """What an agent has made of a task: its archive and what it says of it."""

    archive: bytes
    body: ResultBody
    envelope: bytes


@dataclass
class Liar:
    """A coordinator with the real CURVE key. It answers truly, but for what `twist` makes of an answer."""

    cast: Cast
    folder: Path
    twist: Callable[[Message, list[bytes]], tuple[Message, list[bytes]]] = lambda message, payload: (
        message,
        payload,
    )
    heard: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.leaves = leaves_of("a.txt", "b.txt")
        self.job = self.cast.job(self.leaves, time.time())
        self.id = job_id_candidates(self.job.digest)[0]
        self.store = BlobStore(self.folder / "blobs", GIB)
        self.made = {0: self.make(0, SMALL), 1: self.make(1, LARGE)}
        self.served = self.store.put_bytes(self.made[1].archive)

    def make(self, index: int, output: bytes, *, job: Job | None = None, **other: Any) -> Made:
        path = self.folder / "made.zip"
        with ArchiveWriter(path) as writer:
            writer.add_bytes("out.txt", output)
            writer.close()
        archive = path.read_bytes()
        path.unlink()
        agent = self.cast.agent
        outputs = (FileRef("out.txt", digest_of(output), len(output)),)
        attempt = Attempt(self.id, index, 1, 7)
        body = body_of(job or self.job, attempt, agent, archive, **{"outputs": outputs, **other})
        return Made(archive, body, seal_result(body, agent))

    def view(self) -> JobView:
        return JobView(
            id=self.id,
            name="job",
            state=JobState.SUCCEEDED,
            counts=Counts(done=2),
            submitter=self.cast.submitter.id,
            script="script.py",
            created=0.0,
            digest=self.job.digest,
        )

    def task(self, index: int) -> TaskView:
        return TaskView(self.id, index, TaskState.DONE, archive=self.made[index].body.archive)

    def open(self) -> str:
        self._context = transport.new_context()
        keys = transport.CurveKeys(self.cast.coordinator.curve_public, self.cast.coordinator.curve_secret)
        self._doorkeeper = transport.Doorkeeper(self._context, self.cast.roster.admitted)

        def listen(limit: int) -> Callable[[Callable[[list[transport.Delivery]], None]], transport.Link]:
            return lambda take: transport.listen(
                self._context, "tcp://127.0.0.1:0", keys, self._doorkeeper, take, frame_bytes_max=limit
            )

        self._blobs = BlobServer(
            listen(transport.BLOB_FRAME_BYTES_MAX),
            self.store,
            may_read=lambda *_: True,
            may_write=lambda *_: True,
        )
        self._channel = Channel(listen(transport.CONTROL_FRAME_BYTES_MAX), self._receive)
        return self._channel.endpoint

    def close(self) -> None:
        self._channel.close()
        self._blobs.close()
        self._doorkeeper.close()
        self._context.destroy(linger=0)

    def _receive(self, batch: list[Received]) -> None:
        for received in batch:
            self.heard.append(received.message)
            if (answer := self._answer(received.message)) is not None:
                message, payload = self.twist(*answer)
                self._channel.send(message, *payload, route=received.route)

    def _answer(self, message: Message) -> tuple[Message, list[bytes]] | None:
        match message:
            case Hello():
                welcome = Welcome(
                    protocol=PROTOCOL,
                    software="0",
                    name=AgentId("me"),
                    coordinator=self.cast.coordinator.id,
                    lease=7,
                    heartbeat_s=2.0,
                    lease_s=15.0,
                    clock=time.time(),
                    blob_endpoint=f"tcp://*:{self._blobs.endpoint.rpartition(':')[2]}",
                )
                return welcome, [self.cast.roster.envelope]
            case Heartbeat():
                return HeartbeatSeen(), []
            case SubmitJob(request=request):
                return JobAccepted(request=request, job=JobId("")), []
            case GetJob(request=request, job=job):
                return JobContent(request=request, job=job), [self.job.envelope, pack_parts(self.leaves)]
            case GetResults(request=request, job=job, indices=indices):
                made = [self.made[index] for index in indices]
                archives = [one.archive if len(one.archive) < 10_000 else b"" for one in made]
                answer = Results(request=request, job=job, indices=indices)
                return answer, [pack_parts(one.envelope for one in made), pack_parts(archives)]
            case _:
                return None


@pytest.fixture
def liar(tmp_path: Path) -> Liar:
    return Liar(cast(), tmp_path / "coordinator")


@contextlib.asynccontextmanager
async def client_of(liar: Liar) -> AsyncIterator[AsyncClient]:
    try:
        grid = liar.cast.grid(liar.cast.submitter, liar.open())
        async with AsyncClient(grid) as client:
            yield client
    finally:
        liar.close()


async def download(liar: Liar, folder: Path) -> Path:
    """Everything of the job, as `discogrid get` does."""
    async with client_of(liar) as client:
        job = liar.view()
        wanted = await Download.begin(client, job, Wish(folder=folder))
        try:
            wanted.add([liar.task(0), liar.task(1)])
            return await wanted.finish(job)
        finally:
            await wanted.close()


async def refused(liar: Liar, folder: Path, kind: type[DiscogridError] = IntegrityError) -> None:
    """The download ends with this error and leaves no archive and no output."""
    try:
        await download(liar, folder)
    except* kind:
        pass
    else:
        pytest.fail("a lie was believed")
    assert not lies_in(folder, liar)


def lies_in(folder: Path, liar: Liar) -> list[Path]:
    """What was written that is not the first task's true result."""
    true = {f"{liar.id}-000.zip": liar.made[0].archive, f"{liar.id}-000.sig": liar.made[0].envelope}
    written = [path for path in folder.rglob("*") if path.is_file() and path.name != "job.json"]
    return [path for path in written if path.read_bytes() != true.get(path.name)]


def results(liar: Liar, place: int, made: Made) -> None:
    """Answer with something else for one task; its archive comes along when it is small."""

    def twist(message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]]:
        if isinstance(message, Results):
            chosen = [made if index == place else liar.made[index] for index in message.indices]
            archives = [one.archive if len(one.archive) < 10_000 else b"" for one in chosen]
            return message, [pack_parts(one.envelope for one in chosen), pack_parts(archives)]
        return message, payload

    liar.twist = twist


async def test_true_results_are_kept_as_they_were_signed(liar: Liar, tmp_path: Path) -> None:
    folder = await download(liar, tmp_path / "out")
    for index in (0, 1):
        kept = folder / "results" / f"{liar.id}-00{index}.zip"
        assert kept.read_bytes() == liar.made[index].archive
        assert kept.with_suffix(".sig").read_bytes() == liar.made[index].envelope
    assert (folder / "output" / "out-000.txt").read_bytes() == SMALL
    assert (folder / "output" / "out-001.txt").read_bytes() == LARGE


async def test_another_small_archive_is_refused(liar: Liar, tmp_path: Path) -> None:
    results(liar, 0, Made(liar.make(0, b"other output").archive, liar.made[0].body, liar.made[0].envelope))
    await refused(liar, tmp_path / "out")


async def test_another_large_archive_is_refused(liar: Liar, tmp_path: Path) -> None:
    place = liar.store.path(liar.served)
    place.chmod(0o600)
    place.write_bytes(liar.make(1, LARGE[::-1]).archive)
    await refused(liar, tmp_path / "out", DiscogridError)


async def test_a_result_of_another_job_is_refused(liar: Liar, tmp_path: Path) -> None:
    other = liar.cast.job(liar.leaves, time.time(), name="other")
    results(liar, 0, liar.make(0, SMALL, job=other))
    await refused(liar, tmp_path / "out")


async def test_a_result_of_another_task_is_refused(liar: Liar, tmp_path: Path) -> None:
    results(liar, 0, liar.make(1, SMALL))
    await refused(liar, tmp_path / "out")


@pytest.mark.parametrize("who", ["submitter", "coordinator", "owner"])
async def test_a_result_that_no_agent_signed_is_refused(liar: Liar, tmp_path: Path, who: str) -> None:
    signer: Identity = getattr(liar.cast, who)
    for named in (signer, liar.cast.agent):
        made = liar.make(0, b"false output", agent=named.id)
        results(liar, 0, Made(made.archive, made.body, seal_result(made.body, signer)))
        await refused(liar, tmp_path / f"out-{named.id[:4]}", SignatureRefused)


async def test_a_result_from_a_weaker_box_than_the_job_demands_is_refused(liar: Liar, tmp_path: Path) -> None:
    results(liar, 0, liar.make(0, SMALL, sandbox=SandboxLevel.CONFINED))
    await refused(liar, tmp_path / "out")


async def test_a_result_in_another_agent_s_name_is_refused(liar: Liar, tmp_path: Path) -> None:
    made = liar.make(0, b"false output", agent=liar.cast.agent.id)
    results(liar, 0, Made(made.archive, made.body, seal_result(made.body, liar.cast.other_agent)))
    await refused(liar, tmp_path / "out", SignatureRefused)


async def test_a_result_with_one_flipped_bit_is_refused(liar: Liar, tmp_path: Path) -> None:
    for at in (5, 60, 200, -1):
        envelope = bytearray(liar.made[0].envelope)
        envelope[at] ^= 1
        results(liar, 0, Made(liar.made[0].archive, liar.made[0].body, bytes(envelope)))
        await refused(liar, tmp_path / f"out{at}", SignatureRefused)


async def test_results_nobody_asked_for_are_refused(liar: Liar) -> None:
    def twist(message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]]:
        if isinstance(message, Results):
            both = [liar.made[0], liar.made[1]]
            message = Results(request=message.request, job=message.job, indices=(0, 1))
            return message, [pack_parts(one.envelope for one in both), pack_parts([SMALL, b""])]
        return message, payload

    liar.twist = twist
    async with client_of(liar) as client:
        with pytest.raises(IntegrityError, match="asked"):
            await client.results(liar.id, [1])


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_results_that_are_not_as_many_as_they_say_are_refused(liar: Liar, count: int) -> None:
    def twist(message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]]:
        if isinstance(message, Results):
            return message, [pack_parts([liar.made[0].envelope] * count), payload[1]]
        return message, payload

    liar.twist = twist
    async with client_of(liar) as client:
        with pytest.raises(IntegrityError):
            await client.results(liar.id, [0, 1])


# The job itself.


def content(liar: Liar, envelope: bytes, leaves: list[bytes]) -> None:
    def twist(message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]]:
        return (
            (message, [envelope, pack_parts(leaves)])
            if isinstance(message, JobContent)
            else (message, payload)
        )

    liar.twist = twist


async def test_another_job_than_the_one_asked_for_is_refused(liar: Liar, tmp_path: Path) -> None:
    other = liar.cast.job(liar.leaves, time.time(), name="other")
    content(liar, other.envelope, liar.leaves)
    await refused(liar, tmp_path / "out")
    assert not (tmp_path / "out").exists()


async def test_other_tasks_than_the_signed_ones_are_refused(liar: Liar, tmp_path: Path) -> None:
    content(liar, liar.job.envelope, liar.leaves[::-1])
    await refused(liar, tmp_path / "out", SignatureRefused)
    assert not (tmp_path / "out").exists()


# Submitting.


async def test_an_id_of_another_job_is_refused(liar: Liar, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("pass")
    grid = liar.cast.grid(liar.cast.submitter)
    prepared = prepare(Submission(script=tmp_path / "script.py"), grid, tmp_path, time.time())
    own = job_id_candidates(prepared.job.digest)[0]
    for answer, believed in ((liar.id, False), (own[:3], False), (own, True)):
        liar.twist = lambda message, payload, answer=answer: (  # type: ignore[misc]
            (JobAccepted(request=message.request, job=JobId(answer)), [])
            if isinstance(message, JobAccepted)
            else (message, payload)
        )
        async with client_of(liar) as client:
            if believed:
                assert await client.submit(prepared) == own
            else:
                with pytest.raises(IntegrityError, match="another job"):
                    await client.submit(prepared)


async def test_files_that_do_not_belong_to_the_job_are_not_sent(liar: Liar, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("pass")
    grid = liar.cast.grid(liar.cast.submitter)
    prepared = prepare(Submission(script=tmp_path / "script.py"), grid, tmp_path, time.time())
    secret = digest_of(b"the owner's secret file")

    def twist(message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]]:
        if isinstance(message, JobAccepted):
            script = Digest(prepared.job.manifest.script.digest)
            return BlobsMissing(request=message.request, digests=(script, secret)), []
        return message, payload

    liar.twist = twist
    async with client_of(liar) as client:
        with pytest.raises(IntegrityError, match="do not belong"):
            await client.submit(prepared)
    assert not liar.store.has(prepared.job.manifest.script.digest)


async def test_the_job_that_was_submitted_is_not_exchanged_for_one_of_the_same_id(
    liar: Liar, tmp_path: Path
) -> None:
    """A short id is the beginning of many digests; who has submitted knows the whole one."""
    (tmp_path / "script.py").write_text("pass")
    grid = liar.cast.grid(liar.cast.submitter)
    prepared = prepare(Submission(script=tmp_path / "script.py"), grid, tmp_path, time.time())
    own = job_id_candidates(prepared.job.digest)[0]

    def twist(message: Message, payload: list[bytes]) -> tuple[Message, list[bytes]]:
        if isinstance(message, JobAccepted):
            return JobAccepted(request=message.request, job=own), []
        return message, payload

    liar.twist = twist
    number = 0
    while job_id_candidates(liar.job.digest)[0][:2] != own[:2]:
        number += 1
        liar.job = liar.cast.job(liar.leaves, time.time(), nonce=number.to_bytes(8))
    async with client_of(liar) as client:
        await client.submit(prepared)
        with pytest.MonkeyPatch.context() as patch:
            # 20 bits of likeness take a minute to find; ten are enough to show that the rest is compared.
            patch.setattr(
                "discogrid.client.is_id_of", lambda job, digest: job_id_candidates(digest)[0][:2] == job[:2]
            )
            with pytest.raises(IntegrityError, match="two different jobs"):
                await client.content(own)


async def test_a_silent_coordinator_is_named_after_the_time_to_connect(
    liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discogrid.session.CONNECT_S", 0.2)
    monkeypatch.setattr(liar, "_answer", lambda _: None)
    with pytest.raises(DiscogridError, match="did not answer"):
        async with client_of(liar):
            pass
