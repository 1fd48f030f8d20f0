"""Text on its way to a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from discogrid.cli.text import cells, fit, pad, printable, printable_log


def test_control_characters_are_written_out() -> None:
    assert printable("a\x1b[2Jb\nc\td\x07") == r"a\e[2Jb\nc\td\x07"


def test_bidirectional_controls_are_written_out() -> None:
    assert printable("abc\u202egpj.exe") == r"abc\u202egpj.exe"


def test_a_byte_that_is_not_utf8_is_written_as_that_byte() -> None:
    assert printable("caf\udce9") == r"caf\xe9"


def test_letters_of_any_script_and_joined_emoji_stay() -> None:
    assert printable("naïve 顔 👨\u200d👩\u200d👧") == "naïve 顔 👨\u200d👩\u200d👧"


@given(st.text())
def test_nothing_printable_writes_can_act_on_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not any(character < " " or "\x7f" <= character < "\xa0" for character in shown)


def test_a_log_keeps_lines_tabs_and_colours_only() -> None:
    assert printable_log("a\tb\r\n\x1b[31mred\x1b[0m \x1b]0;title\x07") == (
        "a\tb\n\x1b[31mred\x1b[0m \\e]0;title\\x07"
    )


def test_wide_characters_take_two_columns() -> None:
    assert cells("abc") == 3
    assert cells("顔") == 2
    assert cells("e\u0301") == 1


@given(st.text(), st.integers(1, 30))
def test_a_fitted_text_is_never_wider(text: str, width: int) -> None:
    assert cells(fit(text, width)) <= width


def test_a_cut_text_says_so() -> None:
    assert fit("abcdef", 4) == "abc…"
    assert pad("ab", 4) + "|" == "ab  |"
    assert pad("ab", 4, right=True) == "  ab"
