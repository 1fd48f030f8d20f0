"""discogrid.Process does what multiprocessing.Process does; what it runs is a process of its own somewhere."""

import multiprocessing.connection
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from discogrid import Process, Unshareable
from discogrid.calls import exceptions
from discogrid.calls.course import Course
from discogrid.errors import TaskTimeout, WorkerLost
from tests.calls.mortal_line import Openings

REPOSITORY = Path(__file__).parents[2]


def write(file: Path, text: str = "here") -> None:
    file.write_text(text)


def wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def refuse() -> None:
    raise ValueError("three")


class Greeter(Process):
    def __init__(self, file: Path) -> None:
        super().__init__(name="greeter")
        self.file = file

    def run(self) -> None:
        self.file.write_text(f"{self.name} {self._parent_pid}")


def ended(target: Callable[..., object], *args: Any) -> int | None:
    process = Process(target=target, args=args)
    process.start()
    process.join(60)
    return process.exitcode


def test_a_target_runs_with_its_arguments(openings: Openings, tmp_path: Path) -> None:
    process = Process(target=write, args=(tmp_path / "file",), kwargs={"text": "hello"})
    assert (process.is_alive(), process.exitcode) == (False, None)
    process.start()
    process.join()
    assert (process.is_alive(), process.exitcode) == (False, 0)
    assert (process.pid, process.ident) == (None, None)
    assert (tmp_path / "file").read_text() == "hello"
    assert openings.options[0].calls_max == 1


def test_a_subclass_travels_by_value_and_runs_its_run(openings: Openings, tmp_path: Path) -> None:
    process = Greeter(tmp_path / "file")
    process.start()
    process.join()
    assert (tmp_path / "file").read_text() == f"greeter {os.getpid()}"
    assert repr(process) == f"<Greeter name='greeter' parent={os.getpid()} stopped exitcode=0>"


def test_without_a_target_there_is_nothing_to_do(openings: Openings) -> None:
    process = Process()
    process.start()
    process.join()
    assert process.exitcode == 0


def test_arguments_are_as_they_were_at_the_start(openings: Openings, tmp_path: Path) -> None:
    lines: list[str] = ["before"]
    waits = Process(target=wait_for, args=(tmp_path / "go",))
    processes = [waits, Process(target=wait_for, args=(tmp_path / "go",))]
    late = Process(target=list.__len__, args=(lines,))
    reports = Process(target=write_lines, args=(tmp_path / "file", lines))
    for process in [*processes, late, reports]:
        process.start()
    lines.append("after")
    (tmp_path / "go").touch()
    for process in [*processes, late, reports]:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "file").read_text() == "before"


def write_lines(file: Path, lines: list[str]) -> None:
    file.write_text(" ".join(lines))


def test_the_exit_code_says_how_it_ended(openings: Openings, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(sys.exit) == 0
    assert ended(sys.exit, 7) == 7
    assert ended(os._exit, 0) == 0
    assert capsys.readouterr().err == ""
    assert ended(os._exit, 9) == 9
    assert "has died" in capsys.readouterr().err
    assert ended(sys.exit, "no more") == 1
    assert "no more" in capsys.readouterr().err


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def test_the_signal_that_ended_it_is_its_exit_code(openings: Openings) -> None:
    assert ended(die, signal.SIGSEGV) == -signal.SIGSEGV
    assert ended(die, signal.SIGKILL) == -signal.SIGKILL


def test_an_exception_is_told_with_its_own_traceback(
    openings: Openings, capsys: pytest.CaptureFixture[str]
) -> None:
    process = Process(target=refuse, name="third")
    process.start()
    process.join()
    said = capsys.readouterr().err
    assert process.exitcode == 1
    assert said.startswith("Process third:\nTraceback (most recent call last):\n")
    assert said.endswith("ValueError: three\n")
    assert 'raise ValueError("three")' in said
    assert "direct cause" not in said


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (TaskTimeout("call 1 ran longer than 3 s"), -9),
        (WorkerLost("it has died", exit_status=-11), -11),
        (WorkerLost("it has died", exit_status=139), -11),
        (WorkerLost("it has died"), -9),
        (KeyboardInterrupt(), 1),
    ],
)
@pytest.mark.parametrize("trusted", [True, False])
def test_what_an_agent_says_of_its_end_is_its_exit_code(
    error: BaseException, exit_code: int, trusted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    course = Course("one", lambda: None)
    course.raised(0, exceptions.unpack(exceptions.pack(error), trusted=trusted))
    assert course.exit_code == exit_code
    assert (str(error) or "KeyboardInterrupt") in capsys.readouterr().err


def test_one_that_is_terminated_has_ended_there_and_here(openings: Openings, tmp_path: Path) -> None:
    processes = [Process(target=wait_for, args=(tmp_path / "never",)) for _ in range(4)]
    for process in processes:
        process.start()
    processes[0].terminate()
    processes[1].kill()
    processes[3].terminate()  # which has not begun: there are two slots
    assert [process.exitcode for process in processes] == [-15, -9, None, -15]
    assert repr(processes[0]).endswith("stopped exitcode=-SIGTERM>")
    assert processes[2].is_alive()
    after = Process(target=write, args=(tmp_path / "file",))
    after.start()
    after.join()  # its slot is that of one which was ended
    processes[2].terminate()
    processes[2].join()
    assert (after.exitcode, processes[2].exitcode) == (0, -15)
    processes[2].terminate()
    assert processes[2].exitcode == -15


def test_it_is_waited_for_so_long(openings: Openings, tmp_path: Path) -> None:
    process = Process(target=wait_for, args=(tmp_path / "go",))
    process.start()
    process.join(0.01)
    assert (process.is_alive(), process.exitcode) == (True, None)
    assert "started" in repr(process)
    assert multiprocessing.connection.wait([process.sentinel], 0) == []
    (tmp_path / "go").touch()
    assert multiprocessing.connection.wait([process.sentinel], 60) == [process.sentinel]
    assert process.exitcode == 0


def test_the_sentinel_of_one_that_has_ended_is_ready(openings: Openings) -> None:
    process = Process()
    with pytest.raises(ValueError, match="process not started"):
        _ = process.sentinel
    process.start()
    process.join()
    assert multiprocessing.connection.wait([process.sentinel], 0) == [process.sentinel]


def test_what_multiprocessing_asserts_is_asserted(openings: Openings, tmp_path: Path) -> None:
    process = Process(target=wait_for, args=(tmp_path / "go",))
    for method in (process.join, process.terminate, process.kill):
        with pytest.raises(AssertionError, match="started process"):
            method()
    with pytest.raises(AssertionError, match="name must be a string"):
        process.name = 3  # type: ignore[assignment]  # that is the point
    process.name, process.daemon = "other", True
    process.start()
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    with pytest.raises(AssertionError, match="already started"):
        process.daemon = False
    with pytest.raises(ValueError, match="still running"):
        process.close()
    (tmp_path / "go").touch()
    process.join()
    process.close()
    with pytest.raises(ValueError, match="is closed"):
        process.join()
    assert repr(process) == f"<Process name='other' parent={os.getpid()} closed daemon>"
    with pytest.raises(AssertionError, match="group argument"):
        Process(3)  # type: ignore[arg-type]  # that is the point


def test_a_copy_of_it_elsewhere_is_nobody_s_parent(openings: Openings) -> None:
    copy = pickle.loads(pickle.dumps(Process(target=abs, args=(1,))))
    copy._parent_pid = 1
    assert "unknown" in repr(copy)
    for method in (copy.start, copy.join, copy.is_alive):
        with pytest.raises(AssertionError, match="can only"):
            method()


def test_what_cannot_be_sent_is_an_error_of_the_start(openings: Openings) -> None:
    lock = threading.Lock()
    with pytest.raises(Unshareable, match=r"argument 1 is a threading\.Lock"):
        Process(target=write, args=(lock,)).start()
    with pytest.raises(Unshareable, match=r"its variable lock is a threading\.Lock"):
        Process(target=lambda: lock).start()


def test_processes_of_the_same_options_share_a_line(openings: Openings) -> None:
    for options in ({}, {}, {"cpus": 2}, {"cpus": 2}):
        process = Process(target=abs, args=(1,), **options)  # type: ignore[arg-type]  # of the keywords
        process.start()
        process.join()
    assert [options.cpus for options in openings.options] == [1, 2]
    openings.dispatchers[0].close()
    process = Process(target=abs, args=(1,))
    process.start()
    process.join()
    assert (process.exitcode, len(openings.options)) == (0, 3)


def test_at_the_end_of_the_program_others_are_waited_for_and_daemons_ended(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys, time, pathlib
            import pytest
            from tests.calls.mortal_line import in_place_of_a_grid
            openings = in_place_of_a_grid(pytest.MonkeyPatch())
            from discogrid import Process
            def late(name):
                time.sleep(0.3)
                pathlib.Path(name).write_text("late")
            for_ever = Process(target=time.sleep, args=(600,), daemon=True)
            other = Process(target=late, args=(sys.argv[1],))
            for_ever.start()
            other.start()
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "file")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "file").read_text() == "late"
