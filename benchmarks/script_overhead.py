"""What the grid adds to trivial scripts: a whole `discogrid submit` against `xargs -P2` in the same box, by hand.

The script starts a Python, reads its input, writes a file and a line. `by hand` runs a bwrap command line that shows what
an agent's strict box shows, from folders that were laid out before the clock started; `unboxed` is xargs without any box.
`submit` is the whole command: client, upload, scheduling, layout, box, archive, signatures, download, unpacking;
`grid` is the part of it from the job's acceptance to its end, as the coordinator tells.
Run: python benchmarks/script_overhead.py [TASKS] [REPEATS]
"""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from discogrid.types import Attempt, JobId, Limits, SandboxLevel
from discogrid_agent.sandbox.box import Scene
from discogrid_agent.sandbox.bubblewrap import arguments_of, find_bubblewrap
from discogrid_agent.sandbox.probe import box_of
from discogrid_agent.sandbox.reach import REACH
from discogrid_agent.sandbox.seccomp import filter_program
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.task import Task

SLOTS = 2
SCRIPT = """import sys
text = open(sys.argv[1]).read()
open("run-result/out-" + sys.argv[1], "w").write(text.upper())
print("done", sys.argv[1])
"""


class ByHand:
    """The folders and command lines of the same tasks without a grid."""

    def __init__(self, folder: Path, tasks: int) -> None:
        self.folder = folder
        box = box_of(SandboxLevel.STRICT)
        assert isinstance(box, StrictBox)
        box.settle(folder)
        program = find_bubblewrap()[0]
        if box.owner is not None:
            REACH.show(program.parents[2])
        self.owner = box.owner
        self.filter = folder / "filter"
        self.filter.write_bytes(filter_program(platform.machine()))
        lines, plain = [], []
        for index in range(tasks):
            work, temporary = folder / f"w{index}", folder / f"t{index}"
            for made in (work, temporary, work / "run-result"):
                made.mkdir()
            name = f"in{index}.txt"
            (work / "trivial.py").write_text(SCRIPT)
            (work / name).write_text(f"{index}\n")
            task = Task(
                Attempt(JobId("hand"), index, 1, 1),
                "hand",
                tasks,
                work / "trivial.py",
                "trivial.py",
                None,
                name,
                (),
                (),
                (),
                {},
                1,
                Limits(),
            )
            command = task.command(str(box.python))
            scene = Scene(work, temporary, (), command, task.variables(), Limits(), 1, 2)
            arguments = folder / f"a{index}"
            told = arguments_of(box, box.own(scene), box.variables(scene))
            arguments.write_bytes(b"".join(os.fsencode(item) + b"\0" for item in told))
            bwrap = shlex.join([REACH.path(program), "--args", "8", "--seccomp", "9", "--", *command])
            lines.append(f"exec {bwrap} 8<{arguments} 9<{self.filter} </dev/null")
            plain.append(f"cd {work} && exec {shlex.join(command)}")
            for made in (work, temporary, work / "run-result", arguments, *work.iterdir()):
                if box.owner is not None:
                    os.chown(made, box.owner.uid, box.owner.gid)
        self.boxed, self.unboxed = "\0".join(lines), "\0".join(plain)

    def seconds(self, lines: str, *, boxed: bool = True) -> float:
        """Wall time of xargs over these lines; boxed ones as the user whom tasks run as."""
        command = ["xargs", "-0", "-P", str(SLOTS), "-I", "{}", "sh", "-c", "{}"]
        if boxed and self.owner is not None:
            command = [
                "setpriv",
                f"--reuid={self.owner.uid}",
                f"--regid={self.owner.gid}",
                "--clear-groups",
                *command,
            ]
        began = time.perf_counter()
        subprocess.run(
            command,
            input=lines.encode(),
            stdout=subprocess.DEVNULL,
            check=True,
            env={"PATH": os.environ["PATH"]},
        )
        return time.perf_counter() - began


def submit(work: Path, *arguments: str) -> float:
    """Wall time of the whole command."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "discogrid", "-q", "submit", *arguments, "--force"],
        cwd=work,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def job_seconds() -> float:
    """How long the newest job took, from its acceptance to its end."""
    listed = subprocess.run(
        [sys.executable, "-m", "discogrid", "ls", "--json"], capture_output=True, text=True, check=True
    )
    newest = max(json.loads(listed.stdout)["jobs"], key=lambda job: str(job["created"]))
    created, ended = (datetime.fromisoformat(newest[name]) for name in ("created", "ended"))
    return (ended - created).total_seconds()


def main() -> None:
    """Print the tables."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory(prefix="discogrid-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        os.environ["DISCOGRID_HOME"] = str(folder / "home")
        os.environ["DISCOGRID_IDLE_EXIT"] = "5s"
        work = folder / "work"
        work.mkdir()
        (work / "trivial.py").write_text(SCRIPT)
        for index in range(tasks):
            (work / f"in{index}.txt").write_text(f"{index}\n")
        (folder / "hand").mkdir()
        hand = ByHand(folder / "hand", tasks)
        submit(work, "trivial.py", "in0.txt", "-o", "warm")  # starts the grid
        rows: dict[str, list[float]] = {"submit": [], "grid": [], "by hand": [], "unboxed": []}
        for repeat in range(repeats):
            rows["submit"].append(submit(work, "trivial.py", "in*.txt", "-o", f"o{repeat}"))
            rows["grid"].append(job_seconds())
            rows["by hand"].append(hand.seconds(hand.boxed))
            rows["unboxed"].append(hand.seconds(hand.unboxed, boxed=False))
        print(f"{tasks} trivial scripts on {SLOTS} slots, median of {repeats} interleaved runs")
        for row, seconds in rows.items():
            print(
                f"  {row:<8} {tasks / statistics.median(seconds):>7.1f} tasks/s  ({statistics.median(seconds):.3f} s)"
            )
        for ours, other in (("grid", "by hand"), ("submit", "by hand"), ("submit", "unboxed")):
            ratios = [theirs / mine for theirs, mine in zip(rows[other], rows[ours], strict=True)]
            print(f"  {ours} / {other}: {statistics.median(ratios):.2f}")
        once: list[float] = []
        alone: list[float] = []
        first = hand.boxed.partition("\0")[0]
        for repeat in range(max(repeats, 9)):
            once.append(submit(work, "trivial.py", "in0.txt", "-o", f"l{repeat}"))
            alone.append(hand.seconds(first))
        print(
            f"one script: submit {statistics.median(once):.3f} s, the script in its box {statistics.median(alone):.3f} s, "
        )
        print(
            f"  added {statistics.median(once) - statistics.median(alone):.3f} s (median of {max(repeats, 9)})"
        )


if __name__ == "__main__":
    main()
