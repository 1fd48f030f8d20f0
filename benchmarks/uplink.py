"""What a network of its own costs a task at its start: `python benchmarks/uplink.py [RUNS]`.

The same trivial script in the strict box with a network and without, in turn. /dev/net/tun must be open to the tasks' user.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from discogrid.types import Attempt, JobId, Limits, SandboxLevel
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.probe import box_of
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.task import Task
from discogrid_agent.uplink.proof import prove_network

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 30


def task(number: int, script: Path, *, network: bool) -> Task:
    """The trivial script."""
    return Task(
        attempt=Attempt(JobId("k3f9"), number, 1, 7),
        label="k3f9-0",
        count=1,
        script=script,
        script_name="script.sh",
        input=None,
        input_name=None,
        constants=(),
        mounts=(),
        arguments=(),
        environment={},
        cpus=1,
        limits=Limits(seconds=60),
        network=network,
        submitter="me",
    )


async def measure(runner: Runner, script: Path) -> dict[bool, list[float]]:
    """Milliseconds of each whole attempt, with a network and without."""
    took: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * RUNS):
        network = bool(number % 2)
        made = task(number, script, network=network)
        began = time.perf_counter()
        ended = await runner.run(made)
        took[network].append((time.perf_counter() - began) * 1000)
        assert ended.exit == 0, ended.reason
        runner.drop(made.attempt)
    return took


def main() -> None:
    """Print the medians."""
    box = box_of(SandboxLevel.STRICT)
    assert isinstance(box, StrictBox)
    began = time.perf_counter()
    proof = prove_network(box)
    proven_ms = (time.perf_counter() - began) * 1000
    if proof.reason:
        sys.exit(f"{proof.reason}. {proof.fix}")
    with tempfile.TemporaryDirectory(prefix="discogrid-uplink-") as folder:
        script = Path(folder, "script")
        script.write_text("#!/bin/sh\ntrue\n")
        runner = Runner(Path(folder, "agent"), box, "attic")
        took = asyncio.run(measure(runner, script))
        runner.close()
    without, with_one = (statistics.median(took[network]) for network in (False, True))
    print(f"an attempt without a network {without:.1f} ms, with one {with_one:.1f} ms (medians of {RUNS})")
    print(f"the proof at an agent's start {proven_ms:.0f} ms")


main()
