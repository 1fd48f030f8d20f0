"""What agents and clients say, and what becomes of it when it cannot be true."""

from pathlib import Path
from typing import Any

import pytest

from discogrid.messages import (
    PROTOCOL,
    Act,
    Answer,
    FollowLogs,
    GetResults,
    Goodbye,
    Heartbeat,
    HeartbeatSeen,
    Hello,
    LogChunk,
    Query,
    Refused,
    Resync,
    RunTasks,
    SubmitJob,
    TaskDone,
    TasksCommitted,
    TasksDone,
    TasksReturned,
    TasksStarted,
    TellRunTimes,
    Watch,
    WatchLogs,
    Welcome,
)
from discogrid.run_times import pack_run_times
from discogrid.types import AgentId, Attempt, JobId, Outcome, Role, Run, TaskState
from discogrid.wire import pack_parts
from discogrid_coordinator import events
from discogrid_coordinator.peers import Peer
from discogrid_coordinator.policies import LEASE_S
from discogrid_coordinator.server import CLOCK_SKEW_S_MAX, refused
from discogrid_coordinator.watches import FOLLOWERS_MAX, Follower
from tests.coordinator.bench import Bench
from tests.coordinator.house import hello, prepared, serving
from tests.trust.forge import Cast, cast

NOW = 1_800_000_000.0
GRID = cast()


# Who is let in.


def answer_to(role: Role = Role.AGENT, node: str = "", **other: Any) -> Refused | None:
    said: Hello = hello(role, **{"clock": NOW, **other})
    return refused(said, node or GRID.agent.id, GRID.roster, NOW)  # type: ignore[arg-type]


def test_a_member_in_its_role_is_let_in() -> None:
    assert answer_to() is None
    assert answer_to(Role.SUBMITTER, GRID.submitter.id) is None


@pytest.mark.parametrize("role", [Role.SUBMITTER, Role.COORDINATOR, Role.ADMIN])
def test_a_member_in_another_role_is_refused(role: Role) -> None:
    answer = answer_to(role)
    assert answer is not None
    assert (answer.code, answer.request) == ("role", 0)


def test_a_node_that_has_left_the_roster_is_refused() -> None:
    answer = answer_to(node=cast().agent.id)
    assert answer is not None
    assert answer.code == "role"


@pytest.mark.parametrize("protocol", [0, PROTOCOL + 1, -1])
def test_another_protocol_is_refused_with_the_line_that_fixes_it(protocol: int) -> None:
    answer = answer_to(protocol=protocol)
    assert answer is not None
    assert answer.code == "protocol"
    assert "pip install discogrid==" in answer.fix


@pytest.mark.parametrize("skew", [0, CLOCK_SKEW_S_MAX, -CLOCK_SKEW_S_MAX])
def test_a_clock_within_five_minutes_is_let_in(skew: float) -> None:
    assert answer_to(clock=NOW + skew) is None


@pytest.mark.parametrize(
    "clock", [NOW + CLOCK_SKEW_S_MAX + 1, NOW - CLOCK_SKEW_S_MAX - 1, float("nan"), float("inf")]
)
def test_another_clock_is_refused_with_its_error(clock: float) -> None:
    answer = answer_to(clock=clock)
    assert answer is not None
    assert answer.code == "clock"
    assert "timedatectl" in answer.fix


async def test_a_refused_hello_leaves_nobody_behind(grid: Cast, tmp_path: Path) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = house.caller(grid.agent)
        assert (await caller.ask(hello(Role.SUBMITTER), Refused)).code == "role"
        assert isinstance(await caller.ask(Heartbeat(), Resync), Resync)
        assert isinstance(await caller.ask(hello(Role.AGENT), Welcome), Welcome)
        assert isinstance(await caller.ask(Heartbeat(), HeartbeatSeen), HeartbeatSeen)


async def test_a_name_is_cleaned_before_anybody_sees_it(grid: Cast, tmp_path: Path) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        caller = house.caller(grid.agent)
        for said, shown in (
            ("\x1b[2Jattic\n", "[2Jattic"),
            ("", grid.agent.id[:8]),
            ("\n", grid.agent.id[:8]),
            ("x" * 999, "x" * 64),
        ):
            assert (await caller.ask(hello(Role.AGENT, name=said), Welcome)).name == shown


async def test_a_new_process_of_an_agent_takes_over_and_the_old_one_is_asked_who_it_is(
    grid: Cast, tmp_path: Path
) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        old, new = house.caller(grid.agent), house.caller(grid.agent)
        await old.ask(hello(Role.AGENT, session="old"), Welcome)
        assert (await new.ask(hello(Role.AGENT, session="new"), Welcome)).name == "attic"
        await old.ask(Heartbeat(), Resync)
        await new.ask(Heartbeat(), HeartbeatSeen)


async def test_two_nodes_of_one_name_are_told_apart(grid: Cast, tmp_path: Path) -> None:
    async with serving(grid, tmp_path / "coordinator") as house:
        one, other = house.caller(grid.agent), house.caller(grid.other_agent)
        assert (await one.ask(hello(Role.AGENT), Welcome)).name == "attic"
        assert (await other.ask(hello(Role.AGENT), Welcome)).name == f"attic-{grid.other_agent.id[:4]}"
        await one.ask(Heartbeat(), HeartbeatSeen)
        await other.ask(Heartbeat(), HeartbeatSeen)


# Agents that say what cannot be.


def ended_as(bench: Bench, peer: Peer, tmp_path: Path, **other: Any) -> TaskState:
    """What the task is after its agent has told this."""
    job = prepared(bench.cast, tmp_path / "job", retries=0)
    id_ = bench.take(job)
    [attempt] = bench.assigned(peer)
    bench.end(peer, job.job, attempt, **other)
    bench.settle()
    return bench.engine.books.tasks(id_)[0].state


def test_a_true_result_is_taken(bench: Bench, tmp_path: Path) -> None:
    assert ended_as(bench, bench.agent(), tmp_path) is TaskState.DONE


@pytest.mark.parametrize(
    "lie",
    [
        {"body": {"outcome": Outcome.SCRIPT_FAILED}},
        {"body": {"index": 1}},
        {"body": {"number": 2}},
        {"body": {"lease": 8}},
        {"body": {"job": "blake3:" + "0" * 64}},
        {"body": {"archive": "blake3:" + "0" * 64}},
        {"body": {"archive_bytes": 1}},
        {"body": {"agent": "another node"}},
        {"body": {"exit": 3}},
        {"exit": 3},
        {"archive": "blake3:" + "0" * 64},
        {"archive_bytes": 1},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"started": float("nan")},
        {"exit": 2**63, "body": {"exit": 2**63}},
    ],
    ids=str,
)
def test_a_result_that_does_not_hold_is_not_taken(bench: Bench, tmp_path: Path, lie: dict[str, Any]) -> None:
    assert ended_as(bench, bench.agent(), tmp_path, **lie) is TaskState.QUEUED
    bench.engine.scheduler.check()


def test_a_result_that_another_signed_is_not_taken(bench: Bench, tmp_path: Path) -> None:
    assert ended_as(bench, bench.agent(), tmp_path, signer=bench.cast.other_agent) is TaskState.QUEUED


def test_a_result_that_no_agent_signed_is_not_taken(bench: Bench, tmp_path: Path) -> None:
    assert ended_as(bench, bench.agent(), tmp_path, signer=bench.cast.submitter) is TaskState.QUEUED


def test_an_unsigned_success_is_not_taken(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent()
    job = prepared(bench.cast, tmp_path / "job")
    id_ = bench.take(job)
    [attempt] = bench.assigned(agent)
    done = TaskDone(attempt=attempt, outcome=Outcome.SUCCEEDED)
    bench.hear(agent, TasksDone(tasks=(done,)), pack_parts([b""]), pack_parts([]))
    assert bench.engine.books.tasks(id_)[0].state is TaskState.QUEUED


def test_a_large_archive_that_has_not_arrived_is_not_taken(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent()
    job = prepared(bench.cast, tmp_path / "job")
    id_ = bench.take(job)
    [attempt] = bench.assigned(agent)
    bench.end(agent, job.job, attempt, inline=False)  # the archive is beside it, but not announced
    assert bench.engine.books.tasks(id_)[0].state is TaskState.ASSIGNED
    assert bench.told(agent, TasksCommitted) == []


def test_results_of_tasks_nobody_knows_change_nothing(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent()
    job = prepared(bench.cast, tmp_path / "job")
    id_ = bench.take(job)
    [attempt] = bench.assigned(agent)
    for strange in (
        Attempt(JobId("zzzz"), 0, 1, 7),
        Attempt(id_, 99, 1, 7),
        Attempt(id_, 2**62, 1, 7),
        Attempt(id_, -1, 1, 7),
        Attempt(id_, 0, 2**63, 7),
        Attempt(id_, 0, 1, 2**63),
    ):
        bench.end(agent, job.job, strange)
        bench.settle()
        bench.engine.scheduler.check()
    assert bench.engine.books.tasks(id_)[0].state is TaskState.ASSIGNED
    bench.end(agent, job.job, attempt)
    assert bench.engine.books.tasks(id_)[0].state is TaskState.DONE


@pytest.mark.parametrize("payload", [(), (b"",), (b"\xc1", b""), (pack_parts([b"x", b"y"]), b""), (b"", b"")])
def test_results_whose_payload_does_not_fit_are_dropped(
    bench: Bench, tmp_path: Path, payload: tuple[bytes, ...]
) -> None:
    agent = bench.agent()
    job = prepared(bench.cast, tmp_path / "job")
    bench.take(job)
    [attempt] = bench.assigned(agent)
    done = TaskDone(attempt=attempt, outcome=Outcome.SUCCEEDED, inline=True)
    bench.hear(agent, TasksDone(tasks=(done,)), *payload)
    assert bench.engine.books.tasks(attempt.job)[0].state is TaskState.ASSIGNED


@pytest.mark.parametrize(("start", "stop"), [(0, 2**62), (5, 1), (3, 3), (-4, 1), (2**63, 2**64 - 1)])
def test_runs_that_cannot_be_are_passed_over(bench: Bench, tmp_path: Path, start: int, stop: int) -> None:
    agent = bench.agent()
    id_ = bench.take(prepared(bench.cast, tmp_path / "job"))
    [attempt] = bench.assigned(agent)
    runs = (Run(id_, start, stop, 1, 7),)
    for message in (Heartbeat(holds=runs), TasksStarted(runs=runs), TasksReturned(runs=runs)):
        bench.hear(agent, message)
    bench.agents.hello(bench.peer(bench.cast.other_agent, Role.AGENT, "other"), hello(Role.AGENT, holds=runs))
    assert bench.engine.peers.agent(AgentId("other")) is None
    bench.hear(agent, TasksStarted(runs=(Run.of(attempt),)))
    assert bench.engine.books.tasks(id_)[0].state is TaskState.RUNNING
    bench.engine.scheduler.check()


@pytest.mark.parametrize(
    "offer", [{"slots": -5}, {"slots": 2**40}, {"memory_bytes": -1}, {"gpus": -1}, {"sandbox": "magic"}]
)
def test_an_offer_that_cannot_be_is_cut_to_what_can(
    bench: Bench, tmp_path: Path, offer: dict[str, Any]
) -> None:
    bench.agent(**offer)
    bench.take(prepared(bench.cast, tmp_path / "job", inputs=3))
    bench.engine.scheduler.check()
    [agent] = bench.engine.books.agents()
    assert 0 <= agent.slots <= 4096


def test_what_is_not_for_agents_to_say_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent()
    job = prepared(bench.cast, tmp_path / "job")
    for path in job.files.values():
        bench.store.put_file(path)
    bench.hear(agent, SubmitJob(request=1), job.job.envelope, pack_parts(job.leaves))
    bench.hear(agent, RunTasks(runs=()))
    assert bench.engine.books.jobs() == []


def test_an_agent_that_says_goodbye_gives_back_what_it_held(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent()
    id_ = bench.take(prepared(bench.cast, tmp_path / "job"))
    assert len(bench.assigned(agent)) == 1
    bench.hear(agent, Goodbye())
    assert bench.engine.books.tasks(id_)[0].state is TaskState.QUEUED
    assert len(bench.assigned(bench.agent(bench.cast.other_agent, "other"))) == 1


# Clients.


def test_a_client_that_sends_another_member_s_job_is_refused(bench: Bench, tmp_path: Path) -> None:
    client = bench.peer(bench.cast.other_submitter, Role.SUBMITTER, "other")
    bench.engine.peers.add(client)
    job = prepared(bench.cast, tmp_path / "job")
    bench.hear(client, SubmitJob(request=3), job.job.envelope, pack_parts(job.leaves))
    [answer] = bench.told(client, Refused)
    assert (answer.code, answer.request) == ("signature", 3)


@pytest.mark.parametrize("payload", [(), (b"x",), (b"x", b"y"), (b"", b"", b"")])
def test_a_job_that_is_none_is_refused_at_once(bench: Bench, payload: tuple[bytes, ...]) -> None:
    client = bench.client()
    bench.hear(client, SubmitJob(request=3), *payload)
    assert [answer.request for answer in bench.told(client, Refused)] == [3]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("0" * 32, ()),
        ("0" * 32, (b"", b"", b"")),
        ("0" * 32, (pack_parts([b"0"]), b"\0" * 4)),
        ("0" * 31, pack_run_times({"0": 1.0})),
        ("Z" * 32, pack_run_times({"0": 1.0})),
    ],
)
def test_durations_that_are_none_are_refused(bench: Bench, kind: str, payload: tuple[bytes, ...]) -> None:
    client = bench.client()
    bench.hear(client, TellRunTimes(request=3, kind=kind), *payload)
    assert [answer.request for answer in bench.told(client, Refused)] == [3]
    assert not bench.engine.journal.take()


@pytest.mark.parametrize(
    "question",
    [
        Query(request=3, what="job", job=JobId("zzzz")),
        Query(request=3, what="tasks"),
        Query(request=3, what="secrets"),
        GetResults(request=3, job=JobId("zzzz"), indices=(0,)),
        Act(request=3, what="cancel", job=JobId("zzzz")),
        Watch(request=3, job=JobId("zzzz")),
        WatchLogs(request=3, job=JobId("zzzz"), index=0),
    ],
    ids=lambda question: type(question).__name__,
)
def test_a_question_about_what_is_not_there_is_answered(bench: Bench, question: Any) -> None:
    client = bench.client()
    bench.hear(client, question)
    assert [answer.request for answer in bench.told(client, Refused)] == [3]


def test_an_act_nobody_knows_is_refused(bench: Bench, tmp_path: Path) -> None:
    client = bench.client()
    id_ = bench.take(prepared(bench.cast, tmp_path / "job"))
    bench.hear(client, Act(request=3, what="explode", job=id_))
    [answer] = bench.told(client, Refused)
    assert "explode" in answer.what


def test_pages_of_long_names_can_be_sent_and_read_to_the_end(bench: Bench, tmp_path: Path) -> None:
    client = bench.client()
    long = "x" * 240
    folder = tmp_path / "job"
    for _ in range(200):
        bench.take(prepared(bench.cast, folder, inputs=0, name=long))
    found: list[JobId] = []
    while True:
        bench.hear(client, Query(request=1, what="jobs", start=len(found), count=10_000))
        [answer] = bench.told(client, Answer)
        found += [view.id for view in answer.jobs]
        if not answer.more:
            break
    assert len(found) == len(set(found)) == 200


def test_all_of_many_agents_are_told_page_by_page(bench: Bench) -> None:
    client = bench.client()
    names = [f"{'x' * 50}{number:03d}" for number in range(400)]
    for name in names:
        bench.agent(name=name)
    found: list[str] = []
    while True:
        bench.hear(client, Query(request=1, what="agents", start=len(found)))
        [answer] = bench.told(client, Answer)
        found += [view.id for view in answer.agents]
        if not answer.more:
            break
    assert found == names


def test_followers_are_bounded_in_number(bench: Bench, tmp_path: Path) -> None:
    client = bench.client()
    id_ = bench.take(prepared(bench.cast, tmp_path / "job"))
    for request in range(FOLLOWERS_MAX):
        bench.engine.watches.follow(Follower(b"somebody", request, id_, 0))
    bench.hear(client, WatchLogs(request=3, job=id_, index=0))
    assert [answer.code for answer in bench.told(client, Refused)] == ["busy"]


def test_the_output_of_a_task_that_is_followed_before_it_runs_is_asked_for_when_it_starts(
    bench: Bench, tmp_path: Path
) -> None:
    client, agent = bench.client(), bench.agent()
    id_ = bench.take(prepared(bench.cast, tmp_path / "job"))
    bench.hear(client, WatchLogs(request=3, job=id_, index=0))
    [attempt] = bench.assigned(agent)
    assert bench.told(agent, FollowLogs) == []
    bench.hear(agent, TasksStarted(runs=(Run.of(attempt),)))
    assert bench.told(agent, FollowLogs) == [FollowLogs(attempt=attempt)]


def test_an_agent_that_is_back_is_asked_again_for_the_output_that_is_followed(
    bench: Bench, tmp_path: Path
) -> None:
    client, agent = bench.client(), bench.agent()
    id_ = bench.take(prepared(bench.cast, tmp_path / "job"))
    [attempt] = bench.assigned(agent)
    bench.hear(agent, TasksStarted(runs=(Run.of(attempt),)))
    bench.hear(client, WatchLogs(request=3, job=id_, index=0))
    bench.now += LEASE_S + 1.0
    bench.engine.tell(events.TimePassed())
    assert bench.told(agent, FollowLogs) == [FollowLogs(attempt=attempt)]
    back = bench.agent(holds=(Run.of(attempt),), route="another")
    assert bench.told(back, FollowLogs) == [FollowLogs(attempt=attempt)]


def test_output_nobody_follows_is_called_off(bench: Bench, tmp_path: Path) -> None:
    agent = bench.agent()
    bench.take(prepared(bench.cast, tmp_path / "job"))
    [attempt] = bench.assigned(agent)
    bench.hear(agent, LogChunk(attempt=attempt, stream="stdout", offset=0), b"words")
    assert bench.told(agent, FollowLogs) == [FollowLogs(attempt=attempt, follow=False)]


def test_a_watch_of_everything_is_told_of_what_comes(bench: Bench, tmp_path: Path) -> None:
    client = bench.client()
    bench.hear(client, Watch(request=9))
    bench.take(prepared(bench.cast, tmp_path / "job"))
    bench.engine.push()
    bench.settle()
    assert any(sent.route == client.route for sent in bench.sent)
    bench.clients.leave(client)
    bench.sent.clear()
    bench.take(prepared(bench.cast, tmp_path / "job", name="other"))
    bench.engine.push()
    bench.settle()
    assert not any(sent.route == client.route for sent in bench.sent)
