"""Parts of text to strips of cells, in the colours of the theme."""

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from discogrid_tui.cells import Cell, Tone
from discogrid_tui.text import elide

TONE_CLASSES = {f"tone--{tone}" for tone in Tone}
TONE_CSS = """
    & > .tone--plain { color: $foreground; }
    & > .tone--quiet { color: $text-muted; }
    & > .tone--good { color: $text-success; }
    & > .tone--active { color: $text-primary; text-style: bold; }
    & > .tone--warn { color: $text-warning; text-style: bold; }
    & > .tone--bad { color: $text-error; text-style: bold; }
"""
"""Goes into the DEFAULT_CSS of a widget that has TONE_CLASSES among its COMPONENT_CLASSES."""


def tones(widget: Widget) -> dict[Tone, Style]:
    """The style of each tone, without a background of its own."""
    return {tone: _foreground(widget.get_component_rich_style(f"tone--{tone}")) for tone in Tone}


def _foreground(style: Style) -> Style:
    return Style(color=style.color, bold=style.bold, underline=style.underline)


def segments(
    cell: Cell, width: int, base: Style, styles: dict[Tone, Style], *, right: bool = False
) -> list[Segment]:
    """A cell in exactly `width` cells: cut with `…`, or filled up."""
    found: list[Segment] = []
    left = width
    for text, tone in cell:
        if left <= 0:
            break
        shown = elide(text, left)
        if shown:
            found.append(Segment(shown, base + styles[tone]))
        left -= cell_len(shown)
        if shown != text:
            break
    if left > 0:
        found.insert(0 if right else len(found), Segment(" " * left, base))
    return found


def strip(cell: Cell, width: int, base: Style, styles: dict[Tone, Style]) -> Strip:
    """One whole line."""
    return Strip(segments(cell, width, base, styles), width)
