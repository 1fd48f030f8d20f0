"""Who may do what, on every message: a live roster, roles, other members' jobs, blobs and quotas; over real sockets."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discogrid import transport
from discogrid.blobs import BlobStore
from discogrid.bundle import seal_result
from discogrid.client import AsyncClient
from discogrid.envelope import seal
from discogrid.errors import BlobError, HandshakeRefused, QuotaExceeded, UsageError
from discogrid.keys import ROTATION_TYPE, Identity, new_identity
from discogrid.messages import (
    Answer,
    CancelTasks,
    Heartbeat,
    HeartbeatSeen,
    PublishRoster,
    Query,
    Refused,
    Resync,
    RosterPushed,
    RotateKeys,
    RunTasks,
    SubmitJob,
    TaskDone,
    TasksCommitted,
    TasksDiscarded,
    TasksDone,
    TasksStarted,
    Welcome,
)
from discogrid.session import ANSWER_S
from discogrid.submission import Prepared
from discogrid.transfer import BlobClient
from discogrid.transfer.client import Patience
from discogrid.trust.owner import Owner
from discogrid.trust.roster import Member, Revoked, open_roster
from discogrid.types import GIB, JobState, Outcome, Quotas, Role, Run, TaskState
from discogrid.wire import pack_parts
from tests.coordinator.house import Caller, House, hello, prepared, serving
from tests.trust.forge import Cast, body_of, digest_of, member, roster_envelope

IMPATIENT = Patience(first_s=0.2, longest_s=0.2, tries=1)


def newer(grid: Cast, *without: Identity, plus: tuple[Member, ...] = (), **other: Any) -> bytes:
    """The next roster of this grid's owner."""
    gone = {identity.id for identity in without}
    roster = grid.keeper.current
    members = [known for known in roster.body.members if known.id not in gone]
    revoked = tuple(Revoked(known, time.time()) for known in roster.body.members if known.id in gone)
    more = {"version": roster.version + 1, "revoked": revoked, **other}
    return roster_envelope(grid.owner, [*members, *plus], **more)


def client(grid: Cast, house: House, identity: Identity) -> AsyncClient:
    return AsyncClient(grid.grid(identity, house.endpoint))


async def let_in(house: House, identity: Identity, role: Role, **other: Any) -> Caller:
    caller = house.caller(identity)
    await caller.ask(hello(role, **other), Welcome)
    return caller


# Revocation.


async def test_a_revoked_agent_is_told_at_once_and_its_task_goes_to_another(
    grid: Cast, tmp_path: Path
) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        first = await let_in(house, grid.agent, Role.AGENT, slots=1)
        async with client(grid, house, grid.submitter) as submitter:
            job = await submitter.submit(prepared(grid, tmp_path / "job"))
            assert (await first.next(RunTasks)).message
            second = await let_in(house, grid.other_agent, Role.AGENT, slots=1, name="loft")
            grid.keeper.offer(newer(grid, grid.agent), time.time())
            refused = (await first.next(Refused)).message
            assert isinstance(refused, Refused)
            assert refused.code == "revoked"
            taken = (await second.next(RunTasks)).message
            assert isinstance(taken, RunTasks)
            assert taken.runs[0].job == job
            assert [agent.id for agent in await submitter.agents() if agent.state == "live"] == ["loft"]


async def given(agent: Caller) -> Run:
    """The first tasks that an agent is told to run."""
    message = (await agent.next(RunTasks)).message
    assert isinstance(message, RunTasks)
    return message.runs[0]


async def test_who_is_not_revoked_while_another_is_goes_on_undisturbed(grid: Cast, tmp_path: Path) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        gone = await let_in(house, grid.agent, Role.AGENT, slots=1)
        stays = await let_in(house, grid.other_agent, Role.AGENT, slots=1, name="loft")
        async with client(grid, house, grid.submitter) as submitter:
            made = prepared(grid, tmp_path / "job", inputs=2)
            job = await submitter.submit(made)
            runs = [await given(caller) for caller in (gone, stays)]
            for caller, run in zip((gone, stays), runs, strict=True):
                caller.send(TasksStarted(runs=(run,)))
            grid.keeper.offer(newer(grid, grid.agent), time.time())
            assert isinstance((await gone.next(Refused)).message, Refused)
            await stays.next(RosterPushed)
            [attempt] = runs[1].attempts()
            archive = b"an archive"
            envelope = seal_result(body_of(made.job, attempt, grid.other_agent, archive), grid.other_agent)
            done = TaskDone(
                attempt=attempt,
                outcome=Outcome.SUCCEEDED,
                exit=0,
                archive=digest_of(archive),
                archive_bytes=len(archive),
                inline=True,
            )
            stays.send(TasksDone(tasks=(done,)), pack_parts([envelope]), pack_parts([archive]))
            committed = await stays.next(TasksCommitted)
            assert committed.message == TasksCommitted(attempts=(attempt,))
            assert not [
                received
                for received in stays.passed
                if isinstance(received.message, Refused | Resync | CancelTasks | TasksDiscarded)
            ]
            assert (await submitter.tasks(job))[attempt.index].state is TaskState.DONE


async def test_what_a_revoked_node_says_next_is_refused_whatever_it_says(grid: Cast, tmp_path: Path) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        agent = await let_in(house, grid.agent, Role.AGENT)
        twin = await let_in(house, grid.other_agent, Role.AGENT, name="loft")
        grid.keeper.offer(newer(grid, grid.agent), time.time())
        await agent.next(Refused)
        assert isinstance((await twin.next(RosterPushed)).message, RosterPushed)
        assert await twin.ask(Heartbeat(), HeartbeatSeen)
        refused = await agent.ask(hello(Role.AGENT), Refused)
        assert refused.code == "role"


async def test_the_jobs_of_a_revoked_submitter_end_and_its_client_is_told(grid: Cast, tmp_path: Path) -> None:
    async with (
        serving(grid, tmp_path / "coordinator") as house,
        client(grid, house, grid.other_submitter) as other,
        client(grid, house, grid.submitter) as gone,
    ):
        theirs = await other.submit(prepared_by(grid, grid.other_submitter, tmp_path / "theirs"))
        mine = await gone.submit(prepared(grid, tmp_path / "job"))
        async with gone.watch() as changes:
            grid.keeper.offer(newer(grid, grid.submitter), time.time())
            with pytest.raises(HandshakeRefused, match="put out"):
                async for _ in changes:
                    pass
        states = {job.id: job.state for job in await other.jobs()}
        assert states == {mine: JobState.CANCELLED, theirs: JobState.QUEUED}


async def test_a_restart_takes_up_no_job_of_who_was_put_out_meanwhile(grid: Cast, tmp_path: Path) -> None:
    async with (
        serving(grid, tmp_path / "coordinator") as house,
        client(grid, house, grid.submitter) as submitter,
    ):
        job = await submitter.submit(prepared(grid, tmp_path / "job"))
    grid.keeper.offer(newer(grid, grid.submitter), time.time())
    async with (
        serving(grid, tmp_path / "coordinator") as house,
        client(grid, house, grid.other_submitter) as other,
    ):
        assert [(view.id, view.state) for view in await other.jobs()] == [(job, JobState.CANCELLED)]


# The roster travels.


async def test_any_member_can_bring_the_owner_s_newer_roster_and_everybody_hears_of_it(
    grid: Cast, tmp_path: Path
) -> None:
    guest = new_identity()
    async with serving(grid, tmp_path / "coordinator") as house:
        agent = await let_in(house, grid.agent, Role.AGENT)
        submitter = await let_in(house, grid.submitter, Role.SUBMITTER)
        envelope = newer(grid, plus=(member(guest, Role.AGENT, name="guest"),))
        assert (await submitter.ask(PublishRoster(request=7), Answer, envelope)).request == 7
        assert (await agent.next(RosterPushed)).payload == [envelope]
        assert await let_in(house, guest, Role.AGENT, name="guest")


@pytest.mark.parametrize("kind", ["another owner's", "an older", "another of the same version", "a damaged"])
async def test_a_roster_that_is_not_the_owner_s_newest_changes_nothing(
    grid: Cast, tmp_path: Path, kind: str
) -> None:
    guest, thief = new_identity(), new_identity()
    members = [member(guest)]
    envelope = {
        "another owner's": roster_envelope(thief, members, version=99, grid=grid.roster.grid),
        "an older": roster_envelope(grid.owner, members, version=0),
        "another of the same version": roster_envelope(
            grid.owner, [*members, member(grid.coordinator)], version=1
        ),
        "a damaged": newer(grid, plus=(member(guest),))[:-1],
    }[kind]
    async with serving(grid, tmp_path / "coordinator") as house:
        submitter = await let_in(house, grid.submitter, Role.SUBMITTER)
        refused = await submitter.ask(PublishRoster(request=7), Refused, envelope)
        assert (refused.request, refused.code) == (7, "signature")
        assert (await submitter.ask(Query(request=8, what="jobs"), Answer)).request == 8
        assert grid.keeper.current.version == 1


async def test_an_expired_roster_lets_nobody_in_until_somebody_brings_a_newer_one(
    grid: Cast, tmp_path: Path
) -> None:
    expired = open_roster(newer(grid, expires=time.time() - 1), grid.owner.public, None)
    async with serving(grid, tmp_path / "coordinator") as house:
        grid.keeper._roster = expired
        caller = house.caller(grid.submitter)
        refused = await caller.ask(hello(Role.SUBMITTER), Refused)
        assert refused.code == "expired"
        assert "trust renew" in refused.fix
        await caller.ask(PublishRoster(request=7), Answer, newer(grid))
        await caller.ask(hello(Role.SUBMITTER), Welcome)


async def test_who_goes_by_the_same_roster_is_not_sent_it_again(grid: Cast, tmp_path: Path) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        for version, expected in ((0, [grid.roster.envelope]), (grid.roster.version, [])):
            caller = house.caller(grid.submitter)
            caller.send(hello(Role.SUBMITTER, roster=version))
            assert (await caller.next(Welcome)).payload == expected


# Keys are exchanged.


def owned(grid: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's key lies with the coordinator."""
    monkeypatch.setattr("discogrid.grid.Grid.owner", lambda _: Owner(grid.owner))


async def test_a_member_exchanges_its_keys_with_the_old_ones(
    grid: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned(grid, monkeypatch)
    fresh = new_identity()
    async with serving(grid, tmp_path / "coordinator") as house:
        agent = await let_in(house, grid.agent, Role.AGENT)
        await agent.ask(RotateKeys(request=3), Answer, grid.agent.seal(ROTATION_TYPE, fresh.statement()))
        assert isinstance((await agent.next(Refused)).message, Refused)  # the old ones count no more
        await let_in(house, fresh, Role.AGENT)
        assert grid.keeper.current.name_of(fresh.id) == "attic"


@pytest.mark.parametrize("kind", ["signed by another", "of another type", "without the new key's word"])
async def test_keys_that_a_member_did_not_ask_for_are_refused(
    grid: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    owned(grid, monkeypatch)
    fresh = new_identity()
    statement = fresh.statement()
    envelope = {
        "signed by another": seal(ROTATION_TYPE, statement, fresh.signing, grid.agent.id),
        "of another type": grid.agent.seal("discogrid/node/1", statement),
        "without the new key's word": grid.agent.seal(ROTATION_TYPE, statement[:-1] + b"x"),
    }[kind]
    async with serving(grid, tmp_path / "coordinator") as house:
        agent = await let_in(house, grid.agent, Role.AGENT)
        assert (await agent.ask(RotateKeys(request=3), Refused, envelope)).request == 3
        assert grid.keeper.current.version == 1


async def test_keys_cannot_be_exchanged_where_the_owner_is_not(grid: Cast, tmp_path: Path) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        agent = await let_in(house, grid.agent, Role.AGENT)
        envelope = grid.agent.seal(ROTATION_TYPE, new_identity().statement())
        assert "owner key" in (await agent.ask(RotateKeys(request=3), Refused, envelope)).what


# Roles.


async def test_an_agent_cannot_submit_and_a_submitter_cannot_answer_for_a_task(
    grid: Cast, tmp_path: Path
) -> None:
    job = prepared(grid, tmp_path / "job")
    async with serving(grid, tmp_path / "coordinator") as house:
        agent = await let_in(house, grid.agent, Role.AGENT)
        agent.send(SubmitJob(request=1), job.job.envelope, pack_parts(job.leaves))
        await agent.ask(Heartbeat(), HeartbeatSeen)
        for role in (Role.SUBMITTER, Role.ADMIN, Role.COORDINATOR):
            assert (await agent.ask(hello(role), Refused)).code == "role"
        submitter = await let_in(house, grid.submitter, Role.SUBMITTER)
        submitter.send(TasksDone(tasks=()), pack_parts([]), pack_parts([]))
        assert (await submitter.ask(Query(request=7, what="jobs"), Answer)).jobs == ()
        assert (await submitter.ask(hello(Role.AGENT), Refused)).code == "role"


async def test_one_submitter_steers_and_reads_no_job_of_another_but_an_admin_does(
    grid: Cast, tmp_path: Path
) -> None:
    admin = new_identity()
    grid.keeper.offer(
        newer(grid, plus=(member(admin, Role.SUBMITTER, Role.ADMIN, name="desk"),)), time.time()
    )
    async with (
        serving(grid, tmp_path / "coordinator") as house,
        client(grid, house, grid.submitter) as submitter,
    ):
        job = await submitter.submit(prepared(grid, tmp_path / "job"), hold=True)
        async with client(grid, house, grid.other_submitter) as other:
            assert [view.id for view in await other.jobs()] == [job]
            for act in (other.cancel, other.release, other.content):
                with pytest.raises(UsageError, match="submitted by attic"):
                    await act(job)
            with pytest.raises(UsageError, match="submitted by attic"):
                await other.results(job, [0])
            async with other.logs(job, 0) as chunks:
                with pytest.raises(UsageError, match="submitted by attic"):
                    await anext(chunks)
        async with client(grid, house, admin) as desk:
            await desk.content(job)
            await desk.cancel(job)
            assert (await desk.job(job)).state is JobState.CANCELLED


# Quotas.


async def test_a_submitter_over_its_quota_is_refused_and_goes_on_when_a_job_has_ended(
    grid: Cast, tmp_path: Path
) -> None:
    known = grid.roster.member(grid.submitter.id)
    assert known is not None
    limited = msgspec.structs.replace(known, quotas=Quotas(jobs_open=1))
    grid.keeper.offer(newer(grid, grid.submitter, plus=(limited,)), time.time())
    async with (
        serving(grid, tmp_path / "coordinator") as house,
        client(grid, house, grid.submitter) as submitter,
    ):
        first = await submitter.submit(prepared(grid, tmp_path / "one"))
        second = prepared(grid, tmp_path / "two")
        with pytest.raises(QuotaExceeded, match="1 jobs of yours"):
            await submitter.submit(second)
        await submitter.cancel(first)
        assert await submitter.submit(second)


async def test_a_submitter_s_weight_is_that_of_the_roster_also_after_a_restart(
    grid: Cast, tmp_path: Path
) -> None:
    known = grid.roster.member(grid.submitter.id)
    assert known is not None
    heavy = msgspec.structs.replace(known, quotas=Quotas(weight=3))
    grid.keeper.offer(newer(grid, grid.submitter, plus=(heavy,)), time.time())

    def weight(house: House) -> float:
        return house.server._engine.scheduler.floor.submitters[grid.submitter.id].weight

    async with (
        serving(grid, tmp_path / "coordinator") as house,
        client(grid, house, grid.submitter) as submitter,
    ):
        await submitter.submit(prepared(grid, tmp_path / "one"))
        assert weight(house) == 3.0
    async with serving(grid, tmp_path / "coordinator") as house:
        assert weight(house) == 3.0


# Blobs.


def blobs_of(house: House, identity: Identity, welcome: Welcome, folder: Path) -> BlobClient:
    """The blob line of a member, opened by its caller's context."""
    context = house.caller(identity)._context
    where = transport.dialled(welcome.blob_endpoint, house.endpoint)
    keys = transport.CurveKeys(identity.curve_public, identity.curve_secret)
    server = house.cast.coordinator.curve_public
    return BlobClient(
        lambda take: transport.dial(
            context, where, keys, server, take, frame_bytes_max=transport.BLOB_FRAME_BYTES_MAX
        ),
        BlobStore(folder / identity.id[:8], GIB),
        patience=IMPATIENT,
    )


async def test_a_blob_is_served_to_who_holds_a_task_of_its_job_and_to_its_submitter_only(
    grid: Cast, tmp_path: Path
) -> None:
    job = prepared(grid, tmp_path / "job")
    script = job.job.manifest.script
    async with (
        serving(grid, tmp_path / "coordinator") as house,
        client(grid, house, grid.submitter) as submitter,
    ):
        await submitter.submit(job)
        welcome = submitter.welcome
        assert welcome is not None
        holder = await let_in(house, grid.agent, Role.AGENT, slots=1)
        await holder.next(RunTasks)
        await let_in(house, grid.other_agent, Role.AGENT, name="loft")
        readers = (grid.agent, grid.submitter, grid.other_agent, grid.other_submitter)
        lines = [blobs_of(house, each, welcome, tmp_path) for each in readers]
        for line in lines[:2]:
            await line.get(script.digest, script.size)
        for line in lines[2:]:
            with pytest.raises(BlobError, match="may not read"):
                await line.get(script.digest, script.size)
        for line in lines:
            line.close()


async def test_a_blob_is_taken_from_whose_job_waits_for_it_and_from_who_holds_a_task(
    grid: Cast, tmp_path: Path
) -> None:
    job = prepared(grid, tmp_path / "job")
    content = b"print('hello')"
    scratch = BlobStore(tmp_path / "scratch", GIB)
    result = scratch.put_bytes(b"a result")
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = house.caller(grid.submitter)
        caller.send(hello(Role.SUBMITTER))
        welcome = (await caller.next(Welcome)).message
        assert isinstance(welcome, Welcome)
        mine = blobs_of(house, grid.submitter, welcome, tmp_path)
        other = blobs_of(house, grid.other_submitter, welcome, tmp_path)
        agent = blobs_of(house, grid.agent, welcome, tmp_path)
        script = job.job.manifest.script.digest
        for line in (mine, other, agent):
            with pytest.raises(BlobError, match="may not"):
                await line.put(content, script, len(content))
        async with client(grid, house, grid.submitter) as submitter:
            await submitter.submit(job, hold=True)
            for line in (other, agent, mine):
                with pytest.raises(BlobError, match="may not"):
                    await line.put(b"a result", result, 8)
            holder = await let_in(house, grid.agent, Role.AGENT, slots=1)
            await submitter.release((await submitter.jobs())[0].id)
            await holder.next(RunTasks)
        await agent.put(b"a result", result, 8)
        for line in (mine, other, agent):
            line.close()


def prepared_by(grid: Cast, identity: Identity, folder: Path) -> Prepared:
    """A true job of another submitter."""
    return prepared(replace(grid, submitter=identity), folder)


async def test_a_client_that_the_coordinator_has_forgotten_is_answered_at_once(
    grid: Cast, tmp_path: Path
) -> None:
    async with (
        serving(grid, tmp_path / "coordinator") as house,
        client(grid, house, grid.submitter) as user,
    ):
        job = await user.submit(prepared(grid, tmp_path / "job"))
        [peer] = house.server._engine.peers.clients()
        house.server._engine.peers.remove(peer)  # as after a restart that the line has outlived
        jobs = await asyncio.wait_for(user.jobs(), ANSWER_S / 3)
        assert [each.id for each in jobs] == [job]
