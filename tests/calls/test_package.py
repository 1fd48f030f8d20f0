"""What `import discogrid` brings, and what it leaves where it is until it is used."""

import subprocess
import sys
import warnings

import pytest

import discogrid
from discogrid import HeavyFunction, Pool
from discogrid.errors import DiscogridError, ExitCode, VersionMismatch
from tests.calls.mortal_line import Openings

HEAVY = {
    "asyncio", "zmq", "textual", "rich", "cv2", "numpy", "zeroconf", "cryptography", "nacl", "msgspec", "cloudpickle",
    "multiprocessing", "concurrent", "inspect", "discogrid.errors", "discogrid.client",
}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_every_name_is_there_and_is_listed() -> None:
    for name in discogrid.__all__:
        assert getattr(discogrid, name) is not None
        assert name in dir(discogrid)
    space: dict[str, object] = {}
    exec("from discogrid import *", space)
    assert set(discogrid.__all__) <= space.keys()
    with pytest.raises(AttributeError, match="no attribute 'Pools'"):
        _ = discogrid.Pools  # type: ignore[attr-defined]  # that is the point


def test_the_import_loads_nothing() -> None:
    assert not modules_after("import discogrid") & HEAVY


def test_the_faces_load_neither_the_screen_nor_what_looks_around() -> None:
    loaded = modules_after(
        "from discogrid import Pool, Process, Executor, function, WorkerLost\nimport discogrid.discomp"
    )
    assert not loaded & {"textual", "rich", "cv2", "numpy", "zeroconf", "discogrid.client"}


def test_the_decorator_is_not_taken_for_a_module() -> None:
    modules_after("import discogrid, discogrid.remote_function\n@discogrid.function\ndef work(): pass")


def test_a_version_that_does_not_fit_is_an_error_of_ours() -> None:
    assert issubclass(VersionMismatch, DiscogridError)
    assert VersionMismatch.exit_code is ExitCode.UNPLACEABLE


def test_a_function_that_holds_much_is_named_once(openings: Openings) -> None:
    table = b"x" * 2_000_000

    def look(place: int) -> int:
        return table[place]

    with Pool(1) as pool, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert pool.map(look, [1, 2]) == [120, 120]
        assert pool.apply(look, (3,)) == 120
    assert len(caught) == 1
    assert "look is sent with table (2.0 MB)" in str(caught[0].message)
    assert (caught[0].category, caught[0].filename) == (HeavyFunction, __file__)
    with Pool(1) as pool, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(HeavyFunction):
            pool.map(look, [1])
        assert pool.apply(abs, (-1,)) == 1


def test_large_arguments_are_nobody_s_business(openings: Openings) -> None:
    with Pool(1) as pool:
        assert pool.map(len, [b"x" * 2_000_000] * 2) == [2_000_000] * 2
