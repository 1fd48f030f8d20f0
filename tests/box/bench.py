"""Short ways to make scripts into tasks, run them, and read what came back."""

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discogrid.archive import open_archive
from discogrid.types import MIB, Attempt, JobId, Limits
from discogrid_agent.runner import Ended, Runner, Task

READ_BYTES_MAX = 64 * MIB
LOOK_S = 0.02
LOOKS_MAX = 1000


@dataclass
class Bench:
    """A runner, and tasks made of a few lines."""

    folder: Path
    runner: Runner
    made: int = 0

    def task(
        self,
        script: str | bytes,
        *,
        name: str = "script.py",
        input_name: str | None = None,
        content: bytes = b"content",
        constants: dict[str, bytes] | None = None,
        mounts: tuple[tuple[str, Path], ...] = (),
        arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        limits: Limits | None = None,
        cpus: int = 1,
        network: bool = False,
    ) -> Task:
        self.made += 1
        sources = self.folder / f"sources-{self.made}"
        sources.mkdir()
        (sources / "script").write_bytes(script if isinstance(script, bytes) else script.encode())
        (sources / "input").write_bytes(content)
        placed = []
        for number, (constant, value) in enumerate((constants or {}).items()):
            (sources / str(number)).write_bytes(value)
            placed.append((constant, sources / str(number)))
        return Task(
            attempt=Attempt(JobId("k3f9"), self.made, 1, 7),
            label=f"k3f9-{self.made:03}",
            count=20,
            script=sources / "script",
            script_name=name,
            input=None if input_name is None else sources / "input",
            input_name=input_name,
            constants=tuple(placed),
            mounts=mounts,
            arguments=arguments,
            environment=environment or {},
            cpus=cpus,
            limits=limits or Limits(seconds=60),
            network=network,
            submitter="me",
        )

    async def run(self, script: str | bytes, **options: Any) -> Ended:
        return await self.runner.run(self.task(script, **options))


def content(ended: Ended, name: str) -> bytes:
    """One file of an attempt's archive, read as strictly as a client reads it."""
    with tempfile.TemporaryFile() as kept:
        kept.write(ended.archive if isinstance(ended.archive, bytes) else ended.archive.read_bytes())
        kept.flush()
        with open_archive(kept.fileno()) as archive:
            return archive.read(name, READ_BYTES_MAX)


def stdout(ended: Ended) -> str:
    return content(ended, "DiscoTask.stdout.0.txt").decode()


def stderr(ended: Ended) -> str:
    return content(ended, "DiscoTask.stderr.0.txt").decode()


def outputs(ended: Ended) -> list[str]:
    return [output.name for output in ended.outputs]


async def appeared(mark: str, count: int = 1) -> list[int]:
    """Wait until at least `count` processes with `mark` in their command line live; the test's time-out is the limit."""
    for _ in range(LOOKS_MAX):
        if len(found := living(mark)) >= count:
            return found
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"no {count} processes of {mark} appeared")


async def gone(mark: str, within: float) -> bool:
    """Whether no process with `mark` lives after at most `within` seconds."""
    end = time.monotonic() + within
    while living(mark):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(LOOK_S)
    return True


def state_of(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def living(mark: str) -> list[int]:
    """Processes whose command line holds `mark`, zombies left out."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                state = state_of(int(name))
            except OSError:
                continue
            if mark.encode() in command and state != "Z":
                found.append(int(name))
    return found
