"""One line of parts, some of which can be clicked."""

from textual.events import Click
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from discogrid_tui.cells import Cell
from discogrid_tui.lines import width_of
from discogrid_tui.widgets.paint import TONE_CLASSES, TONE_CSS, strip, tones


class Line(Widget):
    """A line that shows what it was given last; `spans` name the actions behind its parts."""

    COMPONENT_CLASSES = TONE_CLASSES
    DEFAULT_CSS = f"Line {{ height: 1; width: 1fr; {TONE_CSS} }}"

    class Pressed(Message):
        """An action's part was clicked."""

        def __init__(self, action: str) -> None:
            """`action` is the name of a row of the registry."""
            super().__init__()
            self.action = action

    def __init__(self, *, id: str) -> None:  # noqa: A002  Textual's own word
        """Empty until `show`."""
        super().__init__(id=id)
        self._cell: Cell = ()
        self._spans: list[tuple[int, str]] = []

    def show(self, cell: Cell) -> None:
        """Show this, if it is not there yet."""
        if cell != self._cell:
            self._cell = cell
            self.refresh()

    def offer(self, actions: list[tuple[str, Cell]]) -> None:
        """Show actions side by side; a click on one of them posts Pressed."""
        self._spans, end = [], 0
        for name, cell in actions:
            end += width_of(cell)
            self._spans.append((end, name))
        self.show(tuple(part for _, cell in actions for part in cell))

    def render_line(self, y: int) -> Strip:
        """The line; Textual asks for nothing else."""
        if y > 0:
            return Strip.blank(self.size.width, self.rich_style)
        return strip(self._cell, self.size.width, self.rich_style, tones(self))

    def on_click(self, event: Click) -> None:
        """Say which action was meant."""
        for end, name in self._spans:
            if event.x < end:
                self.post_message(self.Pressed(name))
                return
