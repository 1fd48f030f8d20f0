"""Readers: a complete first picture, pages that fit a header, and an end."""

from typing import Any

import pytest

from discogrid.messages import Changed, LogPushed
from discogrid.types import AgentId, Attempt, Counts, Digest, JobId, JobState, NodeId, TaskState
from discogrid.views import AgentView, JobView, TaskView
from discogrid.wire import decode, encode
from discogrid_coordinator.pages import PAGE_VIEWS, first_page
from discogrid_coordinator.watches import FOLLOWERS_MAX, WATCHES_MAX, Follower, Watcher, Watches

JOB, OTHER = JobId("k3f9"), JobId("zzzz")
LONG = "ü" * 125


def job(id_: JobId = JOB, **other: Any) -> JobView:
    known = {"name": LONG, "state": JobState.RUNNING, "counts": Counts(), "submitter": NodeId("n" * 52)}
    return JobView(id_, script=LONG, created=0.0, digest=Digest("blake3:" + "a" * 64), **{**known, **other})


def task(index: int, id_: JobId = JOB, **other: Any) -> TaskView:
    known = {"input": LONG, "reason": "é" * 500, "archive": Digest("blake3:" + "a" * 64)}
    return TaskView(id_, index, TaskState.FAILED, **{**known, **other})


def agent(number: int) -> AgentView:
    return AgentView(
        AgentId(f"agent-{number}-{'x' * 50}"),
        NodeId("n" * 52),
        "live",
        1,
        0,
        0,
        0,
        "linux",
        "3.11",
        "0",
        "strict",
        0.0,
    )


class Reader:
    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.watches = Watches(lambda route, message, payload: self.heard.append(decode(encode(message))))

    def take(self) -> list[Any]:
        heard, self.heard = self.heard, []
        return heard


def test_a_picture_of_thousands_comes_whole_in_messages_that_can_be_sent() -> None:
    reader = Reader()
    jobs, tasks = [job(JobId(f"j{n}")) for n in range(500)], [task(n) for n in range(1000)]
    agents = [agent(n) for n in range(700)]
    reader.watches.watch(Watcher(b"r", 5, None, tasks=True), jobs, tasks, agents)
    heard = reader.take()
    assert all(isinstance(message, Changed) and message.request == 5 for message in heard)
    assert [view for message in heard for view in message.jobs] == jobs
    assert [view for message in heard for view in message.tasks] == tasks
    assert [view for message in heard for view in message.agents] == agents
    assert [message.complete for message in heard] == [False] * (len(heard) - 1) + [True]


def test_a_page_holds_what_fits_and_at_least_one() -> None:
    assert first_page([]) == []
    assert len(first_page([1] * 1000)) == PAGE_VIEWS
    assert len(first_page(["x" * 20_000] * 5)) == 2
    assert len(first_page(["x" * 60_000] * 5)) == 1


def test_a_watcher_of_one_job_hears_of_that_job_alone() -> None:
    reader = Reader()
    reader.watches.watch(Watcher(b"r", 1, JOB, tasks=True), [job()], [], [])
    reader.take()
    reader.watches.changed([job(OTHER), job()], [task(0, OTHER), task(1)], [agent(0)])
    heard = reader.take()
    assert [view.id for message in heard for view in message.jobs] == [JOB]
    assert [(view.job, view.index) for message in heard for view in message.tasks] == [(JOB, 1)]
    assert not any(message.agents for message in heard)


def test_who_wants_no_tasks_hears_of_none() -> None:
    reader = Reader()
    reader.watches.watch(Watcher(b"r", 1, None, tasks=False), [], [], [])
    reader.watches.watch(Watcher(b"r", 2, JOB, tasks=False), [], [], [])
    reader.take()
    reader.watches.changed([job()], [task(0)], [])
    assert [(message.request, message.tasks) for message in reader.take()] == [(1, ()), (2, ())]


def test_nothing_comes_after_the_end_of_a_watch_or_of_a_client() -> None:
    reader = Reader()
    for request in (1, 2):
        reader.watches.watch(Watcher(b"r", request, None, tasks=True), [], [], [])
    reader.watches.follow(Follower(b"r", 3, JOB, 0))
    reader.take()
    reader.watches.end(b"r", 1)
    reader.watches.changed([job()], [], [])
    assert [message.request for message in reader.take()] == [2]
    assert [follower.request for follower in reader.watches.leave(b"r")] == [3]
    reader.watches.changed([job()], [], [])
    reader.watches.output(Attempt(JOB, 0, 1, 7), "stdout", 0, b"x")
    assert reader.take() == []
    assert len(reader.watches) == 0


def test_a_follower_hears_its_task_until_it_has_ended() -> None:
    reader = Reader()
    reader.watches.follow(Follower(b"r", 1, JOB, 0))
    reader.watches.output(Attempt(JOB, 0, 2, 7), "stderr", 5, b"x")
    reader.watches.output(Attempt(JOB, 1, 2, 7), "stderr", 5, b"x")
    reader.watches.ended(JOB, 0, TaskState.DONE)
    assert reader.take() == [
        LogPushed(request=1, stream="stderr", offset=5, attempt=2),
        LogPushed(request=1, state=TaskState.DONE),
    ]
    reader.watches.output(Attempt(JOB, 0, 2, 7), "stderr", 6, b"x")
    assert reader.take() == []


@pytest.mark.parametrize("kind", ["watchers", "followers"])
def test_so_many_may_watch_and_not_one_more(kind: str) -> None:
    watches = Reader().watches
    for number in range(WATCHES_MAX if kind == "watchers" else FOLLOWERS_MAX):
        assert not watches.full
        if kind == "watchers":
            watches.watch(Watcher(b"r", number, JOB, tasks=False), [], [], [])
        else:
            watches.follow(Follower(b"r", number, JOB, 0))
    assert watches.full
