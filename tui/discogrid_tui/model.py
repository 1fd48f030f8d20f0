"""What the dashboard knows and shows: changes and keys in, view state and dirty rows out. Pure; `now` is always given.

Times are seconds since 1970 on this machine's clock; the coordinator's are shifted by the skew it was seen to have.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from discogrid.messages import Changed
from discogrid.types import AgentId, Counts, JobId, JobState
from discogrid.views import AgentView, JobView, TaskView
from discogrid_tui.columns import AGENTS, JOBS, TASKS, Column, Kind
from discogrid_tui.filters import Filter
from discogrid_tui.listing import Listing

RATE_WINDOW_S = 20.0  # tasks per second are counted over this time
RATE_SAMPLES_MAX = 2_000
STARVED_S = 2.0  # a job that was submitted just now does not starve yet
LIVE = "live"


class Tab(StrEnum):
    """A list of the dashboard, in the order of its tabs."""

    JOBS = "jobs"
    TASKS = "tasks"
    AGENTS = "agents"


class Link(StrEnum):
    """What ties the screen to the grid."""

    CONNECTING = "connecting"  # nothing was ever seen
    LIVE = "live"
    STALE = "stale"  # what is shown was true at `since`


class Status(StrEnum):
    """The grid in one word."""

    UNKNOWN = "unknown"
    IDLE = "idle"
    WORKING = "working"
    STARVED = "starved"  # tasks wait and nothing runs


@dataclass(frozen=True, slots=True)
class Connection:
    """The link, since when, and what the last failure said."""

    link: Link
    since: float
    what: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """The grid at a glance."""

    status: Status
    live: int
    lost: int
    slots: int
    busy: int
    counts: Counts  # over all jobs that are not held
    per_second: float


@dataclass(frozen=True, slots=True)
class Dirty:
    """What to paint: per tab the keys whose rows changed in place, or None for all of its rows."""

    rows: dict[Tab, set[object] | None]
    frame: bool  # header, tabs, subject and status line


@dataclass(slots=True)
class View:
    """How one tab is looked at."""

    kind: Kind[Any]
    filter: str = ""
    unknown: tuple[str, ...] = ()  # fields of the filter that this list does not have
    column: int = 0
    descending: bool = False

    @property
    def sorted_by(self) -> Column[Any]:
        """The column that orders the rows."""
        return self.kind.columns[self.column]


class Model:
    """Everything behind the screen. `apply` takes what the grid says, the other verbs what the user wants."""

    def __init__(
        self, grid: str, now: float, *, own: bool = False, flags: str = "", no_invitations: str = ""
    ) -> None:
        """`flags` are what a command needs behind its name to mean the same grid.

        `no_invitations` says why no machine can be invited from here; empty where one can.
        """
        self.grid = grid
        self.own = own
        self.flags = flags
        self.no_invitations = no_invitations
        self.tab = Tab.JOBS
        self.opened: JobId | None = None
        self.connection = Connection(Link.CONNECTING, now)
        self.ever_live = False
        self.complete = False  # whether the first picture of the grid is whole
        self.tasks_complete = False  # the same for the opened job
        self.views = {
            Tab.JOBS: View(JOBS, column=JOBS.index("created"), descending=True),
            Tab.TASKS: View(TASKS, column=TASKS.index("task")),
            Tab.AGENTS: View(AGENTS, column=AGENTS.index("agent")),
        }
        self.jobs: Listing[JobId, JobView] = Listing(self.views[Tab.JOBS].sorted_by.sort, descending=True)
        self.tasks: Listing[int, TaskView] = Listing(self.views[Tab.TASKS].sorted_by.sort)
        self.agents: Listing[AgentId, AgentView] = Listing(self.views[Tab.AGENTS].sorted_by.sort)
        self.skew = 0.0  # how much later the coordinator's clock is, seconds
        self._picture: set[JobId] | None = None  # ids of a first picture that is still arriving
        self._picture_agents: set[AgentId] = set()
        self._picture_tasks: set[int] | None = None
        self._ended: deque[tuple[float, int]] = deque(maxlen=RATE_SAMPLES_MAX)
        self._live_since = now
        self._waiting_since: float | None = None
        self._frame = True

    # -- what the grid says

    def connected(self, now: float, coordinator_clock: float | None = None) -> None:
        """The grid answers; a complete picture follows and replaces what is known."""
        self.connection = Connection(Link.LIVE, now)
        self.skew = 0.0 if coordinator_clock is None else coordinator_clock - now
        self.ever_live = True
        self._picture, self._picture_agents = set(), set()
        self._live_since = now
        self._ended.clear()
        self._frame = True

    def disconnected(self, now: float, what: str, fix: str = "") -> None:
        """The grid does not answer. What is shown stays, and says how old it is."""
        was = self.connection
        since = now if was.link is Link.LIVE else was.since
        self.connection = Connection(Link.STALE if self.ever_live else Link.CONNECTING, since, what, fix)
        self._frame = True

    def apply(self, changed: Changed, now: float) -> None:
        """Take in what the watch of the whole grid pushed."""
        for job in changed.jobs:
            self._count(job, now)
            self.jobs.put(job.id, job)
        for agent in changed.agents:
            self.agents.put(agent.id, agent)
        if self._picture is not None:
            self._picture.update(job.id for job in changed.jobs)
            self._picture_agents.update(agent.id for agent in changed.agents)
            if changed.complete:
                self.jobs.keep(self._picture)
                self.agents.keep(self._picture_agents)
                self._picture = None
                self.complete = True
        self._note_waiting(now)
        self._frame = True

    def tasks_begin(self, job: JobId) -> None:
        """The watch of a job begins: its complete picture follows and replaces what is known."""
        if job == self.opened:
            self._picture_tasks = set()

    def apply_tasks(self, job: JobId, changed: Changed) -> None:
        """Take in what the watch of one job pushed; late pushes of a job that is no longer open change nothing."""
        if job != self.opened:
            return
        for task in changed.tasks:
            if task.job == job:
                self.tasks.put(task.index, task)
        if self._picture_tasks is not None:
            self._picture_tasks.update(task.index for task in changed.tasks)
            if changed.complete:
                self.tasks.keep(self._picture_tasks)
                self._picture_tasks = None
                self.tasks_complete = True
        self._frame = True

    # -- what the user wants

    def show(self, tab: Tab) -> None:
        """Look at a tab."""
        self.tab = tab
        self._frame = True

    def step(self, by: int) -> None:
        """Look at the next tab, or the one before."""
        tabs = list(Tab)
        self.show(tabs[(tabs.index(self.tab) + by) % len(tabs)])

    def open(self, job: JobId) -> None:
        """Look at the tasks of a job."""
        if job != self.opened:
            self.opened = job
            self.tasks.clear()
            self.tasks_complete = False
            self._picture_tasks = set()
            self.set_filter(Tab.TASKS, "")
        self.show(Tab.TASKS)

    def move(self, position: int) -> None:
        """Put the cursor of the tab on a position, or on the nearest there is."""
        self.listing(self.tab).move(position)

    def set_filter(self, tab: Tab, text: str) -> None:
        """Show only the rows that pass; an empty text shows all."""
        view = self.views[tab]
        match tab:
            case Tab.JOBS:
                jobs = Filter.parse(text, JOBS.fields)
                self.jobs.filter(jobs)
                view.filter, view.unknown = jobs.text, jobs.unknown
            case Tab.TASKS:
                tasks = Filter.parse(text, TASKS.fields)
                self.tasks.filter(tasks)
                view.filter, view.unknown = tasks.text, tasks.unknown
            case Tab.AGENTS:
                agents = Filter.parse(text, AGENTS.fields)
                self.agents.filter(agents)
                view.filter, view.unknown = agents.text, agents.unknown
            case _:
                assert_never(tab)
        self._frame = True

    def sort_next(self) -> None:
        """Order the tab's rows by its next column."""
        view = self.views[self.tab]
        self.sort((view.column + 1) % len(view.kind.columns))

    def sort(self, column: int) -> None:
        """Order the tab's rows by a column; by the same one again, the other way round."""
        view = self.views[self.tab]
        again = column == view.column
        view.column = column
        view.descending = not view.descending if again else view.sorted_by.descending
        self._sorted(view)

    def reverse(self) -> None:
        """Order the tab's rows the other way round."""
        self.sort(self.views[self.tab].column)

    # -- what is seen

    def listing(
        self, tab: Tab
    ) -> Listing[JobId, JobView] | Listing[int, TaskView] | Listing[AgentId, AgentView]:
        """The rows of a tab."""
        match tab:
            case Tab.JOBS:
                return self.jobs
            case Tab.TASKS:
                return self.tasks
            case Tab.AGENTS:
                return self.agents
            case _:
                assert_never(tab)

    @property
    def selected(self) -> JobView | TaskView | AgentView | None:
        """What the cursor is on."""
        return self.listing(self.tab).selected

    @property
    def opened_job(self) -> JobView | None:
        """The job whose tasks are shown; None when none was opened or the grid has forgotten it."""
        return None if self.opened is None else self.jobs.get(self.opened)

    def summary(self, now: float) -> Summary:
        """The grid at a glance."""
        now = self.moment(now)
        live = [agent for agent in self.agents.values() if agent.state == LIVE]
        counts = self._counts()
        return Summary(
            status=self._status(counts, now),
            live=len(live),
            lost=self.agents.total - len(live),
            slots=sum(agent.slots for agent in live),
            busy=sum(agent.busy for agent in live),
            counts=counts,
            per_second=self._per_second(now),
        )

    def moment(self, now: float) -> float:
        """When what is shown is true: now, or the time at which the link was lost."""
        return self.connection.since if self.connection.link is Link.STALE else now

    def grid_now(self, now: float) -> float:
        """The same on the coordinator's clock, which the times of jobs and tasks come from."""
        return self.moment(now) + self.skew

    def drain(self) -> Dirty:
        """What changed on the screen since the last call."""
        rows: dict[Tab, set[object] | None] = {}
        for tab in Tab:
            dirty = self.listing(tab).drain()
            if dirty is None or dirty:
                rows[tab] = None if dirty is None else set(dirty)
        frame, self._frame = self._frame, False
        return Dirty(rows, frame)

    # -- bookkeeping

    def _sorted(self, view: View) -> None:
        self.listing(self.tab).sort(view.sorted_by.sort, descending=view.descending)
        self._frame = True

    def _count(self, job: JobView, now: float) -> None:
        known = self.jobs.get(job.id)
        before = known.counts.ended if known else 0
        if known is not None or self._picture is None:  # a first picture is history, not speed
            fresh = job.counts.ended - before
            if fresh > 0 and job.state is not JobState.CANCELLED:
                self._ended.append((now, fresh))

    def _counts(self) -> Counts:
        total = [0] * 7
        for job in self.jobs.values():
            counts = job.counts
            if job.state is not JobState.HELD:
                total[0] += counts.queued
                total[1] += counts.assigned
            total[2] += counts.running
            total[3] += counts.done
            total[4] += counts.failed
            total[5] += counts.cancelled
            total[6] += counts.quarantined
        return Counts(*total)

    def _note_waiting(self, now: float) -> None:
        counts = self._counts()
        waits = counts.queued + counts.assigned > 0 and counts.running == 0
        self._waiting_since = (self._waiting_since or now) if waits else None

    def _status(self, counts: Counts, now: float) -> Status:
        if not self.complete:
            return Status.UNKNOWN
        if self._waiting_since is not None and now - self._waiting_since >= STARVED_S:
            return Status.STARVED
        return Status.WORKING if counts.queued + counts.assigned + counts.running else Status.IDLE

    def _per_second(self, now: float) -> float:
        while self._ended and now - self._ended[0][0] > RATE_WINDOW_S:
            self._ended.popleft()
        span = min(RATE_WINDOW_S, max(1.0, now - self._live_since))
        return sum(count for _, count in self._ended) / span
