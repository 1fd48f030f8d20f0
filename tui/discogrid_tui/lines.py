"""The single lines around the lists, and what an empty list says: model in, parts out. Pure.

What does not fit is left out whole, the least important first; the link to the grid is always said.
"""

from collections.abc import Iterable
from typing import assert_never

from rich.cells import cell_len

from discogrid_tui.actions import ACTIONS
from discogrid_tui.cells import SIGNS, Cell, Part, Tone, plain, progress
from discogrid_tui.model import Link, Model, Status, Summary, Tab
from discogrid_tui.text import duration, plural, printable, rate

SPACE: Part = ("  ", Tone.PLAIN)
OWN_FIX = "It starts with the next `discogrid submit`."
ALWAYS = ("help", "quit")  # in the footer, however narrow it is
WIDE = 60  # from so many cells on, tabs and header use their long words


def width_of(parts: Iterable[Part]) -> int:
    """Cells that the parts take."""
    return sum(cell_len(text) for text, _ in parts)


def header(model: Model, now: float, width: int) -> Cell:
    """Grid, status, agents, slots and speed on the left; how fresh all of it is on the right."""
    summary = model.summary(now)
    right = link(model, now, width)
    items = [plain(f"discogrid {printable(model.grid)}")]
    if model.complete:
        items += _glance(summary, width)
    if width < WIDE:
        items.append(items.pop(0))  # the word for the grid matters more than its name
    left = _fitting(items, width - width_of(right) - 3)
    gap = max(1, width - width_of(left) - width_of(right) - 2)
    return ((" ", Tone.PLAIN), *left, (" " * gap, Tone.PLAIN), *right, (" ", Tone.PLAIN))


def _glance(summary: Summary, width: int) -> list[Cell]:
    return [
        _status(summary.status),
        _agents(summary, long=width >= WIDE),
        plain(f"slots {summary.busy}/{summary.slots}"),
        plain(rate(summary.per_second)),
    ]


def link(model: Model, now: float, width: int) -> Cell:
    """`live`, or how old the screen is and what is done about it."""
    connection = model.connection
    match connection.link:
        case Link.LIVE:
            return plain("● live", Tone.GOOD)
        case Link.STALE:
            return plain(f"! stale {duration(int(now - connection.since))}, reconnecting", Tone.WARN)
        case Link.CONNECTING:
            if not connection.what:
                return plain("○ connecting", Tone.QUIET)
            return plain("! no grid, trying again" if width >= WIDE else "! no grid", Tone.WARN)
        case _:
            assert_never(connection.link)


def tasks_line(model: Model, now: float, width: int) -> Cell:
    """All tasks of the grid by state with a bar; while the link is gone, why, and what to do."""
    connection = model.connection
    if connection.link is Link.STALE:
        fix = OWN_FIX if model.own else connection.fix
        return _fitting(
            [plain(f" {printable(connection.what)}", Tone.WARN), plain(printable(fix), Tone.QUIET)], width
        )
    if not model.complete:
        return ()
    counts = model.summary(now).counts
    items = [
        plain(f" tasks {counts.queued + counts.assigned} waiting"),
        plain(f"{counts.running} running", Tone.ACTIVE if counts.running else Tone.PLAIN),
        plain(f"{counts.done} done"),
        plain(
            f"{counts.failed + counts.quarantined} failed",
            Tone.BAD if counts.failed + counts.quarantined else Tone.PLAIN,
        ),
        plain(f"{counts.cancelled} cancelled"),
    ]
    if not counts.cancelled:
        items.pop()
    left = _fitting(items, width)
    room = width - width_of(left) - 3
    return (*left, SPACE, *progress(counts, min(room, 40))) if room >= 16 and counts.total else left


def tabs(model: Model, width: int) -> list[tuple[Tab, str, bool]]:
    """Each tab's text and whether it is the one that is looked at."""
    found = []
    for number, tab in enumerate(Tab, start=1):
        count = model.listing(tab).total
        title = tab.value.capitalize()
        if tab is Tab.TASKS:
            known = model.opened is not None
            title = f"{title} of {model.opened}" if known and width >= WIDE else title
            shown = f" {count}" if known else ""
        else:
            shown = f" {count}"
        found.append(
            (
                tab,
                f" {number} {title}{shown} " if width >= WIDE else f" {number} {title}{shown}",
                tab is model.tab,
            )
        )
    return found


def subject(model: Model, width: int) -> Cell:
    """The job whose tasks are shown."""
    job = model.opened_job
    if job is None:
        return plain(f" {model.opened}", Tone.QUIET)
    sign, tone = SIGNS[job.state]
    head: Cell = ((f" {job.id} ", Tone.PLAIN), (f"{sign} {job.state} ", tone))
    room = width - width_of(head) - 1
    bar = progress(job.counts, min(24, room))
    if width_of(bar) > room:
        return head
    name = printable(f"{job.name}: {job.reason}" if job.reason else job.name)
    if width_of(head) + width_of(bar) + 10 > width:
        return (*head, *bar)
    return (*head, *bar, SPACE, (name, Tone.QUIET))


def status(model: Model) -> Cell:
    """How many of how many rows are seen, through which filter, in which order."""
    view, listing = model.views[model.tab], model.listing(model.tab)
    shown = f" {len(listing)} of {plural(listing.total, view.kind.noun)}"
    row = f"  row {listing.cursor + 1}" if len(listing) else ""
    order = f"  by {view.sorted_by.name} {'↓' if view.descending else '↑'}"
    parts = [(shown, Tone.PLAIN), (row + order, Tone.QUIET)]
    if view.filter:
        parts.insert(1, (f"  filter {printable(view.filter)}", Tone.ACTIVE))
    if view.unknown:
        asked = ", ".join(f"{name}:" for name in view.unknown)
        fields = " ".join(view.kind.fields)
        parts.insert(2, (f"  no field {printable(asked)} there are {fields}", Tone.WARN))
    return tuple(parts)


def footer(model: Model, width: int) -> list[tuple[str, Cell]]:
    """The actions that can be done now and fit, each with its key."""
    offered = [row for row in ACTIONS if row.footer and row.refusal(model) is None]
    cells = {row.name: ((f" {row.shown}", Tone.ACTIVE), (f" {row.footer} ", Tone.QUIET)) for row in offered}
    left = width - sum(width_of(cells[name]) for name in ALWAYS)
    fitting: list[tuple[str, Cell]] = []
    for row in offered:
        needed = width_of(cells[row.name])
        if row.name in ALWAYS:
            fitting.append((row.name, cells[row.name]))
        elif needed <= left:
            left -= needed
            fitting.append((row.name, cells[row.name]))
    return fitting


def empty(model: Model, tab: Tab) -> list[Cell]:
    """What a list without rows says: why it is empty and the next command."""
    connection, view = model.connection, model.views[tab]
    total = model.listing(tab).total
    if connection.link is Link.CONNECTING:
        return _connecting(model)
    if total:
        return [
            plain(f"None of {plural(total, view.kind.noun)} passes  {printable(view.filter)}"),
            plain("esc clears the filter", Tone.QUIET),
        ]
    match tab:
        case Tab.JOBS:
            return _no_jobs(model)
        case Tab.TASKS:
            return _no_tasks(model)
        case Tab.AGENTS:
            return _no_agents(model)
        case _:
            assert_never(tab)


def _connecting(model: Model) -> list[Cell]:
    connection = model.connection
    if not connection.what:
        return [plain(f"Looking for the coordinator of the grid {printable(model.grid)} …", Tone.QUIET)]
    lines = [plain(printable(connection.what), Tone.WARN)]
    if model.own:
        lines += [
            plain("This machine's own grid starts with the next job:"),
            _command("submit SCRIPT INPUT…", model),
        ]
    else:
        lines.append(plain(printable(connection.fix)))
    return [*lines, plain("r tries again now", Tone.QUIET)]


def _no_jobs(model: Model) -> list[Cell]:
    if not model.complete:
        return [plain("Reading the jobs …", Tone.QUIET)]
    return [
        plain("No jobs yet. Send the first one:"),
        _command("submit SCRIPT INPUT…", model),
        plain("or see a real one at work:", Tone.QUIET),
        _command("demo", None),
    ]


def _no_tasks(model: Model) -> list[Cell]:
    if model.opened is None:
        return [plain("No job is open."), plain("1 shows the jobs, enter opens one", Tone.QUIET)]
    if model.complete and model.opened_job is None:
        return [
            plain(f"The grid does not know {model.opened} any more."),
            plain("1 shows the jobs", Tone.QUIET),
        ]
    if not model.tasks_complete:
        return [plain(f"Reading the tasks of {model.opened} …", Tone.QUIET)]
    return [plain(f"{model.opened} has no tasks.")]


def _no_agents(model: Model) -> list[Cell]:
    if not model.complete:
        return [plain("Reading the agents …", Tone.QUIET)]
    return [plain("No machine lends itself to this grid. Lend this one:"), _command("agent", model)]


def _command(words: str, model: Model | None) -> Cell:
    flags = f" {model.flags}" if model is not None and model.flags else ""
    return plain(f"discogrid {words}{flags}", Tone.ACTIVE)


def _status(word: Status) -> Cell:
    sign, tone = SIGNS.get(word, ("○", Tone.QUIET))
    return plain(f"{sign} {word}", tone)


def _agents(summary: Summary, *, long: bool) -> Cell:
    on = f"{plural(summary.live, 'agent')} on" if long else f"{summary.live} on"
    lost: Cell = plain(f" {summary.lost} lost", Tone.BAD) if summary.lost else ()
    return (*plain(on), *lost)


def _fitting(items: list[Cell], width: int) -> Cell:
    chosen: list[Part] = []
    for item in items:
        parts = [SPACE, *item] if chosen else list(item)
        if chosen and width_of(chosen) + width_of(parts) > width:
            break
        chosen += parts
    return tuple(chosen)
