"""`discogrid map` as its user sees it: items in, JSON out, exit codes, bad input."""

import json
import subprocess

import pytest

from tests.grid.machines import Machine

SOURCE = """
import helper

def double(x):
    return helper.twice(x)

def add(a, b=1):
    return a + b

def odd(x):
    if x % 2 == 0:
        raise ValueError(f"{x} is even")
    return {x}

if __name__ == "__main__":
    raise SystemExit("this is not to run")
"""


@pytest.fixture
def work(desk: Machine) -> Machine:
    desk.write("numbers.txt", "1\n2\n\n3\n")
    desk.write("lists.txt", "[1, 2]\n[3]\n")
    desk.write("array.json", "[\n 4,\n 5\n]")
    desk.write("helper.py", "def twice(x):\n    return x + x\n")
    desk.write("calls.py", SOURCE)
    return desk


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("calls.py:double", "numbers.txt"), [2, 4, 6]),
        (("calls.py:double", "array.json"), [8, 10]),
        (("calls.py:double", '["a", "b"]'), ["aa", "bb"]),
        (("calls.py:double", "lists.txt"), [[1, 2, 1, 2], [3, 3]]),
        (("--star", "calls.py:add", "lists.txt"), [3, 4]),
    ],
)
def test_each_item_gives_a_line_in_their_order(
    work: Machine, words: tuple[str, ...], printed: list[object]
) -> None:
    done = work.run("map", *words)
    assert (done.returncode, [json.loads(line) for line in done.stdout.splitlines()]) == (0, printed), (
        done.stderr
    )


def test_items_come_from_stdin_and_results_as_they_are_there(work: Machine) -> None:
    done = subprocess.run(
        work.command("map", "--unordered", "calls.py:double", "-"),
        cwd=work.work,
        env=work.environment,
        input="7\n" * 500,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "14\n" * 500), done.stderr


def test_a_call_that_fails_is_null_and_its_reason_on_stderr(work: Machine) -> None:
    done = work.run("map", "calls.py:odd", "[2, 3]")
    assert (done.returncode, done.stdout) == (1, "null\nnull\n")
    assert "ValueError: 2 is even" in done.stderr
    assert "what JSON cannot say" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("calls.py:duble", "[1]"), "Did you mean 'double'?"),
        (("none.py:double", "[1]"), "none.py does not exist"),
        (("calls.py", "[1]"), "FILE.py:FUNCTION"),
        (("calls.py:double", "[]"), "holds no items"),
        (("calls.py:double", "[1,]"), "no JSON"),
        (("calls.py:double", "nothing.txt"), "cannot be read"),
        (("--grid", "nowhere", "calls.py:double", "[1]"), "nowhere"),
    ],
)
def test_bad_words_are_an_error_that_helps_and_nothing_runs(
    work: Machine, words: tuple[str, ...], said: str
) -> None:
    done = work.run("map", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_line_that_is_no_json_is_named_after_the_results_before_it(work: Machine) -> None:
    work.write("bad.txt", "1\n2\nthree\n")
    done = work.run("map", "calls.py:double", "bad.txt")
    assert (done.returncode, done.stdout) == (2, "2\n4\n")
    assert "line 3 of bad.txt is no JSON" in done.stderr
