"""A sheet over the lists: help, or everything about one row."""

from typing import ClassVar

from rich.table import Table as RichTable
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from discogrid_tui.text import printable

Line = tuple[str, str]


class Sheet(ModalScreen[None]):
    """Labelled lines under a title; any of the usual keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,question_mark,i,f1", "dismiss", "Close", priority=True),
        Binding("j,down", "scroll(1)", "Down", priority=True),
        Binding("k,up", "scroll(-1)", "Up", priority=True),
    ]
    DEFAULT_CSS = """
    Sheet {
        align: center middle;
        & > VerticalScroll {
            width: 90%; max-width: 100; height: auto; max-height: 100%;
            border: round $primary; background: $surface; padding: 0 1;
            scrollbar-size-vertical: 1;
        }
    }
    """

    def __init__(self, title: str, lines: list[Line], closing: str = "esc closes") -> None:
        """Each line is a label and its text; texts are wrapped. `closing` says what the escape key does."""
        super().__init__()
        self._title = title
        self._subtitle = closing
        self._lines = lines
        self._text = Static(_grid(lines))

    def compose(self) -> ComposeResult:
        """A box that scrolls."""
        with VerticalScroll() as box:
            box.border_title = Text(printable(self._title)).markup
            box.border_subtitle = self._subtitle
            yield self._text

    def show(self, lines: list[Line]) -> None:
        """These lines from now on; the same ones again cost no paint."""
        if lines != self._lines:
            self._lines = lines
            self._text.update(_grid(lines))

    def action_scroll(self, lines: int) -> None:
        """Move the text under the frame."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


def _grid(lines: list[Line]) -> RichTable:
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in lines:
        grid.add_row(Text(label), Text(value))
    return grid
