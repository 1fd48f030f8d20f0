"""The same tests once more as an ordinary user, when the ones that ran before were root's."""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from discogrid_agent.sandbox.box import Box
from tests.skips import NO_FFMPEG, NO_LANDLOCK, ONLY_ROOT

HERE = Path(__file__).parent
# How many tests of each only root can do.
FILES = {
    "test_world.py": 4,
    "test_native.py": 0,
    "test_warm.py": 0,
    "test_probes.py": 0,
    "test_confined.py": 0,
    "test_ends.py": 0,
    "test_killed_agent.py": 0,
    "test_launcher.py": 0,
    "test_restraints.py": 0,
}
MAY_LACK = {NO_FFMPEG, NO_LANDLOCK}  # where skips are no failures; never the box itself, which root has
RUN_S = 400  # one file, on a busy machine


@pytest.mark.timeout(RUN_S + 20)
@pytest.mark.parametrize("file", FILES)
def test_an_agent_that_is_not_root_keeps_every_promise(file: str, strict: Box) -> None:
    if os.geteuid() != 0:
        pytest.skip(ONLY_ROOT)
    with tempfile.TemporaryDirectory(prefix="discogrid-rootless-", ignore_cleanup_errors=True) as folder:
        ran = subprocess.run(
            [
                *(sys.executable, HERE / "as_nobody.py", folder),
                *("-m", "pytest", "-q", "-p", "no:xdist", HERE / file),
            ],
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
            env={**os.environ, "COLUMNS": "500"},
        )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    # A machine where the box never works for ordinary users must not pass by skipping.
    skips = skipped(ran.stdout)
    assert skips.pop(ONLY_ROOT, 0) == FILES[file], ran.stdout
    assert set(skips) <= MAY_LACK, ran.stdout
    functions = re.findall(r"^(?:async )?def test_", (HERE / file).read_text(), re.MULTILINE)
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) + FILES[file] + skips.total() >= len(functions), ran.stdout


def skipped(said: str) -> Counter[str]:
    """How often for each reason, as pytest said; all of them are named."""
    named = Counter(
        {
            reason: int(times)
            for times, reason in re.findall(r"^SKIPPED \[(\d+)\] \S+: (.*)$", said, re.MULTILINE)
        }
    )
    told = re.search(r"(\d+) skipped", said)
    assert named.total() == (int(told[1]) if told else 0), said
    return named
