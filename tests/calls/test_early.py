"""Whether a pool means this machine's own grid is known before what could open it is loaded, and is then begun once."""

import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from discogrid import own, places
from discogrid.errors import DiscogridError
from discogrid.grid import HOME, OWN, choose_grid, open_grid, remember_address
from discogrid.remote.early import means_own_grid
from discogrid.remote.options import CallOptions

CHOICES = [
    CallOptions(),
    CallOptions(local=True),
    CallOptions(grid=OWN),
    CallOptions(grid=HOME),
    CallOptions(grid="nobody's"),
    CallOptions(grid=HOME, local=True),
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(places.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(places.COORDINATOR_VARIABLE, raising=False)
    return tmp_path / "home"


@pytest.mark.parametrize("options", CHOICES, ids=str)
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("named", ["", "attic.local:7717"])
def test_it_is_meant_where_it_is_chosen(
    options: CallOptions, joined: bool, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if joined:
        open_grid(HOME)
        remember_address(HOME, "tcp://127.0.0.1:7717")
    if named:
        monkeypatch.setenv(places.COORDINATOR_VARIABLE, named)
    meant = means_own_grid(options)  # before the choice, which may make a grid

    try:
        chosen = choose_grid(local=options.local, grid=options.grid).own
    except DiscogridError:
        chosen = False

    assert meant is chosen


def test_a_grid_that_comes_up_already_is_not_begun_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "executable", "/bin/true"
    )  # a grid that ends at once, as one does that makes way
    monkeypatch.setattr(own, "_coming", [])
    monkeypatch.setattr(own, "_started", [])
    own.begin_own_grid()
    own.begin_own_grid()
    [coming] = own._coming
    coming.wait(30.0)
    assert coming.news == -1  # its pipe has told of its end
    assert len(own._started) == 1
    assert own._started[0].wait() == 0


def test_a_grid_that_does_not_come_up_says_its_last_words(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'no room here' >&2\nexit 4\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(own, "_coming", [])
    monkeypatch.setattr(own, "_started", [])
    own.begin_own_grid()
    with pytest.raises(DiscogridError, match="did not come up") as caught:
        own.ensure_own_grid()
    assert caught.value.why == "no room here"
    assert not own._coming


def test_a_program_that_has_a_thousand_files_open_hears_of_it_too() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    near, far = os.pipe()
    try:
        news = fcntl.fcntl(near, fcntl.F_DUPFD_CLOEXEC, 1500)
        with subprocess.Popen(["/bin/true"]) as process:
            coming = own._Start(process, news)
            coming.wait(0.0)
            assert coming.news == news
            os.write(far, b"x")
            coming.wait(30.0)
            assert coming.news == -1
    finally:
        os.close(near)
        os.close(far)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("module", "left_out"),
    [
        ("discogrid.calls.worker", "tempfile zmq cryptography nacl asyncio subprocess importlib.resources"),
        ("discogrid.remote.early", "zmq cryptography nacl asyncio msgspec"),
        ("discogrid_agent.command", "cryptography spake2 packaging ifaddr zeroconf importlib.metadata"),
        ("discogrid_coordinator.command", "cryptography spake2 packaging zeroconf sqlite3"),
    ],
)
def test_what_is_on_the_way_to_the_first_result_loads_no_more_than_it_needs(
    module: str, left_out: str
) -> None:
    code = f"import sys, {module}; print(*sorted(set({left_out.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
