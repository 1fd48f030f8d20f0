"""A script that starts warm cannot tell: it sees, does and leaves what it would as a program of its own."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from discogrid.types import Limits, Outcome
from discogrid_agent.runner import Runner
from discogrid_agent.sandbox.box import Box, Scene
from discogrid_agent.sandbox.native import Native
from discogrid_agent.sandbox.processes import children, descendants
from discogrid_agent.sandbox.reach import REACH
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.sandbox.world import Shown
from discogrid_agent.warm import warm_box
from discogrid_agent.warm.kind import Kind
from discogrid_agent.warm.proof import prove_warm
from discogrid_agent.warm.warm_box import SERVERS_MAX, WarmBox
from discogrid_agent.warm.warm_server import WarmServer
from tests.box.bench import LOOK_S, LOOKS_MAX, Bench, appeared, stderr, stdout
from tests.box.warm_first import WarmFirst

# Each prints what could betray its start; names of files and versions are the same everywhere.
SCRIPTS = {
    "who it is": "import sys; print(__name__, __doc__, __file__, sys.argv, sorted(globals()), __builtins__.__name__)",
    "how it was started": "import sys; print(sys.orig_argv[1:], sys.flags, sys.path[0], sys.dont_write_bytecode)",
    "its command line": "print(open('/proc/self/cmdline').read().split('\\0')[1:])",
    "its name": "print(open('/proc/self/comm').read())",
    "its descriptors": "import os; print(sorted(os.listdir('/proc/self/fd')))",
    "its input": "import sys; print(repr(sys.stdin.read()), sys.stdin.isatty())",
    "its streams": "import sys; print(*(s.encoding + s.errors + str(s.line_buffering) for s in (sys.stdin, sys.stdout, sys.stderr)))",
    "its signals": "import signal; print({n: str(signal.getsignal(n)) for n in range(1, 32) if n not in (9, 19)}, signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    "what is loaded": "import sys; print(sorted(sys.modules))",
    "a missing module": "import no_such_module",
    "an error": "def f():\n    raise ValueError('wrong')\nf()",
    "an error of syntax": "print('never')\ndef (",
    "an exit with words": "import sys; sys.exit('enough')",
    "an exit with a number": "import sys; sys.exit(3)",
    "an exit with nothing": "raise SystemExit",
    "an end without goodbye": "import os, atexit; atexit.register(print, 'bye'); print('now', flush=True); os._exit(4)",
    "its last words": "import atexit; atexit.register(print, 'bye'); print('hello')",
    "a pickle of its own": "import pickle\nclass A: pass\nprint(pickle.loads(pickle.dumps(A)) is A, A.__module__)",
    "a child of its own": "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'print(1+1)'], capture_output=True, text=True).stdout)",
    "a fork of its own": "import os\nif os.fork() == 0: os._exit(7)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
    "threads": "import threading\nt = threading.Thread(target=print, args=('in a thread',)); t.start(); t.join(); print(threading.active_count(), threading.current_thread().name)",
    "its own modules": "import beside; print(beside.WORD)",
    "a name of the library": "import json; print(json.WORD)",
    "warnings": "import warnings; warnings.warn('careful')",
    "its limits": "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE))",
    "its priority": "import os; print(os.getpriority(os.PRIO_PROCESS, 0), os.umask(0), os.getpgrp() == os.getpid() or os.getsid(0) > 0)",
    "a future": "from __future__ import annotations\nimport json\nprint(json.dumps({'a': 1}))",
}
ONLY_IN_A_BOX = {
    "its descriptors",
    "its signals",
    "its limits",
    "its priority",
    "its streams",
    "how it was started",
}
BESIDE = {"beside.py": b"WORD = 'the script s own'", "json.py": b"WORD = 'not the library'"}


def warm_starts(bench: Bench) -> int:
    box = bench.runner._box
    assert isinstance(box, WarmFirst)
    return box.warm_starts


@pytest.mark.parametrize("what", SCRIPTS)
async def test_a_warm_start_is_a_start_like_any(cold_bench: Bench, warm_bench: Bench, what: str) -> None:
    constants = BESIDE if what in ("its own modules", "a name of the library") else None
    cold = await cold_bench.run(SCRIPTS[what], input_name="in.txt", constants=constants)
    warm = await warm_bench.run(SCRIPTS[what], input_name="in.txt", constants=constants)
    assert (warm.outcome, warm.exit) == (cold.outcome, cold.exit)
    assert stdout(warm) == stdout(cold)
    assert stderr(warm) == stderr(cold)
    assert warm_starts(warm_bench) == (0 if what == "a name of the library" else 1)


@pytest.mark.parametrize("what", [what for what in SCRIPTS if what not in ONLY_IN_A_BOX])
async def test_what_both_boxes_say_is_what_a_plain_start_says(
    cold_bench: Bench, tmp_path: Path, what: str
) -> None:
    constants = BESIDE if what in ("its own modules", "a name of the library") else {}
    boxed = await cold_bench.run(SCRIPTS[what], input_name="in.txt", constants=constants)
    for name, content in {"script.py": SCRIPTS[what].encode(), "in.txt": b"content", **constants}.items():
        (tmp_path / name).write_bytes(content)
    ran = subprocess.run(  # noqa: ASYNC221 - nothing else runs
        [sys.executable, "script.py", "in.txt"],
        cwd=tmp_path,
        env={"LANG": "C.UTF-8", "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert boxed.exit == ran.returncode
    assert stdout(boxed).replace("/local", str(tmp_path)) == ran.stdout.decode()
    assert stderr(boxed).replace("/local", str(tmp_path)) == ran.stderr.decode()


async def test_no_two_warm_tasks_draw_the_same(warm_bench: Bench) -> None:
    script = "import random, uuid, secrets, tempfile, os\nprint(random.random(), uuid.uuid4(), secrets.token_hex(8), tempfile.gettempdir(), os.urandom(8).hex())"
    said = {stdout(await warm_bench.run(script)) for _ in range(5)}
    assert len(said) == 5
    assert warm_starts(warm_bench) == 5


async def test_nothing_of_a_task_reaches_the_next_one(warm_bench: Bench) -> None:
    script = (
        "import json, os, sys\n"
        "print(hasattr(json, 'mark'), 'MARK' in os.environ, os.path.exists('/tmp/mark'), os.path.exists('/dev/shm/mark'))\n"
        "json.mark = 1; os.environ['MARK'] = '1'\n"
        "open('/tmp/mark', 'w'); open('/dev/shm/mark', 'w')\n"
    )
    for _ in range(3):
        assert stdout(await warm_bench.run(script)) == "False False False False\n"
    assert warm_starts(warm_bench) == 3


async def test_the_parent_of_a_warm_task_cannot_be_reached_by_it(warm_bench: Bench) -> None:
    script = (
        "import os\n"
        "seen = sorted(name for name in os.listdir('/proc') if name.isdigit())\n"
        "print(seen, os.getppid(), os.path.exists('/tmp/discogrid-warm'), sorted(os.listdir('/local')))\n"
    )
    ended = await warm_bench.run(script)
    assert stdout(ended) == "['1', '2'] 1 False ['run-result', 'script.py']\n"


async def test_two_submitters_share_no_warm_python(strict: Box, tmp_path: Path, warm_bench: Bench) -> None:
    box = warm_bench.runner._box
    assert isinstance(box, WarmFirst)
    for submitter in ("anna", "bert"):
        task = replace(warm_bench.task("print('hello')"), submitter=submitter)
        assert (await warm_bench.runner.run(task)).outcome is Outcome.SUCCEEDED
    assert sorted(kind.submitter for kind in box._servers) == ["anna", "bert"]


@pytest.mark.parametrize(
    "script",
    [
        "import threading; threading.Thread(target=input).start()",  # not a leading import: harmless
        "import antigravity_that_is_not_there",
        "import sys; sys.exit()",
    ],
)
async def test_what_cannot_be_loaded_first_ends_as_it_would(
    cold_bench: Bench, warm_bench: Bench, script: str
) -> None:
    cold, warm = await cold_bench.run(script), await warm_bench.run(script)
    assert (warm.outcome, warm.exit, stderr(warm)) == (cold.outcome, cold.exit, stderr(cold))


PLANTED = {
    "starts a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "keeps a descriptor": "import os\nkept = os.open('/dev/null', os.O_RDONLY)",
    "starts a process": "import subprocess\nchild = subprocess.Popen(['sleep', '60'])",
    "leaves a file": "open('/tmp/left', 'w').close()",
    "crashes": "import ctypes\nctypes.string_at(0)",
    "is like any other": "",
}


class Planted(StrictBox):
    """A strict box of a machine whose owner has installed one module, `planted`, and nothing else."""

    def __init__(self, folder: Path, module: str) -> None:
        super().__init__(Native())
        self.folder = folder
        (folder / "planted.py").write_text(module)
        folder.chmod(0o755)

    def settle(self, folder: Path) -> None:
        super().settle(folder)
        if self.owner is not None:
            REACH.show(self.folder)
        installed = sysconfig.get_path("purelib")
        self.after = (*self.after, Shown.at(self.folder, installed))


@pytest.mark.parametrize("what", PLANTED)
async def test_a_module_that_leaves_traces_when_it_is_loaded_is_loaded_by_each_task_itself(
    tmp_path: Path, what: str
) -> None:
    for name in ("site", "cold", "warm"):
        (tmp_path / name).mkdir()
    box = Planted(tmp_path / "site", PLANTED[what])
    script = "import planted\nprint('loaded', flush=True)\nimport os\nos._exit(3)"
    said = []
    for name, each in (("cold", box), ("warm", WarmFirst(box))):
        runner = Runner(tmp_path / name / "agent", each, "attic")
        ended = await Bench(tmp_path / name, runner).run(script)
        said.append((ended.outcome, ended.exit, stdout(ended)))
        runner.close()
        if isinstance(each, WarmFirst):
            assert each.warm_starts == (1 if what == "is like any other" else 0)
    assert said[0] == said[1]
    assert said[0][1] == (-signal.SIGSEGV if what == "crashes" else 3)


async def test_no_two_warm_tasks_draw_the_same_of_numpy(warm_bench: Bench) -> None:
    script = "import numpy.random\nprint(numpy.random.random(), numpy.random.default_rng().random())"
    said = [stdout(await warm_bench.run(script)).split() for _ in range(3)]
    assert len({word for words in said for word in words}) == 6
    assert warm_starts(warm_bench) == 3


def test_a_job_that_brings_packages_has_no_warm_python(tmp_path: Path) -> None:
    """A package of a submitter's must not be loaded beside other tasks, nor by what has rights in the box."""
    (tmp_path / "script.py").write_text("import package")
    scene = Scene(tmp_path, tmp_path, (), ("/python", "script.py"), {}, Limits(), 1, 2, submitter="anna")
    assert Kind.of(scene, "/python") is not None
    assert Kind.of(replace(scene, shown=(tmp_path,)), "/python") is None
    assert Kind.of(replace(scene, command=("/environment/python", "script.py")), "/python") is None


# Servers come, stay in number, and go.


async def test_there_are_never_more_warm_pythons_than_named(warm_bench: Bench) -> None:
    box = warm_bench.runner._box
    assert isinstance(box, WarmFirst)
    for number in range(SERVERS_MAX + 3):
        ended = await warm_bench.run(f"print({number})")
        assert stdout(ended) == f"{number}\n"
    assert len(box._servers) <= SERVERS_MAX


async def test_a_warm_python_that_is_killed_loses_no_task_for_ever(warm_bench: Bench) -> None:
    box = warm_bench.runner._box
    assert isinstance(box, WarmFirst)
    assert (await warm_bench.run("print('first')")).outcome is Outcome.SUCCEEDED
    [server] = box._servers.values()
    running = asyncio.create_task(warm_bench.run("print('first')"))
    for process in children(server._process.pid):
        os.kill(process, signal.SIGKILL)
    ended = await running
    assert ended.outcome in (
        Outcome.SUCCEEDED,
        Outcome.BOX_FAILED,
    )  # a box that failed is tried again elsewhere
    again = await warm_bench.run("print('first')")
    assert stdout(again) == "first\n"


async def test_a_mount_that_was_removed_and_unpacked_again_is_shown_as_it_is_now(warm_bench: Bench) -> None:
    tree = warm_bench.runner._attempts.parent / "mounts" / "assets"
    script = "print(open('/assets/word').read())"
    for word in ("first", "second"):
        tree.mkdir(parents=True)
        tree.parent.chmod(0o711)
        (tree / "word").write_text(word)
        for _ in range(2):
            ended = await warm_bench.run(script, mounts=(("/assets", tree),))
            assert (ended.outcome, stdout(ended)) == (Outcome.SUCCEEDED, f"{word}\n"), ended.reason
        shutil.rmtree(tree)
    assert warm_starts(warm_bench) > 0


async def test_a_warm_task_whose_python_is_killed_is_to_be_tried_again(warm_bench: Bench) -> None:
    box = warm_bench.runner._box
    assert isinstance(box, WarmFirst)
    mark = f"stay-{os.getpid()}"
    script = "import sys, time\nif len(sys.argv) > 1: time.sleep(600)"
    assert (await warm_bench.run(script)).outcome is Outcome.SUCCEEDED
    running = asyncio.create_task(warm_bench.run(script, arguments=(mark,)))
    await appeared(mark)
    [server] = box._servers.values()
    for process in children(server._process.pid):
        os.kill(process, signal.SIGKILL)
    ended = await running
    assert (ended.outcome, ended.retryable) == (Outcome.BOX_FAILED, True)
    assert (await warm_bench.run(script)).outcome is Outcome.SUCCEEDED
    assert warm_starts(warm_bench) == 3


async def test_a_warm_python_that_nobody_uses_ends_by_itself(
    warm_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = warm_bench.runner._box
    assert isinstance(box, WarmFirst)
    monkeypatch.setattr(warm_box, "LOOK_S", 0.05)
    assert (await warm_bench.run("print('hello')")).outcome is Outcome.SUCCEEDED
    [server] = box._servers.values()
    assert server.lives
    monkeypatch.setattr(warm_box, "IDLE_S", 0.0)
    await ends(server)
    assert not box._servers


async def test_no_python_waits_where_memory_is_scarce(
    warm_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = warm_bench.runner._box
    assert isinstance(box, WarmFirst)
    monkeypatch.setattr(warm_box, "LOOK_S", 0.05)
    assert (await warm_bench.run("print('hello')")).outcome is Outcome.SUCCEEDED
    [server] = box._servers.values()
    assert warm_box.spare_bytes() > 0
    monkeypatch.setattr(warm_box, "spare_bytes", lambda: warm_box.SPARE_BYTES_MIN - 1)
    await ends(server)
    assert stdout(await warm_bench.run("print('hello')")) == "hello\n"
    assert warm_starts(warm_bench) == 1, "the second one started cold"


async def ends(server: WarmServer) -> None:
    for _ in range(LOOKS_MAX):
        if not server.lives:
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError("it did not end")


async def test_a_cancelled_warm_task_leaves_the_others_alone(warm_bench: Bench) -> None:
    script = "import sys, time\nif 'stay' in sys.argv: time.sleep(600)\nprint('done')"
    mark = f"stay-{os.getpid()}"
    staying = warm_bench.task(script, arguments=("stay", mark))
    running = asyncio.create_task(warm_bench.runner.run(staying))
    await appeared(mark)
    assert stdout(await warm_bench.run(script)) == "done\n"
    warm_bench.runner.kill(staying.attempt, "cancelled")
    assert (await running).outcome is Outcome.CANCELLED
    assert stdout(await warm_bench.run(script)) == "done\n"


async def test_nothing_waits_any_more_once_the_runner_is_closed(tmp_path: Path, strict: Box) -> None:
    assert isinstance(strict, StrictBox)
    box = WarmFirst(strict)
    box.settle(tmp_path)
    before = set(descendants(os.getpid()))
    runner = Runner(tmp_path / "agent", box, "attic")
    assert (await Bench(tmp_path, runner).run("print('hello')")).outcome is Outcome.SUCCEEDED
    runner.close()
    assert set(descendants(os.getpid())) <= before


# Proof.


def test_warm_starts_are_used_where_the_probe_passes(strict: Box) -> None:
    assert isinstance(strict, StrictBox)
    proof = prove_warm(strict)
    assert isinstance(proof.box, WarmBox), proof.reason


def test_warm_starts_are_not_used_where_it_does_not(strict: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(strict, StrictBox)
    monkeypatch.setattr("discogrid_agent.warm.warm_server.LOAD_S", 0.0)
    proof = prove_warm(strict)
    assert proof.box is None
    assert "made ready" in proof.reason


def test_the_scripts_are_all_different() -> None:
    assert len(set(map(json.dumps, SCRIPTS.values()))) == len(SCRIPTS)
