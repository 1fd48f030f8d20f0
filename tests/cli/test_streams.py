"""What goes to stdout and what to stderr."""

import io
import json
from pathlib import Path

import pytest

from discogrid.cli.narration import PLAIN_LINE_S, REDRAW_S, Narration, bar_text
from discogrid.cli.output import Column, Output
from discogrid.cli.style import Style, wants_colour
from discogrid.errors import DiscogridError


class Stream(io.TextIOWrapper):
    """A text stream over bytes that says whether it is a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def raw_bytes(self) -> bytes:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()

    @property
    def text(self) -> str:
        return self.raw_bytes.decode()


class Clock:
    """Time as a number."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Stream:
    monkeypatch.setenv("COLUMNS", "40")
    return Stream(terminal=True)


@pytest.fixture
def pipe() -> Stream:
    return Stream(terminal=False)


def test_a_document_names_its_schema(pipe: Stream) -> None:
    Output(pipe).json("jobs", {"jobs": ["é\udce9"]})
    assert json.loads(pipe.text) == {"schema": "discogrid.jobs/1", "jobs": ["é\udce9"]}


def test_a_stream_of_documents_has_one_a_line(pipe: Stream) -> None:
    output = Output(pipe)
    output.json_line("log", {"text": "a\nb"})
    output.json_line("log", {"text": "c"})
    assert [json.loads(line)["text"] for line in pipe.text.splitlines()] == ["a\nb", "c"]


def test_a_table_is_aligned_and_not_cut_in_a_pipe(pipe: Stream) -> None:
    columns = (Column("NAME", gives_way=True), Column("N", right=True))
    Output(pipe).table(columns, [("x" * 100, "1"), ("顔", "22")])
    lines = pipe.text.splitlines()
    assert lines[0] == "NAME" + " " * 99 + "N"
    assert lines[1] == "x" * 100 + "   1"
    assert lines[2] == "顔" + " " * 98 + "  22"


def test_a_table_is_cut_to_the_terminal_where_a_column_gives_way(terminal: Stream) -> None:
    columns = (Column("ID"), Column("NAME", gives_way=True), Column("STATE"))
    Output(terminal).table(columns, [("k3f9", "n" * 100, "running")])
    assert [len(line) for line in terminal.text.splitlines()] == [38, 40]
    assert "…" in terminal.text


def test_a_hostile_name_in_a_table_is_harmless(terminal: Stream) -> None:
    Output(terminal).table((Column("NAME"),), [("\x1b[2Jx",)])
    assert "\x1b" not in terminal.text


def test_a_path_is_written_byte_for_byte_to_a_program(pipe: Stream) -> None:
    Output(pipe).path(Path("new\nline caf\udce9"))
    assert pipe.raw_bytes == b"new\nline caf\xe9\n"


def test_a_path_is_harmless_on_a_terminal(terminal: Stream) -> None:
    Output(terminal).path(Path("a\x1b[2J"))
    assert terminal.text == "a\\e[2J\n"


def test_bytes_of_a_log_pass_unchanged_to_a_program(pipe: Stream) -> None:
    Output(pipe).bytes(b"\x1b]0;t\x07\xff")
    assert pipe.raw_bytes == b"\x1b]0;t\x07\xff"


def test_state_words_are_coloured_only_when_asked(pipe: Stream) -> None:
    output = Output(pipe)
    output.style = Style(on=True)
    output.table((Column("NAME"), Column("STATE", state=True)), [("failed", "failed"), ("x", "failed to x")])
    assert pipe.text.count("\x1b[31m") == 1


@pytest.mark.parametrize(
    ("choice", "is_terminal", "environment", "wanted"),
    [
        ("auto", True, {}, True),
        ("auto", False, {}, False),
        ("auto", True, {"NO_COLOR": "1"}, False),
        ("auto", True, {"TERM": "dumb"}, False),
        ("always", False, {"NO_COLOR": "1"}, True),
        ("never", True, {}, False),
    ],
)
def test_colour_is_a_choice(
    choice: str, is_terminal: bool, environment: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert wants_colour(choice, Stream(terminal=is_terminal)) is wanted


def test_an_error_says_what_why_and_what_to_do(pipe: Stream) -> None:
    Narration(pipe).error(DiscogridError("it broke\x1b", why="because", fix="mend it"))
    assert pipe.text == "error: it broke\\e\nbecause\nfix: mend it\n"


def test_quiet_leaves_warnings_and_errors(pipe: Stream) -> None:
    narration = Narration(pipe)
    narration.quiet = True
    narration.say("nothing")
    narration.detail("nothing")
    narration.warn("careful")
    assert pipe.text == "warning: careful\n"


def test_off_a_terminal_progress_is_a_line_every_ten_seconds(pipe: Stream) -> None:
    clock = Clock()
    narration = Narration(pipe, clock)
    with narration.progress(100) as bar:
        for second in range(21):
            clock.now = 100.0 + second * PLAIN_LINE_S / 10
            bar.update(second, f"{second} done")
    assert pipe.text == "10 done\n20 done\n"


def test_on_a_terminal_the_bar_is_redrawn_in_place_and_taken_away(terminal: Stream) -> None:
    clock = Clock()
    narration = Narration(terminal, clock)
    with narration.progress(4) as bar:
        bar.update(1, "one")
        bar.update(2, "too soon")
        clock.now += 2 * REDRAW_S
        bar.update(3, "three")
    assert "one" in terminal.text
    assert "too soon" not in terminal.text
    assert "three" in terminal.text
    assert "\n" not in terminal.text
    assert terminal.text.endswith("\r\x1b[K")


def test_a_message_does_not_run_into_the_bar(terminal: Stream) -> None:
    narration = Narration(terminal, Clock())
    with narration.progress(4) as bar:
        bar.update(1, "one")
        narration.say("news")
    assert "\r\x1b[Knews\n\r\x1b[K" in terminal.text


def test_a_quiet_bar_is_not_drawn(terminal: Stream) -> None:
    narration = Narration(terminal, Clock())
    narration.quiet = True
    with narration.progress(1) as bar:
        bar.update(1, "one")
    assert terminal.text == ""


def test_a_bar_never_leaves_its_width() -> None:
    assert bar_text(0, 4) == "░░░░"
    assert bar_text(1, 4) == "████"
    assert bar_text(0.5, 4) == "██░░"
    assert all(len(bar_text(part / 100, 7)) == 7 for part in range(101))
