import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from discogrid_tui.text import duration, elide, elide_middle, plural, printable, rate, size


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain name.mp4", "plain name.mp4"),
        ("two\nlines", r"two\nlines"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("txt.\u202egpj", r"txt.\u202egpj"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("Übergröße 東京.mp4", "Übergröße 東京.mp4"),
    ],
)
def test_what_could_steer_the_terminal_is_written_out(raw: str, shown: str) -> None:
    assert printable(raw) == shown


@given(st.text())
def test_no_text_brings_a_control_character_to_the_screen(text: str) -> None:
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in printable(text))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0.0 s"),
        (0.42, "0.4 s"),
        (9.96, "10.0 s"),
        (12.9, "12 s"),
        (185, "3m05s"),
        (7620, "2h07m"),
        (86400 * 4 + 3 * 3600, "4d03h"),
    ],
)
def test_a_duration_is_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
    assert len(shown) <= 7


def test_a_slow_grid_is_counted_by_the_minute() -> None:
    assert [rate(value) for value in (0, 31.4, 2.42, 0.05)] == ["0.0/s", "31/s", "2.4/s", "3.0/min"]


def test_sizes_have_their_unit() -> None:
    assert [size(count) for count in (0, 512, 2048, 35 << 20, 5 << 40)] == [
        "0 B",
        "512 B",
        "2.0 KiB",
        "35 MiB",
        "5.0 TiB",
    ]


def test_one_is_not_many() -> None:
    assert [plural(1, "job"), plural(0, "job")] == ["1 job", "0 jobs"]


def test_a_long_file_name_keeps_its_end() -> None:
    assert elide_middle("a_very_long_name_012.mp4", 12) == "a_ver…12.mp4"
    assert elide_middle("short.mp4", 12) == "short.mp4"
    assert elide_middle("abcdefghijk", 5) == "abcd…"


@given(st.text(st.characters(exclude_categories=["C", "M"])), st.integers(0, 30))
def test_cut_text_never_takes_more_cells_than_it_may(text: str, width: int) -> None:
    assert cell_len(elide(text, width)) <= width
    assert cell_len(elide_middle(text, width)) <= width
