"""The lab's last lesson: faces over time, in four forms that say the same."""

import csv
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
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
def alone(machine: Machine, movie: Path, portrait: Path) -> str:
    empty = machine.work / "empty.avi"
    writer = cv2.VideoWriter(str(empty), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 120))
    for _ in range(20):
        writer.write(cv2.resize(cv2.imread(str(portrait)), (1, 1)).repeat(120, 0).repeat(160, 1))
    writer.release()
    (machine.work / "movie.mp4").write_bytes(movie.read_bytes())
    done = count(machine, "single", "movie.mp4", "empty.avi", "movie.mp4")
    assert done.returncode == 0, done.stderr
    return (machine.work / "single" / "faces.csv").read_text()


def test_a_face_is_counted_where_there_is_one(machine: Machine, alone: str) -> None:
    rows = list(csv.DictReader(alone.splitlines()))
    movie = [(float(row["seconds"]), int(row["faces"])) for row in rows if row["video"] == "movie.mp4"]
    assert [seconds for seconds, _ in movie[:4]] == [
        0.0,
        0.5,
        1.001,
        1.502,
    ]  # of 29.97 frames a second, each 15th
    assert {faces for _, faces in movie} == {1}
    assert {row["faces"] for row in rows if row["video"] == "empty.avi"} == {"0"}
    plot = cv2.imread(str(machine.work / "single" / "faces.png"))
    assert plot is not None
    assert plot.shape[1] > 600


@pytest.mark.parametrize("form", ["multiprocessing", "discomp", "batches"])
def test_every_form_says_the_same(machine: Machine, alone: str, form: str) -> None:
    done = count(machine, form, "movie.mp4", "empty.avi", "movie.mp4")
    assert done.returncode == 0, done.stderr
    assert (machine.work / form / "faces.csv").read_text() == alone


def test_what_is_no_video_is_named(machine: Machine) -> None:
    (machine.work / "text.mp4").write_text("no video")
    done = count(machine, "single", "text.mp4")
    assert (done.returncode, "text.mp4 is no video" in done.stderr) == (2, True)
