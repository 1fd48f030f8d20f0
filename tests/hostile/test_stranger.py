"""Somebody on the network who knows where the coordinator is, and its public key, but is no member of the grid."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from discogrid import places, transport
from discogrid.blobs import BlobStore
from discogrid.client import AsyncClient
from discogrid.errors import BlobError, GridError
from discogrid.grid import HOME, Grid, open_grid
from discogrid.messages import (
    Answer,
    GetBlob,
    Heartbeat,
    OfferBlob,
    Query,
    Resync,
    SubmitJob,
    TasksDone,
    Welcome,
)
from discogrid.transfer import BlobClient, Patience
from discogrid.trust.keeper import RosterKeeper
from discogrid.types import GIB, Role
from tests.coordinator.house import hello, prepared, serving
from tests.trust.forge import cast
from tests.trust.forge import member as member_entry


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    """Another user's own keys and grid, in another home."""
    monkeypatch.setenv(places.HOME_VARIABLE, str(tmp_path / "stranger"))
    return open_grid(HOME)


async def test_a_stranger_gets_no_answer_and_disturbs_nothing(
    stranger: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = cast()
    monkeypatch.setattr("discogrid.session.CONNECT_S", 0.5)
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = house.caller(stranger.identity)
        async with AsyncClient(grid.grid(grid.submitter, house.endpoint)) as member:
            for message in (
                hello(Role.SUBMITTER),
                hello(Role.AGENT),
                Heartbeat(),
                Query(request=1, what="jobs"),
                SubmitJob(request=2),
                TasksDone(tasks=()),
                GetBlob(digest=prepared(grid, tmp_path / "job").job.digest),
            ):
                caller.send(message)
            # As a member would, with the coordinator's true key: only its own is known to nobody but itself.
            members = (*grid.roster.body.members, member_entry(stranger.identity))
            body = msgspec.structs.replace(grid.roster.body, members=members)
            believed = RosterKeeper(replace(grid.roster, body=body))
            false = Grid("home", stranger.identity, believed, house.endpoint)
            with pytest.raises(GridError, match="did not answer"):
                async with AsyncClient(false):
                    pass
            job = await member.submit(prepared(grid, tmp_path / "job"))
            assert [view.id for view in await member.jobs()] == [job]
            assert await member.agents() == []
        assert caller.heard == []


async def test_a_stranger_gets_and_gives_no_blob(stranger: Grid, tmp_path: Path) -> None:
    grid = cast()
    job = prepared(grid, tmp_path / "job")
    script = job.job.manifest.script
    impatient = Patience(first_s=0.2, longest_s=0.2, tries=1)
    async with serving(grid, tmp_path / "coordinator") as house:
        async with AsyncClient(grid.grid(grid.submitter, house.endpoint)) as member:
            await member.submit(job)
            assert member.welcome is not None
            where = transport.dialled(member.welcome.blob_endpoint, house.endpoint)
        context = transport.new_context()

        def blobs(of: Grid, folder: str) -> BlobClient:
            keys = transport.CurveKeys(of.identity.curve_public, of.identity.curve_secret)
            return BlobClient(
                lambda take: transport.dial(
                    context,
                    where,
                    keys,
                    grid.coordinator.curve_public,
                    take,
                    frame_bytes_max=transport.BLOB_FRAME_BYTES_MAX,
                ),
                BlobStore(tmp_path / folder, GIB),
                patience=impatient,
            )

        theirs, ours = blobs(stranger, "theirs"), blobs(grid.grid(grid.submitter), "ours")
        with pytest.raises(BlobError):
            await theirs.get(script.digest, script.size)
        with pytest.raises(BlobError):
            await theirs.put(b"unwanted", BlobStore(tmp_path / "x", GIB).put_bytes(b"unwanted"), 8)
        await ours.get(script.digest, script.size)
        assert BlobStore(tmp_path / "ours", GIB).path(script.digest).read_bytes() == b"print('hello')"
        theirs.close()
        ours.close()
        context.destroy(linger=0)


async def test_many_strangers_do_not_keep_a_member_out(stranger: Grid, tmp_path: Path) -> None:
    grid = cast()
    async with serving(grid, tmp_path / "coordinator") as house:
        for _ in range(50):
            house.caller(stranger.identity).send(hello(Role.AGENT))
        caller = house.caller(grid.submitter)
        await caller.ask(hello(Role.SUBMITTER), Welcome)
        assert await caller.ask(Query(request=7, what="jobs"), Answer) == Answer(request=7)


async def test_a_member_is_asked_for_its_name_before_anything_else(tmp_path: Path) -> None:
    grid = cast()
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = house.caller(grid.agent)
        for message in (
            Heartbeat(),
            TasksDone(tasks=()),
            Query(request=1, what="jobs"),
            OfferBlob(digest=prepared(grid, tmp_path / "j").job.digest, size=1),
        ):
            assert isinstance(await caller.ask(message, Resync), Resync)
        assert isinstance(await caller.ask(hello(Role.AGENT), Welcome), Welcome)
