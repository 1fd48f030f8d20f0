"""What a warm start saves: until a script's own first line, and for a whole job of trivial scripts.

    python benchmarks/warm_start.py [STARTS [TASKS]]

Starts: from the agent's word to the first byte that the script writes, `import cv2, dlib` and `pass`, cold and warm in
turns in the same strict box. Needs the extra `vision`. Tasks: the same trivial script over TASKS inputs by `xargs -P2`
and a plain Python, and through a whole grid (coordinator, agent with two slots, TCP, CURVE, signatures, journal,
results), cold and warm: from the submit to the last result that is durable.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from discogrid.client import AsyncClient
from discogrid.grid import HOME, open_grid
from discogrid.submission import Submission, prepare
from discogrid.types import Limits, SandboxLevel
from discogrid_agent.sandbox.box import Box, Scene
from discogrid_agent.sandbox.probe import best_box
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.warm.warm_box import WarmBox

STARTS = int(sys.argv[1]) if len(sys.argv) > 1 else 40
TASKS = int(sys.argv[2]) if len(sys.argv) > 2 else 400
SLOTS = 2
ROUNDS = 3
SCRIPTS = {"import cv2, dlib": 10.0, "pass": 1.0}  # how many times faster is promised
THROUGHPUT = 0.8  # of xargs, promised
FIRST_BYTE_S = 30.0
TRIVIAL = 'import sys\nopen("run-result/x-" + sys.argv[1], "w").write(open(sys.argv[1]).read())\n'
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as the runner sets them for one slot


class Starts:
    """Starts one script again and again."""

    def __init__(self, folder: Path, box: Box, script: str) -> None:
        self.box = box
        self.home = folder
        for name in ("work", "tmp", "work/run-result"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o711)
        (folder / "work" / "s.py").write_text(f"{script}\nprint('x', flush=True)\n")
        if box.owner is not None:
            for path in (folder / "work", *(folder / "work").rglob("*"), folder / "tmp"):
                os.chown(path, box.owner.uid, box.owner.gid)

    def scene(self, stdout: int) -> Scene:
        command = (str(self.box.python), "s.py")
        return Scene(
            self.home / "work",
            self.home / "tmp",
            (),
            command,
            ENVIRONMENT,
            Limits(),
            stdout,
            2,
            submitter="me",
        )

    async def once(self) -> float:
        """Milliseconds until the script's first byte."""
        near, far = os.pipe()
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(near, heard.set)
        began = time.perf_counter()
        boxed = self.box.start(self.scene(far))
        os.close(far)
        await asyncio.wait_for(heard.wait(), FIRST_BYTE_S)
        took = (time.perf_counter() - began) * 1e3
        loop.remove_reader(near)
        end = await boxed.ended
        os.close(near)
        assert end.exit == 0, end
        return took


async def starts(cold: StrictBox, folder: Path) -> None:
    """Cold and warm in turns."""
    warm = WarmBox(cold)
    warm.settle(folder)
    for number, (script, promised) in enumerate(SCRIPTS.items()):
        both = {
            name: Starts(folder / "attempts" / f"{number}-{name}", box, script)
            for name, box in (("cold", cold), ("warm", warm))
        }
        assert await warm.prepare(both["warm"].scene(2))
        took: dict[str, list[float]] = {"cold": [], "warm": []}
        for _ in range(STARTS):
            for name, way in both.items():
                took[name].append(await way.once())
        assert warm.warm_starts == STARTS * (number + 1)
        slow, fast = statistics.median(took["cold"]), statistics.median(took["warm"])
        print(
            f"{script:18} cold {slow:6.1f} ms  warm {fast:5.1f} ms  {slow / fast:5.1f} x  (promised {promised:g})"
        )
    warm.close()


def by_xargs(folder: Path) -> float:
    """Tasks a second without any box or grid."""
    (folder / "run-result").mkdir(exist_ok=True)
    (folder / "s.py").write_text(TRIVIAL)
    names = "\n".join(f"in{number}" for number in range(TASKS))
    for number in range(TASKS):
        (folder / f"in{number}").write_text("content")
    began = time.perf_counter()
    subprocess.run(
        ["xargs", f"-P{SLOTS}", "-n1", sys.executable, "s.py"], input=names, text=True, cwd=folder, check=True
    )
    return TASKS / (time.perf_counter() - began)


async def by_grid(folder: Path, *agent: str) -> float:
    """Tasks a second through a grid on this machine."""
    environment = {**os.environ, "DISCOGRID_HOME": str(folder / "home")}
    os.environ["DISCOGRID_HOME"] = environment["DISCOGRID_HOME"]
    address = folder / "home" / "grids" / HOME / "address.json"
    command = [sys.executable, "-m", "discogrid"]
    quiet = subprocess.DEVNULL
    listen = ("coordinator", "--listen", "127.0.0.1:0", "--no-announce")
    coordinator = subprocess.Popen(  # noqa: ASYNC220
        [*command, *listen], env=environment, stdout=quiet, stderr=quiet
    )
    while not address.exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.05)
    lend = ("agent", "--slots", str(SLOTS), *agent)
    lent = subprocess.Popen(  # noqa: ASYNC220
        [*command, *lend], env=environment, stdout=quiet, stderr=quiet
    )
    grid = open_grid(HOME)
    try:
        async with AsyncClient(grid) as client:
            while not [agent for agent in await client.agents() if agent.state == "live"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            inputs = [folder / f"in{number}" for number in range(TASKS)]
            rates = []
            for _ in range(ROUNDS):
                submission = Submission(script=folder / "s.py", inputs=inputs)
                job = prepare(submission, grid, folder, time.time())
                began = time.perf_counter()
                id_ = await client.submit(job)
                async with client.watch(id_) as changes:
                    async for changed in changes:
                        if any(view.state.ended for view in changed.jobs):
                            break
                rates.append(TASKS / (time.perf_counter() - began))
                assert (await client.job(id_)).counts.done == TASKS
            return statistics.median(rates)
    finally:
        for process in (lent, coordinator):
            process.terminate()
            process.wait()


def throughput() -> None:
    """Xargs and the grid, in turns of one round each."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        floor = statistics.median(by_xargs(folder) for _ in range(ROUNDS))
        print(f"{'xargs -P2, plain':18} {floor:6.1f} tasks/s")
        for name, options in (("grid, cold box", ("--no-warm",)), ("grid, warm box", ())):
            home = folder / "grid" / name.replace(" ", "")
            home.mkdir(parents=True)
            for file in (folder / "s.py", *folder.glob("in*")):
                (home / file.name).write_bytes(file.read_bytes())
            rate = asyncio.run(by_grid(home, *options))
            print(
                f"{name:18} {rate:6.1f} tasks/s  {rate / floor:.2f} x xargs  (promised {THROUGHPUT} when warm)"
            )


if __name__ == "__main__":
    probed = best_box()
    if probed.box.level is not SandboxLevel.STRICT:
        sys.exit(f"no strict box here: {probed.reason} {probed.fix}")
    assert isinstance(probed.box, StrictBox)
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o711)
        asyncio.run(starts(probed.box, Path(place)))
    throughput()
