"""The lists with what stands around them. It paints what the model says, at most ten times a second."""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Input

from discogrid_tui import lines
from discogrid_tui.actions import ACTIONS
from discogrid_tui.filters import FILTER_CHARS_MAX
from discogrid_tui.model import Model, Tab
from discogrid_tui.widgets.line import Line
from discogrid_tui.widgets.table import Table, Titles
from discogrid_tui.widgets.tabs import Tabs

PAINT_S = 0.1
TICK_S = 1.0  # times that run are painted so often
TALL = 16  # from so many lines on there is a second line of header
FILTER_DELAY_S = 0.15  # a filter over many rows waits for a pause in the typing


class Main(Screen[None]):
    """Header, tabs, the list that is looked at, its state, the keys."""

    # With priority a key takes effect before the next one is read: `/state:failed` may arrive in one piece.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(",".join(row.keys), f"app.perform('{row.name}')", row.title, show=False, priority=True)
        for row in ACTIONS
    ]
    CSS = """
    #header, #tasks { background: $panel; }
    #subject { background: $surface; }
    #status { background: $panel; }
    #footer { background: $panel; }
    ContentSwitcher { height: 1fr; }
    #bottom { height: auto; }
    #filter { height: 1; border: none; padding: 0; background: $boost; }
    """

    def __init__(self, model: Model, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970."""
        super().__init__()
        self._model = model
        self._clock = clock
        self._ticked = 0.0
        self._typed = 0  # counts keystrokes, so that only the last one filters

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Line(id="header")
        yield Line(id="tasks")
        yield Tabs()
        yield Line(id="subject")
        yield Titles()
        with ContentSwitcher(initial=f"table-{self._model.tab}"):
            for tab in Tab:
                yield Table(self._model, tab, self._grid_now, lambda tab=tab: lines.empty(self._model, tab))  # type: ignore[misc]
        with Vertical(id="bottom"):
            yield Line(id="status")
            yield Input(
                id="filter",
                placeholder="state:failed agent:attic text",
                max_length=FILTER_CHARS_MAX,
                compact=True,
            )
            yield Line(id="footer")

    def on_mount(self) -> None:
        """Start to paint."""
        self.query_one("#filter").display = False
        self.set_focus(self.table)
        self.set_interval(PAINT_S, self.paint)
        self._arrange()

    @property
    def table(self) -> Table:
        """The list that is looked at."""
        return self.query_one(f"#table-{self._model.tab}", Table)

    # -- painting

    def paint(self) -> None:
        """Paint what changed since the last time, and what runs by itself once a second."""
        now = self._clock()
        dirty = self._model.drain()
        ticks = now - self._ticked >= TICK_S or now < self._ticked
        for tab, keys in dirty.rows.items():
            self.query_one(f"#table-{tab}", Table).repaint(keys)
        if dirty.frame or dirty.rows or ticks:
            self._frame(now)
        if ticks:
            self._ticked = now
            self.table.refresh()

    def _frame(self, now: float) -> None:
        model, width = self._model, self.size.width
        self.query_one("#header", Line).show(lines.header(model, now, width))
        self.query_one("#tasks", Line).show(lines.tasks_line(model, now, width))
        self.query_one(Tabs).show(lines.tabs(model, width))
        subject = self.query_one("#subject", Line)
        subject.display = model.tab is Tab.TASKS and model.opened is not None
        if subject.display:
            subject.show(lines.subject(model, width))
        self.query_one("#status", Line).show(lines.status(model))
        self.query_one("#footer", Line).offer(lines.footer(model, width))
        self.query_one(Titles).show(self.table)
        if not len(model.listing(model.tab)):
            self.table.refresh()

    def _grid_now(self) -> float:
        return self._model.grid_now(self._clock())

    # -- what the dashboard asks for

    def look(self) -> None:
        """Show the model's tab."""
        self.query_one(ContentSwitcher).current = f"table-{self._model.tab}"
        if not self.filtering:
            self.set_focus(self.table)
        self.paint()

    def reveal(self) -> None:
        """The cursor was moved."""
        self.table.reveal()
        self._frame(self._clock())

    @property
    def filtering(self) -> bool:
        """Whether a filter is being typed."""
        return bool(self.query_one("#filter").display)

    def ask_filter(self) -> None:
        """Let the user type a filter over the status line."""
        asked = self.query_one("#filter", Input)
        self.query_one("#status").display = False
        asked.display = True
        with asked.prevent(Input.Changed):
            asked.value = self._model.views[self._model.tab].filter
        self.set_focus(asked)  # at once, unlike focus(): the next key belongs to it

    def end_filter(self) -> None:
        """Back to the list; what was typed stays in force."""
        self.query_one("#filter").display = False
        self.query_one("#status").display = True
        self.set_focus(self.table)
        self.paint()

    # -- events

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as the user types."""
        self._typed += 1
        typed, tab = self._typed, self._model.tab

        def settle() -> None:
            if typed == self._typed and self.filtering:
                self._model.set_filter(tab, event.value)

        self.set_timer(FILTER_DELAY_S, settle)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The filter is complete."""
        self._typed += 1
        self._model.set_filter(self._model.tab, event.value)
        self.end_filter()

    def on_table_pointed(self, event: Table.Pointed) -> None:
        """A click moves the cursor; a click on its row opens it."""
        again = event.position == self._model.listing(self._model.tab).cursor
        self._model.move(event.position)
        self.reveal()
        if again:
            self._perform("open")

    def on_tabs_chosen(self, event: Tabs.Chosen) -> None:
        """A click on a tab."""
        self._perform(f"show_{event.tab}")

    def on_titles_chosen(self, event: Titles.Chosen) -> None:
        """A click on a column sorts by it, a second one the other way round."""
        self._model.sort(event.column)
        self.paint()

    def on_line_pressed(self, event: Line.Pressed) -> None:
        """A click on a key of the footer."""
        self._perform(event.action)

    def on_resize(self) -> None:
        """Arrange anew."""
        if self.is_mounted:
            self._arrange()

    def _arrange(self) -> None:
        self.query_one("#tasks").display = self.size.height >= TALL
        self._frame(self._clock())

    def _perform(self, name: str) -> None:
        self.run_worker(self.app.run_action(f"perform('{name}')"), exclusive=False)
