"""Who is told of changes: watchers get them at 10 Hz at most, followers get a running task's output."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from discogrid.messages import Changed, LogPushed, Message
from discogrid.types import Attempt, JobId, Run, TaskState
from discogrid.views import AgentView, JobView, TaskView
from discogrid_coordinator.pages import first_page

PUSH_S = 0.1
WATCHES_MAX = 256
FOLLOWERS_MAX = 256

Send = Callable[[bytes, Message, Sequence[bytes]], None]


@dataclass(frozen=True, slots=True)
class Watcher:
    """A client's wish to see changes of one job, or of everything."""

    route: bytes
    request: int
    job: JobId | None
    tasks: bool


@dataclass(frozen=True, slots=True)
class Follower:
    """A client's wish to see a task's output."""

    route: bytes
    request: int
    job: JobId
    index: int


class Watches:
    """All watchers and followers; `send` puts a message into the server's outbox."""

    def __init__(self, send: Send) -> None:
        """Nobody watches yet."""
        self._send = send
        self._watchers: dict[tuple[bytes, int], Watcher] = {}
        self._followers: dict[tuple[bytes, int], Follower] = {}

    def __len__(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def full(self) -> bool:
        """Whether one more would be too many."""
        return len(self._watchers) >= WATCHES_MAX or len(self._followers) >= FOLLOWERS_MAX

    def watch(
        self,
        watcher: Watcher,
        jobs: Iterable[JobView],
        tasks: Iterable[TaskView],
        agents: Iterable[AgentView],
    ) -> None:
        """Begin with a complete picture."""
        self._watchers[watcher.route, watcher.request] = watcher
        self._push(watcher, list(jobs), list(tasks), list(agents))
        self._send(watcher.route, Changed(request=watcher.request, complete=True), ())

    def follow(self, follower: Follower) -> None:
        """Begin to pass a task's output on."""
        self._followers[follower.route, follower.request] = follower

    def end(self, route: bytes, request: int) -> Follower | None:
        """The client has seen enough; the follower it was, if it was one."""
        self._watchers.pop((route, request), None)
        return self._followers.pop((route, request), None)

    def leave(self, route: bytes) -> list[Follower]:
        """The client is gone; the followers it had."""
        for key in [key for key in self._watchers if key[0] == route]:
            del self._watchers[key]
        return [self._followers.pop(key) for key in [key for key in self._followers if key[0] == route]]

    def changed(
        self, jobs: Sequence[JobView], tasks: Sequence[TaskView], agents: Sequence[AgentView]
    ) -> None:
        """Tell every watcher what concerns it."""
        for watcher in self._watchers.values():
            if watcher.job is None:
                self._push(watcher, jobs, tasks if watcher.tasks else (), agents)
            else:
                own_tasks = [task for task in tasks if task.job == watcher.job] if watcher.tasks else ()
                self._push(watcher, [job for job in jobs if job.id == watcher.job], own_tasks, ())

    def followers(self, job: JobId, index: int) -> list[Follower]:
        """Who follows this task."""
        return [
            follower
            for follower in self._followers.values()
            if (follower.job, follower.index) == (job, index)
        ]

    def followed(self, run: Run) -> list[Attempt]:
        """The attempts among these whose output somebody follows."""
        wanted = {each.index for each in self._followers.values() if each.job == run.job}
        return [attempt for attempt in run.attempts() if attempt.index in wanted] if wanted else []

    def output(self, attempt: Attempt, stream: str, offset: int, chunk: bytes) -> None:
        """Pass output on."""
        for follower in self.followers(attempt.job, attempt.index):
            message = LogPushed(
                request=follower.request, stream=stream, offset=offset, attempt=attempt.number
            )
            self._send(follower.route, message, (chunk,))

    def ended(self, job: JobId, index: int, state: TaskState) -> None:
        """The task has ended: its followers can read the archive."""
        for follower in self.followers(job, index):
            self._send(follower.route, LogPushed(request=follower.request, state=state), ())
            del self._followers[follower.route, follower.request]

    def _push(
        self,
        watcher: Watcher,
        jobs: Sequence[JobView],
        tasks: Sequence[TaskView],
        agents: Sequence[AgentView],
    ) -> None:
        while page := first_page(jobs):
            jobs = jobs[len(page) :]
            self._send(watcher.route, Changed(request=watcher.request, jobs=tuple(page)), ())
        while rows := first_page(tasks):
            tasks = tasks[len(rows) :]
            self._send(watcher.route, Changed(request=watcher.request, tasks=tuple(rows)), ())
        while lenders := first_page(agents):
            agents = agents[len(lenders) :]
            self._send(watcher.route, Changed(request=watcher.request, agents=tuple(lenders)), ())
