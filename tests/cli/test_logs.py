"""What `discogrid logs` prints of logs that were cut."""

import pytest

from discogrid.cli.logs import rest_of
from discogrid_agent.log_keeper import LogKeeper

TEXT = b"".join(b"%05d" % number for number in range(1000))
MARK = "\n[… 4,900 bytes cut …]\n".encode()


def archived(limit: int) -> bytes:
    keeper = LogKeeper(limit)
    keeper.add(TEXT)
    return keeper.kept()


@pytest.mark.parametrize("printed", [0, 17, 5000])
def test_the_rest_of_a_whole_log_is_what_was_not_printed(printed: int) -> None:
    assert rest_of(archived(10_000), printed) == TEXT[printed:]


@pytest.mark.parametrize(
    ("printed", "rest"),
    [
        (0, TEXT[:50] + MARK + TEXT[-50:]),
        (30, TEXT[30:50] + MARK + TEXT[-50:]),
        (50, MARK + TEXT[-50:]),
        (3000, MARK + TEXT[-50:]),
        (4950, TEXT[-50:]),
        (4990, TEXT[-10:]),
        (5000, b""),
    ],
)
def test_the_last_lines_of_a_cut_log_are_printed_wherever_the_follower_had_come_to(
    printed: int, rest: bytes
) -> None:
    assert rest_of(archived(100), printed) == rest


def test_a_script_that_prints_what_looks_like_a_cut_loses_nothing() -> None:
    content = b"short" + MARK + b"a longer second half"
    assert rest_of(content, 3) == content[3:]
    assert rest_of(MARK + archived(200), 0) == MARK + archived(200)
