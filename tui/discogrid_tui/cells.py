"""How a state, a progress or a time looks in one cell of a table: pure. State is a sign and a word, never colour alone."""

from enum import StrEnum

from discogrid.types import Counts, JobState, TaskState
from discogrid_tui.text import duration


class Tone(StrEnum):
    """What a part of a line means to the eye; the theme gives it a colour."""

    PLAIN = "plain"
    QUIET = "quiet"
    GOOD = "good"
    ACTIVE = "active"
    WARN = "warn"
    BAD = "bad"


Part = tuple[str, Tone]
Cell = tuple[Part, ...]

SIGNS: dict[str, Part] = {
    JobState.HELD: ("□", Tone.WARN),
    JobState.QUEUED: ("○", Tone.QUIET),
    JobState.RUNNING: ("●", Tone.ACTIVE),
    JobState.SUCCEEDED: ("✓", Tone.GOOD),
    JobState.FAILED: ("✗", Tone.BAD),
    JobState.CANCELLED: ("⊘", Tone.QUIET),
    TaskState.ASSIGNED: ("◐", Tone.QUIET),
    TaskState.DONE: ("✓", Tone.GOOD),
    TaskState.QUARANTINED: ("!", Tone.BAD),
    "live": ("●", Tone.GOOD),
    "lost": ("✗", Tone.BAD),
    "idle": ("○", Tone.QUIET),
    "working": ("●", Tone.ACTIVE),
    "starved": ("!", Tone.WARN),
}
UNKNOWN: Part = ("?", Tone.QUIET)
NOTHING = "-"  # where there is no value
FULL, EMPTY = "━", "─"


def plain(text: str, tone: Tone = Tone.PLAIN) -> Cell:
    """A cell of one part."""
    return ((text, tone),)


def state(word: str, width: int) -> Cell:
    """A state's sign, and its word where there is room."""
    sign, tone = SIGNS.get(word, UNKNOWN)
    return ((sign, tone),) if width < 3 else ((f"{sign} {word}", tone),)


def progress(counts: Counts, width: int) -> Cell:
    """`━━━━──── 12/40 ✗1`: how many tasks ended, how many of them badly; the bar gets what the numbers leave."""
    numbers = f"{counts.ended}/{counts.total}"
    bad = counts.failed + counts.quarantined
    tail: Cell = plain(f" ✗{bad}", Tone.BAD) if bad else ()
    length = width - len(numbers) - sum(len(text) for text, _ in tail) - 1
    if length < 4 or not counts.total:
        return (*plain(numbers), *tail)
    good = counts.done * length // counts.total
    ended = counts.ended * length // counts.total
    running = max(ended, (counts.ended + counts.running) * length // counts.total)
    if counts.running and running == ended:
        running += 1  # what runs is to be seen, however little it is; it has not ended, so there is room
    bar = (
        (FULL * good, Tone.GOOD),
        (FULL * (ended - good), Tone.BAD if bad else Tone.QUIET),
        (FULL * (running - ended), Tone.ACTIVE),
        (EMPTY * (length - running), Tone.QUIET),
    )
    return (*bar, (f" {numbers}", Tone.PLAIN), *tail)


def slots(busy: int, count: int, width: int) -> Cell:
    """`■■□□ 2/4`, or the numbers alone where the squares do not fit."""
    numbers = f"{busy}/{count}"
    if count + 1 + len(numbers) > width:
        return plain(numbers)
    taken = min(busy, count)
    return (("■" * taken, Tone.ACTIVE), ("□" * (count - taken), Tone.QUIET), (f" {numbers}", Tone.PLAIN))


def elapsed(started: float | None, ended: float | None, now: float) -> Cell:
    """How long it took, or takes so far."""
    if started is None:
        return plain(NOTHING, Tone.QUIET)
    return plain(duration((now if ended is None else ended) - started))


def ago(moment: float, now: float) -> Cell:
    """How long something is past."""
    return plain(duration(now - moment), Tone.QUIET)
