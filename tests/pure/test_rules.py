"""What an owner's rules say, and how they say that they are wrong."""

import pytest

from discogrid.errors import UsageError
from discogrid.types import Attempt, JobId, NodeId
from discogrid_agent.acceptance import ATTEMPTS_LOST_MAX, attempts_max
from discogrid_agent.acceptance import refusal as once_more
from discogrid_agent.charges import Charges
from discogrid_agent.rules import COUNT_MAX, DAY_S, Rule, Rules, Submitter, parse_rules
from discogrid_coordinator import policies

ANNA = Submitter("a" * 52, "aaaaaaaa-xy", "anna")
BERT = Submitter("b" * 52, "bbbbbbbb-xy", "bert")
NOON = 20_000 * DAY_S + DAY_S / 2


def refusal(text: str, who: Submitter = ANNA, *, network: bool = False, spent_s: float = 0.0) -> str:
    found = parse_rules(text).refusal(who, network=network, spent_s=spent_s, now=NOON)
    return found.reason if found else ""


@pytest.mark.parametrize(
    ("text", "anna", "bert"),
    [
        ("", "", ""),
        ("[default]\nallow = false", "no task of anna run", "no task of bert run"),
        ("[submitter.anna]\nallow = false", "no task of anna run", ""),
        (f"[submitter.{'a' * 52}]\nallow = false", "no task of anna run", ""),
        ("[submitter.aaaaaaaa-xy]\nallow = false", "no task of anna run", ""),
        ("[default]\nallow = false\n[submitter.anna]\nallow = true", "", "no task of bert run"),
    ],
)
def test_who_may_run_tasks(text: str, anna: str, bert: str) -> None:
    for who, said in ((ANNA, anna), (BERT, bert)):
        assert said in refusal(text, who)
        assert bool(said) == bool(refusal(text, who))


def test_the_network_is_for_whom_the_owner_says() -> None:
    text = "[submitter.anna]\nnetwork = true"
    assert refusal(text, ANNA, network=True) == ""
    assert "reach the network" in refusal(text, BERT, network=True)
    assert refusal(text, BERT) == ""
    assert parse_rules(text).network
    assert not parse_rules("").network
    assert not parse_rules("[submitter.anna]\nnetwork = true\nallow = false").network


def test_cpu_minutes_are_used_up_until_the_next_utc_day() -> None:
    rules = parse_rules("[default]\ncpu-minutes-per-day = 2")
    assert rules.refusal(ANNA, network=False, spent_s=119.9, now=NOON) is None
    spent = rules.refusal(ANNA, network=False, spent_s=120.0, now=NOON)
    assert spent is not None
    assert "today's 2 CPU minutes" in spent.reason
    assert spent.until == 20_001 * DAY_S


def test_what_a_table_leaves_out_is_as_by_default_and_as_was_meant_before() -> None:
    assert parse_rules("", Rule(network=True)).rule(ANNA).network
    assert parse_rules("[default]\ncpu-minutes-per-day = 5\n[submitter.anna]").rule(ANNA).cpu_minutes == 5
    assert Rules().rule(ANNA) == Rule()


def test_limits_are_read_in_the_units_of_people() -> None:
    limits = parse_rules('[limits]\nmemory = "2G"\ntimeout = "90s"\nprocesses = 9\ndisk = 5\n').limits
    assert (limits.memory_bytes, limits.seconds, limits.processes, limits.disk_bytes) == (2 << 30, 90.0, 9, 5)
    assert parse_rules("[limits]\ntimeout = 9").limits.seconds == 9.0
    assert parse_rules("").limits.output_files == COUNT_MAX


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[default]\nallow = no", 2, "no TOML"),
        ("[default\n", 1, "no TOML"),
        ("[defualt]", 1, "Did you mean 'default'?"),
        ("\n[default]\nnetwrok = true", 3, "Did you mean 'network'?"),
        ("[default]\nallow = 1", 2, "allow = true"),
        ("[default]\ncpu-minutes-per-day = -1", 2, "number of minutes"),
        ("[default]\ncpu-minutes-per-day = true", 2, "number of minutes"),
        ('[default]\ncpu-minutes-per-day = "9"', 2, "number of minutes"),
        ("[submitter.a.b]\nallow = false", 1, "stands in quotes"),
        ("submitter = 5", 1, "must be a table"),
        ("[limits]\nmemory = 0", 2, "whole number above 0"),
        ("[limits]\nmemory = 1.5", 2, "whole number above 0"),
        ("[limits]\ntimeout = true", 2, "whole number above 0"),
        ("[limits]\ntimeout = 1.5", 2, "whole number above 0"),
        ('[limits]\nmemory = "lots"', 2, "memory is 'lots'"),
        ("[limits]\ncolour = 5", 2, "the limits are"),
        ("zebra = 5", 1, "the tables are"),
    ],
)
def test_a_wrong_rule_is_told_with_its_line_and_what_to_write(text: str, line: int, said: str) -> None:
    with pytest.raises(UsageError) as told:
        parse_rules(text)
    assert told.value.what.startswith(f"line {line}")
    assert said in f"{told.value.what} {told.value.fix}"


def test_a_wrong_value_of_several_lines_is_named_by_its_last_one() -> None:
    with pytest.raises(UsageError, match="line 4"):
        parse_rules('[limits]\nmemory = """\nlots\n"""\nprocesses = 9\n')


# Once only.


def test_an_attempt_runs_once_and_a_task_no_oftener_than_honest_trouble_explains() -> None:
    assert once_more(ran=0, same=False, retries=0) == ""
    assert "already" in once_more(ran=1, same=True, retries=0)
    assert once_more(ran=attempts_max(2) - 1, same=False, retries=2) == ""
    assert "no honest trouble" in once_more(ran=attempts_max(2), same=False, retries=2)
    assert attempts_max(2) == 3 + ATTEMPTS_LOST_MAX


def test_an_agent_allows_more_attempts_than_an_honest_coordinator_can_lose() -> None:
    assert ATTEMPTS_LOST_MAX > policies.LOSSES_MAX + policies.TRANSFERS_MAX


# CPU seconds.


def test_slots_are_charged_for_as_long_as_they_are_held() -> None:
    charges, first, second = Charges(), Attempt(JobId("j"), 0, 1, 1), Attempt(JobId("j"), 1, 1, 1)
    anna = NodeId(ANNA.id)
    charges.begin(first, anna, 2, now=10.0)
    assert charges.open(anna, 13.0) == 6.0
    assert charges.book(13.0) == {anna: 6.0}
    assert charges.open(anna, 14.0) == 2.0
    charges.begin(second, anna, 1, now=14.0)
    charges.end(first, 15.0)
    charges.end(first, 99.0)
    assert charges.open(anna, 16.0) == 4.0 + 2.0
    assert charges.book(16.0) == {anna: 6.0}
    assert charges.open(NodeId(BERT.id), 16.0) == 0.0
