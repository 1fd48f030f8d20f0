"""A grid that is not there: whatever it pushes goes through the wire's codec, as from a real coordinator."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from discogrid.errors import GridError
from discogrid.messages import Changed, Welcome
from discogrid.types import AgentId, Counts, Digest, JobId, JobState, NodeId, TaskState
from discogrid.views import AgentView, JobView, TaskView
from discogrid.wire import decode, encode

NOW = 1_795_000_000.0
"""When every test begins, seconds since 1970."""
PUSH_ROWS = 100
TURNS_MAX = 5_000


async def until(true: Callable[[], object], *, pause_s: float = 0.002) -> None:
    """Let others work until this is so."""
    for _ in range(TURNS_MAX):
        if true():
            return
        await asyncio.sleep(pause_s)
    raise AssertionError("it never became so")


def job(named: str = "k3f9", **changes: object) -> JobView:
    values: dict[str, object] = {
        "id": JobId(named),
        "name": "glasses_5",
        "state": JobState.RUNNING,
        "counts": Counts(queued=20, running=8, done=12),
        "submitter": NodeId("mfrggzdfmztwq2lk"),
        "script": "glasses_5.py",
        "created": NOW - 65,
        "digest": Digest("blake3:" + "0" * 64),
        "started": NOW - 60,
    }
    return JobView(**(values | changes))  # type: ignore[arg-type]


def task(index: int = 0, job: str = "k3f9", **changes: object) -> TaskView:
    values: dict[str, object] = {
        "job": JobId(job),
        "index": index,
        "state": TaskState.QUEUED,
        "input": f"split{index:03}.mp4",
    }
    return TaskView(**(values | changes))  # type: ignore[arg-type]


def agent(name: str = "attic", **changes: object) -> AgentView:
    values: dict[str, object] = {
        "id": AgentId(name),
        "node": NodeId("mfrggzdfmztwq2lk"),
        "state": "live",
        "slots": 4,
        "busy": 2,
        "queued": 1,
        "done": 12,
        "platform": "linux",
        "python": "3.11.9",
        "software": "0.1.0",
        "sandbox": "strict",
        "seen": NOW - 3,
    }
    return AgentView(**(values | changes))  # type: ignore[arg-type]


def a_job_of_each_state() -> list[JobView]:
    return [
        job("k3f9", created=NOW - 65),
        job("a2b7", name="night movie", state=JobState.SUCCEEDED, counts=Counts(done=200), created=NOW - 7200, started=NOW - 7190, ended=NOW - 3600),
        job("zz4q", name="broken", state=JobState.FAILED, counts=Counts(done=3, failed=2), created=NOW - 9000, started=NOW - 8990, ended=NOW - 8000, reason="2 tasks failed"),
        job("q7rt", name="later", state=JobState.HELD, counts=Counts(queued=5), created=NOW - 30, started=None, reason="held until `discogrid release q7rt`"),
        job("w5nn", name="waits", state=JobState.QUEUED, counts=Counts(queued=50), created=NOW - 20, started=None),
        job("c1c1", name="given up", state=JobState.CANCELLED, counts=Counts(done=1, cancelled=9), created=NOW - 90000, started=NOW - 89000, ended=NOW - 88000),
    ]  # fmt: skip


def a_task_of_each_state() -> list[TaskView]:
    return [
        task(0, state=TaskState.DONE, attempt=1, agent="attic", started=NOW - 60, ended=NOW - 48, seconds=11.4, exit=0, archive=Digest("blake3:" + "1" * 64), archive_bytes=345_678),
        task(1, state=TaskState.RUNNING, attempt=1, agent="attic", started=NOW - 20),
        task(2, state=TaskState.FAILED, attempt=2, failures=2, agent="cellar", started=NOW - 50, ended=NOW - 45, seconds=4.9, exit=1, reason="the script ended with exit code 1"),
        task(3, state=TaskState.ASSIGNED, attempt=1, agent="cellar"),
        task(4),
        task(5, state=TaskState.CANCELLED),
        task(6, state=TaskState.QUARANTINED, attempt=3, failures=3, reason="it ended three agents"),
        task(7, input="a name with\nnewline and \x1b[31mcolour.mp4"),
    ]  # fmt: skip


class FakeGrid:
    """What a coordinator would tell: `connect` is what the dashboard calls."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobView] = {}
        self.tasks: dict[str, dict[int, TaskView]] = {}
        self.agents: dict[str, AgentView] = {}
        self.reachable = True
        self.connections = 0
        self.watched: list[str | None] = []
        self._clients: set[FakeClient] = set()

    def connect(self) -> "FakeClient":
        return FakeClient(self)

    def push(self, *views: JobView | TaskView | AgentView) -> None:
        """Change these, and tell everybody who watches them."""
        for view in views:
            match view:
                case JobView():
                    self.jobs[view.id] = view
                case TaskView():
                    self.tasks.setdefault(view.job, {})[view.index] = view
                case AgentView():
                    self.agents[view.id] = view
        for client in self._clients:
            client.tell(views)

    def vanish(self) -> None:
        """The coordinator is gone."""
        self.reachable = False
        for client in list(self._clients):
            client.end()


class FakeClient:
    def __init__(self, grid: FakeGrid) -> None:
        self.grid = grid
        self.welcome: Welcome | None = None
        self._watches: dict[int, tuple[str | None, bool, asyncio.Queue[bytes | None]]] = {}

    async def __aenter__(self) -> Self:
        if not self.grid.reachable:
            raise GridError("the coordinator did not answer within 5 s", fix="Start it with `discogrid up`.")
        self.grid.connections += 1
        self.grid._clients.add(self)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.grid._clients.discard(self)

    @asynccontextmanager
    async def watch(
        self, job: JobId | None = None, *, tasks: bool = True
    ) -> AsyncIterator[AsyncIterator[Changed]]:
        request = len(self._watches) + 1
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._watches[request] = (job, tasks, queue)
        self.grid.watched.append(job)
        self._picture(request)

        async def changes() -> AsyncIterator[Changed]:
            while (header := await queue.get()) is not None:
                message = decode(header)
                assert isinstance(message, Changed)
                yield message
            raise GridError("the coordinator is gone", fix="Start it with `discogrid up`.")

        try:
            yield changes()
        finally:
            del self._watches[request]

    def tell(self, views: tuple[JobView | TaskView | AgentView, ...]) -> None:
        for request, (job, tasks, queue) in self._watches.items():
            jobs = tuple(v for v in views if isinstance(v, JobView) and job in (None, v.id))
            seen = tuple(v for v in views if isinstance(v, TaskView) and tasks and job in (None, v.job))
            agents = tuple(v for v in views if isinstance(v, AgentView) and job is None)
            if jobs or seen or agents:
                queue.put_nowait(encode(Changed(request=request, jobs=jobs, tasks=seen, agents=agents)))

    def end(self) -> None:
        for _, _, queue in self._watches.values():
            queue.put_nowait(None)

    def _picture(self, request: int) -> None:
        wanted, tasks, queue = self._watches[request]
        rows: list[JobView | TaskView | AgentView] = [
            v for v in self.grid.jobs.values() if wanted in (None, v.id)
        ]
        if tasks:
            rows += [
                v for job, known in self.grid.tasks.items() if wanted in (None, job) for v in known.values()
            ]
        if wanted is None:
            rows += self.grid.agents.values()
        for first in range(0, len(rows), PUSH_ROWS):
            page = rows[first : first + PUSH_ROWS]
            changed = Changed(
                request=request,
                jobs=tuple(v for v in page if isinstance(v, JobView)),
                tasks=tuple(v for v in page if isinstance(v, TaskView)),
                agents=tuple(v for v in page if isinstance(v, AgentView)),
            )
            queue.put_nowait(encode(changed))
        queue.put_nowait(encode(Changed(request=request, complete=True)))


def a_busy_grid() -> FakeGrid:
    grid = FakeGrid()
    grid.push(*a_job_of_each_state(), *a_task_of_each_state(), agent())
    grid.push(agent("cellar", slots=12, busy=12, queued=4, done=1207, python="3.13.1", seen=NOW - 1))
    grid.push(agent("old laptop", state="lost", busy=0, queued=0, seen=NOW - 400))
    return grid
