"""A job of as many inputs as one may have, with names as long as they may be: over a real socket, and proven by an agent."""

import time
from pathlib import Path

import pytest

from discogrid.blobs import digest_of
from discogrid.bundle import NAME_BYTES_MAX, TASKS_MAX, Job, Leaf, encode_leaf
from discogrid.errors import SignatureRefused
from discogrid.messages import BlobsMissing, JobAccepted, JobSpec, Refused, RunTasks, SubmitJob, Welcome
from discogrid.transfer import pack_small
from discogrid.types import FileRef, JobId, Limits, Role, Run, SandboxLevel
from discogrid.wire import PACKED_BYTES_MAX, pack_parts
from discogrid_agent.shelf import Shelf
from tests.coordinator.house import House, hello, serving
from tests.trust.forge import Cast, cast

SCRIPT, CONTENT = b"print('hello')", b"the same in all of them"
RANGE = 512
FILE_SIZE = len(CONTENT)


@pytest.fixture(scope="module")
def grid() -> Cast:
    return cast()


@pytest.fixture(scope="module")
def leaves() -> list[bytes]:
    digest = digest_of(CONTENT)
    names = (f"{index:06}".rjust(NAME_BYTES_MAX, "n") for index in range(TASKS_MAX))
    return [encode_leaf(Leaf(index, FileRef(name, digest, FILE_SIZE))) for index, name in enumerate(names)]


@pytest.fixture(scope="module")
def job(grid: Cast, leaves: list[bytes]) -> Job:
    script = FileRef("script.py", digest_of(SCRIPT), len(SCRIPT))
    return grid.job(leaves, time.time(), script=script)


def riders(job: Job) -> bytes:
    contents = {digest_of(content): content for content in (SCRIPT, CONTENT)}
    files = [job.manifest.script, FileRef("input", digest_of(CONTENT), FILE_SIZE)]
    return pack_small(files, lambda file: contents[file.digest])


def swapped(leaves: list[bytes], at: int) -> list[bytes]:
    """One leaf says that another file is its input."""
    changed = list(leaves)
    changed[at] = changed[at].replace(b"nnn", b"nnm", 1)
    assert changed[at] != leaves[at]
    return changed


async def submitted(house: House, grid: Cast, job: Job, leaves: list[bytes]) -> JobId | Refused:
    client = house.caller(grid.submitter)
    await client.ask(hello(Role.SUBMITTER), Welcome)
    packed = pack_parts(leaves)
    assert len(packed) <= PACKED_BYTES_MAX
    client.send(SubmitJob(request=1), job.envelope, packed, riders(job))
    received = await client.next(JobAccepted | BlobsMissing | Refused)  # type: ignore[arg-type]
    match received.message:
        case JobAccepted(job=id_):
            return id_
        case Refused() as refused:
            return refused
    raise AssertionError(f"{received.message}")


async def test_the_largest_job_is_taken_in_and_every_range_of_it_proven_by_an_agent(
    grid: Cast, job: Job, leaves: list[bytes], tmp_path: Path
) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        agent = house.caller(grid.agent)
        await agent.ask(hello(Role.AGENT), Welcome)
        id_ = await submitted(house, grid, job, leaves)
        assert not isinstance(id_, Refused)
        shelf = Shelf(
            tmp_path / "mounts",
            grid.keeper,
            grid.coordinator.id,
            Limits(),
            SandboxLevel.STRICT,
            grid.agent.id,
        )
        spec = await agent.next(JobSpec)
        shelf.put(id_, spec.payload[0], job.manifest.issued)
        sent = await agent.next(RunTasks)
        assert isinstance(sent.message, RunTasks)
        now = job.manifest.issued
        assert all(
            isinstance(tasks, list)
            for tasks in shelf.check(sent.message.runs, sent.payload[0], sent.payload[1], now).values()
        )
        accepted = house.server._engine.intake.get(id_)
        assert accepted is not None
        proven = 0
        for start in range(0, TASKS_MAX, RANGE):
            run = Run(id_, start, min(TASKS_MAX, start + RANGE), 1, 7)
            some, proof = accepted.parcel(run.start, run.stop)
            tasks = shelf.check([run], pack_parts(some), pack_parts([proof]), now)[run]
            assert not isinstance(tasks, SignatureRefused)
            proven += len(tasks)
            if start == RANGE * 7:
                false = shelf.check([run], pack_parts(swapped(some, 5)), pack_parts([proof]), now)[run]
                assert isinstance(false, SignatureRefused)
        assert proven == TASKS_MAX


async def test_the_largest_job_with_one_task_exchanged_is_refused(
    grid: Cast, job: Job, leaves: list[bytes], tmp_path: Path
) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        answer = await submitted(house, grid, job, swapped(leaves, 77_777))
        assert isinstance(answer, Refused)
        assert answer.code == "signature"
        assert not house.server._engine.books.jobs()
