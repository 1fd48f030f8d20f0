"""A sheet over the lists: help, or everything about one row."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

Line = tuple[str, str]


class Sheet(ModalScreen[None]):
    """Labelled lines under a title; any of the usual keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,enter,question_mark,i,backspace,f1", "dismiss", "Close"),
        ("j,down", "scroll(1)", "Down"),
        ("k,up", "scroll(-1)", "Up"),
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

    def __init__(self, title: str, lines: list[Line]) -> None:
        """Each line is a label and its text; texts are wrapped."""
        super().__init__()
        self._title = title
        self._lines = lines

    def compose(self) -> ComposeResult:
        """A box that scrolls."""
        with VerticalScroll() as box:
            box.border_title = Text(self._title).markup
            box.border_subtitle = "esc closes"
            yield Static(self._text())

    def action_scroll(self, lines: int) -> None:
        """Move the text under the frame."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def _text(self) -> Text:
        width = max((len(label) for label, _ in self._lines), default=0)
        text = Text(no_wrap=False)
        for label, value in self._lines:
            text.append(f"{label:<{width}}  ", style="bold")
            text.append(f"{value}\n")
        text.rstrip()
        return text
