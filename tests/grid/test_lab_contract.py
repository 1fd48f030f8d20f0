"""Scripts that know nothing of discogrid, only the code lab's contract."""

from pathlib import Path

from tests.grid.machines import Machine

FOREIGN = """
import os, subprocess, sys, tempfile
name = sys.argv[1]
assert name == os.path.basename(name), name
assert os.path.samefile(".", "/local"), os.getcwd()
glasses = open("/home/codelab/glasses/frame one.txt").read()
with tempfile.NamedTemporaryFile("w+", dir="/tmp", suffix=".txt") as scratch:
    scratch.write(open(name).read().upper())
    scratch.flush()
    text = open(scratch.name).read()
subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc=d=0.2:s=64x64:r=25", "/tmp/t.mp4"], check=True)
assert os.path.getsize("/tmp/t.mp4") > 0
open("run-result/x-" + name, "w").write(text + glasses)
print("made", name)
"""


def test_a_foreign_lab_script_runs_unmodified(grid: Machine, tmp_path: Path) -> None:
    assets = tmp_path / "assets" / "glasses"
    assets.mkdir(parents=True)
    (assets / "frame one.txt").write_text("!")
    grid.write("foreign.py", FOREIGN)
    grid.write("first clip.txt", "one")
    grid.write("second.txt", "two")

    done = grid.run(
        "submit",
        "foreign.py",
        "first clip.txt",
        "second.txt",
        "--mount",
        f"{assets.parent}:/home/codelab",
        "-o",
        "lab",
    )

    assert done.returncode == 0, done.stderr
    output = grid.work / "lab" / "output"
    assert {file.name: file.read_text() for file in output.iterdir()} == {
        "x-first clip.txt": "ONE!",
        "x-second.txt": "TWO!",
    }


def test_a_shell_script_with_arguments_constants_and_variables(grid: Machine) -> None:
    grid.write(
        "count.sh",
        "#!/bin/sh\nset -eu\n"
        'printf "%s %s %s %s %s of %s" "$1" "$2" "$(cat words.txt)" "$COLOUR" "$DISCOGRID_INDEX" "$DISCOGRID_COUNT"'
        " > run-result/said.txt\n",
    )
    grid.write("words.txt", "constant")
    grid.write("in.txt", "")

    done = grid.run(
        "submit", "count.sh", "in.txt", "-c", "words.txt", "--env", "COLOUR=teal", "-o", "sh", "--", "--fast"
    )

    assert done.returncode == 0, done.stderr
    assert (grid.work / "sh" / "output" / "said.txt").read_text() == "in.txt --fast constant teal 0 of 1"


def test_a_script_without_input_gets_no_argument(grid: Machine) -> None:
    grid.write("alone.py", "import sys; open('run-result/argv', 'w').write(repr(sys.argv))")

    done = grid.run("submit", "alone.py", "-o", "alone")

    assert done.returncode == 0, done.stderr
    assert (grid.work / "alone" / "output" / "argv").read_text() == "['alone.py']"


def test_the_task_may_change_its_input_and_the_owners_file_stays(grid: Machine) -> None:
    grid.write("spoil.py", "import sys; open(sys.argv[1], 'w').write('spoilt')")
    kept = grid.write("precious.txt", "precious")

    first = grid.run("submit", "spoil.py", "precious.txt", "-o", "spoil1")
    grid.write("read.py", "import sys; open('run-result/seen', 'w').write(open(sys.argv[1]).read())")
    second = grid.run("submit", "read.py", "precious.txt", "-o", "spoil2")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert kept.read_text() == "precious"
    assert (grid.work / "spoil2" / "output" / "seen").read_text() == "precious"
