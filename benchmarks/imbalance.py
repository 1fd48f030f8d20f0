"""How far from ideal a job of very unequal tasks ends, the longest of them last.

    python benchmarks/imbalance.py [SLOTS] [TOTAL_S]

200 tasks of log-normal length, 240 s of work together, sorted so that the longest comes last, on a real coordinator and
a real agent with boxes: on 2 slots they burn processor time, on 8 they sleep where there are fewer processors. Three
runs, each against what its own measured run times allow:

first    nothing is known of the tasks: list scheduling in the same order, greedily; at most 1.02 times that
second   the same job again: the longest task, or all of them by the slots; at most 1.10 times that
given    a new kind of job, with --durations: the same bound; at most 1.03 times that

The time is that from the first task's start to the last one's end, boxes and archives included. Exit code 1 when a
bound is exceeded, or more tasks ran at a time than there are slots.
"""

import heapq
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random

TASKS, TOTAL_S = 200, 240.0
SIGMA = 1.0
FIRST_MAX, SECOND_MAX, GIVEN_MAX = 1.02, 1.10, 1.03
READY_S = 30.0
SCRIPT = """import sys, time
begun = time.time()
seconds = float(open(sys.argv[1]).read())
if sys.argv[2] == "burn":
    while time.process_time() < seconds:
        pass
else:
    time.sleep(seconds)
open("run-result/" + sys.argv[1], "w").write(f"{begun} {time.time()}")
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """When a task ran, in seconds since 1970: its script by its own clock, and all of it, as the grid tells."""

    index: int
    start: float
    stop: float
    seconds: float  # of its process, the start of the interpreter included
    script: tuple[float, float]


def lengths(total_s: float) -> list[float]:
    """Seconds of each task, the longest last."""
    random = Random(42)
    drawn = [random.lognormvariate(0, SIGMA) for _ in range(TASKS)]
    return sorted(one * total_s / sum(drawn) for one in drawn)


def greedy(seconds: list[float], slots: int) -> float:
    """What list scheduling in this order takes."""
    free = [0.0] * slots
    for one in seconds:
        heapq.heappush(free, heapq.heappop(free) + one)
    return max(free)


def most_at_once(ran: list[Ran]) -> int:
    """Scripts that ran at the same time."""
    running = most = 0
    for _, change in sorted([(one.script[0], 1) for one in ran] + [(one.script[1], -1) for one in ran]):
        running += change
        most = max(most, running)
    return most


class Grid:
    """A coordinator and an agent in a home of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "DISCOGRID_HOME": str(folder / "home")}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "discogrid", "-q", *arguments]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    @contextmanager
    def lent(self, slots: int) -> Iterator[None]:
        started = [
            subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for arguments in (
                ("coordinator", "--listen", "127.0.0.1:0", "--no-announce"),
                ("agent", "--slots", str(slots)),
            )
        ]
        try:
            deadline = time.monotonic() + READY_S
            while not self.is_ready():
                assert time.monotonic() < deadline, "the grid does not start"
                time.sleep(0.2)
            yield
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait()

    def is_ready(self) -> bool:
        try:
            return '"live"' in self.run("agents", "--json")
        except subprocess.CalledProcessError:
            return False

    def job(self, *arguments: str) -> list[Ran]:
        """Run a job to its end."""
        got = self.folder / self.run("submit", *arguments)
        ran: list[Ran] = []
        for task in json.loads((got / "job.json").read_text())["tasks"]:
            begun, ended = (got / "output" / task["input"]).read_text().split()
            script = (float(begun), float(ended))
            ran.append(
                Ran(task["index"], moment(task["started"]), moment(task["ended"]), task["seconds"], script)
            )
        return ran


def moment(text: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def main() -> int:
    """Print how long each run took and how long it might have; 1 when a bound is exceeded."""
    slots = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    total_s = float(sys.argv[2]) if len(sys.argv) > 2 else TOTAL_S
    how = "burn" if slots <= (os.cpu_count() or 1) else "sleep"
    print(f"{TASKS} tasks that {how}, {total_s:g} s together, on {slots} slots")
    missed = False
    with tempfile.TemporaryDirectory(prefix="discogrid-imbalance-") as scratch:
        folder = Path(scratch)
        names = [f"in{index:03d}.txt" for index in range(TASKS)]
        seconds = lengths(total_s)
        for name, one in zip(names, seconds, strict=True):
            (folder / name).write_text(f"{one}")
        (folder / "work.py").write_text(SCRIPT)
        (folder / "other.py").write_text("# another kind\n" + SCRIPT)
        (folder / "durations").write_text(
            "".join(f"{n} {s:.3f}\n" for n, s in zip(names, seconds, strict=True))
        )
        grid = Grid(folder)
        with grid.lent(slots):
            for what, bound, arguments in (
                ("first", FIRST_MAX, ("work.py", *names)),
                ("second", SECOND_MAX, ("work.py", *names)),
                ("given", GIVEN_MAX, ("other.py", *names, "--durations", "durations")),
            ):
                ran = grid.job(*arguments, "--", how)
                took = max(one.stop for one in ran) - min(one.start for one in ran)
                each = [one.seconds for one in sorted(ran, key=lambda one: one.index)]
                ideal = greedy(each, slots) if what == "first" else max(*each, sum(each) / slots)
                most = most_at_once(ran)
                print(
                    f"{what:7} {took:7.2f} s, ideal {ideal:7.2f} s: {took / ideal:.3f} (at most {bound:.2f}),"
                    f" {most} at a time"
                )
                missed |= took > bound * ideal or most > slots
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
