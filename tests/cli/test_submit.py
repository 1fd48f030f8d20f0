"""`discogrid submit` as its user sees it: streams, folders, exit codes, bad input."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Desk
from tests.grid.machines import Machine

COPY = """
import pathlib, sys
name = sys.argv[1] if len(sys.argv) > 1 else ""
print("arguments", sys.argv[1:])
print("a remark", file=sys.stderr)
if name:
    pathlib.Path("run-result", "copy-" + name.replace(chr(10), "_")).write_bytes(pathlib.Path(name).read_bytes())
pathlib.Path("run-result/same.txt").write_text(name)
"""
FAIL = """
import pathlib, sys
pathlib.Path("run-result/half.txt").write_text("half")
if sys.argv[1] == "b.txt":
    raise ValueError("no face in " + sys.argv[1])
"""


def jobs(desk: Machine) -> list[str]:
    return [job["id"] for job in desk.document("ls")["jobs"]]


def folder_of(desk: Machine, stdout: str) -> Path:
    (line,) = stdout.splitlines()
    return desk.work / line


def test_results_come_back_in_the_order_of_the_inputs(desk: Machine) -> None:
    desk.write("copy.py", COPY)
    for number in (10, 2, 1):
        desk.write(f"split{number}.txt", f"{number}")
    done = desk.run("submit", "copy.py", "split*.txt", "-n", "my job/2")
    assert done.returncode == 0, done.stderr
    folder = folder_of(desk, done.stdout)
    job = folder.name.partition("-")[0]
    assert folder.name == f"{job}-my-job-2"
    assert sorted(path.name for path in (folder / "results").iterdir()) == [
        f"{job}-{index:03d}.{suffix}" for index in range(3) for suffix in ("sig", "zip")
    ]
    for index, number in enumerate((1, 2, 10)):
        with zipfile.ZipFile(folder / "results" / f"{job}-{index:03d}.zip") as archive:
            assert archive.read(f"copy-split{number}.txt") == f"{number}".encode()
            about = json.loads(archive.read("DiscoTask.json"))
            assert (about["schema"], about["input"], about["index"]) == (
                "discogrid.task/1",
                f"split{number}.txt",
                index,
            )
            assert archive.read("DiscoTask.stderr.0.txt") == b"a remark\n"
    assert sorted(path.name for path in (folder / "output").iterdir()) == [
        *(f"copy-split{number}.txt" for number in (1, 10, 2)),
        *(f"same-{index:03d}.txt" for index in range(3)),
    ]
    kept = json.loads((folder / "job.json").read_text())
    assert (kept["schema"], kept["state"], kept["counts"]["done"]) == ("discogrid.job/1", "succeeded", 3)
    assert [task["input"] for task in kept["tasks"]] == ["split1.txt", "split2.txt", "split10.txt"]
    assert {"name": "output/same-002.txt", "task": f"{job}-002", "source": "same.txt", "size": 11} in kept[
        "files"
    ]
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_stdout_is_the_folder_and_nothing_else(desk: Machine) -> None:
    desk.write("copy.py", COPY)
    done = desk.run("submit", "copy.py", "-q")
    assert done.stderr == ""
    assert (folder_of(desk, done.stdout) / "output" / "same.txt").exists()


def test_what_follows_two_dashes_is_the_scripts(desk: Machine) -> None:
    desk.write("copy.py", COPY)
    desk.write("a.txt", "a")
    done = desk.run("submit", "copy.py", "a.txt", "--", "-d", "--force", "--", "x y")
    assert done.returncode == 0, done.stderr
    logs = desk.run("logs", "@last", "--stream", "stdout")
    assert logs.stdout == "arguments ['a.txt', '-d', '--force', '--', 'x y']\n"


@pytest.mark.parametrize(
    "name",
    ["with space.txt", "ünï 顔.txt", "new\nline.txt", "-dash.txt", "a,b;c&d.txt", "empty.txt", "[x]*.txt"],
)
def test_a_file_of_a_strange_name_is_processed(desk: Machine, name: str) -> None:
    desk.write("copy.py", COPY)
    desk.write(name, "" if name == "empty.txt" else "content")
    done = desk.run("submit", "copy.py", f"./{name}", "-o", "out")
    assert done.returncode == 0, done.stderr
    copy = desk.work / "out" / "output" / ("copy-" + name.replace("\n", "_"))
    assert copy.read_text() == ("" if name == "empty.txt" else "content")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.py", "a.txt"], "the script 'nowhere.py' does not exist"),
        (["copy.py", "b*.txt"], "no file matches 'b*.txt'"),
        (["copy.py", "aa.txt"], "'a.txt'"),
        (["copy.py", "folder"], "is a folder"),
        (["copy.py", "fold*"], "matches folders only"),
        (["copy.py", "pipe"], "not a regular file"),
        (["copy.py", "copy.py"], "has the name of the script"),
        (["copy.py", "-c", "nothing.txt", "a.txt"], "the constant 'nothing.txt' does not exist"),
        (["copy.py", "-c", "a.txt", "a.txt"], "has the name of the script or of a constant"),
        (["copy.py", "--mount", "folder"], "Write --mount FOLDER:/absolute/path"),
        (["copy.py", "--mount", "folder:/usr"], "/usr"),
        (["copy.py", "--mount", "nowhere:/home/codelab"], "nowhere"),
        (["copy.py", "--env", "=x"], "--env '=x' is not understood"),
        (["copy.py", "--memory", "2Q"], "'2Q' is no size"),
        (["copy.py", "--timeout", "soon"], "'soon' is no duration"),
        (["copy.py", "--cpus", "0"], "not in the range"),
        (["copy.py", "--no-unpack", "--no-archives"], "leave nothing to download"),
        (["copy.py", "-dash.txt"], "Write ./-dash.txt"),
        (["copy.py", "--lokal"], "--local"),
        (["copy.py", "-o", "a.txt"], "a.txt is a file"),
        (["copy.py", "--local", "--grid", "own"], "cannot be combined"),
        (["copy.py", "--grid", "nowhere"], "no grid called 'nowhere'"),
        ([], "missing argument 'SCRIPT'"),
    ],
)
def test_bad_input_is_told_and_nothing_is_submitted(desk: Machine, arguments: list[str], said: str) -> None:
    desk.write("copy.py", COPY)
    desk.write("a.txt", "a")
    desk.write("-dash.txt", "a")
    (desk.work / "folder").mkdir()
    os.mkfifo(desk.work / "pipe")
    before = jobs(desk)
    done = desk.run("submit", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert jobs(desk) == before


def test_an_input_that_cannot_be_read_is_named(desk: Machine) -> None:
    desk.write("copy.py", COPY)
    (desk.work / "locked.txt").symlink_to("/proc/self/mem")  # root may read what others may not, but not this
    done = desk.run("submit", "copy.py", "locked.txt")
    assert done.returncode == 2
    assert "locked.txt cannot be read: Input/output error" in done.stderr


def test_two_inputs_of_one_name_are_two_tasks(desk: Machine) -> None:
    desk.write("copy.py", COPY)
    for folder in ("one", "two"):
        (desk.work / folder).mkdir()
        (desk.work / folder / "a.txt").write_text(folder)
    done = desk.run("submit", "copy.py", "*/a.txt", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert [(desk.work / f"out/output/copy-a-{index:03d}.txt").read_text() for index in (0, 1)] == [
        "one",
        "two",
    ]


def test_a_failed_task_is_told_and_the_others_are_kept(desk: Machine) -> None:
    desk.write("fail.py", FAIL)
    for name in "abc":
        desk.write(f"{name}.txt", name)
    done = desk.run("submit", "fail.py", "*.txt", "--retries", "0", "-o", "out")
    assert done.returncode == 1
    assert done.stdout == "out\n"
    job = json.loads((desk.work / "out/job.json").read_text())
    assert "1 of 3 tasks" in done.stderr
    assert f"{job['id']}-001 (b.txt)" in done.stderr
    assert "ValueError: no face in b.txt" in done.stderr
    assert f"`discogrid logs {job['id']}-001`" in done.stderr
    assert [task["state"] for task in job["tasks"]] == ["done", "failed", "done"]
    assert sorted(path.name for path in (desk.work / "out/output").iterdir()) == [
        "half-000.txt",
        "half-002.txt",
    ]
    with zipfile.ZipFile(desk.work / f"out/results/{job['id']}-001.zip") as archive:
        assert b"ValueError" in archive.read("DiscoTask.stderr.0.txt")
    why = desk.run("why", f"{job['id']}-1")
    assert "ValueError: no face in b.txt" in why.stdout
    assert "discogrid submit --local fail.py b.txt" in why.stdout


def test_a_task_that_takes_too_long_is_ended(desk: Machine) -> None:
    desk.write("hang.py", "import time; time.sleep(100)")
    done = desk.run("submit", "hang.py", "--timeout", "1s", "--retries", "0")
    assert done.returncode == 1
    assert "1" in done.stderr
    assert desk.document("show", "@last-0")["state"] == "failed"


def test_a_flood_on_stdout_is_kept_within_bounds(desk: Machine) -> None:
    desk.write("flood.py", "for _ in range(100_000): print('x' * 99)")
    done = desk.run("submit", "flood.py")
    assert done.returncode == 0, done.stderr
    logs = desk.run("logs", "@last")
    assert len(logs.stdout) < 2 << 20
    assert "bytes cut" in logs.stdout


def test_a_result_too_large_for_a_message_comes_as_a_blob(desk: Machine) -> None:
    desk.write("large.py", "import os; open('run-result/large.bin', 'wb').write(os.urandom(3 << 20))")
    done = desk.run("submit", "large.py", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert (desk.work / "out/output/large.bin").stat().st_size == 3 << 20
    assert sorted(path.name for path in (desk.work / "out").iterdir()) == ["job.json", "output", "results"]
    assert len(list((desk.work / "out/results").iterdir())) == 2


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="a full disk is played with prlimit")
def test_a_disk_without_room_is_told_and_the_download_goes_on_later(desk: Machine) -> None:
    desk.write("large.py", "import os; open('run-result/large.bin', 'wb').write(os.urandom(3 << 20))")
    assert desk.run("submit", "-d", "large.py").returncode == 0
    assert desk.run("wait", "@last").returncode == 0
    (desk.work / "out").mkdir()
    limited = subprocess.run(
        ["prlimit", f"--fsize={1 << 20}", *desk.command("get", "@last", "-o", "out")],
        cwd=desk.work, env=desk.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert limited.returncode == 1
    assert "cannot be" in limited.stderr
    assert not [
        path for path in (desk.work / "out").rglob("*") if path.name.startswith(".") or path.suffix == ".zip"
    ]
    assert desk.run("attach", "@last", "-o", "out").returncode == 0
    assert (desk.work / "out/output/large.bin").stat().st_size == 3 << 20


def test_a_folder_with_another_jobs_results_is_left_alone(desk: Machine) -> None:
    desk.write("copy.py", COPY)
    desk.run("submit", "copy.py", "-o", "out")
    before, first = jobs(desk), (desk.work / "out/job.json").read_text()
    done = desk.run("submit", "copy.py", "-o", "out")
    assert done.returncode == 2
    assert "already holds job.json and results and output" in done.stderr
    assert jobs(desk) == before
    assert (desk.work / "out/job.json").read_text() == first
    assert desk.run("submit", "copy.py", "-o", "out", "--force").returncode == 0
    assert (desk.work / "out/job.json").read_text() != first


def test_the_same_jobs_folder_is_completed(desk: Machine) -> None:
    desk.write("copy.py", COPY)
    for name in "ab":
        desk.write(f"{name}.txt", name)
    desk.run("submit", "copy.py", "*.txt", "-o", "out")
    (desk.work / "out/output/copy-a.txt").unlink()
    next((desk.work / "out/results").glob("*-000.zip")).write_bytes(b"damaged")
    done = desk.run("get", "@last", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert (desk.work / "out/output/copy-a.txt").read_text() == "a"
    assert zipfile.is_zipfile(next((desk.work / "out/results").glob("*-000.zip")))


def test_archives_or_unpacked_files_can_be_left_out(desk: Machine) -> None:
    desk.write("copy.py", COPY)
    desk.run("submit", "copy.py", "-o", "packed", "--no-unpack")
    assert sorted(path.name for path in (desk.work / "packed").iterdir()) == ["job.json", "results"]
    desk.run("submit", "copy.py", "-o", "loose", "--no-archives")
    assert sorted(path.name for path in (desk.work / "loose").iterdir()) == ["job.json", "output"]


def test_constants_mounts_and_variables_reach_the_task(desk: Machine) -> None:
    desk.write("constant.txt", "constant")
    (desk.work / "tree").mkdir()
    (desk.work / "tree/deep.txt").write_text("deep")
    desk.write(
        "see.py",
        "import os, pathlib\n"
        "print(pathlib.Path('constant.txt').read_text(), pathlib.Path('/home/codelab/deep.txt').read_text(),"
        " os.environ['COLOUR'], os.environ['OMP_NUM_THREADS'])",
    )
    done = desk.run(
        "submit",
        "see.py",
        "-c",
        "const*.txt",
        "--mount",
        "tree:/home/codelab",
        "--env",
        "COLOUR=a=b",
        "--cpus",
        "2",
    )
    assert done.returncode == 0, done.stderr
    assert desk.run("logs").stdout == "constant deep a=b 2\n"


def test_a_dry_run_shows_the_plan_and_submits_nothing(desk: Machine) -> None:
    desk.write("copy.py", COPY)
    desk.write("a.txt", "a" * 100)
    before = jobs(desk)
    done = desk.run(
        "submit", "copy.py", "a.txt", "--dry-run", "--timeout", "90s", "--memory", "1G", "--json", "--", "x"
    )
    plan = json.loads(done.stdout)
    assert plan["schema"] == "discogrid.plan/1"
    assert plan["tasks"] == [{"index": 0, "input": "a.txt"}]
    assert plan["limits"] == {"seconds": 90.0, "memory_bytes": 1 << 30}
    assert plan["arguments"] == ["x"]
    assert "a.txt" in desk.run("submit", "copy.py", "a.txt", "--dry-run").stdout
    assert jobs(desk) == before


@pytest.mark.parametrize("wish", [["--cpus", "4000"], ["--needs", "no_such_module"], ["--gpus", "9"]])
def test_work_that_this_machine_can_never_do_ends_with_4(desk: Machine, wish: list[str]) -> None:
    desk.write("copy.py", COPY)
    done = desk.run("submit", "copy.py", *wish)
    assert done.returncode == 4, done.stderr
    assert "can never run it" in done.stderr
    assert desk.document("show", "@last")["state"] == "cancelled"


def test_a_joined_coordinator_that_is_gone_ends_with_3(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("copy.py", COPY)
    coordinator = desk.coordinate()
    coordinator.terminate()
    coordinator.wait()
    done = desk.run("submit", "copy.py", "--coordinator", "127.0.0.1:9")
    assert done.returncode == 3
    assert "did not answer within 5 s" in done.stderr
    assert "--local" in done.stderr
    assert done.stdout == ""
    assert not list(desk.work.glob("*-copy"))


def test_an_address_without_any_joined_grid_ends_with_3_and_names_the_way_in(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("copy.py", COPY)
    done = desk.run("submit", "copy.py", "--coordinator", "127.0.0.1:9")
    assert done.returncode == 3
    assert "has joined no grid" in done.stderr
    assert "discogrid join" in done.stderr
    assert done.stdout == ""


def test_a_setting_stands_in_for_an_option(desk: Machine) -> None:
    desk.write("copy.py", COPY)
    desk.write("discogrid.toml", '[submit]\ntimeout = "7s"\nretries = 5\n')
    plan = desk.document("submit", "copy.py", "--dry-run", "--retries", "0")
    assert (plan["limits"]["seconds"], plan["retries"]) == (7.0, 0)


def test_a_script_goes_only_where_its_imports_are_and_says_which_are_missing(desk: Machine) -> None:
    desk.write("script.py", "import no_such_module_anywhere\nprint('never')\n")
    done = desk.run("submit", "script.py")
    assert done.returncode == 4, done.stderr
    assert "lacks no_such_module_anywhere" in done.stderr
    tried = desk.run("submit", "--any-modules", "script.py")
    assert tried.returncode == 1
    assert "No module named 'no_such_module_anywhere'" in tried.stderr


def test_a_module_beside_the_script_is_its_own(desk: Machine) -> None:
    desk.write("script.py", "import helper\nprint(helper.WORD)\n")
    desk.write("helper.py", "WORD = 'hello'\n")
    assert desk.run("submit", "script.py", "-c", "helper.py").returncode == 0
