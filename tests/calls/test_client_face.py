"""discogrid.Client asks a real grid of this machine from a program without an event loop."""

import concurrent.futures
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from discogrid import Client, Executor, Pool
from discogrid.errors import DiscogridError, GridError, InputError, UsageError, WaitTimeout
from discogrid.types import JobState, Requirements, SandboxLevel
from tests.calls.mortal_line import Openings
from tests.grid.machines import Machine, until

SHOUT = """
import pathlib, sys
text = pathlib.Path(sys.argv[1]).read_text()
pathlib.Path("run-result", sys.argv[1]).write_text(text.upper())
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with closing(Machine(tmp_path_factory.mktemp("user"))) as machine:
        assert machine.run("ls").returncode == 0  # its own grid is there
        yield machine


@pytest.fixture
def client(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    for name in ("DISCOGRID_HOME", "DISCOGRID_IDLE_EXIT"):
        monkeypatch.setenv(name, machine.environment[name])
    monkeypatch.chdir(machine.work)
    with Client() as client:
        yield client


def test_a_script_is_submitted_watched_and_kept(client: Client, machine: Machine) -> None:
    machine.write("shout.py", SHOUT)
    for name in ("a.txt", "b.txt"):
        machine.write(name, f"{name} says")
    job = client.submit("shout.py", ["*.txt"], name="shouting", retries=0)
    ended = client.wait(job, 60)
    assert (ended.state, ended.counts.done) == (JobState.SUCCEEDED, 2)
    assert client.job(job).name == "shouting"
    assert [task.input for task in client.tasks(job)] == ["a.txt", "b.txt"]
    assert job in [view.id for view in client.jobs()]
    assert client.resolve("shouting") == job == client.resolve("@last")
    assert len(client.agents()) == 1
    assert [result.body.index for result in client.results(job)] == [0, 1]
    folder = client.download(job)
    assert folder == Path(f"{job}-shouting")
    assert (folder / "output" / "b.txt").read_text() == "B.TXT SAYS"
    assert client.download(job, "elsewhere", archives=False) == Path("elsewhere")
    assert sorted(path.name for path in Path("elsewhere").iterdir()) == ["job.json", "output"]


def test_a_job_that_nobody_can_run_is_explained_and_cancelled(client: Client, machine: Machine) -> None:
    needs = Requirements(needs=("nobody_has_this",), sandbox=SandboxLevel.NONE)
    job = client.submit(machine.write("stuck.py", "pass"), hold=True, requirements=needs)
    assert client.job(job).state is JobState.HELD
    client.release(job)
    with pytest.raises(WaitTimeout, match=r"did not end within 0\.1 s"):
        client.wait(job, 0.1)
    reasons = until(lambda: client.why(job))
    assert "nobody_has_this" in next(iter(reasons.values()))
    client.cancel(job)
    assert client.wait(job, 60).state is JobState.CANCELLED


def test_a_job_whose_first_tasks_fail_alike_is_not_waited_for(client: Client, machine: Machine) -> None:
    machine.write("fail.py", "raise SystemExit(3)")
    for number in range(12):
        machine.write(f"in{number}.dat", "")
    job = client.submit("fail.py", "in*.dat", retries=0)
    with pytest.raises(DiscogridError, match="is held"):
        client.wait(job, 60)
    client.cancel(job)


def test_it_is_asked_from_many_threads(client: Client) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.jobs(), range(32)))
    assert all(answer == answers[0] for answer in answers)


def test_what_is_wrong_is_raised_where_it_was_asked(client: Client) -> None:
    with pytest.raises(UsageError, match="no job 'nobody'"):
        client.resolve("nobody")
    with pytest.raises(InputError):
        client.submit("nowhere.py")
    with pytest.raises(RuntimeError, match="connected already"):
        client.__enter__()


def test_one_that_is_not_connected_says_so(client: Client) -> None:
    other = Client(local=True)
    with pytest.raises(GridError, match="is not connected"):
        other.jobs()
    other.close()
    with other:
        assert other.jobs() is not None
    with pytest.raises(GridError, match="is not connected"):
        other.jobs()
    with pytest.raises(UsageError, match="no grid called 'nowhere'"):
        Client("nowhere")


def test_a_coordinator_that_does_not_answer_is_an_error_and_leaves_no_thread(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("discogrid.session.CONNECT_S", 0.2)
    monkeypatch.setattr("discogrid.grid.own_endpoint", lambda: "ipc:///nonexistent/own.sock")
    other = Client(local=True)
    with pytest.raises(GridError):
        other.__enter__()
    assert other._thread is None


def test_calls_run_on_the_same_grid(client: Client, openings: Openings) -> None:
    with client.pool(1, cpus=2) as pool, client.executor(2, name="other") as executor:
        assert isinstance(pool, Pool)
        assert isinstance(executor, Executor)
        assert pool.map(abs, [-1]) == list(executor.map(abs, [-1])) == [1]
    first, second = openings.options
    assert (first.local, first.cpus, first.processes) == (True, 2, 1)
    assert (second.local, second.name, second.processes) == (True, "other", 2)
