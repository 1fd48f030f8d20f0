"""The protocol version before this one is spoken too: its messages are read, and its nodes are told nothing newer."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from discogrid.bundle import check_tasks, demands, open_job, open_results
from discogrid.client import AsyncClient
from discogrid.messages import PROTOCOL, PROTOCOL_OLDEST, AnyMessage, Message, Resync, RunTasks, Welcome
from discogrid.submission import Prepared
from discogrid.trust.roster import open_roster
from discogrid.types import ENVIRONMENT_CAPABILITY, Outcome, Requirements, Role, SandboxLevel, TaskState
from discogrid.wire import decode, encode, pack_parts, unpack_parts
from tests.coordinator.bench import Bench
from tests.coordinator.house import House, hello, prepared, serving
from tests.trust.forge import Cast, cast, digest_of
from tests.wire.protocol_1.elder import FULL, Elder, Plain, documents, headers
from tests.wire.protocol_1.record import ISSUED

ARCHIVE = b"an archive"


@pytest.fixture
def grid() -> Cast:
    return cast()


@pytest.fixture
async def house(grid: Cast, tmp_path: Path) -> AsyncIterator[House]:
    async with serving(grid, tmp_path / "coordinator") as opened:
        yield opened


@pytest.fixture
def elders(house: House, grid: Cast) -> Any:
    """Nodes that speak protocol 1, each with the identity it is given."""
    made: list[Elder] = []

    def dial(identity: Any) -> Elder:
        made.append(Elder(identity, house.endpoint, grid.coordinator.curve_public))
        return made[-1]

    yield dial
    for elder in made:
        elder.close()


# What was said and signed then is read today.


@pytest.mark.parametrize(("tag", "fill", "frame"), headers(), ids=lambda value: str(value)[:20])
def test_a_message_of_the_version_before_says_today_what_it_said_then(
    tag: str, fill: str, frame: bytes
) -> None:
    then, now = msgpack.unpackb(frame), msgpack.unpackb(encode(decode(frame)))
    assert says(now, then), (tag, fill, now)


def says(now: object, then: object) -> bool:
    """Whether everything that was said then is said now; there may be more fields, each of which had a default."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(
            key in now and says(now[key], value) for key, value in then.items()
        )
    if isinstance(then, list):
        return isinstance(now, list) and len(now) == len(then) and all(map(says, now, then))
    return now == then


def test_what_says_less_than_then_is_noticed() -> None:
    frame = msgpack.unpackb(encode(Resync()))
    assert says({**frame, "more": 1}, frame)
    assert not says({}, frame)
    assert not says({"type": "resync", "holds": [1]}, {"type": "resync", "holds": [1, 2]})


def test_a_message_that_the_version_before_did_not_know_says_since_when_there_is_such_a_one() -> None:
    since = {kind.__struct_config__.tag: kind.since for kind in AnyMessage.__args__}
    assert {tag for tag, version in since.items() if version == 1} == FULL.keys()
    assert max(since.values()) <= PROTOCOL


def test_the_version_before_is_still_accepted() -> None:
    assert max(1, PROTOCOL - 1) >= PROTOCOL_OLDEST


def test_what_was_signed_in_the_version_before_is_verified_today() -> None:
    signed = documents()
    roster = open_roster(signed["roster"], signed["owner"], ISSUED)
    job = open_job(signed["job"], roster, audience=roster.coordinator().id, now=ISSUED)
    leaves = unpack_parts(signed["leaves"], part_bytes_max=1024)
    [task] = check_tasks(job, 1, leaves[1:2], unpack_parts(signed["proof"], part_bytes_max=32))
    [result] = open_results(signed["result"], roster)
    assert task.input is not None
    assert (job.manifest.arguments, job.manifest.tasks, task.input.name) == (("--fast", "2"), 3, "b.txt")
    assert (result.job, result.index, result.outcome) == (job.digest, 1, Outcome.SUCCEEDED)
    assert result.sandbox is SandboxLevel.STRICT


# Whole jobs with those who speak nothing newer.


@pytest.mark.parametrize("protocol", range(PROTOCOL_OLDEST, PROTOCOL))
async def test_an_agent_of_a_version_before_works_through_a_whole_job(
    house: House, elders: Any, grid: Cast, tmp_path: Path, protocol: int
) -> None:
    """What agents say has not changed from protocol 1 to 2."""
    agent = elders(grid.agent)
    agent.hello("agent", protocol=protocol)
    welcome = await agent.next("welcome")
    assert open_roster(welcome.payload[0], grid.owner.public, welcome.said["clock"]).grid == grid.roster.grid
    agent.say("heartbeat", holds=[])
    await agent.next("heartbeat-seen")
    async with AsyncClient(grid.grid(grid.submitter, house.endpoint)) as client:
        job = await client.submit(prepared(grid, tmp_path / "job", inputs=3))
        await work(agent, tasks=3, roster=grid)
        await agent.next("job-ended", lambda said: bool(said["job"] == job))
        assert {task.state for task in await client.tasks(job)} == {TaskState.DONE}
        results = await client.results(job, [0, 1, 2])
        assert [result.body.agent for result in results] == [grid.agent.id] * 3
        assert [view.state for view in await client.agents()] == ["live"]
        agent.say("goodbye", reason="it is late")
        while [view.state for view in await client.agents()] != ["lost"]:
            pass
    assert agent.strange == []


async def work(agent: Elder, tasks: int, roster: Cast) -> None:
    """Run the tasks of one job as an agent of protocol 1 does, giving the first ones back once."""
    spec = await agent.next("job-spec")
    job = open_job(spec.payload[0], roster.roster, audience=roster.coordinator.id, now=None)
    returned = committed = 0
    while committed < tasks:
        given = await agent.next("run-tasks")
        leaves, proofs = (unpack_parts(frame, part_bytes_max=4096) for frame in given.payload[:2])
        for run, proof in zip(given.said["runs"], proofs, strict=True):
            count = run["stop"] - run["start"]
            check_tasks(job, run["start"], leaves[:count], unpack_parts(proof, part_bytes_max=32))
            del leaves[:count]
            if not returned:
                returned += count
                agent.say("tasks-returned", runs=[run])
                continue
            agent.say("tasks-started", runs=[run])
            attempts = attempts_of(run)
            agent.say(
                "log-chunk", b"hello", attempt=attempts[0], stream="stdout", offset=0
            )  # nobody listens, which is no harm
            made = [agent.result(job.digest, one, digest_of(ARCHIVE), len(ARCHIVE)) for one in attempts]
            envelopes, told = [made_one[0] for made_one in made], [made_one[1] for made_one in made]
            agent.say("tasks-done", pack_parts(envelopes), pack_parts([ARCHIVE] * count), tasks=told)
            done = await agent.next("tasks-committed")
            assert done.said["attempts"] == attempts
            committed += count


def attempts_of(run: Plain) -> list[Plain]:
    same = {field: run[field] for field in ("job", "number", "lease")}
    return [{**same, "index": index} for index in range(run["start"], run["stop"])]


async def test_a_client_of_the_version_before_submits_watches_and_cancels(
    house: House, elders: Any, grid: Cast, tmp_path: Path
) -> None:
    job = prepared(grid, tmp_path / "job", inputs=2)
    client = elders(grid.submitter)
    client.hello("submitter")
    await client.next("welcome")
    small = pack_parts([path.read_bytes() for path in job.files.values()])
    client.say("submit-job", job.job.envelope, pack_parts(job.leaves), small, request=1)
    id_ = (await client.next("job-accepted")).said["job"]
    client.say("watch", request=2, job=id_, tasks=True)
    await client.next("changed", lambda said: bool(said["complete"]))
    client.say("query", request=3, what="tasks", job=id_)
    answer = (await client.next("answer")).said
    assert [task["state"] for task in answer["tasks"]] == ["queued", "queued"]
    client.say("act", request=4, what="cancel", job=id_)
    await client.next("answer", lambda said: bool(said["request"] == 4))
    client.say("get-job", request=5, job=id_)
    assert (await client.next("job-content")).payload == [job.job.envelope, pack_parts(job.leaves)]
    client.say("get-results", request=6, job=id_, indices=[0])
    assert (await client.next("results")).said["indices"] == []
    client.say("goodbye")
    assert client.strange == []


# What it could not keep is not given to it.


async def placed(house: House, grid: Cast, elder: Elder, job: Prepared) -> dict[str, str]:
    """Why the agents take nothing of the job, which waits beside one that anybody may run."""
    async with AsyncClient(grid.grid(grid.submitter, house.endpoint)) as client:
        id_ = await client.submit(job)
        twin = await client.submit(prepared(grid, house.server._folder / "twin"))
        await elder.next("run-tasks", lambda said: bool(said["runs"][0]["job"] == twin))
        return dict(await client.why(id_))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (
            {"packages": ("six==1.16.0",)},
            "speaks protocol 1, the job needs 2: discogrid is too old there",
        ),
        (
            {"requirements": Requirements(network=True)},
            "cannot give tasks a network of their own: its version of discogrid has none to give",
        ),
        (
            {"requirements": Requirements(protocol=2)},
            "speaks protocol 1, the job needs 2: discogrid is too old there",
        ),
    ],
    ids=["packages", "a network", "a newer protocol"],
)
async def test_a_job_is_not_given_to_an_agent_that_would_pass_over_what_it_demands(
    house: House, elders: Any, grid: Cast, tmp_path: Path, other: Any, reason: str
) -> None:
    agent = elders(grid.agent)
    agent.hello("agent", network=True, capabilities=[ENVIRONMENT_CAPABILITY])
    await agent.next("welcome")
    job = prepared(grid, tmp_path / "job", **other)
    assert await placed(house, grid, agent, job) == {"elder": reason}


async def test_it_is_given_to_one_of_today_and_what_the_version_before_knew_to_both(
    house: House, elders: Any, grid: Cast, tmp_path: Path
) -> None:
    elder, today = elders(grid.agent), house.caller(grid.other_agent)
    elder.hello("agent", slots=1)
    await elder.next("welcome")
    (tmp_path / "tree").mkdir()
    known: dict[str, Any] = {
        "environment": {"A": "b"},
        "mounts": ((tmp_path / "tree", "/opt/tree"),),
        "requirements": Requirements(sandbox=SandboxLevel.CONFINED),
    }
    async with AsyncClient(grid.grid(grid.submitter, house.endpoint)) as client:
        old = await client.submit(prepared(grid, tmp_path / "old", **known))
        await elder.next("run-tasks", lambda said: bool(said["runs"][0]["job"] == old))
        new = await client.submit(prepared(grid, tmp_path / "new", packages=("six==1.16.0",)))
        await today.ask(hello(Role.AGENT, name="loft", capabilities=(ENVIRONMENT_CAPABILITY,)), Welcome)
        await today.next(RunTasks, lambda said: said.runs[0].job == new)


def test_a_job_whose_client_does_not_say_which_protocol_it_needs_needs_it_all_the_same(grid: Cast) -> None:
    silent = grid.manifest([b"leaf"], ISSUED, packages=("six==1.16.0",))
    assert silent.requirements.protocol == 1
    assert demands(silent).protocol == 2
    assert demands(grid.manifest([b"leaf"], ISSUED)).protocol == 1


# What is newer is kept from those who would not know it.


class Newer(Message, frozen=True, kw_only=True, tag="newer"):
    """A message that the next version brings."""

    since = PROTOCOL + 1


@pytest.mark.parametrize(("protocol", "told"), [(PROTOCOL, False), (PROTOCOL + 1, True)])
def test_a_message_is_kept_from_a_peer_whose_protocol_does_not_know_it(
    grid: Cast, tmp_path: Path, protocol: int, told: bool
) -> None:
    bench = Bench(grid, tmp_path / "coordinator")
    peer = bench.client()
    peer.protocol = protocol
    sent: list[Message] = []
    for route in (peer.route, b"nobody"):
        bench.engine.outbox.put(route, Newer())
        bench.engine.outbox.put(route, Resync())
    bench.engine.outbox.send(bench.engine.take().mail, lambda _, message, __: sent.append(message))
    assert sent == [*([Newer()] if told else []), Resync(), Resync()]


async def test_the_coordinator_remembers_in_which_version_a_peer_said_hello(
    house: House, elders: Any, grid: Cast
) -> None:
    for identity, role in ((grid.agent, "agent"), (grid.submitter, "submitter")):
        elder = elders(identity)
        elder.hello(role)
        await elder.next("welcome")
    peers = house.server._engine.peers
    assert {peer.protocol for peer in (*peers.clients(), *peers._agents.values())} == {1}


@pytest.mark.parametrize(
    ("protocol", "fix"),
    [
        (PROTOCOL_OLDEST - 1, "Update discogrid on this machine: pip install discogrid=="),
        (PROTOCOL + 1, "Update discogrid on the coordinator's machine: pip install discogrid==9.9"),
    ],
    ids=["too old", "too new"],
)
async def test_a_version_that_is_not_spoken_is_refused_with_the_side_to_update(
    elders: Any, grid: Cast, protocol: int, fix: str
) -> None:
    elder = elders(grid.agent)
    elder.hello("agent", protocol=protocol, software="9.9")
    said = (await elder.next("refused")).said
    assert said["code"] == "protocol"
    assert said["fix"].startswith(fix)
    assert f"speaks protocol {protocol}" in said["what"]
    elder.hello("agent", protocol=PROTOCOL_OLDEST)
    await elder.next("welcome")
