"""Colours, when they are wanted: never the only carrier of a meaning."""

import os
from typing import TextIO

_RESET = "\x1b[0m"
_STATES = {
    "running": "\x1b[36m",
    "working": "\x1b[36m",
    "done": "\x1b[32m",
    "succeeded": "\x1b[32m",
    "ok": "\x1b[32m",
    "live": "\x1b[32m",
    "failed": "\x1b[31m",
    "fail": "\x1b[31m",
    "lost": "\x1b[31m",
    "starved": "\x1b[33m",
    "warn": "\x1b[33m",
    "held": "\x1b[33m",
    "cancelled": "\x1b[33m",
    "quarantined": "\x1b[33m",
    "idle": "\x1b[2m",
    "queued": "\x1b[2m",
}


class Style:
    """Wraps text in colours, or leaves it alone."""

    def __init__(self, *, on: bool) -> None:
        """`on`: whether colours are written at all."""
        self.on = on

    def state(self, text: str) -> str:
        """A state word (with its padding) in its colour; other text unchanged."""
        colour = _STATES.get(text.strip())
        return f"{colour}{text}{_RESET}" if self.on and colour else text

    def bold(self, text: str) -> str:
        """Heavier."""
        return f"\x1b[1m{text}{_RESET}" if self.on else text

    def dim(self, text: str) -> str:
        """Lighter."""
        return f"\x1b[2m{text}{_RESET}" if self.on else text

    def bad(self, text: str) -> str:
        """What went wrong."""
        return f"\x1b[1;31m{text}{_RESET}" if self.on else text

    def warning(self, text: str) -> str:
        """What deserves a look."""
        return f"\x1b[1;33m{text}{_RESET}" if self.on else text


def wants_colour(choice: str, stream: TextIO) -> bool:
    """Whether to colour a stream: `always`, `never`, or `auto` (a terminal, unless NO_COLOR is set)."""
    if choice != "auto":
        return choice == "always"
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
