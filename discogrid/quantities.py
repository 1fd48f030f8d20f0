"""Sizes and durations as people write them: `2G`, `90s`, `1h30m`, and back."""

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms])", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def parse_size(text: str) -> int:
    """Bytes in `512M`, `2G`, `1.5GiB` or `1000000`; K, M, G and T count in 1024s. ValueError says what is wrong."""
    match = _SIZE.fullmatch(text.strip())
    size = round(float(match[1]) * float(1024 ** _POWER[match[2].lower()])) if match else 0
    if size <= 0:
        raise ValueError(f"{text!r} is no size; write 512M, 2G or a number of bytes")
    return size


def parse_duration(text: str) -> float:
    """Seconds in `90s`, `15m`, `1h30m`, `2d` or `90`. ValueError says what is wrong."""
    stripped = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", stripped):
        seconds = float(stripped)
    elif re.fullmatch(f"(?:{_DURATION_PART.pattern})+", stripped, re.IGNORECASE):
        seconds = sum(
            float(number) * _SECONDS[unit.lower()] for number, unit in _DURATION_PART.findall(stripped)
        )
    else:
        seconds = 0.0
    if seconds <= 0:
        raise ValueError(f"{text!r} is no duration; write 90s, 15m or 1h30m")
    return seconds


def size_text(size: float) -> str:
    """`1.4 GiB`: three digits or fewer and a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000 or (unit == "B" and size < 1024):
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def duration_text(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3:07 min`, `2:05 h`, `3 d`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    if whole < 2 * 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{whole // 86400} d"


def iso_text(moment: float | None) -> str | None:
    """Seconds since 1970 as ISO-8601 UTC with milliseconds; None stays None."""
    if moment is None:
        return None
    from datetime import UTC, datetime  # not for the help

    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
