"""Sizes and durations, read and written."""

import pytest

from discogrid.quantities import duration_text, iso_text, parse_duration, parse_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512 << 20),
        ("2G", 2 << 30),
        ("1.5GiB", 3 << 29),
        ("10kb", 10240),
        ("1000", 1000),
        (" 1 T ", 1 << 40),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "2Q", "-1G", "0", "1e9", "two"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800), ("90", 90), ("0.5s", 0.5)],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "90x", "-1s", "0", "1h 30", "inf", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_sizes_are_written_short() -> None:
    assert [size_text(size) for size in (0, 1023, 1024, 150 << 10, 1 << 30, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "150 KiB",
        "1.0 GiB",
        "3.0 TiB",
    ]


def test_durations_are_written_short() -> None:
    assert [duration_text(seconds) for seconds in (-1, 0.44, 9.94, 9.96, 59.4, 59.6, 187, 7500, 300000)] == [
        "0.0 s",
        "0.4 s",
        "9.9 s",
        "10 s",
        "59 s",
        "1:00 min",
        "3:07 min",
        "2:05 h",
        "3 d",
    ]


def test_moments_are_written_in_utc() -> None:
    assert iso_text(0.5) == "1970-01-01T00:00:00.500Z"
    assert iso_text(None) is None
