"""Runs a script as a task with a network, on the host that it is started on: `boxed.py FOLDER HOW SCRIPT ARGUMENT…`.

HOW is `shut`, or `open` for a router that shuts nothing. Prints what came of it as JSON.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from discogrid.types import Limits, SandboxLevel
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.probe import box_of
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.uplink import attachment
from discogrid_agent.uplink.proof import prove_network
from tests.box.bench import Bench, stderr, stdout
from tests.network import open_router


def main() -> None:
    folder, how, script, *arguments = sys.argv[1:]
    box = box_of(SandboxLevel.STRICT)
    assert isinstance(box, StrictBox)
    proof = prove_network(box)
    if how == "open":
        setattr(attachment, "_START", open_router.START)  # noqa: B010 - it is final for everybody else
    runner = Runner(Path(folder, "agent"), box, "attic")
    bench = Bench(Path(folder), runner)
    task = bench.task(
        Path(script).read_bytes(),
        network=True,
        arguments=tuple(arguments),
        limits=Limits(seconds=60),
        name="task.py",
    )
    began = time.monotonic()
    ended = asyncio.run(runner.run(task))
    told = {
        "proof": [proof.reason, proof.fix],
        "outcome": ended.outcome,
        "reason": ended.reason,
        "stdout": stdout(ended),
        "stderr": stderr(ended),
        "seconds": time.monotonic() - began,
    }
    runner.close()
    print(json.dumps(told))


main()
