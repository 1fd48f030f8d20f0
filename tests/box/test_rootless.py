"""The same tests once more as an ordinary user, when the ones that ran before were root's."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = [
    "test_world.py",
    "test_warm.py",
    "test_probes.py",
    "test_confined.py",
    "test_ends.py",
    "test_killed_agent.py",
]
RUN_S = 400  # one file, on a busy machine


@pytest.mark.timeout(RUN_S + 20)
@pytest.mark.parametrize("file", FILES)
def test_an_agent_that_is_not_root_keeps_every_promise(file: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("this is an ordinary user's run already")
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
        )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    # Otherwise a machine where the box never works for ordinary users would pass by skipping.
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert (
        int(passed[1])
        >= len(re.findall(r"^(?:async )?def test_", (HERE / file).read_text(), re.MULTILINE)) - 2
    )
