"""A function runs in another process that has none of its files: what it needs goes along."""

import os
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from discogrid.calls import functions
from discogrid.calls.functions import (
    FUNCTION_BYTES_MAX,
    HEAVY_BYTES,
    MODULE_BYTES_MAX,
    MODULES_MAX,
    Heavy,
    heavy_parts,
    imported_by,
    is_own,
    pack,
    read,
)
from discogrid.errors import InputError, WireError

REPOSITORY = Path(__file__).parents[2]
RUN = """
import sys
from pathlib import Path
from discogrid.calls.functions import read, unpack
function = unpack(read(Path(sys.argv[1]).read_bytes()))
print(function(*map(int, sys.argv[2:])))
"""


def python(folder: Path, *words: str, path: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """In an empty folder, with nothing of the caller's on the path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(one) for one in (REPOSITORY, path) if one)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Caller:
    """A program of a user, in a folder of its own, and a process elsewhere that is to run a function of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        self.folder.mkdir()

    def has(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))

    def sends(self, main: str, name: str = "work") -> Path:
        """Its main program packs the function of this name."""
        sent = self.elsewhere.parent / "function"
        tail = f"\nif __name__ == '__main__':\n    from discogrid.calls.functions import pack\n    open({str(sent)!r}, 'wb').write(pack({name}))\n"
        self.has("main.py", textwrap.dedent(main) + tail)
        done = python(self.folder, "main.py")
        assert done.returncode == 0, done.stderr
        return sent

    def runs(self, sent: Path, *numbers: int) -> "subprocess.CompletedProcess[str]":
        return python(self.elsewhere, "-c", RUN, str(sent), *map(str, numbers))

    def result(self, main: str, *numbers: int) -> str:
        done = self.runs(self.sends(main), *numbers)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path)


def test_a_function_of_the_main_program_runs_without_running_that_again(caller: Caller) -> None:
    assert caller.result("print('main runs')\nK = 2\ndef work(n): return K * n", 21) == "42"


def test_a_closure_and_a_lambda_run(caller: Caller) -> None:
    assert caller.result("def made(k): return lambda n: k * n\nwork = made(3)", 5) == "15"


def test_the_caller_s_own_modules_go_along_with_what_they_import(caller: Caller) -> None:
    caller.has("helper.py", "from shapes.square import area\nimport far\n")
    caller.has("far.py", "LENGTH = 7\n")
    caller.has("shapes/__init__.py", "from . import square\nfrom .units import SCALE\n")
    caller.has(
        "shapes/square.py",
        "from .units import SCALE\nfrom .deep.down import one\ndef area(n): return SCALE * one() * n * n\n",
    )
    caller.has("shapes/units.py", "SCALE = 10\n")
    caller.has("shapes/deep/__init__.py", "")
    caller.has("shapes/deep/down.py", "from ..units import SCALE\ndef one(): return SCALE // 10\n")
    assert caller.result("import helper\ndef work(n): return helper.area(n) + helper.far.LENGTH", 3) == "97"


def test_a_module_that_is_imported_only_when_the_function_runs_goes_along(caller: Caller) -> None:
    caller.has("late.py", "def work(n):\n    import later\n    return later.twice(n)\n")
    caller.has("later.py", "def twice(n):\n    from last import two\n    return two * n\n")
    caller.has("last.py", "two = 2\n")
    caller.has("other.py", "raise SystemExit('nobody asked for this one')\n")
    assert caller.result("from late import work", 4) == "8"


def test_what_the_main_program_imports_inside_of_a_function_goes_along(caller: Caller) -> None:
    caller.has("package/__init__.py", "")
    caller.has("package/inner.py", "def four(): return 4\n")
    assert caller.result("def work(n):\n    from package.inner import four\n    return four() + n", 1) == "5"


def test_a_traceback_shows_the_caller_s_own_lines(caller: Caller) -> None:
    caller.has("broken.py", "def work(n):\n    return 1 / (n - n)  # here\n")
    done = caller.runs(caller.sends("from broken import work"), 1)
    assert "return 1 / (n - n)  # here" in done.stderr
    assert f'File "{caller.folder / "broken.py"}", line 2' in done.stderr


def test_a_traceback_shows_the_lines_of_the_main_program_too(caller: Caller) -> None:
    done = caller.runs(caller.sends("def work(n):\n    return 1 / (n - n)  # in main"), 1)
    assert "return 1 / (n - n)  # in main" in done.stderr
    assert 'main.py", line 2, in work' in done.stderr


def test_a_module_that_is_not_installed_there_is_named(caller: Caller, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python" / "site-packages"
    site.mkdir(parents=True)
    (site / "rare_thing.py").write_text("x = 1\n")
    sent = caller.sends(
        f"import site, sys\nsite.getsitepackages = lambda: [{str(site)!r}]\nsys.path.append({str(site)!r})\n"
        "import rare_thing\ndef work(n): return rare_thing.x"
    )
    assert read(sent.read_bytes()).modules == {}
    assert "ModuleNotFoundError: No module named 'rare_thing'" in caller.runs(sent, 1).stderr


def test_what_is_installed_stays_where_it_is(caller: Caller) -> None:
    sent = caller.sends(
        "import msgpack, json, discogrid\ndef work(n): return msgpack.unpackb(msgpack.packb(n)) + len(json.dumps(n))"
    )
    assert read(sent.read_bytes()).modules == {}
    assert caller.runs(sent, 5).stdout == "6\n"
    assert not is_own(os.__file__)
    assert not is_own(str(Path(pytest.__file__)))
    assert is_own("/somewhere/project/helper.py")
    assert not is_own("helper.py")


def test_a_module_may_have_the_name_of_one_of_python_s_as_it_has_at_home(caller: Caller) -> None:
    caller.has("colorsys.py", "def work(n): return n + 1\n")
    assert caller.result("from colorsys import work", 1) == "2"


def test_what_lives_in_one_process_is_named_and_nothing_is_sent() -> None:
    lock = threading.Lock()
    with pytest.raises(InputError, match=r"the function .*<lambda> cannot be sent") as raised:
        pack(lambda: lock)
    assert "its variable lock is a threading.Lock" in raised.value.what

    class Stubborn:
        def __reduce__(self) -> str:
            raise ValueError("stays here")

    stubborn = Stubborn()
    with pytest.raises(InputError, match="stays here") as raised:
        pack(lambda: stubborn)
    assert "this process alone" in raised.value.why


def test_a_compiled_module_of_one_s_own_is_refused_with_what_to_do(caller: Caller) -> None:
    caller.has("fast.cpython-311-x86_64-linux-gnu.so", "no library")
    suffix = next(iter(__import__("importlib.machinery").machinery.EXTENSION_SUFFIXES))
    caller.has(f"fast{suffix}", "no library")
    caller.has(
        "main.py",
        "def work(n):\n    import fast\n    return n\nfrom discogrid.calls.functions import pack\npack(work)\n",
    )
    done = python(caller.folder, "main.py")
    assert "your module fast, which is no Python source" in done.stderr


def test_too_much_is_named(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    caller.has("long.py", "#" * MODULE_BYTES_MAX + "\n")
    monkeypatch.syspath_prepend(str(caller.folder))
    with pytest.raises(InputError, match="your module long"):
        functions.own_modules({"long"})
    for number in range(4):
        caller.has(f"many{number}.py", f"import many{number + 1}\n")
    assert set(functions.own_modules({"many0"})) == {f"many{number}" for number in range(4)}
    monkeypatch.setattr(functions, "MODULES_MAX", 3)
    with pytest.raises(InputError, match="more than 3 modules of your own"):
        functions.own_modules({"many0"})
    big = b"x" * (FUNCTION_BYTES_MAX // 1000)
    monkeypatch.setattr(functions, "FUNCTION_BYTES_MAX", 1000)
    with pytest.raises(InputError, match="1000 are allowed"):
        pack(lambda: big)
    assert MODULES_MAX > 3


def test_heavy_objects_that_a_function_holds_are_named_the_heaviest_first() -> None:
    large, larger, small = b"x" * HEAVY_BYTES, b"y" * (2 * HEAVY_BYTES), b"z"
    found = heavy_parts(lambda: (large, larger, small, os, Path))
    assert [heavy.name for heavy in found] == ["larger", "large"]
    assert found[1] == Heavy("large", len(pickle.dumps(large, pickle.HIGHEST_PROTOCOL)))
    assert heavy_parts(len) == []


@pytest.mark.parametrize(
    ("text", "name", "package", "expected"),
    [
        (b"import a, b.c", "m", False, {"a", "b.c"}),
        (b"from a import b", "m", False, {"a", "a.b"}),
        (b"from . import b", "p.m", False, {"p", "p.b"}),
        (b"from . import b", "p", True, {"p", "p.b"}),
        (b"from .x import b", "p.m", False, {"p.x", "p.x.b"}),
        (b"from ..x import b", "p.q.m", False, {"p.x", "p.x.b"}),
        (b"def f():\n  import late", "m", False, {"late"}),
        (b"not python at all", "m", False, set()),
        (b"\xff\x00", "m", False, set()),
    ],
)
def test_imports_are_read_from_the_source(text: bytes, name: str, package: bool, expected: set[str]) -> None:
    assert set(imported_by(text, name, package=package)) == expected


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x90", pack(len)[:-1]])
def test_what_is_no_function_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        read(raw)


def test_the_version_of_python_goes_along() -> None:
    parcel = read(pack(len))
    assert (parcel.python, parcel.name) == (sys.version_info[:2], "len")
