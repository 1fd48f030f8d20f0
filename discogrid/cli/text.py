"""Text on its way to a terminal: made harmless, measured in cells, cut to fit."""

import re
import unicodedata

# Characters that move the cursor, ring, change colours, or reorder and hide what a reader sees.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # emoji and several scripts are written with them
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e"}
_PLAIN = re.compile(r"[ -~]*")
_COLOUR = re.compile(r"(\x1b\[[0-9;]{0,32}m)")
ELLIPSIS = "…"


def printable(text: str) -> str:
    r"""The text with every control character written out (`\n`, `\e`, `\x07`): a name cannot act on a terminal."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(map(_shown, text))


def printable_log(text: str) -> str:
    """Like `printable`, for output of programs: lines, tabs and colours stay what they are."""
    parts = _COLOUR.split(text.replace("\r\n", "\n"))
    return "".join(
        part if number % 2 else "".join(c if c in "\n\t\r" else _shown(c) for c in part)
        for number, part in enumerate(parts)
    )


def cells(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells_of, text))


def fit(text: str, width: int) -> str:
    """The text, cut to `width` columns if it is longer, with an ellipsis in place of what is missing."""
    if cells(text) <= width:
        return text
    kept, used = [], 1
    for character in text:
        used += _cells_of(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept) + (ELLIPSIS if width > 0 else "")


def pad(text: str, width: int, *, right: bool = False) -> str:
    """The text with spaces up to `width` columns, in front of it when `right`."""
    space = " " * (width - cells(text))
    return space + text if right else text + space


def terminal_columns() -> int:
    """How wide the terminal is, by COLUMNS or by asking it; 80 when there is none."""
    import shutil  # not for the help: it brings three compressors along

    return shutil.get_terminal_size().columns


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE or character in _JOINERS:
        return character
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte of a file name that is not UTF-8
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _cells_of(character: str) -> int:
    if unicodedata.combining(character) or character in _JOINERS or character == "\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
