"""Programs of the old package discomp run with another import line."""

import sys
from pathlib import Path
from typing import Any

import pytest

from discogrid.discomp import JobStatus, Pool, Process
from tests.calls.mortal_line import Openings


def mult(one: int, two: int) -> int:
    return one * two


def write(file: Path, text: str) -> None:
    file.write_text(text)


def test_a_process_is_a_job_with_a_name_an_id_and_a_status(openings: Openings, tmp_path: Path) -> None:
    process = Process(name="abcdjob", target=write, args=(tmp_path / "file", "made"))
    assert (process.job_name, process.job_status) == ("abcdjob", "JobStatus.created")
    assert process.job_id == "k3f9"
    process.join()  # as it was: nothing to wait for
    process.start()
    process.start()  # as it was: once
    assert process.job_status in (JobStatus.STARTED, JobStatus.DONE)
    process.join()
    process.join()
    assert process.job_status == "JobStatus.done"
    assert (process.exitcode, (tmp_path / "file").read_text()) == (0, "made")
    assert [options.name for options in openings.options] == ["abcdjob"]


def test_a_job_that_failed_is_done_and_its_exit_code_says_how(openings: Openings) -> None:
    process = Process("failing", sys.exit, (3,), cpus=2)
    process.start()
    process.join()
    assert (process.job_status, process.exitcode) == ("JobStatus.done", 3)
    assert openings.options[0].cpus == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": 1, "target": mult, "args": (3, 7)},
        {"name": "abcdjob", "target": "not a function", "args": (3, 7)},
        {"name": "abcdjob", "target": mult, "args": 3},
    ],
)
def test_what_the_old_package_refused_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Process(**arguments)


def test_a_pool_maps_and_does_the_rest(openings: Openings) -> None:
    with Pool(name="powers") as pool:
        assert pool.map(abs, range(-3, 0)) == [3, 2, 1]
        assert pool.starmap(mult, [[3, 4], [5, 6]]) == [12, 30]
        assert pool.apply_async(mult, (2, 3)).get() == 6
        assert (pool.job_name, pool.job_id) == ("powers", "k3f9")
    assert openings.options[0].name == "powers"
