"""What a machine's owner lets each submitter do here. Pure: the text of the rules in, a refusal or none out.

A submitter goes by the first table that names it: by its node id, by its name in the roster, else `[default]`. What
such a table leaves out is as in `[default]`.
"""

import re
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import inf

from discogrid.errors import UsageError
from discogrid.quantities import parse_duration, parse_size
from discogrid.types import Limits

RULES_BYTES_MAX = 64 * 1024
DAY_S = 86400.0
MINUTE_S = 60.0
MINUTES_MAX = 60 * 24 * 4096  # of a day, on the largest machine
COUNT_MAX = 1 << 53
UNLIMITED = Limits(
    seconds=inf,
    memory_bytes=COUNT_MAX,
    processes=COUNT_MAX,
    disk_bytes=COUNT_MAX,
    output_bytes=COUNT_MAX,
    output_files=COUNT_MAX,
    log_bytes=COUNT_MAX,
)

TABLES = ("default", "submitter", "limits")
RULES = ("allow", "network", "cpu-minutes-per-day")

_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a task may not run here. `until` (seconds since 1970): it may from then on; None: not under these rules."""

    reason: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who signed a job: its node id as it is and as people are shown it, and its name in the roster."""

    id: str
    shown: str
    name: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What one submitter may do on this machine."""

    allow: bool = True
    network: bool = False
    cpu_minutes: float | None = None  # a day (UTC): a slot for a minute is one; None: as many as there are


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything the owner has laid down; `limits` are the most that any task may use."""

    default: Rule = Rule()
    submitters: Mapping[str, Rule] = field(default_factory=dict)
    limits: Limits = UNLIMITED

    @property
    def network(self) -> bool:
        """Whether anybody's tasks may reach the network."""
        return any(rule.allow and rule.network for rule in (self.default, *self.submitters.values()))

    def rule(self, submitter: Submitter) -> Rule:
        """The rule that a submitter goes by."""
        for known in (submitter.id, submitter.shown, submitter.name):
            if known in self.submitters:
                return self.submitters[known]
        return self.default

    def refusal(self, submitter: Submitter, *, network: bool, spent_s: float, now: float) -> Refusal | None:
        """Why a task of this submitter may not start; None when it may.

        `spent_s`: the CPU seconds that its tasks have used today; `now` in seconds since 1970.
        """
        rule = self.rule(submitter)
        who = submitter.name or submitter.shown
        if not rule.allow:
            return Refusal(f"its owner lets no task of {who} run there")
        if network and not rule.network:
            return Refusal(f"its owner lets no task of {who} reach the network")
        if rule.cpu_minutes is not None and spent_s >= rule.cpu_minutes * MINUTE_S:
            reason = f"{who} has used up today's {rule.cpu_minutes:g} CPU minutes there; there are more at 00:00 UTC"
            return Refusal(reason, (day_of(now) + 1) * DAY_S)
        return None


def day_of(now: float) -> int:
    """The UTC day, counted from 1970."""
    return int(now // DAY_S)


def parse_rules(text: str, unsaid: Rule = Rule()) -> Rules:
    """The rules in a TOML document; UsageError names the line and the fix. `unsaid`: what holds where it is silent."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _broken_syntax(text, str(error)) from None
    try:
        return _rules(document, unsaid)
    except _Wrong as wrong:
        raise UsageError(f"line {_line_of_wrong(text)}: {wrong}", fix=wrong.fix) from None


class _Wrong(Exception):
    """What a document says that no rule can say."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


def _broken_syntax(text: str, said: str) -> UsageError:
    """Where the document is no TOML."""
    place = _PLACE.search(said)
    line = place[1] if place and place[1] else text.count("\n") + 1
    what = _PLACE.sub("", said)
    fix = 'Write one KEY = VALUE a line below a [TABLE], true or false without quotes, names in "quotes".'
    return UsageError(f"line {line} is no TOML: {what}", fix=fix)


def _line_of_wrong(text: str) -> int:
    """The line that makes the document wrong: up to the one before it says nothing wrong, with it it does.

    What is wrong stays wrong however the document goes on, so that halving finds the line.
    """
    lines = text.split("\n")

    def wrong(count: int) -> bool:
        try:
            _rules(tomllib.loads("\n".join(lines[:count])), Rule())
        except tomllib.TOMLDecodeError:
            return False  # a value that goes on in the next line
        except _Wrong:
            return True
        return False

    return bisect_left(range(1, len(lines)), True, key=wrong) + 1


def _rules(document: Mapping[str, object], unsaid: Rule) -> Rules:
    for key in document:
        if key not in TABLES:
            raise _Wrong(f"{key!r} is no part of the rules", _nearest(key, TABLES, "the tables are"))
    default = _rule("default", document.get("default", {}), unsaid)
    submitters = {
        name: _rule(f"submitter.{name}", content, default)
        for name, content in _table("submitter", document.get("submitter", {})).items()
    }
    return Rules(default, submitters, _limits(document.get("limits", {})))


def _rule(table: str, content: object, unsaid: Rule) -> Rule:
    rule = unsaid
    for key, value in _table(table, content).items():
        if key not in RULES:
            fix = _nearest(key, RULES, "the rules are")
            if isinstance(value, dict):
                fix = 'A name that holds a dot stands in quotes: [submitter."a.b"].'
            raise _Wrong(f"{key!r} is no rule", fix)
        if key == "cpu-minutes-per-day":
            rule = replace(rule, cpu_minutes=_minutes(value))
        elif not isinstance(value, bool):
            raise _Wrong(f"{key} is {value!r}", f"Write {key} = true or {key} = false.")
        elif key == "allow":
            rule = replace(rule, allow=value)
        else:
            rule = replace(rule, network=value)
    return rule


def _minutes(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MINUTES_MAX:
        raise _Wrong(
            f"cpu-minutes-per-day is {value!r}",
            f"Write a number of minutes, 0 to {MINUTES_MAX}, or leave the line out for no limit.",
        )
    return float(value)


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return _count(value)
    return parse_size(value) if isinstance(value, str) else _count(None)


def _seconds(value: object) -> float:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(_count(value))
    return parse_duration(value) if isinstance(value, str) else _count(None)


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= COUNT_MAX:
        return value
    raise ValueError("it must be a whole number above 0")


LIMITS: Mapping[str, tuple[str, Callable[[object], float], str]] = {
    "timeout": ("seconds", _seconds, '"2h"'),
    "memory": ("memory_bytes", _size, '"2G"'),
    "processes": ("processes", _count, "256"),
    "disk": ("disk_bytes", _size, '"4G"'),
    "output": ("output_bytes", _size, '"1G"'),
    "output-files": ("output_files", _count, "1000"),
}


def _limits(content: object) -> Limits:
    limits = UNLIMITED
    for key, value in _table("limits", content).items():
        if key not in LIMITS:
            raise _Wrong(f"{key!r} is no limit", _nearest(key, tuple(LIMITS), "the limits are"))
        name, parse, example = LIMITS[key]
        try:
            limits = replace(limits, **{name: parse(value)})  # type: ignore[arg-type]  # `parse` fits the field
        except ValueError as error:
            raise _Wrong(f"{key} is {value!r}: {error}", f"Write for example {key} = {example}.") from None
    return limits


def _table(name: str, content: object) -> Mapping[str, object]:
    if not isinstance(content, dict):
        raise _Wrong(
            f"{name!r} is {content!r} and must be a table", f"Write [{name}] and its lines below it."
        )
    return content


def _nearest(key: str, known: tuple[str, ...], all_are: str) -> str:
    near = get_close_matches(key, known, 1)
    return f"Did you mean {near[0]!r}?" if near else f"There, {all_are} {', '.join(known)}."
