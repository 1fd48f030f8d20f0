"""The columns of the three lists: what a row shows, what orders it, what a filter can ask, what goes when room is short.

Pure. Widths are cells. A column of priority 1 is always there; the others leave, the highest number first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from discogrid.types import JobState, TaskState
from discogrid.views import AgentView, JobView, TaskView
from discogrid_tui.cells import NOTHING, Cell, Tone, ago, elapsed, plain, progress, slots, state
from discogrid_tui.filters import Fields
from discogrid_tui.listing import SortKey
from discogrid_tui.text import elide_middle, printable

V = TypeVar("V")

GAP = 1  # cells between two columns
NARROW = 60  # below so many cells a state is its sign alone
JOB_ORDER = [
    JobState.RUNNING,
    JobState.FAILED,
    JobState.QUEUED,
    JobState.HELD,
    JobState.CANCELLED,
    JobState.SUCCEEDED,
]
TASK_ORDER = [
    TaskState.FAILED,
    TaskState.QUARANTINED,
    TaskState.RUNNING,
    TaskState.ASSIGNED,
    TaskState.QUEUED,
    TaskState.CANCELLED,
    TaskState.DONE,
]
NODE_CHARS = 8  # of a node id, enough to tell two apart


@dataclass(frozen=True, slots=True)
class Column(Generic[V]):
    """One column. `narrow` is its width on a narrow screen; `grow` is its share of the cells that are left."""

    name: str
    width: int
    cell: Callable[[V, float, int], Cell]
    sort: Callable[[V], SortKey]
    priority: int = 1
    narrow: int | None = None
    grow: int = 0
    descending: bool = False  # how it is sorted when it is first chosen
    right: bool = False


@dataclass(frozen=True, slots=True)
class Kind(Generic[V]):
    """One kind of list."""

    noun: str
    columns: tuple[Column[V], ...]
    fields: Fields[V]

    def index(self, name: str) -> int:
        """Where a column is."""
        return [column.name for column in self.columns].index(name)


def fit(kind: Kind[Any], width: int) -> list[tuple[int, int]]:
    """The columns that fit into `width` cells as (index, width), growing columns widened to fill it."""
    narrow = width < NARROW
    chosen = [
        (index, column.narrow if narrow and column.narrow is not None else column.width)
        for index, column in enumerate(kind.columns)
    ]
    while len(chosen) > 1 and sum(cells + GAP for _, cells in chosen) - GAP > width:
        least = max(chosen, key=lambda pair: (kind.columns[pair[0]].priority, pair[0]))
        chosen.remove(least)
    left = max(0, width - (sum(cells + GAP for _, cells in chosen) - GAP))
    shares = sum(kind.columns[index].grow for index, _ in chosen)
    fitted = []
    for index, cells in chosen:
        grow = kind.columns[index].grow
        extra = left * grow // shares if grow else 0
        left, shares = left - extra, shares - grow
        fitted.append((index, cells + extra))
    return fitted


def _optional(number: float | None) -> SortKey:
    return (number is not None, number or 0)


def _job_name(job: JobView, _now: float, width: int) -> Cell:
    return plain(elide_middle(printable(job.name), width))


def _job_time(job: JobView, now: float, _width: int) -> Cell:
    return elapsed(job.started, job.ended, now)


def _job_note(job: JobView, _now: float, _width: int) -> Cell:
    return plain(printable(job.reason), Tone.QUIET)


def _task_time(task: TaskView, now: float, _width: int) -> Cell:
    if task.seconds is not None and task.state.ended:
        return elapsed(0.0, task.seconds, now)
    return elapsed(task.started, task.ended, now)


def _task_tries(task: TaskView, _now: float, _width: int) -> Cell:
    return plain(str(task.attempt or NOTHING), Tone.WARN if task.failures else Tone.QUIET)


def _task_exit(task: TaskView, _now: float, _width: int) -> Cell:
    if task.exit is None:
        return plain(NOTHING, Tone.QUIET)
    return plain(str(task.exit), Tone.BAD if task.exit else Tone.GOOD)


def _seen(agent: AgentView, now: float, _width: int) -> Cell:
    return ago(agent.seen, now)


JOBS: Kind[JobView] = Kind(
    "job",
    (
        Column(
            "state",
            11,
            lambda job, _, width: state(job.state, width),
            lambda job: (JOB_ORDER.index(job.state),),
            narrow=1,
        ),
        Column("job", 5, lambda job, _, __: plain(job.id), lambda job: (job.id,)),
        Column("name", 18, _job_name, lambda job: (job.name.casefold(),), narrow=12, grow=3),
        Column(
            "tasks",
            18,
            lambda job, _, width: progress(job.counts, width),
            lambda job: (job.counts.total,),
            narrow=13,
            grow=1,
            descending=True,
        ),
        Column("time", 7, _job_time, lambda job: _optional(job.started), priority=2, right=True),
        Column(
            "created",
            8,
            lambda job, now, _: ago(job.created, now),
            lambda job: (job.created,),
            priority=3,
            descending=True,
            right=True,
        ),
        Column(
            "script",
            14,
            lambda job, _, __: plain(printable(job.script)),
            lambda job: (job.script,),
            priority=4,
        ),
        Column("note", 12, _job_note, lambda job: (job.reason,), priority=5, grow=3),
        Column(
            "by",
            NODE_CHARS,
            lambda job, _, __: plain(job.submitter[:NODE_CHARS]),
            lambda job: (job.submitter,),
            priority=6,
        ),
    ),
    {
        "state": lambda job: job.state,
        "job": lambda job: job.id,
        "name": lambda job: job.name,
        "script": lambda job: job.script,
        "by": lambda job: job.submitter,
        "note": lambda job: job.reason,
    },
)

TASKS: Kind[TaskView] = Kind(
    "task",
    (
        Column(
            "state",
            13,
            lambda task, _, width: state(task.state, width),
            lambda task: (TASK_ORDER.index(task.state),),
            narrow=1,
        ),
        Column("task", 9, lambda task, _, __: plain(task.label), lambda task: (task.index,)),
        Column(
            "input",
            14,
            lambda task, _, width: plain(elide_middle(printable(task.input or NOTHING), width)),
            lambda task: (task.input or "",),
            narrow=12,
            grow=2,
        ),
        Column(
            "agent",
            8,
            lambda task, _, __: plain(printable(task.agent or NOTHING)),
            lambda task: (task.agent or "",),
            priority=3,
            grow=1,
        ),
        Column(
            "time",
            7,
            _task_time,
            lambda task: _optional(task.seconds),
            priority=2,
            descending=True,
            right=True,
        ),
        Column("try", 3, _task_tries, lambda task: (task.attempt,), priority=4, descending=True, right=True),
        Column(
            "exit", 4, _task_exit, lambda task: _optional(task.exit), priority=5, descending=True, right=True
        ),
        Column(
            "note",
            12,
            lambda task, _, __: plain(printable(task.reason), Tone.QUIET),
            lambda task: (task.reason,),
            6,
            grow=4,
        ),
    ),
    {
        "state": lambda task: task.state,
        "task": lambda task: task.label,
        "input": lambda task: task.input or "",
        "agent": lambda task: task.agent or "",
        "exit": lambda task: "" if task.exit is None else str(task.exit),
        "note": lambda task: task.reason,
    },
)

AGENTS: Kind[AgentView] = Kind(
    "agent",
    (
        Column(
            "state",
            6,
            lambda agent, _, width: state(agent.state, width),
            lambda agent: (agent.state,),
            narrow=1,
        ),
        Column(
            "agent",
            12,
            lambda agent, _, __: plain(printable(agent.id)),
            lambda agent: (agent.id.casefold(),),
            grow=2,
        ),
        Column(
            "slots",
            12,
            lambda agent, _, width: slots(agent.busy, agent.slots, width),
            lambda agent: (agent.busy,),
            narrow=7,
            grow=1,
            descending=True,
        ),
        Column(
            "held",
            5,
            lambda agent, _, __: plain(str(agent.queued)),
            lambda agent: (agent.queued,),
            3,
            descending=True,
            right=True,
        ),
        Column(
            "done",
            7,
            lambda agent, _, __: plain(str(agent.done)),
            lambda agent: (agent.done,),
            2,
            descending=True,
            right=True,
        ),
        Column("seen", 7, _seen, lambda agent: (agent.seen,), 2, descending=True, right=True),
        Column(
            "box", 8, lambda agent, _, __: plain(printable(agent.sandbox)), lambda agent: (agent.sandbox,), 4
        ),
        Column(
            "python", 7, lambda agent, _, __: plain(printable(agent.python)), lambda agent: (agent.python,), 5
        ),
        Column(
            "platform",
            8,
            lambda agent, _, __: plain(printable(agent.platform)),
            lambda agent: (agent.platform,),
            6,
        ),
        Column(
            "version",
            8,
            lambda agent, _, __: plain(printable(agent.software)),
            lambda agent: (agent.software,),
            7,
        ),
    ),
    {
        "state": lambda agent: agent.state,
        "agent": lambda agent: agent.id,
        "box": lambda agent: agent.sandbox,
        "python": lambda agent: agent.python,
        "platform": lambda agent: agent.platform,
        "version": lambda agent: agent.software,
    },
)
