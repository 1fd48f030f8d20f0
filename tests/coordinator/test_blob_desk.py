"""Whom the coordinator names to whom, and whom it does not."""

from pathlib import Path

import pytest

from discogrid.keys import Identity
from discogrid.messages import (
    PROTOCOL,
    BlobNews,
    BlobSource,
    Goodbye,
    RunTasks,
    ServeBlob,
    TasksReturned,
    WantBlob,
)
from discogrid.submission import Submission, prepare
from discogrid.types import AgentId, Digest, Role
from discogrid_coordinator.blob_desk import AVOID_MAX, served_at
from discogrid_coordinator.peers import Peer
from tests.coordinator.bench import Bench
from tests.coordinator.house import hello, prepared
from tests.trust.forge import Cast

STRANGE = Digest("blake3:" + "0" * 64)


def agent(
    bench: Bench, identity: Identity, name: str, *, serves: bool = True, session: str = "session"
) -> Peer:
    peer = bench.peer(identity, Role.AGENT, name, session)
    peer.protocol = PROTOCOL
    peer.blob_endpoint = f"tcp://10.0.0.{len(bench.engine.peers) + 1}:7" if serves else ""
    bench.agents.hello(peer, hello(Role.AGENT, name=name, slots=1, session=session))
    return peer


@pytest.fixture
def attic(bench: Bench, grid: Cast) -> Peer:
    return agent(bench, grid.agent, "attic")


@pytest.fixture
def barn(bench: Bench, grid: Cast) -> Peer:
    return agent(bench, grid.other_agent, "barn")


@pytest.fixture
def script(bench: Bench, grid: Cast, attic: Peer, barn: Peer, tmp_path: Path) -> Digest:
    """A blob of a job of which both have a task; its size does not matter here."""
    job = prepared(grid, tmp_path / "job", inputs=2)
    bench.take(job)
    bench.settle()
    assert {sent.route for sent in bench.sent if isinstance(sent.message, RunTasks)} == {
        attic.route,
        barn.route,
    }
    return job.job.manifest.script.digest


def test_the_second_is_told_to_wait_and_then_who_has_it_which_is_told_whom_to_serve(
    bench: Bench, grid: Cast, attic: Peer, barn: Peer, script: Digest
) -> None:
    bench.hear(attic, WantBlob(digest=script))
    bench.hear(barn, WantBlob(digest=script))
    assert bench.told(attic, BlobSource) == [BlobSource(digest=script)]
    assert bench.told(barn, BlobSource) == [BlobSource(digest=script, wait=True)]
    bench.hear(attic, BlobNews(coming=(script,)))
    bench.hear(attic, BlobNews(held=(script,)))
    assert bench.told(attic, ServeBlob) == [ServeBlob(digest=script, reader=grid.other_agent.id)]
    assert bench.told(barn, BlobSource) == [
        BlobSource(digest=script, agent=AgentId("attic"), node=grid.agent.id, endpoint=attic.blob_endpoint)
    ]


def test_where_a_blob_is_waits_for_no_disk(bench: Bench, attic: Peer, script: Digest) -> None:
    bench.hear(attic, WantBlob(digest=script))
    prompt = bench.engine.outbox.take_prompt()
    assert [message for _, message, _ in prompt.messages] == [BlobSource(digest=script)]


def test_an_agent_without_a_task_of_the_job_is_sent_to_nobody_and_believed_nothing(
    bench: Bench, attic: Peer, script: Digest
) -> None:
    outsider = agent(bench, bench.cast.coordinator, "loft")
    bench.hear(outsider, BlobNews(held=(script,)))
    bench.hear(outsider, WantBlob(digest=script))
    assert bench.told(outsider, BlobSource) == [BlobSource(digest=script)]
    bench.hear(attic, WantBlob(digest=script))
    assert bench.told(attic, BlobSource) == [BlobSource(digest=script)]
    bench.hear(attic, BlobNews(held=(script,)))
    bench.hear(outsider, WantBlob(digest=script))
    assert bench.told(outsider, BlobSource) == [BlobSource(digest=script)]
    assert bench.told(attic, ServeBlob) == []


def test_a_blob_that_the_coordinator_does_not_have_is_asked_for_where_the_reason_is_said(
    bench: Bench, attic: Peer
) -> None:
    bench.hear(attic, WantBlob(digest=STRANGE))
    assert bench.told(attic, BlobSource) == [BlobSource(digest=STRANGE)]


def test_who_has_lost_its_task_while_it_waited_is_sent_to_nobody(
    bench: Bench, attic: Peer, barn: Peer, script: Digest
) -> None:
    bench.hear(attic, WantBlob(digest=script))
    bench.hear(barn, WantBlob(digest=script))
    [given] = bench.told(barn, RunTasks)
    bench.hear(barn, TasksReturned(runs=given.runs, leaving=True))
    bench.hear(attic, BlobNews(held=(script,)))
    assert bench.told(barn, BlobSource)[-1] == BlobSource(digest=script)
    assert bench.told(attic, ServeBlob) == []


def test_who_leaves_holds_nobody_up_and_is_named_to_nobody(
    bench: Bench, attic: Peer, barn: Peer, script: Digest
) -> None:
    bench.hear(attic, WantBlob(digest=script))
    bench.hear(barn, WantBlob(digest=script))
    bench.told(barn, BlobSource)
    bench.hear(attic, Goodbye())
    assert bench.told(barn, BlobSource) == [BlobSource(digest=script)]


def test_another_process_of_an_agent_has_nothing_of_what_the_one_before_had(
    bench: Bench, grid: Cast, attic: Peer, barn: Peer, script: Digest
) -> None:
    bench.hear(attic, BlobNews(held=(script,)))
    agent(bench, grid.agent, "attic", session="another")
    bench.hear(barn, WantBlob(digest=script))
    assert bench.told(barn, BlobSource) == [BlobSource(digest=script)]


def test_who_drops_a_blob_or_serves_nobody_is_not_named(
    bench: Bench, attic: Peer, barn: Peer, script: Digest
) -> None:
    bench.hear(attic, BlobNews(held=(script,)))
    bench.hear(attic, BlobNews(dropped=(script,)))
    bench.hear(barn, WantBlob(digest=script))
    assert bench.told(barn, BlobSource) == [BlobSource(digest=script)]


def test_a_job_over_the_same_inputs_goes_where_these_are(
    bench: Bench, grid: Cast, attic: Peer, barn: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discogrid_coordinator.locality.INPUT_BYTES_MIN", 1)  # these are no larger
    job = prepared(grid, tmp_path / "job", inputs=2)
    id_ = bench.take(job)
    for agent_ in (attic, barn):
        [attempt] = bench.assigned(agent_)
        digest = list(job.files)[1 + attempt.index]
        bench.hear(agent_, BlobNews(held=(digest,)))
        signer = grid.agent if agent_ is attic else grid.other_agent
        bench.end(agent_, job.job, attempt, signer=signer)
    before = {task.agent: task.input for task in bench.engine.books.tasks(id_)}
    # The other way round, so that the order of the tasks would not do.
    turned = Submission(
        script=tmp_path / "job/script.py", inputs=sorted(tmp_path.glob("job/in*"), reverse=True)
    )
    after = bench.take(prepare(turned, grid.grid(grid.submitter), tmp_path, job.job.manifest.issued))
    bench.settle()
    assert {task.agent: task.input for task in bench.engine.books.tasks(after)} == before


def test_names_without_end_are_not_kept(bench: Bench, attic: Peer, barn: Peer, script: Digest) -> None:
    bench.hear(attic, BlobNews(held=(script,)))
    nobody = tuple(AgentId(f"nobody-{number}") for number in range(AVOID_MAX))
    bench.hear(barn, WantBlob(digest=script, avoid=(*nobody, attic.name), failed=AgentId("nobody")))
    [source] = bench.told(barn, BlobSource)
    assert source.agent == "attic"


@pytest.mark.parametrize(
    ("address", "port", "endpoint"),
    [
        ("10.0.0.7", 7, "tcp://10.0.0.7:7"),
        ("::ffff:10.0.0.7", 7, "tcp://10.0.0.7:7"),
        ("fd00::7", 7, "tcp://[fd00::7]:7"),
        ("127.0.0.1", 7, "tcp://*:7"),
        ("::1", 7, "tcp://*:7"),
        ("10.0.0.7", 0, ""),
        ("10.0.0.7", 65536, ""),
        ("10.0.0.7", -1, ""),
        ("", 7, ""),
    ],
)
def test_an_agent_is_reached_at_the_host_that_it_came_from(address: str, port: int, endpoint: str) -> None:
    assert served_at(address, port) == endpoint
