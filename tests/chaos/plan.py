"""What goes wrong in a run, and when: all of it from the seed. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

AGENTS = ("a", "b", "c")
TASKS = 24
TASK_S = (0.1, 0.9)
FAULTS = (4, 8)
LAST_S = 6.0  # when the last fault begins, at the latest
DEADLY_MAX = 2  # agents under which tasks die: with a third, they would rightly be accused of it

REST_S = 0.5  # between two on one host

DEADLY = ("kill agent", "power off", "damage blobs", "fill disk")
POWERLESS = ("power off", "damage blobs")
HARMLESS = ("stop agent", "cut link", "poor link", "jump clock of")
CENTRAL = (
    "kill coordinator",
    "stop coordinator",
    "kill client",
    "fill disk of coordinator",
    "jump clock of hub",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong at some moment, for some time."""

    at_s: float
    what: str
    where: str
    lasts_s: float
    number: float  # between 0 and 1: whatever the fault has to choose

    def __str__(self) -> str:
        return f"{self.at_s:5.2f} s  {self.what} {self.where}".rstrip() + f" for {self.lasts_s:.2f} s"


@dataclass(frozen=True, slots=True)
class Plan:
    """A job and its troubles."""

    seed: int
    tasks: tuple[float, ...]  # seconds of each
    faults: tuple[Fault, ...]  # in the order of their time


def plan_of(seed: int) -> Plan:
    """The same for the same seed."""
    random = Random(seed)
    tasks = tuple(random.uniform(*TASK_S) for _ in range(TASKS))
    struck = random.sample(AGENTS, DEADLY_MAX)
    drawn: list[Fault] = []
    for _ in range(random.randint(*FAULTS)):
        kind = random.choice((DEADLY, HARMLESS, CENTRAL))
        what = random.choice(kind)
        where = "" if kind is CENTRAL else random.choice(struck if kind is DEADLY else AGENTS)
        lasts_s = random.choice((random.uniform(0.1, 1.0), random.uniform(1.0, 8.0)))
        drawn.append(Fault(random.uniform(0.0, LAST_S), what, where, lasts_s, random.random()))
    return Plan(seed, tasks, tuple(_one_after_the_other(drawn, diskless=struck[0])))


def _one_after_the_other(drawn: list[Fault], *, diskless: str) -> Iterator[Fault]:
    """No two at a time on one host; one whose disk is small, and so in memory, keeps its power."""
    over: dict[str, float] = {}
    for fault in sorted(drawn, key=lambda fault: fault.at_s):
        small = fault.where == diskless
        if (fault.what in POWERLESS and small) or (fault.what == "fill disk" and not small):
            continue
        if fault.at_s >= over.get(fault.where, 0.0):
            over[fault.where] = fault.at_s + fault.lasts_s + REST_S
            yield fault
