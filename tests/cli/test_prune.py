"""Dropping old jobs: what is chosen, what is asked, and what is left."""

import os
import pty
import subprocess

import pytest

from discogrid.cli.prune import old_ones
from discogrid.types import Counts, Digest, JobId, JobState, NodeId
from discogrid.views import JobView
from tests.grid.machines import Machine

DAY_S = 86400.0
NOW = 1_800_000_000.0


def view(id_: str, days: float | None, submitter: str = "me") -> JobView:
    ended = None if days is None else NOW - days * DAY_S
    state = JobState.RUNNING if ended is None else JobState.FAILED
    return JobView(
        JobId(id_), "name", state, Counts(), NodeId(submitter), "s.py", NOW, Digest("d"), ended=ended
    )


def test_old_jobs_of_ones_own_are_chosen() -> None:
    jobs = [view("a", 8), view("b", 6), view("c", None), view("d", 9, "another"), view("e", 7)]
    assert [job.id for job in old_ones(jobs, 7 * DAY_S, NOW, NodeId("me"))] == ["a", "e"]
    assert [job.id for job in old_ones(jobs, 7 * DAY_S, NOW, None)] == ["a", "d", "e"]


def ended(desk: Machine) -> str:
    desk.write("small.py", "open('run-result/a.txt', 'w').write('a')")
    job = desk.run("submit", "-d", "small.py").stdout.strip()
    assert desk.run("wait", job).returncode == 0
    return job


def test_named_jobs_are_dropped_and_their_downloads_stay(desk: Machine) -> None:
    first, second = ended(desk), ended(desk)
    assert desk.run("get", first, "-o", "got").returncode == 0
    done = desk.run("prune", first, "-y")
    assert (done.returncode, done.stdout) == (0, "")
    assert "1 job dropped" in done.stderr
    left = [job["id"] for job in desk.document("ls")["jobs"]]
    assert (first in left, second in left) == (False, True)
    assert (desk.work / "got" / "output" / "a.txt").exists()
    assert desk.run("show", first).returncode == 2
    assert desk.run("get", second, "-o", "again").returncode == 0


def test_nothing_goes_that_is_young_or_was_only_looked_at(desk: Machine) -> None:
    job = ended(desk)
    assert "0 jobs dropped" in desk.run("prune", "-y").stderr
    looked = desk.run("prune", "--older-than", "1s", "--dry-run", "--json")
    assert looked.returncode == 0, looked.stderr
    assert job in [each["id"] for each in desk.document("ls")["jobs"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["@last"], "nobody is here to be asked"),
        (["@last", "--json"], "nobody is here to be asked"),
        (["@last", "--older-than", "1d", "-y"], "but not both"),
        (["zzzz", "-y"], "zzzz"),
    ],
)
def test_what_is_not_meant_is_not_done(desk: Machine, arguments: list[str], said: str) -> None:
    job = ended(desk)
    refused = desk.run("prune", *arguments)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert job in [each["id"] for each in desk.document("ls")["jobs"]]


def test_a_job_that_runs_is_not_dropped(desk: Machine) -> None:
    desk.write("long.py", "import time; time.sleep(60)")
    job = desk.run("submit", "-d", "long.py").stdout.strip()
    refused = desk.run("prune", job, "-y")
    assert refused.returncode == 2
    assert f"discogrid cancel {job}" in refused.stderr
    desk.run("cancel", job)


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 130)])
def test_on_a_terminal_it_asks(desk: Machine, answer: bytes, code: int) -> None:
    job = ended(desk)
    ours, theirs = pty.openpty()
    asking = subprocess.Popen(
        desk.command("prune", job),
        cwd=desk.work,
        env=desk.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 1024)
    assert job.encode() in said
    os.write(ours, answer)
    assert asking.wait(30) == code
    os.close(ours)
    left = [each["id"] for each in desk.document("ls")["jobs"]]
    assert (job in left) == (code != 0)
