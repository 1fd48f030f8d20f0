"""Commands on jobs that were submitted: see, wait, get, cancel, follow, and the code lab's own."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.grid.machines import PATIENCE_S, Machine, until

GATE = """
import pathlib, sys, time
print("started", flush=True)
print("noted", file=sys.stderr, flush=True)
time.sleep(float(sys.argv[1]))
pathlib.Path("run-result/end.txt").write_text("end")
print("ended", flush=True)
"""
LONG_S = "60"


def submit(desk: Machine, *arguments: str) -> str:
    """A detached job's id."""
    done = desk.run("submit", "-d", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def slow_job(desk: Machine, seconds: str = LONG_S, *options: str) -> str:
    desk.write("gate.py", GATE)
    return submit(desk, "gate.py", *options, "--", seconds)


def state(desk: Machine, job: str) -> str:
    return str(desk.document("show", job)["state"])


def wait_until_running(desk: Machine, job: str) -> None:
    until(lambda: state(desk, f"{job}-0") == "running")


def test_a_detached_job_is_waited_for_and_got(desk: Machine) -> None:
    job = slow_job(desk, "0.2")
    assert re.fullmatch(r"[a-z2-7]{4,}", job)
    assert desk.run("wait", job).returncode == 0
    done = desk.run("get", job)
    assert done.stdout == f"{job}-gate\n"
    assert (desk.work / f"{job}-gate/output/end.txt").read_text() == "end"


def test_attach_stays_to_the_end(desk: Machine) -> None:
    job = slow_job(desk, "0.5")
    done = desk.run("attach", job)
    assert (done.returncode, done.stdout) == (0, f"{job}-gate\n"), done.stderr
    assert (desk.work / f"{job}-gate/output/end.txt").exists()


def test_a_wait_that_is_too_short_ends_with_5_and_the_job_goes_on(desk: Machine) -> None:
    job = slow_job(desk)
    done = desk.run("wait", job, "--timeout", "0.2s")
    assert done.returncode == 5
    assert f"`discogrid wait {job}` waits again" in done.stderr
    assert "Traceback" not in done.stderr
    desk.run("cancel", job)


def test_a_cancelled_job_ends_with_6(desk: Machine) -> None:
    job = slow_job(desk)
    assert desk.run("cancel", job).returncode == 0
    assert desk.run("wait", job).returncode == 6
    assert "had cancelled already" in desk.run("cancel", job).stderr


def test_a_held_job_runs_when_it_is_released(desk: Machine) -> None:
    job = slow_job(desk, "0", "--hold")
    assert state(desk, job) == "held"
    assert desk.run("release", job).returncode == 0
    assert desk.run("wait", job).returncode == 0


def test_results_so_far_stay_packed(desk: Machine) -> None:
    desk.write("gate.py", GATE.replace("sys.argv[1]", "pathlib.Path(sys.argv[1]).read_text()"))
    desk.write("a.txt", "0")
    desk.write("b.txt", LONG_S)
    job = submit(desk, "gate.py", "a.txt", "b.txt")
    until(lambda: state(desk, f"{job}-0") == "done")
    done = desk.run("get", job, "-o", "out")
    assert done.returncode == 0
    assert f"`discogrid attach {job}` waits for the rest" in done.stderr
    assert sorted(path.name for path in (desk.work / "out/results").iterdir()) == [
        f"{job}-000.sig",
        f"{job}-000.zip",
    ]
    assert not (desk.work / "out/output").exists()
    desk.run("cancel", job)
    assert desk.run("attach", job, "-o", "out").returncode == 6
    assert (desk.work / "out/output/end.txt").exists()


def test_a_job_is_meant_by_prefix_name_or_last(desk: Machine) -> None:
    job = slow_job(desk, "0", "-n", "unique-7")
    for text in (job, job[:4], job.upper(), "unique-7", "@last"):
        assert desk.document("show", text)["id"] == job
    for text in (f"{job}-0", f"{job}-000", "unique-7-0", "@last-0"):
        assert desk.document("show", text)["task"] == f"{job}-000"


@pytest.mark.parametrize(
    "arguments", [["show", "zzzzzzzz"], ["show", "@last-77"], ["tasks", "@last-0"], ["cancel"]]
)
def test_a_job_that_is_not_there_is_an_error_with_a_way_out(desk: Machine, arguments: list[str]) -> None:
    slow_job(desk, "0")
    done = desk.run(*arguments)
    assert done.returncode == 2
    assert "fix: " in done.stderr


def test_every_reading_command_prints_a_document(desk: Machine) -> None:
    job = slow_job(desk, "0")
    desk.run("wait", job)
    things = {
        ("ls",): "jobs",
        ("list",): "jobs",
        ("show", job): "job",
        ("show", f"{job}-0"): "task-view",
        ("tasks", job): "tasks",
        ("agents",): "agents",
        ("status",): "status",
        ("why", job): "why",
        ("wait", job): "job",
        ("get", job): "job",
        ("view", "--job", job): "job",
        ("jobSummary",): "job-summary",
        ("cluster",): "grids",
        ("doctor",): "doctor",
        ("config", "show"): "settings",
    }
    for command, thing in things.items():
        done = desk.run(*command, "--json")
        assert done.returncode == 0, (command, done.stderr)
        assert json.loads(done.stdout)["schema"] == f"discogrid.{thing}/1", command


def test_people_get_tables_and_lines(desk: Machine) -> None:
    job = slow_job(desk, "0")
    desk.run("wait", job)
    for command in (
        ["ls"],
        ["show", job],
        ["tasks", job],
        ["agents"],
        ["status"],
        ["why", job],
        ["config", "show"],
    ):
        done = desk.run(*command)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), command
        assert done.stdout, command
    assert job in desk.run("ls").stdout
    assert f"{job}-000  done" in desk.run("tasks", job).stdout


def test_a_running_task_is_followed_to_its_end(desk: Machine) -> None:
    job = slow_job(desk, "1.5")
    done = desk.run("logs", "-f", job)
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == ["ended", "noted", "started"]


def test_a_task_that_prints_faster_than_is_sent_is_followed_to_its_last_line(desk: Machine) -> None:
    desk.write(
        "flood.py",
        "import os, time\nfor _ in range(1000): os.write(1, b'y' * 65535 + b'\\n')\nprint('the last line')\n",
    )
    job = submit(desk, "flood.py")
    done = desk.run("logs", "-f", job)
    assert done.returncode == 0
    assert done.stdout.endswith("the last line\n")
    assert len(done.stdout) < 16 << 20
    assert "cut …]" in done.stdout or "left out here" in done.stderr


def test_a_running_tasks_log_so_far_is_printed(desk: Machine) -> None:
    job = slow_job(desk)
    wait_until_running(desk, job)
    done = desk.run("logs", job)
    assert sorted(done.stdout.splitlines()) == ["noted", "started"]
    assert "still runs" in done.stderr
    desk.run("cancel", job)


def test_logs_of_several_tasks_say_whose_they_are(desk: Machine) -> None:
    desk.write("say.py", "import sys; print('first'); print('no line end', end='')")
    desk.write("a.txt", "")
    desk.write("b.txt", "")
    job = submit(desk, "say.py", "a.txt", "b.txt")
    lines = [f"{job}-{index:03d} | {text}" for index in (0, 1) for text in ("first", "no line end")]
    assert sorted(desk.run("logs", "-f", job).stdout.splitlines()) == lines
    assert desk.run("logs", job).stdout.splitlines() == lines
    documents = [json.loads(line) for line in desk.run("logs", job, "--json").stdout.splitlines()]
    assert {document["schema"] for document in documents} == {"discogrid.log/1"}
    assert documents[0]["text"] == "first\nno line end"


def test_a_waiting_job_says_what_each_agent_does_instead(desk: Machine) -> None:
    slots = desk.document("agents")["agents"][0]["slots"]
    jobs = [slow_job(desk) for _ in range(2 * slots + 2)]  # an agent keeps some in reserve: those do not wait
    until(lambda: "busy with" in json.dumps(desk.document("why", jobs[-1])["waiting"]))
    done = desk.run("submit", "gate.py", "--no-queue", "--", LONG_S)
    assert done.returncode == 4
    assert "--no-queue was given" in done.stderr
    assert "busy with" in done.stderr
    desk.run("cancel", *jobs)


class Typist:
    """A command that can be interrupted."""

    def __init__(self, desk: Machine, *arguments: str) -> None:
        desk.write("gate.py", GATE)
        self._process = subprocess.Popen(
            desk.command("submit", "gate.py", *arguments, "--", LONG_S),
            cwd=desk.work,
            env=desk.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        self.said = ""

    def hears(self, text: str) -> re.Match[str]:
        def look() -> re.Match[str] | None:
            assert self._process.stderr is not None
            self.said += (self._process.stderr.read() or b"").decode()
            return re.search(text, self.said)

        found = until(look)
        assert found is not None
        return found

    def interrupts(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def leaves(self) -> int:
        with self._process:  # closes its pipes
            return self._process.wait(PATIENCE_S)


def test_one_interrupt_leaves_the_job_running(desk: Machine) -> None:
    typist = Typist(desk)
    job = typist.hears(r"^([a-z2-7]{4,}) \(gate\)")[1]
    wait_until_running(desk, job)
    typist.interrupts()
    typist.hears(f"discogrid attach {job}")
    typist.hears(f"discogrid cancel {job}")
    assert typist.leaves() == 130
    assert state(desk, job) == "running"
    desk.run("cancel", job)


def test_two_interrupts_cancel_the_job(desk: Machine) -> None:
    typist = Typist(desk)
    job = typist.hears(r"^([a-z2-7]{4,}) \(gate\)")[1]
    typist.interrupts()
    typist.hears("again to cancel")
    typist.interrupts()
    assert typist.leaves() == 6
    assert state(desk, job) == "cancelled"


def test_one_interrupt_cancels_when_that_was_asked_for(desk: Machine) -> None:
    typist = Typist(desk, "--cancel-on-interrupt")
    job = typist.hears(r"^([a-z2-7]{4,}) \(gate\)")[1]
    typist.interrupts()
    assert typist.leaves() == 6
    assert state(desk, job) == "cancelled"


def test_a_terminal_gets_a_bar_and_clean_lines(desk: Machine) -> None:
    desk.write("gate.py", GATE)
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        desk.command("submit", "gate.py", "--", "1"),
        cwd=desk.work,
        env={**desk.environment, "COLUMNS": "80", "TERM": "xterm"},
        stdin=inner,
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    said = b""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if not select.select([outer], [], [], 1)[0]:
            continue
        try:
            piece = os.read(outer, 65536)
        except OSError:
            break
        said += piece
    os.close(outer)
    assert process.wait(PATIENCE_S) == 0
    text = said.decode()
    assert "░" in text
    assert "0 of 1 task done, 1 running" in text
    lines = [line.rpartition("\x1b[K")[2] for line in text.splitlines()]
    assert re.fullmatch(r"[a-z2-7]{4,}-gate", lines[-1])


def test_a_reader_that_has_seen_enough_is_no_error(desk: Machine) -> None:
    slow_job(desk, "0")
    command = desk.command("ls", "--json")
    process = subprocess.Popen(
        command, cwd=desk.work, env=desk.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    with process:
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_the_code_labs_script_runs_as_it_is(desk: Machine) -> None:
    desk.write("copy.py", "import sys; open('run-result/x-' + sys.argv[1], 'w').write('x')")
    for name in ("split000.txt", "split001.txt", "other.txt"):
        desk.write(name, "")
    added = desk.run(
        "add", "--name", "lab", "--script", "copy.py", "--input", "split*.txt,other.txt", "--constants", "", "--run",
        "--wait", "--download",
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    assert sorted(path.name for path in (desk.work / added.stdout.strip() / "output").iterdir()) == [
        "x-other.txt",
        "x-split000.txt",
        "x-split001.txt",
    ]
    job = desk.run("add", "--script", "copy.py", "--input", "other.txt").stdout.strip()
    assert state(desk, job) == "held"
    desk.run("start", "--job", job)
    desk.run("wait", job)
    assert f"job      {job}" in desk.run("view", "--job", job).stdout
    assert (
        desk.work / desk.run("view", "--job", job, "--download").stdout.strip() / "output/x-other.txt"
    ).exists()
    assert job in desk.run("list").stdout
    assert "succeeded" in desk.run("jobSummary").stdout
    assert desk.run("cancel", "--job", job).returncode == 0
    assert "own" in desk.run("cluster").stdout
    assert "this machine's own grid" in desk.run("login").stdout
    assert desk.run("logout").returncode == 0
    assert desk.run("version").stdout == desk.run("--version").stdout


def test_a_grid_that_went_away_comes_back_and_the_job_with_it(desk: Machine, tmp_path: Path) -> None:
    own = type(desk)(tmp_path / "alone")
    try:
        own.write("gate.py", GATE)
        process = subprocess.Popen(
            own.command("submit", "gate.py", "--", "3"),
            cwd=own.work,
            env=own.environment,
            stderr=subprocess.PIPE,
        )
        until(lambda: own.document("ls").get("jobs"))
        wait_until_running(own, "@last")
        for pid in own.children():
            if pid != process.pid and b"up\0--own" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        _, said = process.communicate(timeout=90)
        assert process.returncode == 0, said
        assert list(own.work.glob("*-gate/output/end.txt"))
    finally:
        own.close()


def test_the_demo_makes_a_movie_with_every_frame_and_the_original_sound(desk: Machine) -> None:
    pytest.importorskip("av", reason="the demo extra is not installed")
    done = desk.run("demo", "--seconds", "2", patience_s=100)
    assert done.returncode == 0, done.stderr
    movie = desk.work / done.stdout.strip()
    assert movie.name == "disco.mp4"
    assert movie.stat().st_size > 10_000
    assert "Joined 60 of 60 frames" in done.stderr
    assert "The sound is the original" in done.stderr
