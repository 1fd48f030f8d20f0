"""The shell around it all: addresses, a journal that fails, one bad message among good ones, a restart under a client."""

import asyncio
import contextlib
import errno
import os
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from discogrid import session, silence
from discogrid.bundle import kind_of
from discogrid.client import AsyncClient
from discogrid.errors import BlobError, DiscogridError, GridError, InputError
from discogrid.messages import (
    Act,
    Answer,
    BlobsMissing,
    JobAccepted,
    Query,
    SubmitJob,
    TellRunTimes,
    Watch,
    Welcome,
)
from discogrid.types import JobId, Role
from discogrid.wire import pack_parts
from discogrid_coordinator.client_desk import ClientDesk
from discogrid_coordinator.journal import Journal
from tests.coordinator.house import ARRIVES_S, hello, prepared, serving
from tests.trust.forge import Cast, cast, digest_of

MANY = 20_000  # rows


@pytest.fixture
def grid() -> Cast:
    return cast()


async def test_a_busy_address_is_an_error_that_leaves_nothing_open(grid: Cast, tmp_path: Path) -> None:
    async with serving(grid, tmp_path / "one") as house:
        with pytest.raises(DiscogridError, match="cannot listen"):
            async with serving(grid, tmp_path / "two", house.endpoint):
                pass
        async with AsyncClient(grid.grid(grid.submitter, house.endpoint)) as client:
            assert await client.jobs() == []
    async with serving(grid, tmp_path / "two"):
        pass


async def test_a_journal_of_another_version_is_an_error_that_leaves_nothing_open(
    grid: Cast, tmp_path: Path
) -> None:
    async with serving(grid, tmp_path):
        pass
    db = sqlite3.connect(tmp_path / "journal.sqlite")
    db.execute("pragma user_version = 99")
    db.close()
    with pytest.raises(DiscogridError, match="another version"):
        async with serving(grid, tmp_path):
            pass


@pytest.mark.parametrize("fails", ["add_job", "write", "full", "sync"])
async def test_a_coordinator_that_cannot_keep_what_it_is_told_ends_and_promises_nothing(
    grid: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    job = prepared(grid, tmp_path / "job")

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def until_it_ends() -> None:
        async with serving(grid, tmp_path / "coordinator") as house:
            caller = house.caller(grid.submitter)
            await caller.ask(hello(Role.SUBMITTER), Welcome)
            await caller.ask(SubmitJob(request=1), BlobsMissing, job.job.envelope, pack_parts(job.leaves))
            async with AsyncClient(grid.grid(grid.submitter, house.endpoint)) as client:
                await client._upload(job, tuple(job.files), lambda _: None)
            if fails == "full":  # as SQLite itself says it
                db = house.server._engine.journal._writer
                pages = db.execute("pragma page_count").fetchone()[0]
                db.execute(f"pragma max_page_count={pages}")
                for number in range(MANY):  # more than the pages there are can hold
                    house.server._engine.journal.learn("kind", str(number), 1.0)
            elif fails == "sync":
                monkeypatch.setattr(os, "fsync", unreadable)
            else:
                monkeypatch.setattr(Journal, fails, broken)
            caller.send(SubmitJob(request=2), job.job.envelope, pack_parts(job.leaves))
            async with asyncio.timeout(ARRIVES_S):
                await house.server._stopping.wait()
            monkeypatch.undo()
            assert [received for received in caller.heard if isinstance(received.message, JobAccepted)] == []

    with pytest.raises(DiscogridError, match=r"the journal cannot be written: .*(full|I/O|Input)"):
        await until_it_ends()
    async with (
        serving(grid, tmp_path / "coordinator") as house,
        AsyncClient(grid.grid(grid.submitter, house.endpoint)) as client,
    ):
        assert await client.jobs() == []
        id_ = await client.submit(job)
        assert [view.id for view in await client.jobs()] == [id_]


async def test_one_message_that_cannot_be_dealt_with_takes_no_other_with_it(
    grid: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(grid, tmp_path) as house:
        caller = house.caller(grid.submitter)
        await caller.ask(hello(Role.SUBMITTER), Welcome)

        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(ClientDesk, "_act", broken)
        monkeypatch.setattr(ClientDesk, "_watch", broken)
        caller.send(Act(request=1, what="cancel", job=JobId("k3f9")))
        caller.send(Watch(request=2))
        assert (await caller.ask(Query(request=3, what="jobs"), Answer)).request == 3
    assert "a bug" in caplog.text


async def test_a_client_goes_on_with_a_coordinator_that_has_come_back(grid: Cast, tmp_path: Path) -> None:
    job = prepared(grid, tmp_path / "job", inputs=3)
    async with serving(grid, tmp_path / "coordinator") as house:
        endpoint = house.endpoint
        async with AsyncClient(grid.grid(grid.submitter, endpoint)) as client:
            id_ = await client.submit(job)
    async with (
        serving(grid, tmp_path / "coordinator", endpoint),
        AsyncClient(grid.grid(grid.submitter, endpoint)) as client,
    ):
        assert await client.submit(job) == id_
        opened, leaves = await client.content(id_)
        assert opened == job.job
        assert leaves == job.leaves
        assert await client.inputs(id_) == ["in0.txt", "in1.txt", "in2.txt"]


async def test_what_is_missing_is_asked_for_until_it_is_there(grid: Cast, tmp_path: Path) -> None:
    job = prepared(grid, tmp_path / "job", inputs=2)
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = house.caller(grid.submitter)
        await caller.ask(hello(Role.SUBMITTER), Welcome)
        caller.send(SubmitJob(request=1), job.job.envelope, pack_parts(job.leaves))
        missing = (await caller.next(BlobsMissing)).message
        assert isinstance(missing, BlobsMissing)
        assert set(missing.digests) == set(job.files)


async def test_a_job_too_large_for_one_message_is_refused_before_it_is_sent(
    grid: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = prepared(grid, tmp_path / "job", inputs=3)
    async with (
        serving(grid, tmp_path / "coordinator") as house,
        AsyncClient(grid.grid(grid.submitter, house.endpoint)) as client,
    ):
        size = len(pack_parts(job.leaves))
        monkeypatch.setattr("discogrid.client.PACKED_BYTES_MAX", size - 1)
        with pytest.raises(InputError, match="several jobs"):
            await client.submit(job)
        monkeypatch.setattr("discogrid.client.PACKED_BYTES_MAX", size)
        assert await client.submit(job)


async def test_nobody_at_the_address_is_an_error_after_the_time_to_connect(
    grid: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discogrid.session.CONNECT_S", 0.2)
    with pytest.raises(GridError) as caught:
        async with AsyncClient(grid.grid(grid.submitter, "tcp://127.0.0.1:9")):
            pass
    assert "discogrid up" in caught.value.fix
    assert caught.value.exit_code == 3


async def test_a_client_in_a_role_it_has_not_is_told_so(grid: Cast, tmp_path: Path) -> None:
    async with serving(grid, tmp_path) as house:
        with pytest.raises(GridError, match="no submitter"):
            async with AsyncClient(grid.grid(grid.agent, house.endpoint)):
                pass


async def test_what_is_asked_while_a_lost_coordinator_is_searched_for_is_not_waited_for_for_ever(
    grid: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said on a line that another one takes the place of; nobody else will say it again."""
    searching, asked = asyncio.Event(), asyncio.Event()

    async def search(*_: object) -> None:
        searching.set()
        await asked.wait()

    async def watch(client: AsyncClient) -> None:
        async with client.watch() as changes:
            async for _ in changes:
                pass

    monkeypatch.setattr(session, "moved_to", search)
    monkeypatch.setattr(silence, "SILENCE_S_MAX", 0.3)
    async with contextlib.AsyncExitStack() as leaving:
        async with serving(grid, tmp_path) as house:
            client = await leaving.enter_async_context(AsyncClient(grid.grid(grid.submitter, house.endpoint)))
        await asyncio.wait_for(searching.wait(), ARRIVES_S)
        watching = asyncio.create_task(watch(client))
        listing = asyncio.create_task(client.jobs())
        await asyncio.sleep(0)  # both have asked
        asked.set()
        for waiting in (watching, listing):
            with pytest.raises(GridError, match="gone"):
                await asyncio.wait_for(waiting, ARRIVES_S)


async def test_blobs_follow_a_coordinator_to_another_address(
    grid: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "remember", lambda *_: None)
    content = b"who would wait for an answer from where nobody is"
    async with (
        serving(grid, tmp_path) as house,
        AsyncClient(grid.grid(grid.submitter, house.endpoint)) as client,
    ):
        line = client._session
        before = line.blobs(None)
        assert line.blobs(None) is before
        line._dial_again(house.endpoint.replace("127.0.0.1", "localhost"))
        with pytest.raises(BlobError, match="closed"):
            await before.put(content, digest_of(content), len(content))
        assert line.blobs(None) is not before


async def test_durations_are_kept_for_jobs_of_the_kind_and_from_an_older_coordinator(
    grid: Cast, tmp_path: Path
) -> None:
    job = prepared(grid, tmp_path / "job", 3, run_times={"in1.txt": 7.0})
    kind = kind_of(job.job.manifest)
    async with (
        serving(grid, tmp_path / "coordinator") as house,
        AsyncClient(grid.grid(grid.submitter, house.endpoint)) as client,
    ):
        welcome = client._session.welcome
        assert welcome is not None
        client._session.welcome = replace(welcome, protocol=TellRunTimes.since - 1)
        await client.submit(job)
        assert house.server._engine.journal.durations(kind) == {}
        client._session.welcome = welcome
        await client.submit(job)
        assert list(house.server._engine.journal.durations(kind).values()) == [7.0]
