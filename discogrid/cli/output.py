"""The only writer of stdout: tables for people, JSON for programs, paths and bytes as they are."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from discogrid.cli.style import Style
from discogrid.cli.text import cells, fit, pad, printable, printable_log, terminal_columns

GAP = "  "
CELLS_MIN = 8  # a column that gives way keeps at least these


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: numbers stand `right`, what `gives_way` is cut when the terminal is narrow, a `state` is coloured."""

    title: str
    right: bool = False
    gives_way: bool = False
    state: bool = False


class Output:
    """Writes to one stream; only a terminal gets colours, cut columns and harmless names."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """`stream` is stdout unless given."""
        self.stream: TextIO = stream or sys.stdout
        self.terminal: bool = self.stream.isatty()
        self.style: Style = Style(on=False)

    def json(self, thing: str, content: Mapping[str, object]) -> None:
        """One document: `"schema": "discogrid.<thing>/1"` and the content."""
        self._write(_dumps({"schema": schema(thing), **content}, indent=2))

    def json_line(self, thing: str, content: Mapping[str, object]) -> None:
        """One line of a stream, written at once."""
        self._write(_dumps({"schema": schema(thing), **content}, indent=None))
        self.stream.flush()

    def line(self, text: str = "") -> None:
        """A line for people; names in it have been made printable."""
        self._write(text + "\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Aligned columns with a heading."""
        shown = [[printable(cell) for cell in row] for row in rows]
        widths = [
            max(cells(column.title), *(cells(row[at]) for row in shown), 0)
            for at, column in enumerate(columns)
        ]
        if self.terminal:
            self._narrow(widths, columns)
        heading = [column.title for column in columns]
        self._write(self.style.dim(self._row(heading, widths, columns)) + "\n")
        for row in shown:
            self._write(self._row(row, widths, columns, colour=True) + "\n")

    def path(self, path: os.PathLike[str]) -> None:
        """A path, byte for byte, so that a program can open it; a terminal sees it made harmless."""
        if self.terminal:
            self._write(printable(str(path)) + "\n")
            return
        self.bytes(os.fsencode(path) + b"\n")

    def bytes(self, content: bytes) -> None:
        """Bytes as they are; on a terminal lines, tabs and colours pass and other controls are written out."""
        if self.terminal:
            self._write(printable_log(content.decode(errors="replace")))
        else:
            self.stream.flush()
            self.stream.buffer.write(content)
        self.stream.flush()

    def _write(self, text: str) -> None:
        self.stream.write(text)

    def _narrow(self, widths: list[int], columns: Sequence[Column]) -> None:
        """Shrink the columns that give way, the widest first, until a line fits the terminal."""
        total = terminal_columns()
        while (over := sum(widths) + len(GAP) * (len(widths) - 1) - total) > 0:
            giving = [at for at, column in enumerate(columns) if column.gives_way and widths[at] > CELLS_MIN]
            if not giving:
                return
            widest = max(giving, key=lambda at: widths[at])
            widths[widest] = max(CELLS_MIN, widths[widest] - over)

    def _row(
        self, row: Sequence[str], widths: Sequence[int], columns: Sequence[Column], *, colour: bool = False
    ) -> str:
        parts = []
        for text, width, column in zip(row, widths, columns, strict=True):
            cut = fit(text, width)
            padded = pad(cut, width, right=column.right)
            parts.append(self.style.state(padded) if colour and column.state else padded)
        return GAP.join(parts).rstrip()


def schema(thing: str) -> str:
    """The name and version of a document's shape."""
    return f"discogrid.{thing}/1"


def _dumps(document: Mapping[str, object], indent: int | None) -> str:
    import json  # not for the help

    return json.dumps(document, indent=indent) + "\n"
