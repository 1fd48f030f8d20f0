"""What followers of a running attempt are sent: all of an ordinary log, and of an endless one no more than the rate."""

from collections.abc import Callable

import pytest

from discogrid.rates import Bucket, Complaints, Rates
from discogrid.types import Attempt, JobId
from discogrid_agent.log_feed import (
    FOLLOWED_MAX,
    LOG_BURST_BYTES,
    LOG_BYTES_S_MAX,
    PIECE_BYTES_MAX,
    LogFeed,
    SayCut,
    SendLog,
)
from discogrid_agent.log_keeper import LogKeeper

LIMIT = 1 << 20  # of a log, as a job has it unless it asks for another


def attempt(index: int = 0) -> Attempt:
    return Attempt(JobId("k3f9"), index, 1, 7)


class Agent:
    """Attempts that write, a clock, and everything that was sent of them."""

    def __init__(self, attempts: int = 1, limit: int = LIMIT) -> None:
        self.now = 100.0
        self.keepers = {
            attempt(index): {"stdout": LogKeeper(limit), "stderr": LogKeeper(limit)}
            for index in range(attempts)
        }
        self.feed = LogFeed(lambda known: self.keepers.get(known, {}), self.now)
        self.sent: list[SendLog] = []
        self.said: list[SayCut] = []

    def write(self, content: bytes, stream: str = "stdout", index: int = 0) -> None:
        self.keepers[attempt(index)][stream].add(content)
        self.feed.wrote(attempt(index), stream)
        self.pump()

    def follow(self, index: int = 0) -> None:
        self.feed.follow(attempt(index))
        self.pump()

    def pump(self) -> None:
        for action in self.feed.next(self.now):
            if isinstance(action, SendLog):
                self.sent.append(action)
            else:
                self.said.append(action)

    def until(self, end: float, act: Callable[[], None] = lambda: None) -> None:
        """Let time pass, as the shell's timer does."""
        while (due := self.feed.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            act()
            self.pump()
        self.now = end

    def text(self, stream: str = "stdout", index: int = 0) -> bytes:
        """What arrived, each piece where the one before had ended."""
        text = b""
        for piece in self.sent:
            if (piece.attempt, piece.stream) == (attempt(index), stream):
                assert piece.offset == len(text)
                text += piece.content
        return text


def test_an_ordinary_log_arrives_whole_line_by_line() -> None:
    agent = Agent()
    agent.follow()
    lines = [f"line {number}\n".encode() for number in range(1000)]
    for line in lines:
        agent.write(line)
        agent.now += 0.001
    assert [piece.content for piece in agent.sent] == lines
    assert agent.text() == b"".join(lines)
    assert agent.feed.deadline() is None
    assert agent.said == []


def test_who_comes_late_gets_what_is_kept_at_once_in_bounded_pieces() -> None:
    agent = Agent()
    agent.write(b"o" * LIMIT)
    agent.write(b"e" * LIMIT, "stderr")
    assert agent.sent == []
    agent.follow()
    assert agent.text("stdout") == b"o" * LIMIT
    assert agent.text("stderr") == b"e" * LIMIT
    assert max(len(piece.content) for piece in agent.sent) == PIECE_BYTES_MAX


def test_an_endless_log_is_sent_within_the_rate_and_its_newest_bytes_arrive() -> None:
    agent = Agent()
    agent.follow()
    for _ in range(2000):
        agent.write(b"x" * 65_536)
        agent.until(agent.now + 0.005)
    took_s = agent.now - 100.0
    sent = sum(len(piece.content) for piece in agent.sent)
    assert 0.9 * LOG_BYTES_S_MAX * took_s < sent < LOG_BURST_BYTES + LOG_BYTES_S_MAX * took_s
    assert agent.keepers[attempt()]["stdout"].total - agent.sent[-1].offset <= LIMIT
    assert [said.attempt for said in agent.said] == [attempt()]
    assert agent.said[0].missing > 0


def test_a_log_that_comes_byte_by_byte_costs_no_more_messages_than_the_rate_pays_for() -> None:
    agent = Agent()
    agent.follow()
    for _ in range(100_000):
        agent.write(b"x")
    assert len(agent.sent) < LOG_BURST_BYTES / 256
    agent.until(agent.now + 60)
    assert agent.text() == b"x" * 100_000


def test_one_that_floods_does_not_hold_up_the_other_stream_or_another_attempt() -> None:
    agent = Agent(attempts=2)
    agent.follow(0)
    agent.follow(1)
    for _ in range(500):
        agent.write(b"x" * 65_536)
    agent.write(b"an error", "stderr", 0)
    agent.write(b"a word", "stdout", 1)
    agent.until(agent.now + 1)
    assert agent.text("stderr", 0) == b"an error"
    assert agent.text("stdout", 1) == b"a word"


def test_a_second_follower_gets_it_from_the_beginning_too() -> None:
    agent = Agent()
    agent.follow()
    agent.write(b"words")
    agent.follow()
    assert [(piece.offset, piece.content) for piece in agent.sent] == [(0, b"words")] * 2


def test_what_may_have_been_lost_with_the_line_is_sent_again() -> None:
    agent = Agent(attempts=2)
    agent.follow(1)
    agent.write(b"words", index=1)
    agent.feed.begin_again()
    agent.pump()
    assert [(piece.attempt.index, piece.content) for piece in agent.sent] == [(1, b"words")] * 2


def test_that_something_is_left_out_is_said_once_an_attempt_however_many_follow_it() -> None:
    agent = Agent(limit=100)
    agent.write(b"x" * 1000)
    for _ in range(3):
        agent.follow()
    assert len(agent.said) == 1


def test_nothing_is_sent_of_what_nobody_follows_any_more_or_what_has_ended() -> None:
    agent = Agent(attempts=2)
    agent.follow(0)
    agent.follow(1)
    for _ in range(200):
        agent.write(b"x" * 65_536, index=0)
        agent.write(b"x" * 65_536, index=1)
    agent.feed.leave(attempt(0))
    del agent.keepers[attempt(1)]
    sent = len(agent.sent)
    agent.write(b"more")
    agent.until(agent.now + 10)
    assert len(agent.sent) == sent
    assert agent.feed.deadline() is None


def test_what_never_runs_is_followed_in_bounded_number() -> None:
    agent = Agent()
    agent.follow()
    for index in range(1, FOLLOWED_MAX):
        agent.feed.follow(attempt(index))
    agent.write(b"still followed")
    agent.feed.follow(attempt(FOLLOWED_MAX))
    agent.write(b"not any more")
    assert agent.text() == b"still followed"


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 100_000])
def test_a_log_is_read_from_any_place_of_what_is_kept(size: int) -> None:
    keeper = LogKeeper(2000)
    text = b"".join(b"%07d" % number for number in range(40_000))
    for at in range(0, len(text), size):
        keeper.add(text[at : at + size])
    total = len(text)
    assert keeper.after(10, 20) == (10, text[10:30])
    assert keeper.after(990, 500) == (990, text[990:1000])
    for asked in (1000, 1500, total - 1000):
        assert keeper.after(asked, 300) == (total - 1000, text[-1000:-700])
    assert keeper.after(total - 5, 300) == (total - 5, text[-5:])
    assert keeper.after(total, 300) == (total, b"")
    assert keeper.after(total + 9, 300) == (total, b"")


def test_a_bucket_grants_in_part_and_says_when_there_is_more() -> None:
    bucket = Bucket(burst=10, per_s=2, now=0.0)
    assert bucket.part(7, 0.0) == 7
    assert bucket.part(7, 0.0) == 3
    assert bucket.part(7, 0.0) == 0
    assert bucket.due(4) == 2.0
    assert bucket.due(100) == bucket.full_at() == 5.0
    assert bucket.part(7, 2.0) == 4
    assert not bucket.take(2.0)
    assert bucket.take(3.0)


def test_one_member_s_part_is_not_another_s() -> None:
    rates = Rates(10, 1, 100)
    assert rates.part("attic", 100, 0.0) == 10
    assert rates.part("loft", 100, 0.0) == 10
    assert not rates.take("attic", 0.5)
    assert rates.take("attic", 1.5)


def test_rates_forget_the_fullest_first() -> None:
    rates = Rates(10, 1, 3)
    for name, amount in (("a", 9), ("b", 2), ("c", 1)):
        rates.part(name, amount, 0.0)
    rates.take("d", 0.0)
    assert len(rates) == 2
    assert rates.part("a", 10, 0.0) == 1
    rates.take("e", 100.0)
    rates.take("f", 100.0)
    assert len(rates) == 2


def test_complaints_are_told_together_and_not_too_often() -> None:
    complaints = Complaints(10.0)
    assert complaints.add("attic", 5, 0.0) == {"attic": 5}
    assert complaints.add("attic", 1, 1.0) == {}
    assert complaints.add("loft", 2, 10.0) == {}
    assert complaints.add("attic", 3, 10.5) == {"attic": 4, "loft": 2}
