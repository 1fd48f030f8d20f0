"""The dashboard: performs the actions of the registry and keeps the feed running. It changes no job."""

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from textual.app import App, SystemCommand
from textual.screen import Screen

from discogrid.client import AsyncClient
from discogrid.errors import DiscogridError, ExitCode
from discogrid.grid import HOME, Grid, choose_grid, open_grid
from discogrid.pairing.host import inviting
from discogrid.pairing.nearby import asking
from discogrid.pairing.news import News
from discogrid.views import JobView
from discogrid_tui.actions import ACTIONS, Action, action, command, row_id
from discogrid_tui.details import details
from discogrid_tui.feed import Feed, GridClient
from discogrid_tui.model import Model, Tab
from discogrid_tui.screens.invitation import InvitationSheet, Inviting, OpenInvitation
from discogrid_tui.screens.main import Main
from discogrid_tui.screens.sheet import Sheet

PROGRAM: Final = "discogrid tui"
WHILE_TYPING = frozenset({"back", "quit", "palette"})
"""Actions whose keys no text is edited with."""


class Dashboard(App[None]):
    """Jobs, tasks and agents of one grid, live. Every action is a row of `actions.ACTIONS` and a method here."""

    TITLE = "discogrid"
    AUTO_FOCUS = None

    def __init__(
        self,
        model: Model,
        connect: Callable[[], AbstractAsyncContextManager[GridClient]],
        clock: Callable[[], float] = time.time,
        inviting: Inviting | None = None,
    ) -> None:
        """`connect` makes a client of the grid, `clock` gives seconds since 1970.

        `inviting` lets machines in; it is there unless the model says why not.
        """
        super().__init__()
        self.model = model
        self._clock = clock
        self._feed = Feed(model, connect, clock)
        self._main = Main(model, clock)
        self._inviting = inviting

    def on_mount(self) -> None:
        """Show the lists and follow the grid."""
        self.push_screen(self._main)
        self.run_worker(self._feed.run(), name="feed", exit_on_error=True)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The registry, for the palette; Textual's own commands are not part of the dashboard."""
        if screen is not self._main:
            return
        for row in ACTIONS:
            if row.name != "palette":
                yield SystemCommand(
                    f"{row.title}  ({row.shown})", self._told(row), lambda row=row: self._do(row)
                )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a filter is typed, its keys are the filter's own."""
        if action == "perform" and self._main.filtering:
            return parameters[0] in WHILE_TYPING
        return super().check_action(action, parameters)

    def action_perform(self, name: str) -> None:
        """Do what the registry calls `name`, or say why not."""
        self._do(action(name))

    def _do(self, row: Action) -> None:
        refusal = row.refusal(self.model)
        if refusal is not None:
            self.notify(refusal, timeout=3, markup=False)
            return
        getattr(self, f"do_{row.name}")()

    def _told(self, row: Action) -> str:
        refusal = row.refusal(self.model)
        return row.does if refusal is None else f"{row.does} (not now: {refusal})"

    # -- one method an action

    def do_open(self) -> None:
        """Open the job under the cursor, or show all about the task or agent."""
        row = self.model.selected
        if isinstance(row, JobView):
            self.model.open(row.id)
            self._feed.opened()
            self._main.look()
        else:
            self.do_details()

    def do_details(self) -> None:
        """Show all about the row under the cursor."""
        row = self.model.selected
        if row is not None:
            now = self.model.grid_now(self._clock())
            self.push_screen(Sheet(row_id(row), details(row, now, self.model.flags)))

    def do_filter(self) -> None:
        """Let the user type a filter."""
        self._main.ask_filter()

    def do_back(self) -> None:
        """Undo one thing: the filter, then the tab."""
        if self.model.views[self.model.tab].filter or self._main.filtering:
            self.model.set_filter(self.model.tab, "")
            self._main.end_filter()
        else:
            self.do_show_jobs()

    def do_sort(self) -> None:
        """Order by the next column."""
        self.model.sort_next()
        self._main.paint()

    def do_reverse(self) -> None:
        """Order the other way round."""
        self.model.reverse()
        self._main.paint()

    def do_next_tab(self) -> None:
        """Look at the next list."""
        self.model.step(1)
        self._main.look()

    def do_previous_tab(self) -> None:
        """Look at the list before."""
        self.model.step(-1)
        self._main.look()

    def do_show_jobs(self) -> None:
        """Look at the jobs."""
        self.model.show(Tab.JOBS)
        self._main.look()

    def do_show_tasks(self) -> None:
        """Look at the tasks."""
        self.model.show(Tab.TASKS)
        self._main.look()

    def do_show_agents(self) -> None:
        """Look at the agents."""
        self.model.show(Tab.AGENTS)
        self._main.look()

    def do_down(self) -> None:
        """One row down."""
        self._move(1)

    def do_up(self) -> None:
        """One row up."""
        self._move(-1)

    def do_page_down(self) -> None:
        """One screen down."""
        self._move(self._main.table.page)

    def do_page_up(self) -> None:
        """One screen up."""
        self._move(-self._main.table.page)

    def do_top(self) -> None:
        """The first row."""
        self._move(-len(self.model.listing(self.model.tab)))

    def do_bottom(self) -> None:
        """The last row."""
        self._move(len(self.model.listing(self.model.tab)))

    def do_copy_id(self) -> None:
        """The row's id to the clipboard."""
        row = self.model.selected
        if row is not None:
            self._copy(row_id(row))

    def do_copy_command(self) -> None:
        """The command that shows the same to the clipboard."""
        self._copy(command(self.model))

    def do_invite(self) -> None:
        """Show a code by which a machine joins."""
        assert self._inviting is not None
        self.push_screen(InvitationSheet(self.model.grid, self._inviting, self._clock))

    def do_reconnect(self) -> None:
        """Try again now."""
        self._feed.retry()

    def do_help(self) -> None:
        """All keys."""
        self.push_screen(Sheet("Keys", [(row.shown, self._told(row)) for row in ACTIONS]))

    def do_palette(self) -> None:
        """Find an action by name."""
        self.action_command_palette()

    def do_quit(self) -> None:
        """Leave; jobs go on."""
        self.exit()

    def _move(self, by: int) -> None:
        self.model.move(self.model.listing(self.model.tab).cursor + by)
        self._main.reveal()

    def _copy(self, text: str) -> None:
        self.copy_to_clipboard(text)
        self.notify(text, title="Copied", timeout=3, markup=False)


def run(grid: Grid) -> int:
    """Show the grid until the user leaves; NO_GRID when it was never in reach."""
    refusal, invites = inviting_to(grid)
    model = Model(grid.name, time.time(), own=grid.own, flags=flags_for(grid), no_invitations=refusal)
    Dashboard(model, lambda: AsyncClient(grid, program=PROGRAM), inviting=invites).run()
    return ExitCode.SUCCEEDED if model.ever_live else ExitCode.NO_GRID


def inviting_to(grid: Grid) -> tuple[str, Inviting | None]:
    """How to invite to the grid, or why that cannot be done here."""
    if grid.own:
        return "This machine's own grid has no other machines; `discogrid up` starts one that has.", None
    try:
        owner = grid.owner()
    except DiscogridError as error:
        return error.what, None
    if owner is None:
        return f"The owner's key of the grid {grid.name} is not on this machine.", None

    @asynccontextmanager
    async def opened(told: Callable[[News], None]) -> AsyncIterator[OpenInvitation]:
        async with AsyncClient(grid, program=PROGRAM) as client, inviting(grid, owner, client, told) as offer:
            yield offer

    return "", Inviting(opened, asking)


def flags_for(grid: Grid) -> str:
    """What other commands need so that they mean this grid too; nothing when they mean it anyway."""
    try:
        usual = choose_grid()
    except DiscogridError:
        usual = None
    if usual is not None and (usual.name, usual.endpoint) == (grid.name, grid.endpoint):
        return ""
    if grid.own:
        return "--local"
    named = [] if grid.name == HOME else ["--grid", grid.name]
    elsewhere = (
        [] if grid.endpoint == open_grid(grid.name).endpoint else ["--coordinator", str(grid.endpoint)]
    )
    return " ".join(named + elsewhere)
