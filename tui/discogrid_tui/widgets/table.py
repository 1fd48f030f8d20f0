"""Our own table by Textual's line API: only the lines that are on the screen are ever built, whatever the number of rows.

Textual's DataTable measures every cell of a refill: 10,000 rows take it two seconds on the loop that draws.
"""

from collections.abc import Callable

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.events import Click
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from discogrid_tui.cells import Cell, Tone, plain
from discogrid_tui.columns import GAP, Column, fit
from discogrid_tui.model import Model, Tab
from discogrid_tui.text import elide
from discogrid_tui.widgets.paint import TONE_CLASSES, TONE_CSS, segments, strip, tones

MARGIN = 2  # cells before the first column: the cursor's sign and a space
CURSOR = "▌"


class Table(ScrollView, can_focus=True, inherit_bindings=False):
    """One tab's rows. It owns nothing but the scroll position: rows, order and cursor are the model's."""

    COMPONENT_CLASSES = TONE_CLASSES | {"table--cursor"}
    DEFAULT_CSS = f"""
    Table {{
        height: 1fr; overflow-x: hidden; overflow-y: auto;
        scrollbar-gutter: stable; scrollbar-size-vertical: 1;
        {TONE_CSS}
        & > .table--cursor {{ background: $surface-lighten-2; text-style: bold; }}
        &:focus > .table--cursor {{ background: $primary-muted; text-style: bold; }}
    }}
    """

    class Pointed(Message):
        """A row was clicked."""

        def __init__(self, position: int) -> None:
            """`position` counts from the first row that passes the filter."""
            super().__init__()
            self.position = position

    def __init__(
        self, model: Model, tab: Tab, now: Callable[[], float], empty: Callable[[], list[Cell]]
    ) -> None:
        """`now` is the coordinator's clock; `empty` are the lines to show where there are no rows."""
        super().__init__(id=f"table-{tab}")
        self._model = model
        self._tab = tab
        self._now = now
        self._empty = empty
        self._fitted: tuple[int, list[tuple[int, int]]] = (0, [])
        self._cursor = 0

    @property
    def fitted(self) -> list[tuple[int, int]]:
        """The columns that are shown as (index, width in cells)."""
        width = max(1, self.inside.width - MARGIN)
        if self._fitted[0] != width:
            self._fitted = (width, fit(self._model.views[self._tab].kind, width))
        return self._fitted[1]

    @property
    def inside(self) -> Size:
        """What the rows may fill: all but the scrollbar."""
        return self.scrollable_content_region.size

    @property
    def page(self) -> int:
        """Rows that fit on the screen, at least one."""
        return max(1, self.size.height)

    # -- what to paint

    def repaint(self, dirty: set[object] | None) -> None:
        """Show what changed: the rows of these keys, or everything when None."""
        listing = self._model.listing(self._tab)
        if dirty is None:
            self._resize_rows()
            self.follow()
            self.refresh()
            return
        top, bottom = self.scroll_offset.y, self.scroll_offset.y + self.size.height
        for key in dirty:
            position = listing.position(key)  # type: ignore[arg-type]
            if position is not None and top <= position < bottom:
                self.refresh_line(position)

    def follow(self) -> None:
        """The rows moved: keep the cursor's row on its line of the screen if it was to be seen there."""
        before, self._cursor = self._cursor, self._model.listing(self._tab).cursor
        seen = self.scroll_offset.y <= before < self.scroll_offset.y + self.size.height
        if seen and before != self._cursor:
            self.scroll_to(y=self.scroll_offset.y + self._cursor - before, animate=False, force=True)

    def reveal(self) -> None:
        """The user moved the cursor, perhaps to a row that was not painted yet: bring it onto the screen."""
        self._resize_rows()
        before, self._cursor = self._cursor, self._model.listing(self._tab).cursor
        top = self.scroll_offset.y
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif self._cursor >= top + self.page:
            self.scroll_to(y=self._cursor - self.page + 1, animate=False, force=True)
        self.refresh_line(before)
        self.refresh_line(self._cursor)

    def render_line(self, y: int) -> Strip:
        """The row that is on line `y` of the screen now."""
        width = self.inside.width
        listing = self._model.listing(self._tab)
        position = y + self.scroll_offset.y
        if not len(listing):
            return self._empty_line(y, width)
        if position >= len(listing):
            return Strip.blank(width, self.rich_style)
        return self._row_line(listing.at(position), width, under_cursor=position == listing.cursor)

    def titles(self) -> Cell:
        """The names of the columns, in their widths, with the order's arrow."""
        view = self._model.views[self._tab]
        text = " " * MARGIN
        for index, width in self.fitted:
            column: Column[object] = view.kind.columns[index]
            arrow = ("↓" if view.descending else "↑") if index == view.column else ""
            name = (elide(column.name, width - len(arrow)) if width > 2 else "") + arrow
            pad = " " * (width - cell_len(name))
            text += (pad + name if column.right else name + pad) + " " * GAP
        return plain(text.rstrip(), Tone.QUIET)

    def column_at(self, x: int) -> int | None:
        """The index of the column at a cell of the line."""
        end = MARGIN
        for index, width in self.fitted:
            end += width + GAP
            if x < end:
                return index
        return None

    # -- events

    def on_resize(self) -> None:
        """Keep the cursor on the screen."""
        self._resize_rows()
        self.reveal()
        self.refresh()

    def on_click(self, event: Click) -> None:
        """Point at the row under the mouse."""
        position = event.y + self.scroll_offset.y
        if position < len(self._model.listing(self._tab)):
            self.post_message(self.Pointed(position))

    # -- bookkeeping

    def _resize_rows(self) -> None:
        self.virtual_size = Size(self.inside.width, len(self._model.listing(self._tab)))

    def _row_line(self, row: object, width: int, *, under_cursor: bool) -> Strip:
        base = self._cursor_style() if under_cursor else self.rich_style
        styles = tones(self)
        now = self._now()
        line = [Segment(f"{CURSOR} " if under_cursor else "  ", base)]
        columns = self._model.views[self._tab].kind.columns
        for index, cells in self.fitted:
            column = columns[index]
            line += segments(column.cell(row, now, cells), cells, base, styles, right=column.right)
            line.append(Segment(" " * GAP, base))
        return Strip(line).adjust_cell_length(width, base)

    def _empty_line(self, y: int, width: int) -> Strip:
        lines = self._empty()
        number = y - max(0, (self.size.height - len(lines)) // 3)
        cell = lines[number] if 0 <= number < len(lines) else ()
        return strip((("  ", Tone.PLAIN), *cell), width, self.rich_style, tones(self))

    def _cursor_style(self) -> Style:
        return self.get_component_rich_style("table--cursor")


class Titles(Widget):
    """The line with the names of the columns; a click sorts by one."""

    COMPONENT_CLASSES = TONE_CLASSES
    DEFAULT_CSS = (
        f"Titles {{ height: 1; width: 1fr; {TONE_CSS} & > .tone--quiet {{ text-style: underline; }} }}"
    )

    class Chosen(Message):
        """A column was clicked."""

        def __init__(self, column: int) -> None:
            """`column` is its index in the kind of list."""
            super().__init__()
            self.column = column

    def __init__(self) -> None:
        """Empty until `show`."""
        super().__init__(id="titles")
        self._table: Table | None = None

    def show(self, table: Table) -> None:
        """Show the columns of this table."""
        self._table = table
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The names."""
        cell = self._table.titles() if self._table is not None and y == 0 else ()
        return strip(cell, self.size.width, self.rich_style, tones(self))

    def on_click(self, event: Click) -> None:
        """Say which column was meant."""
        column = self._table.column_at(event.x) if self._table is not None else None
        if column is not None:
            self.post_message(self.Chosen(column))
