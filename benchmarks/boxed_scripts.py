"""What a box costs, and what the runner around it costs.

    python benchmarks/boxed_scripts.py [TASKS]

One trivial script (start a Python, read the input, write a file and a line), in rounds that take turns: plain, in a box
that bwrap makes alone (no filter, no Landlock, no limits), in the strict box, and through the runner: private copies,
limits, watch, collector, archive, removal. First two at a time, as on two slots; then one after the other. CPU is the
agent's own, without its children.
"""

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from discogrid.types import Attempt, JobId, Limits
from discogrid_agent.runner import Runner, Task
from discogrid_agent.sandbox.box import Owner, Scene
from discogrid_agent.sandbox.bubblewrap import arguments_of, find_bubblewrap
from discogrid_agent.sandbox.credentials import acting_as
from discogrid_agent.sandbox.probe import best_box
from discogrid_agent.sandbox.reach import REACH
from discogrid_agent.sandbox.strict import StrictBox

TASKS = int(sys.argv[1]) if len(sys.argv) > 1 else 200
ROUNDS = 5
SLOTS = 2
SCRIPT = """import sys
with open(sys.argv[1], "rb") as source, open("run-result/x-" + sys.argv[1], "wb") as target:
    target.write(source.read())
print("done")
"""


@dataclass
class Figures:
    """Of one way: milliseconds a task, one figure a round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measured(figures: Figures, way: Callable[[int], Awaitable[None]], slots: int) -> None:
    began, used = time.perf_counter(), cpu()
    waiting = iter(range(TASKS))

    async def slot() -> None:
        for number in waiting:
            await way(number)

    await asyncio.gather(*(slot() for _ in range(slots)))
    figures.wall.append((time.perf_counter() - began) / TASKS * 1e3)
    figures.cpu.append((cpu() - used) / TASKS * 1e3)


def start(command: list[str], folder: Path | None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, cwd=folder, env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


class Bench:
    """The three ways to run the script."""

    def __init__(self, folder: Path, box: StrictBox) -> None:
        self.box = box
        self.bwrap = find_bubblewrap()[0]
        if box.owner is not None:
            REACH.show(self.bwrap.parents[2])
        self.folder = folder
        self.runner = Runner(folder / "agent", box, "bench")
        self.python = str(box.python)
        self.number = 0
        self.null = os.open(os.devnull, os.O_WRONLY)
        (folder / "script").write_text(SCRIPT)
        (folder / "input").write_text("content")
        self.unboxed = self._scene(folder / "plain", None)
        self.scene = self._scene(folder / "agent" / "attempts" / "bare", box.owner)

    def _scene(self, home: Path, owner: Owner | None) -> Scene:
        for name in ("work", "tmp", "work/run-result"):
            (home / name).mkdir(parents=True)
        home.chmod(0o711)
        for name, source in (("work/script.py", "script"), ("work/in.txt", "input")):
            (home / name).write_bytes((self.folder / source).read_bytes())
        if owner is not None:
            for path in (home / "work", *(home / "work").rglob("*"), home / "tmp"):
                os.chown(path, owner.uid, owner.gid)
        command = (self.python, "script.py", "in.txt")
        return Scene(home / "work", home / "tmp", (), command, {}, Limits(), self.null, self.null)

    async def wait(self, process: "subprocess.Popen[bytes]") -> None:
        alive = os.pidfd_open(process.pid)
        ended = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(alive, ended.set_result, None)
        await ended
        asyncio.get_running_loop().remove_reader(alive)
        os.close(alive)
        assert process.wait() == 0

    async def plain(self, _: int) -> None:
        await self.wait(start(list(self.unboxed.command), self.unboxed.work))

    async def by_bwrap(self, _: int) -> None:
        arguments = arguments_of(self.box, self.box.own(self.scene), self.box.variables(self.scene))
        with acting_as(self.box.owner):
            process = start([REACH.path(self.bwrap), *arguments, "--", *self.scene.command], None)
        await self.wait(process)

    async def strict(self, _: int) -> None:
        ended = await self.box.start(self.scene).ended
        assert ended.exit == 0

    async def through_runner(self, _: int) -> None:
        self.number += 1
        attempt = Attempt(JobId("k3f9"), self.number, 1, 7)
        source, script = self.folder / "input", self.folder / "script"
        task = Task(
            attempt, "k3f9-0", 1, script, "script.py", source, "in.txt", (), (), (), {}, 1, Limits(seconds=60)
        )
        ended = await self.runner.run(task)
        assert ended.exit == 0, ended.reason
        self.runner.drop(attempt)


async def compare(bench: Bench, slots: int) -> None:
    ways = {
        "plain": bench.plain,
        "bwrap": bench.by_bwrap,
        "strict": bench.strict,
        "runner": bench.through_runner,
    }
    figures = {name: Figures() for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            await measured(figures[name], way, slots)
    plain = statistics.median(figures["plain"].wall)
    print(f"{slots} at a time")
    for name, found in figures.items():
        wall, used = statistics.median(found.wall), statistics.median(found.cpu)
        print(f"{name:8} {wall:6.2f} ms a task   {wall / plain:.2f} x plain   agent's CPU {used:5.2f} ms")


async def main(bench: Bench) -> None:
    for slots in (SLOTS, 1):
        await compare(bench, slots)


if __name__ == "__main__":
    probed = best_box()
    if not isinstance(probed.box, StrictBox):
        sys.exit(f"no strict box here: {probed.reason} {probed.fix}")
    with tempfile.TemporaryDirectory() as made:
        bench_ = Bench(Path(made), probed.box)
        asyncio.run(main(bench_))
        bench_.runner.close()
