"""The names of the lists, with how much is in them."""

from typing import ClassVar

from rich.segment import Segment
from textual.events import Click
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from discogrid_tui.model import Tab


class Tabs(Widget):
    """One line of tabs; the one that is looked at stands between bars, so that it shows without colour."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"tabs--active", "tabs--other"}
    DEFAULT_CSS = """
    Tabs {
        height: 1; width: 1fr; background: $panel;
        & > .tabs--active { background: $primary; color: $text; text-style: bold; }
        & > .tabs--other { color: $text-muted; background: $panel; }
    }
    """

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, tab: Tab) -> None:
            """`tab` is to be looked at."""
            super().__init__()
            self.tab = tab

    def __init__(self) -> None:
        """Empty until `show`."""
        super().__init__(id="tabs")
        self._tabs: list[tuple[Tab, str, bool]] = []

    def show(self, tabs: list[tuple[Tab, str, bool]]) -> None:
        """Show these, if they are not there yet."""
        if tabs != self._tabs:
            self._tabs = tabs
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The tabs."""
        if y > 0:
            return Strip.blank(self.size.width, self.rich_style)
        line = []
        for _, title, active in self._tabs:
            style = self.get_component_rich_style("tabs--active" if active else "tabs--other")
            line.append(
                Segment(f"[{title.strip()}]".center(len(title) + 2) if active else f" {title} ", style)
            )
        return Strip(line).adjust_cell_length(self.size.width, self.rich_style)

    def on_click(self, event: Click) -> None:
        """Say which tab was meant."""
        end = 0
        for tab, title, _ in self._tabs:
            end += len(title) + 2
            if event.x < end:
                self.post_message(self.Chosen(tab))
                return
