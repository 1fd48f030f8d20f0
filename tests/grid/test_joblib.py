"""joblib's loops, and what scikit-learn makes of them, on this machine's own grid and in boxes of another."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

import discogrid.joblib
from discogrid.remote import shared
from tests.grid import called
from tests.grid.machines import Machine


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with closing(Machine(tmp_path_factory.mktemp("joblib"))) as machine:
        assert machine.run("ls").returncode == 0  # its own grid has come
        yield machine


@contextmanager
def at(machine: Machine, **asked: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCOGRID_HOME", str(machine.home))
        try:
            with joblib.parallel_config(backend=discogrid.joblib.NAME, **asked):
                yield
        finally:
            shared.close_all()


@pytest.fixture(params=["grid", "own"])
def where(request: pytest.FixtureRequest) -> Iterator[None]:
    asked = {"grid": "home"} if request.param == "grid" else {"local": True}
    with at(request.getfixturevalue(request.param), **asked):
        yield


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("jobs", [2, -1])
def test_a_loop_gives_what_it_gives_here(jobs: int) -> None:
    loop = joblib.Parallel(n_jobs=jobs)
    assert loop(joblib.delayed(called.square)(x) for x in range(100)) == [x * x for x in range(100)]
    [first, second] = loop(joblib.delayed(np.cumsum)(np.arange(n)) for n in (3, 4))
    assert (first.tolist(), second.tolist()) == ([0, 1, 3], [0, 1, 3, 6])


@pytest.mark.usefixtures("where")
def test_what_a_call_raises_ends_the_loop() -> None:
    with pytest.raises(KeyError) as caught:
        joblib.Parallel(n_jobs=2)(joblib.delayed(called.fail)(x) for x in range(10))
    assert caught.value.args[0] in range(10)
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(called.square)(x) for x in (2, 3)) == [4, 9]


def inner(x: int) -> int:
    return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(called.square)(y) for y in range(x)))


@pytest.mark.usefixtures("where")
def test_a_loop_within_a_loop_ends() -> None:
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(inner)(x) for x in range(6)) == [0, 0, 1, 5, 14, 30]


def search() -> GridSearchCV:
    X, y = make_classification(n_samples=120, n_features=8, random_state=4)
    model = LogisticRegression(max_iter=300)
    return GridSearchCV(model, {"C": [0.01, 0.1, 1.0, 10.0]}, cv=3, n_jobs=-1).fit(X, y)


def test_a_grid_search_finds_on_a_grid_what_it_finds_here(request: pytest.FixtureRequest) -> None:
    with joblib.parallel_config(backend="sequential"):
        here = search()
    for name, asked in (("own", {"local": True}), ("grid", {"grid": "home"})):
        with at(request.getfixturevalue(name), **asked):
            there = search()
        assert there.best_params_ == here.best_params_
        for key in ("mean_test_score", "std_test_score", "split0_test_score", "rank_test_score"):
            np.testing.assert_array_equal(there.cv_results_[key], here.cv_results_[key])


def test_a_keyword_that_nobody_knows_is_named() -> None:
    with pytest.raises(TypeError, match="gird"):
        joblib.parallel_config(backend="discogrid", gird="home")


def test_no_jobs_are_no_loop(own: Machine) -> None:
    with at(own, local=True), pytest.raises(ValueError, match="n_jobs == 0"):
        joblib.Parallel(n_jobs=0)([])
