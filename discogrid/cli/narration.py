"""The only writer of stderr: what happens, how far it is, what went wrong and what to do."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from discogrid.cli.style import Style
from discogrid.cli.text import fit, printable, terminal_columns
from discogrid.errors import DiscogridError

REDRAW_S = 0.1  # a bar on a terminal is drawn at most so often
PLAIN_LINE_S = 10.0  # elsewhere, a line so often
BAR_CELLS = 24


class Narration:
    """Messages and progress on one stream. `quiet` leaves only warnings and errors; `verbose` adds details."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """`stream` is stderr unless given; `clock` is in seconds."""
        self.stream: TextIO = stream or sys.stderr
        self.terminal: bool = self.stream.isatty()
        self.style: Style = Style(on=False)
        self.quiet: bool = False
        self.verbose = False
        self.clock = clock
        self._progress: Progress | None = None

    def say(self, text: str) -> None:
        """A message; not when quiet."""
        if not self.quiet:
            self._line(text)

    def detail(self, text: str) -> None:
        """A message that only -v shows."""
        if self.verbose:
            self._line(self.style.dim(text))

    def warn(self, text: str) -> None:
        """A message that is shown even when quiet."""
        self._line(self.style.warning("warning: ") + text)

    def error(self, error: DiscogridError) -> None:
        """What happened, why probably, what to do."""
        self._line(self.style.bad("error: ") + _lines(error.what))
        if error.why:
            self._line(_lines(error.why))
        if error.fix:
            self._line(self.style.bold("fix: ") + _lines(error.fix))

    def progress(self, total: float) -> "Progress":
        """A bar from 0 to `total`; use it in a `with`."""
        self._progress = Progress(self, total)
        return self._progress

    def write(self, text: str) -> None:
        """Text as it is; nobody listening is no error."""
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            self.quiet = True

    def end_progress(self) -> None:
        """No bar is shown any more."""
        self._progress = None

    def _line(self, text: str) -> None:
        bar = self._progress if self._progress is not None and self._progress.hide() else None
        self.write(text + "\n")
        if bar is not None:
            bar.draw()


class Progress:
    """One bar: on a terminal redrawn in place, elsewhere a plain line every PLAIN_LINE_S seconds."""

    def __init__(self, narration: Narration, total: float) -> None:
        """Use `Narration.progress`."""
        self._narration = narration
        self.total = total
        self._text = ""
        self._part = 0.0
        self._drawn = narration.clock() if not narration.terminal else float("-inf")
        self._visible = False

    def __enter__(self) -> Self:
        """Nothing is drawn before the first update."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self.hide()
        self._narration.end_progress()

    def update(self, done: float, text: str) -> None:
        """So much of the total is done; `text` says it in words."""
        self._part, self._text = min(done / self.total, 1.0) if self.total else 0.0, text
        narration, now = self._narration, self._narration.clock()
        if narration.quiet or now - self._drawn < (REDRAW_S if narration.terminal else PLAIN_LINE_S):
            return
        self._drawn = now
        if narration.terminal:
            self.draw()
        else:
            narration.write(text + "\n")

    def draw(self) -> None:
        """Draw the bar where the cursor is."""
        width = terminal_columns() - 1
        bar = bar_text(self._part, min(BAR_CELLS, max(width - 40, 0)))
        self._narration.write("\r\x1b[K" + fit(f"{bar} {self._text}".strip(), width))
        self._visible = True

    def hide(self) -> bool:
        """Take the bar off the terminal; whether there was one."""
        was, self._visible = self._visible, False
        if was:
            self._narration.write("\r\x1b[K")
        return was


def bar_text(part: float, width: int) -> str:
    """A bar of `width` columns, filled up to `part` (0 to 1) in eighths of a column."""
    if width <= 0:
        return ""
    eighths: int = round(part * width * 8)
    filled = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    return filled + "░" * (width - len(filled))


def _lines(text: str) -> str:
    """Several lines may be meant; nothing else in them may act on a terminal."""
    return "\n".join(map(printable, text.splitlines()))
