"""The output of running tasks on its way through the coordinator: whole within a rate, and from whoever runs the task."""

from pathlib import Path

import pytest

from discogrid.messages import FollowLogs, LogChunk, LogPushed, TasksStarted, WatchLogs
from discogrid.types import Attempt, JobId, Run
from discogrid_coordinator.log_relay import LOG_BURST_BYTES, LOG_BYTES_S_MAX
from discogrid_coordinator.peers import Peer
from tests.coordinator.bench import Bench
from tests.coordinator.house import prepared

PIECE = b"x" * 65_536


def running(bench: Bench, agent: Peer, folder: Path) -> Attempt:
    """A task that the agent has started."""
    bench.take(prepared(bench.cast, folder))
    [attempt] = bench.assigned(agent)
    started(bench, agent, attempt)
    return attempt


def started(bench: Bench, agent: Peer, attempt: Attempt) -> None:
    run = Run(attempt.job, attempt.index, attempt.index + 1, attempt.number, attempt.lease)
    bench.hear(agent, TasksStarted(runs=(run,)))


def follow(bench: Bench, client: Peer, job: JobId) -> None:
    bench.hear(client, WatchLogs(request=3, job=job, index=0))


def say(bench: Bench, agent: Peer, attempt: Attempt, content: bytes, offset: int = 0) -> None:
    bench.hear(agent, LogChunk(attempt=attempt, stream="stdout", offset=offset), content)


def pushed(bench: Bench, client: Peer) -> list[bytes]:
    """The output that the client was told since it was asked last."""
    bench.settle()
    told = [
        b"".join(sent.payload)
        for sent in bench.sent
        if sent.route == client.route and isinstance(sent.message, LogPushed)
    ]
    bench.sent.clear()
    return told


def test_an_ordinary_log_is_passed_on_whole(bench: Bench, tmp_path: Path) -> None:
    agent, client = bench.agent(), bench.client()
    attempt = running(bench, agent, tmp_path / "job")
    follow(bench, client, attempt.job)
    assert bench.told(agent, FollowLogs) == [FollowLogs(attempt=attempt)]
    pieces = [b"%d\n" % number for number in range(1000)]
    for piece in pieces:
        say(bench, agent, attempt, piece)
    assert pushed(bench, client) == pieces


def test_as_much_as_an_honest_agent_may_send_is_passed_on_whole(bench: Bench, tmp_path: Path) -> None:
    from discogrid_agent import log_feed

    agent, client = bench.agent(), bench.client()
    attempt = running(bench, agent, tmp_path / "job")
    follow(bench, client, attempt.job)
    stuck_s = 19.0
    honest = log_feed.LOG_BURST_BYTES + stuck_s * log_feed.LOG_BYTES_S_MAX
    count = int(honest / (len(PIECE) + log_feed.MESSAGE_BYTES))
    for _ in range(count):
        say(bench, agent, attempt, PIECE)
    assert pushed(bench, client) == [PIECE] * count


def test_an_agent_that_floods_its_followers_is_held_to_the_rate_and_that_is_said_once(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent, client = bench.agent(), bench.client()
    attempt = running(bench, agent, tmp_path / "job")
    follow(bench, client, attempt.job)
    for _ in range(1000):
        say(bench, agent, attempt, PIECE)
    assert sum(map(len, pushed(bench, client))) <= LOG_BURST_BYTES
    agent.heard += 2.0
    for _ in range(1000):
        say(bench, agent, attempt, PIECE)
    assert 0 < sum(map(len, pushed(bench, client))) <= 2 * LOG_BYTES_S_MAX
    say(bench, agent, attempt, b"")
    assert pushed(bench, client) == []
    assert caplog.text.count("of the logs that agent attic sent were dropped") == 1


def test_another_agent_s_log_does_not_suffer_from_the_flood(bench: Bench, tmp_path: Path) -> None:
    flooder, client = bench.agent(slots=1), bench.client()
    theirs = running(bench, flooder, tmp_path / "theirs")
    honest = bench.agent(bench.cast.other_agent, name="loft", slots=1)
    mine = running(bench, honest, tmp_path / "mine")
    follow(bench, client, theirs.job)
    for _ in range(1000):
        say(bench, flooder, theirs, PIECE)
    bench.hear(client, WatchLogs(request=4, job=mine.job, index=0))
    pushed(bench, client)
    say(bench, honest, mine, b"a word")
    assert pushed(bench, client) == [b"a word"]


def test_one_piece_of_any_size_is_cut_to_the_rate(bench: Bench, tmp_path: Path) -> None:
    agent, client = bench.agent(), bench.client()
    attempt = running(bench, agent, tmp_path / "job")
    follow(bench, client, attempt.job)
    say(bench, agent, attempt, b"x" * (LOG_BURST_BYTES + 1))
    [piece] = pushed(bench, client)
    assert 0 < len(piece) < LOG_BURST_BYTES


def test_empty_words_without_end_are_no_way_round_the_rate(bench: Bench, tmp_path: Path) -> None:
    agent, client = bench.agent(), bench.client()
    attempt = running(bench, agent, tmp_path / "job")
    follow(bench, client, attempt.job)
    for _ in range(1000):
        say(bench, agent, attempt, b"")
    assert pushed(bench, client) == []


def test_nobody_writes_into_the_log_of_another_agent_s_task(bench: Bench, tmp_path: Path) -> None:
    agent, client = bench.agent(), bench.client()
    attempt = running(bench, agent, tmp_path / "job")
    follow(bench, client, attempt.job)
    mallory = bench.agent(bench.cast.other_agent, name="mallory")
    say(bench, mallory, attempt, b"all is lost")
    assert pushed(bench, client) == []
    say(bench, agent, Attempt(attempt.job, 0, attempt.number + 1, attempt.lease), b"of another attempt")
    assert pushed(bench, client) == []
    say(bench, agent, attempt, b"all is well")
    assert pushed(bench, client) == [b"all is well"]


def test_who_follows_a_task_before_it_starts_hears_it_from_its_start(bench: Bench, tmp_path: Path) -> None:
    client = bench.client()
    job = bench.take(prepared(bench.cast, tmp_path / "job", inputs=2))
    follow(bench, client, job)
    agent = bench.agent()
    assigned = bench.assigned(agent)
    assert bench.told(agent, FollowLogs) == []
    for attempt in assigned:
        started(bench, agent, attempt)
    assert bench.told(agent, FollowLogs) == [FollowLogs(attempt=assigned[0])]
