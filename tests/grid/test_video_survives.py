"""A video job whose coordinator is killed with kill -9: nothing is lost, nothing runs twice, and work goes on at once."""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.examples.footage import EXAMPLES, run_ffmpeg
from tests.grid.machines import Machine, until

CLIPS = 8
GOES_ON_S = 5.0


def clips(machine: Machine) -> None:
    """Two seconds each of a moving picture."""
    source = f"testsrc2=size=320x240:rate=25:duration={2 * CLIPS}"
    pattern = machine.work / "split%d.mp4"
    cut = ("-force_key_frames", "expr:gte(t,n_forced*2)", "-f", "segment", "-segment_time", "2")
    run_ffmpeg("-f", "lavfi", "-i", source, *cut, "-reset_timestamps", "1", pattern)
    assert len(list(machine.work.glob("split*.mp4"))) == CLIPS


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_a_video_job_outlives_its_coordinator(machine: Machine) -> None:
    clips(machine)
    coordinator = machine.coordinate()
    listen = json.loads(machine.address.read_text())["endpoint"].removeprefix("tcp://")
    machine.lend(2)

    def tasks(job: str) -> list[dict[str, Any]]:
        return list(machine.document("tasks", job).get("tasks", []))

    script = machine.work / "glasses_5.py"
    shutil.copy(EXAMPLES / "glasses_5.py", script)
    job = machine.run("submit", "-d", script, "split*.mp4").stdout.strip()
    until(lambda: {"done", "running"} <= {task["state"] for task in tasks(job)}, 60.0)
    coordinator.send_signal(signal.SIGKILL)
    coordinator.wait()
    machine.coordinate(listen)
    returned = time.time()
    assert machine.run("wait", job, patience_s=120.0).returncode == 0
    after = tasks(job)
    assert {task["state"] for task in after} == {"done"}
    assert {task["attempt"] for task in after} == {1}
    went_on = min(end for task in after if (end := moment(task["ended"])) > returned)
    assert went_on - returned < GOES_ON_S
    begun = [start for task in after if (start := moment(task["started"])) > returned]
    assert min(begun) - returned < GOES_ON_S, "what waited was not begun"
    assert machine.run("get", job, "-o", "got").returncode == 0
    assert len(list((machine.work / "got" / "output").glob("*.mp4"))) == CLIPS


@pytest.fixture
def boot() -> Iterator[Path]:
    """What is there for one boot alone; the path of a socket must be short."""
    with tempfile.TemporaryDirectory(prefix="boot-") as folder:
        for name in ("run", "tmp"):
            Path(folder, name).mkdir(mode=0o700)
        yield Path(folder)


def test_a_job_is_attached_to_after_the_laptop_was_switched_off(machine: Machine, boot: Path) -> None:
    """What a reboot takes: every process of the user's, and all that was kept for one boot."""
    machine.environment |= {"XDG_RUNTIME_DIR": str(boot / "run"), "TMPDIR": str(boot / "tmp")}
    machine.write(
        "nap.py", "import sys, time; time.sleep(1.0); open('run-result/' + sys.argv[1], 'w').write('made')"
    )
    for number in range(10):
        machine.write(f"in{number}.txt", str(number))
    submit = machine.start("submit", "nap.py", "in*.txt", "-o", "got")  # on this machine's own grid
    until(lambda: [job for job in machine.document("ls").get("jobs", []) if 0 < job["counts"]["done"] < 10])
    for process in [submit.pid, *machine.children()]:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    submit.wait()
    until(lambda: not list(machine.children()))
    for folder in ("run", "tmp"):
        shutil.rmtree(boot / folder)
        (boot / folder).mkdir(mode=0o700)
    done = machine.run("attach", "@last", "-o", "got")
    assert done.returncode == 0, done.stderr
    made = {file.name for file in (machine.work / "got" / "output").iterdir()}
    assert made == {f"in{number}.txt" for number in range(10)}
