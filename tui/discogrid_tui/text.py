"""How names, times and numbers are written on the screen: pure, plain text, no control characters."""

import unicodedata

from rich.cells import cell_len, set_cell_size

ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that move the cursor, reverse text or show nothing."""
MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400


def printable(text: str) -> str:
    r"""The text with whatever could steer a terminal written out: a newline becomes `\n`, an escape `\x1b`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if unicodedata.category(char) in ESCAPED else char for char in text)


def elide(text: str, width: int) -> str:
    """The text in at most `width` cells; what is cut off shows as `…`."""
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"[:width]


def elide_middle(text: str, width: int) -> str:
    """The same for file names, whose end tells them apart: `a_long…012.mp4`."""
    if cell_len(text) <= width or width < 8:
        return elide(text, width)
    head = set_cell_size(text, (width - 1) // 2)
    start = len(text)
    while cell_len(text[start - 1 :]) <= width - 1 - (width - 1) // 2:
        start -= 1
    return f"{head}…{text[start:]}"


def duration(seconds: float) -> str:
    """At most seven cells: `0.4 s`, `12 s`, `3m05s`, `2h07m`, `4d03h`."""
    whole = max(0, int(seconds))
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S}m{whole % MINUTE_S:02}s"
    if whole < DAY_S:
        return f"{whole // HOUR_S}h{whole % HOUR_S // MINUTE_S:02}m"
    return f"{whole // DAY_S}d{whole % DAY_S // HOUR_S:02}h"


def rate(per_second: float) -> str:
    """Tasks in a second, or in a minute when they are slow: `31/s`, `2.4/s`, `3.0/min`."""
    if per_second >= 10:
        return f"{per_second:.0f}/s"
    if per_second >= 1 or per_second == 0:
        return f"{per_second:.1f}/s"
    return f"{per_second * MINUTE_S:.1f}/min"


def size(count: int) -> str:
    """Bytes as `0 B`, `12 KiB`, `3.4 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def plural(count: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _escaped(char: str) -> str:
    return (
        char.encode("unicode_escape").decode("ascii") if char.isascii() or ord(char) > 0xFFFF else _code(char)
    )


def _code(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) <= 0xFF else f"\\u{ord(char):04x}"
