"""What a task sees and what comes back: the contract, at every level where it holds."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from discogrid.programs import find_ffmpeg
from discogrid.types import Limits, Outcome
from tests.box.bench import Bench, appeared, content, outputs, stderr, stdout
from tests.skips import NO_FFMPEG, ONLY_ROOT

HOSTILE_NAMES = ["two words.mp4", "naïve-日本.txt", "-rf", "line\nbreak", "*.txt", "'quoted\"$(x)"]

# A checkout below /tmp: the agent's Python is shown to every task at its own path, there.
OWN_PYTHON_IN_TMP = [
    Path(root).parts[2] for root in (sys.prefix, sys.base_prefix) if Path(root).is_relative_to("/tmp")
]


async def test_a_task_finds_its_files_and_hands_back_its_results(any_bench: Bench) -> None:
    ended = await any_bench.run(
        "import os, sys\n"
        "print(sorted(os.listdir('.')), sys.argv[1:], os.listdir('run-result'))\n"
        "open('in.txt', 'a').write('!')\n"
        "open('run-result/x-' + sys.argv[1], 'w').write(open(sys.argv[1]).read() + open('model.dat').read())\n",
        input_name="in.txt",
        constants={"model.dat": b" model"},
        arguments=("--fast", "a b"),
    )
    assert (ended.outcome, ended.exit, ended.reason) == (Outcome.SUCCEEDED, 0, "")
    assert (
        stdout(ended) == "['in.txt', 'model.dat', 'run-result', 'script.py'] ['in.txt', '--fast', 'a b'] []\n"
    )
    assert content(ended, "x-in.txt") == b"content! model"
    assert outputs(ended) == ["x-in.txt"]


async def test_the_private_copy_never_touches_the_store(bench: Bench) -> None:
    task = bench.task("import sys; open(sys.argv[1], 'w').write('spoilt')", input_name="in.txt")
    ended = await bench.runner.run(task)
    assert ended.outcome is Outcome.SUCCEEDED
    assert isinstance(task.input, Path)
    assert task.input.read_bytes() == b"content"


async def test_without_an_input_there_is_no_argument(any_bench: Bench) -> None:
    ended = await any_bench.run("import sys; print(sys.argv[1:])")
    assert stdout(ended) == "[]\n"


async def test_the_work_folder_is_local(strict_bench: Bench) -> None:
    ended = await strict_bench.run(
        "import os; print(os.getcwd()); open('/local/run-result/a', 'w').write('a'); print(sorted(os.listdir('/local')))"
    )
    assert stdout(ended) == "/local\n['script.py', 'run-result']\n" or "'run-result', 'script.py'" in stdout(
        ended
    )
    assert outputs(ended) == ["a"]


async def test_the_variables_of_a_task(any_bench: Bench) -> None:
    task = any_bench.task(
        "import json, os; print(json.dumps(dict(os.environ)))", cpus=3, environment={"MODE": "a=b"}
    )
    ended = await any_bench.runner.run(task)
    seen = json.loads(stdout(ended))
    assert seen["DISCOGRID_JOB"] == "k3f9"
    assert seen["DISCOGRID_TASK"] == task.label
    assert seen["DISCOGRID_INDEX"] == str(task.attempt.index)
    assert seen["DISCOGRID_COUNT"] == "20"
    assert seen["DISCOGRID_ATTEMPT"] == "1"
    assert {seen[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"3"}
    assert seen["MODE"] == "a=b"
    assert seen["LANG"] == "C.UTF-8"


async def test_a_strict_task_has_no_other_variable(
    strict_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNERS_SECRET", "hush")
    ended = await strict_bench.run("import json, os; print(json.dumps(dict(os.environ)))")
    seen = json.loads(stdout(ended))
    assert seen["HOME"] == seen["TMPDIR"] == "/tmp"
    known = {"HOME", "TMPDIR", "LANG", "PATH", "PWD", "PYTHONUNBUFFERED", "LC_CTYPE"}
    threads = {f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    assert {name for name in seen if not name.startswith("DISCOGRID_")} <= known | threads


async def test_home_and_tmp_are_private_and_gone_afterwards(any_bench: Bench) -> None:
    script = (
        "import os, pathlib, tempfile\n"
        "print(os.listdir(tempfile.gettempdir()), os.listdir(pathlib.Path.home()))\n"
        "open(tempfile.gettempdir() + '/mine', 'w').write('x')\n"
        "open(pathlib.Path.home() / 'other', 'w').write('x')\n"
    )
    first, second = await any_bench.run(script), await any_bench.run(script)
    assert "mine" not in stdout(first) + stdout(second)
    assert first.outcome is second.outcome is Outcome.SUCCEEDED


async def test_python_is_the_agents_own_and_on_the_path(bench: Bench) -> None:
    ended = await bench.run(
        "import shutil, subprocess, sys, numpy, cv2\n"
        "print(sys.executable, sys.prefix)\n"
        "print(subprocess.run(['python', '-c', 'import sys; print(sys.prefix)'], capture_output=True, text=True).stdout)\n"
    )
    assert ended.outcome is Outcome.SUCCEEDED, ended.reason
    assert stdout(ended).split() == [sys.executable, sys.prefix, sys.prefix]


async def test_ffmpeg_is_on_the_path(bench: Bench) -> None:
    if find_ffmpeg() is None:
        pytest.skip(NO_FFMPEG)
    ended = await bench.run(
        "import subprocess\n"
        "subprocess.run(['ffmpeg', '-v', 'error', '-nostdin', '-f', 'lavfi', '-i', 'testsrc=duration=0.2:rate=10',"
        " 'run-result/a.mp4'], check=True)\n"
    )
    assert ended.outcome is Outcome.SUCCEEDED, ended.reason
    assert outputs(ended) == ["a.mp4"]


async def test_a_script_that_knows_only_the_labs_contract(strict_bench: Bench, tmp_path: Path) -> None:
    if find_ffmpeg() is None:
        pytest.skip(NO_FFMPEG)
    tree = tmp_path / "assets"
    (tree / "models").mkdir(parents=True)
    (tree / "models" / "shape.dat").write_text("landmarks")
    ended = await strict_bench.run(
        "import os, subprocess, sys\n"
        "name = sys.argv[1]\n"
        "assert os.path.basename(name) == name and os.path.exists(name)\n"
        "model = open('/home/codelab/models/shape.dat').read()\n"
        "subprocess.check_call(['ffmpeg', '-v', 'error', '-nostdin', '-f', 'lavfi', '-i',"
        " 'testsrc=duration=0.2:rate=10', '/tmp/interim.mp4'])\n"
        "os.system('cp /tmp/interim.mp4 run-result/x-' + name)\n"
        "try:\n"
        "    open('/home/codelab/models/shape.dat', 'w')\n"
        "except OSError:\n"
        "    print(model, 'is read-only')\n",
        input_name="split000.mp4",
        mounts=(("/home/codelab", tree),),
    )
    assert ended.outcome is Outcome.SUCCEEDED, ended.reason
    assert outputs(ended) == ["x-split000.mp4"]
    assert stdout(ended) == "landmarks is read-only\n"


async def test_a_mount_that_would_hide_the_agents_python_is_refused_by_name(
    strict_bench: Bench, tmp_path: Path
) -> None:
    ended = await strict_bench.run("print(1)", mounts=((str(Path(sys.prefix).parent), tmp_path),))
    assert ended.outcome is Outcome.BOX_FAILED
    assert "would hide" in ended.reason  # this agent's Python, or /tmp when it lies there
    assert ended.retryable


async def test_fixed_paths_need_a_strict_box(bare_bench: Bench, tmp_path: Path) -> None:
    ended = await bare_bench.run("print(1)", mounts=(("/home/codelab", tmp_path),))
    assert ended.outcome is Outcome.BOX_FAILED
    assert "--const" in ended.reason


@pytest.mark.parametrize("name", HOSTILE_NAMES)
async def test_an_input_keeps_its_name_whatever_it_is(any_bench: Bench, name: str) -> None:
    ended = await any_bench.run(
        "import os, sys; print(sys.argv[1:], os.path.getsize(sys.argv[1]))",
        input_name=name,
        arguments=("-x",),
    )
    assert stdout(ended) == f"{[name, '-x']!r} 7\n"


async def test_a_script_whose_name_looks_like_an_option_is_run(any_bench: Bench) -> None:
    ended = await any_bench.run("print('ran')", name="-c.py")
    assert stdout(ended) == "ran\n"


async def test_any_executable_with_a_first_line_is_a_script(any_bench: Bench) -> None:
    ended = await any_bench.run(
        '#!/bin/sh\necho "$1" > run-result/out; exit 4\n', name="go", input_name="in.txt"
    )
    assert ended.exit == 4
    assert content(ended, "out") == b"in.txt\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (b"echo no first line\n", "does not name its program"),
        (b"#!/bin/sh\r\necho\r\n", "as on Windows"),
        (b"#!/no/such/program\n", "not on this machine"),
    ],
)
async def test_a_script_that_cannot_be_run_fails_once_and_says_why(
    bench: Bench, script: bytes, said: str
) -> None:
    ended = await bench.run(script, name="go")
    assert (ended.outcome, ended.exit, ended.retryable) == (Outcome.SCRIPT_FAILED, None, False)
    assert said in ended.reason


@pytest.mark.parametrize("name", ["run-result", "script.py", "a/b", "..", "x" * 256])
async def test_names_that_cannot_lie_in_the_folder_are_refused(bench: Bench, name: str) -> None:
    ended = await bench.run("print(1)", input_name=name)
    assert (ended.outcome, ended.retryable) == (Outcome.SCRIPT_FAILED, False)
    assert "Rename" in ended.reason


async def test_a_variable_that_cannot_be_set_is_refused(bench: Bench) -> None:
    ended = await bench.run("print(1)", environment={"A": "b\0--bind\0/\0/host"})
    assert (ended.outcome, ended.retryable) == (Outcome.SCRIPT_FAILED, False)
    assert "--env" in ended.reason


async def test_network_is_refused_not_forgotten(bench: Bench) -> None:
    ended = await bench.run("print(1)", network=True)
    assert ended.outcome is Outcome.REFUSED
    assert "network" in ended.reason


async def test_the_record_of_an_attempt(strict_bench: Bench) -> None:
    task = strict_bench.task(
        "import os; open('run-result/a.txt', 'w').write('abc'); os.symlink('/etc/passwd', 'run-result/b')",
        input_name="in.txt",
        limits=Limits(seconds=30),
    )
    ended = await strict_bench.runner.run(task)
    record = json.loads(content(ended, "DiscoTask.json"))
    assert record["schema"] == "discogrid.task/1"
    assert (record["job"], record["task"], record["index"]) == ("k3f9", task.label, task.attempt.index)
    assert (record["agent"], record["attempt"], record["input"]) == ("attic", 1, "in.txt")
    assert (record["exit"], record["limit_exceeded"], record["sandbox"]) == (0, None, "strict")
    assert record["limits"]["seconds"] == 30
    assert record["started"] < record["ended"]
    assert record["ended"].endswith("Z")
    assert 0 < record["seconds"] < 10
    [output] = record["outputs"]
    assert (output["name"], output["size"]) == ("a.txt", 3)
    assert output["digest"].startswith("blake3:")
    assert record["skipped"] == [{"name": "b", "why": "it is a symbolic link, not a regular file"}]


async def test_two_tasks_at_once_do_not_meet(strict_bench: Bench) -> None:
    script = (
        f"import os, sys, time\nown = {OWN_PYTHON_IN_TMP!r}\n"
        "open('/tmp/' + sys.argv[1], 'w'); open('/dev/shm/' + sys.argv[1], 'w')\n"
        "time.sleep(0.3)\n"
        "print([name for name in os.listdir('/tmp') if name not in own], os.listdir('/dev/shm'), len([p for p in os.listdir('/proc') if p.isdigit()]))\n"
    )
    ended = await asyncio.gather(*(strict_bench.run(script, input_name=name) for name in ("a", "b")))
    assert [stdout(one) for one in ended] == ["['a'] ['a'] 2\n", "['b'] ['b'] 2\n"]


async def test_semaphores_and_processes_of_python_work(strict_bench: Bench) -> None:
    ended = await strict_bench.run(
        "from multiprocessing import Lock, Pool\n"
        "def square(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    with Lock(), Pool(2) as pool: print(sum(pool.map(square, range(10))))\n"
    )
    assert stdout(ended) == "285\n", stderr(ended)


async def test_who_and_where_a_task_is(strict_bench: Bench) -> None:
    ended = await strict_bench.run(
        "import getpass, os, socket; print(os.getuid(), getpass.getuser(), socket.gethostname(), os.path.expanduser('~'))"
    )
    assert stdout(ended) == "1000 task task /tmp\n"


async def test_an_agent_that_is_root_runs_tasks_as_nobody_of_this_machine(bench: Bench) -> None:
    if os.geteuid() != 0:
        pytest.skip(ONLY_ROOT)
    name = f"nobody-{os.getpid()}.py"
    task = bench.task("import time; time.sleep(30)", name=name)
    running = asyncio.ensure_future(bench.runner.run(task))
    found = await appeared(name)
    owners = {os.stat(f"/proc/{process}").st_uid for process in found}
    bench.runner.kill(task.attempt, "enough")
    await running
    assert owners == {60790}


async def test_the_next_task_gets_cleared_folders_with_nothing_of_the_last_one(strict_bench: Bench) -> None:
    litter = (
        "import os\n"
        "for folder in ('.', 'run-result', '/tmp'):\n"
        "    os.makedirs(folder + '/a/b'); open(folder + '/a/b/secret', 'w').write('s'); open(folder + '/left', 'w')\n"
    )
    look = (
        f"import os; own = {OWN_PYTHON_IN_TMP!r}\n"
        "left = [name for name in os.listdir('/tmp') if name not in own]\n"
        "print(sorted(os.listdir('.')), os.listdir('run-result'), left)"
    )
    first = await strict_bench.run(litter)
    kept = [entry.stat().st_ino for entry in (strict_bench.folder / "agent" / "attempts").iterdir()]
    second = await strict_bench.run(look)

    assert first.outcome is second.outcome is Outcome.SUCCEEDED
    assert stdout(second) == "['run-result', 'script.py'] [] []\n"
    assert [entry.stat().st_ino for entry in (strict_bench.folder / "agent" / "attempts").iterdir()] == kept


@pytest.mark.parametrize(
    "trace",
    [
        "os.chmod('run-result', 0o500)",
        "os.chmod('/tmp', 0o777)",
        "os.setxattr('.', 'user.left', b'a word for the next task')",
        "os.rmdir('run-result'); os.symlink('/tmp', 'run-result')",
        "os.rmdir('run-result'); open('run-result', 'w')",
        "[open(f'{n:0>200}', 'w') for n in range(200)]",
    ],
)
async def test_folders_that_bear_a_trace_of_a_task_are_not_used_again(
    strict_bench: Bench, trace: str
) -> None:
    await strict_bench.run(f"import os; {trace}")

    assert not list((strict_bench.folder / "agent" / "attempts").iterdir())
