"""discogrid.Pool has the arguments of multiprocessing.Pool, and the grid's beside them."""

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

import discogrid
from discogrid import Pool
from tests.calls.mortal_line import Openings


def note(key: str, value: str) -> None:
    os.environ[key] = value


def worker_of(_: int) -> int:
    return os.getpid()


def test_a_program_for_multiprocessing_runs_as_it_is(openings: Openings) -> None:
    with Pool(2, note, ("GREETING", "hello"), context=multiprocessing.get_context()) as pool:
        assert pool.map(abs, [-1, 2, -3]) == [1, 2, 3]
        assert pool.apply(os.getenv, ("GREETING",)) == "hello"
        assert isinstance(pool.apply_async(abs, (-1,)), discogrid.AsyncResult)
        with pytest.raises(discogrid.TimeoutError):
            pool.apply_async(input).get(0)
    assert openings.options[0].processes == 2


def test_a_worker_ends_after_so_many_calls(openings: Openings) -> None:
    with Pool(1, maxtasksperchild=2) as pool:
        workers = pool.map(worker_of, range(6), chunksize=6)
    assert workers[0] == workers[1] != workers[2] == workers[3]
    assert len(set(workers)) == 3
    assert openings.options[0].calls_max == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"processes": 0}, ValueError),
        ({"processes": -1}, ValueError),
        ({"maxtasksperchild": 0}, ValueError),
        ({"maxtasksperchild": "2"}, ValueError),
        ({"initializer": 3}, TypeError),
    ],
)
def test_what_multiprocessing_refuses_is_refused_in_its_words(
    arguments: dict[str, Any], error: type[Exception], openings: Openings
) -> None:
    with pytest.raises(error) as theirs:
        multiprocessing.Pool(**arguments)
    with pytest.raises(error) as ours:
        Pool(**arguments)
    assert str(ours.value) == str(theirs.value)
    assert not openings.options


def test_options_are_read_as_people_write_them(
    openings: Openings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Pool(
        memory="2G",
        timeout="1h30m",
        cpus=2,
        gpus=1,
        needs="numpy, ffmpeg",
        const="model.dat",
        network=True,
        box=True,
        name="faces",
        grid="attic",
    ):
        pass
    (options,) = openings.options
    assert (options.memory_bytes, options.timeout, options.cpus, options.gpus) == (2 << 30, 5400.0, 2, 1)
    assert (options.needs, options.const) == (("numpy", "ffmpeg"), (tmp_path / "model.dat",))
    assert (options.network, options.box, options.local) == (True, True, False)
    assert (options.name, options.grid, options.processes) == ("faces", "attic", None)
    with Pool(needs=("numpy",), const=["a", Path("b")], memory=7, timeout=2, local=True):
        pass
    options = openings.options[1]
    assert (options.needs, options.const) == (("numpy",), (tmp_path / "a", tmp_path / "b"))
    assert (options.memory_bytes, options.timeout, options.local) == (7, 2.0, True)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cpu": 2}, "did you mean 'cpus'"),
        ({"colour": 2}, "no option 'colour'$"),
        ({"cpus": 0}, "cpus must be 1 or more, not 0"),
        ({"cpus": 1.5}, "cpus must be a whole number"),
        ({"gpus": -1}, "gpus must be 0 or more"),
        ({"memory": "much"}, "is no size"),
        ({"memory": -1}, "memory must be 0 or more"),
        ({"timeout": 0}, "more than 0 seconds"),
        ({"timeout": "soon"}, "is no duration"),
    ],
)
def test_an_option_that_means_nothing_is_refused(
    asked: dict[str, Any], said: str, openings: Openings
) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        Pool(**asked)
    assert not openings.options


def test_nothing_of_an_initializer_that_cannot_be_sent_is_started(openings: Openings) -> None:
    queue = multiprocessing.Queue()  # type: ignore[var-annotated]  # it carries nothing
    with pytest.raises(
        discogrid.Unshareable, match=r"note cannot be sent: argument 2 is a multiprocessing\.Queue"
    ):
        Pool(1, note, ("KEY", queue))
