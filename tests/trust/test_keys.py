"""Key files: private or refused, whole or refused, and one for all who come first."""

import json
import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from discogrid import places
from discogrid.errors import KeyFileError
from discogrid.grid import HOME, open_grid
from discogrid.keys import load_or_create, new_identity, node_id
from tests.skips import ONLY_ROOT

RACERS = 8


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(places.HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


def test_keys_are_made_once_and_read_by_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    made = load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = load_or_create(path)
    assert (again.id, again.public, again.curve_public, again.curve_secret) == (
        made.id,
        made.public,
        made.curve_public,
        made.curve_secret,
    )
    assert os.listdir(tmp_path) == ["identity.json"], "a draft with the secrets stayed behind"


def test_a_node_is_called_after_its_key() -> None:
    identity = new_identity()
    assert identity.id == node_id(identity.public)
    assert len(identity.id) == 52
    assert identity.id == identity.id.lower()


def test_two_nodes_never_share_a_key() -> None:
    one, other = new_identity(), new_identity()
    assert one.id != other.id
    assert one.curve_public != other.curve_public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601])
def test_a_key_file_that_others_may_touch_is_refused_with_the_fixing_command(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "identity.json"
    load_or_create(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_or_create(path)
    path.chmod(0o600)
    load_or_create(path)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o701, 0o710, 0o777])
def test_a_home_that_others_may_enter_is_refused_with_the_fixing_command(home: Path, mode: int) -> None:
    open_grid(HOME)
    home.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 700"):
        open_grid(HOME)
    home.chmod(0o700)
    open_grid(HOME)


def test_everything_of_a_home_is_private(home: Path) -> None:
    places.log_file("own")  # whatever is asked for first
    open_grid(HOME)
    for folder, _, files in os.walk(home):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700, folder
        for file in files:
            if file != "roster":  # is no secret: every member has it
                assert stat.S_IMODE(os.stat(os.path.join(folder, file)).st_mode) == 0o600, file


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: "",
        lambda kept: "no json",
        lambda kept: "[]",
        lambda kept: "null",
        lambda kept: json.dumps(kept)[: len(json.dumps(kept)) // 2],
        lambda kept: json.dumps({**kept, "schema": "discogrid.identity/2"}),
        lambda kept: json.dumps({**kept, "signing": "00"}),
        lambda kept: json.dumps({**kept, "signing": 5}),
        lambda kept: json.dumps({**kept, "signing": "zz" * 32}),
        lambda kept: json.dumps({**kept, "signing": "00" * 32}),  # another node's
        lambda kept: json.dumps({**kept, "curve": "short"}),
        lambda kept: json.dumps({**kept, "curve": None}),
        lambda kept: json.dumps({key: value for key, value in kept.items() if key != "curve"}),
        lambda kept: json.dumps({key: value for key, value in kept.items() if key != "node"}),
        lambda kept: json.dumps({**kept, "more": "x" * 5000}),
    ],
)
def test_a_damaged_key_file_is_refused_and_left_as_it_is(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "identity.json"
    load_or_create(path)
    damaged = change(json.loads(path.read_text()))
    path.write_text(damaged)
    with pytest.raises(KeyFileError, match="damaged"):
        load_or_create(path)
    assert path.read_text() == damaged


def test_a_key_file_that_is_a_link_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path / "real.json")
    link, folder, pipe = (tmp_path / name for name in ("link", "folder", "pipe"))
    link.symlink_to(tmp_path / "real.json")
    folder.mkdir(mode=0o700)
    os.mkfifo(pipe, 0o600)
    for path in (link, folder, pipe):
        with pytest.raises(KeyFileError):
            load_or_create(path)


@pytest.mark.skipif(os.geteuid() != 0, reason=ONLY_ROOT)
def test_a_key_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    load_or_create(path)
    os.chown(path, 12345, 12345)
    with pytest.raises(KeyFileError, match="not yours"):
        load_or_create(path)


def test_keys_that_cannot_be_written_are_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be"):
        load_or_create(tmp_path / "missing" / "identity.json")


def _race(home: str, start: Any, found: Any) -> None:
    os.environ[places.HOME_VARIABLE] = home
    start.wait()
    try:
        grid = open_grid(HOME)
        found.put(
            (grid.identity.id, grid.identity.curve_public, grid.roster.grid, grid.roster.coordinator().id)
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the test is to show it
        found.put(repr(error))


def test_processes_that_race_on_first_use_become_one_node_of_one_grid(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    for attempt in range(10):
        home = tmp_path / f"home-{attempt}"
        start, found = spawn.Barrier(RACERS), spawn.Queue()
        racers = [spawn.Process(target=_race, args=(str(home), start, found)) for _ in range(RACERS)]
        for racer in racers:
            racer.start()
        seen = {found.get(timeout=30) for _ in racers}
        for racer in racers:
            racer.join()
        assert len(seen) == 1, seen
        assert isinstance(seen.pop(), tuple)
        assert sorted(os.listdir(home / "grids" / HOME)) == [
            ".roster.lock",
            "grid.json",
            "owner.json",
            "roster",
        ]


def test_who_prints_an_identity_shows_none_of_its_secrets() -> None:
    made = new_identity()
    shown = f"{made} {made!r}"
    assert made.id in shown
    assert made.curve_secret.decode() not in shown
    assert bytes(made.signing).hex() not in shown
    assert str(bytes(made.signing))[2:-1] not in shown
