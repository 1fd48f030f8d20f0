"""The lab's last lesson: faces over time, in four forms that say the same."""

import csv
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.grid.machines import Machine

SCRIPT = Path(__file__).parents[2] / "examples" / "face_count.py"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with closing(Machine(tmp_path_factory.mktemp("faces"))) as machine:
        yield machine


def count(machine: Machine, form: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    (machine.work / form).mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, SCRIPT, "--form", form, "-o", form, *words],
        cwd=machine.work,
        env=machine.environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def alone(machine: Machine, movie: Path) -> str:
    empty = machine.work / "empty.avi"
    writer = cv2.VideoWriter(str(empty), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 120))
    for _ in range(20):
        writer.write(np.full((120, 160, 3), 90, np.uint8))
    writer.release()
    (machine.work / "movie.mp4").write_bytes(movie.read_bytes())
    done = count(machine, "single", "movie.mp4", "empty.avi", "movie.mp4")
    assert done.returncode == 0, done.stderr
    return (machine.work / "single" / "faces.csv").read_text()


def test_a_face_is_counted_where_there_is_one(machine: Machine, alone: str) -> None:
    rows = list(csv.DictReader(alone.splitlines()))
    movie = [(float(row["seconds"]), int(row["faces"])) for row in rows if row["video"] == "movie.mp4"]
    # Each 15th frame of 30000/1001 a second.
    assert [seconds for seconds, _ in movie[:4]] == [0.0, 0.501, 1.001, 1.502]
