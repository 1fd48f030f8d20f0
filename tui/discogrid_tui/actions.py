"""One registry of what can be done: it feeds keys, footer, help and palette. Pure: an action says itself why it cannot.

To add an action: add its row here and an `action_<name>` method to the dashboard.
"""

from collections.abc import Callable
from dataclasses import dataclass

from discogrid.views import AgentView, JobView, TaskView
from discogrid_tui.model import Link, Model, Tab


def _always(_model: Model) -> str | None:
    return None


def _needs_row(model: Model) -> str | None:
    return None if model.selected else "There is no row under the cursor."


def _needs_filter(model: Model) -> str | None:
    return (
        None
        if model.views[model.tab].filter or model.tab is not Tab.JOBS
        else "There is nothing to go back from."
    )


def _needs_lost_link(model: Model) -> str | None:
    return "The grid answers already." if model.connection.link is Link.LIVE else None


def _needs_an_owner(model: Model) -> str | None:
    return model.no_invitations or None


@dataclass(frozen=True, slots=True)
class Action:
    """Something the user can do; `refusal` says why it cannot be done now, or None."""

    name: str
    keys: tuple[str, ...]  # as Textual names them; the first one is shown
    shown: str  # how the keys are written
    title: str
    does: str
    refusal: Callable[[Model], str | None] = _always
    footer: str = ""  # its word in the footer; empty: it is not there


ACTIONS: tuple[Action, ...] = (
    Action(
        "open",
        ("enter",),
        "enter",
        "Open",
        "Tasks of a job; everything about a task or an agent",
        _needs_row,
        "open",
    ),
    Action(
        "filter",
        ("slash",),
        "/",
        "Filter",
        "Show only some rows: state:failed agent:attic text",
        footer="filter",
    ),
    Action(
        "sort", ("s",), "s", "Sort by the next column", "Order the rows by the next column", footer="sort"
    ),
    Action(
        "back",
        ("escape",),
        "esc",
        "Back",
        "Clear the filter, then go back to the jobs",
        _needs_filter,
        "back",
    ),
    Action("next_tab", ("tab", "right"), "tab", "Next tab", "Look at the next list", footer="next"),
    Action(
        "help",
        ("question_mark", "f1"),
        "?",
        "Help",
        "All keys, and why one of them does nothing now",
        footer="help",
    ),
    Action("quit", ("q", "ctrl+c"), "q", "Quit", "Leave the dashboard; jobs go on", footer="quit"),
    Action("details", ("i",), "i", "Details", "Everything about the row under the cursor", _needs_row),
    Action("previous_tab", ("shift+tab", "left"), "S-tab", "Previous tab", "Look at the list before"),
    Action("show_jobs", ("1",), "1", "Jobs", "Look at the jobs"),
    Action("show_tasks", ("2",), "2", "Tasks", "Look at the tasks of the opened job"),
    Action("show_agents", ("3",), "3", "Agents", "Look at the agents"),
    Action("down", ("down", "j"), "↓ j", "Down", "One row down"),
    Action("up", ("up", "k"), "↑ k", "Up", "One row up"),
    Action("page_down", ("pagedown", "ctrl+f"), "PgDn", "Page down", "One screen down"),
    Action("page_up", ("pageup", "ctrl+b"), "PgUp", "Page up", "One screen up"),
    Action("top", ("g", "home"), "g", "Top", "The first row"),
    Action("bottom", ("G", "end"), "G", "Bottom", "The last row"),
    Action("reverse", ("S",), "S", "Reverse the order", "Order the rows the other way round"),
    Action("copy_id", ("c",), "c", "Copy the id", "Put the row's id on the clipboard", _needs_row),
    Action(
        "copy_command",
        ("C",),
        "C",
        "Copy the command",
        "Put the command that shows the same on the clipboard",
    ),
    Action(
        "invite",
        ("I",),
        "I",
        "Invite a machine",
        "Show a code by which a machine on this network joins the grid",
        _needs_an_owner,
    ),
    Action("reconnect", ("r",), "r", "Reconnect now", "Do not wait for the next try", _needs_lost_link),
    Action("palette", ("ctrl+p", "colon"), "^p", "Palette", "Find any of these by name", footer="palette"),
)


def action(name: str) -> Action:
    """The action of this name; KeyError when there is none."""
    return _BY_NAME[name]


def row_id(row: JobView | TaskView | AgentView) -> str:
    """What a user types for a row: `k3f9`, `k3f9-012`, `attic`."""
    return row.label if isinstance(row, TaskView) else row.id


def command(model: Model) -> str:
    """The command that shows on the command line what the cursor is on, or the whole list when it is on nothing."""
    return " ".join(part for part in ("discogrid", *_words(model), model.flags) if part)


def _words(model: Model) -> tuple[str, ...]:
    row = model.selected
    if isinstance(row, AgentView):
        return ("agents",)
    if row is not None:
        return ("show", row_id(row))
    if model.tab is Tab.TASKS and model.opened is not None:
        return ("tasks", model.opened)
    return ("agents",) if model.tab is Tab.AGENTS else ("ls",)


_BY_NAME = {row.name: row for row in ACTIONS}
