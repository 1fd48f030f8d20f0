"""CPython's own tests of pools and executors, made into tests of other pools and executors.

`make cpython` names an interpreter that has all of them.
"""

import importlib
import unittest
from collections.abc import Callable
from typing import Any

import pytest

from tests.skips import NO_SUITE

Make = Callable[..., Any]


def pool_tests(where: str, pool: Make) -> dict[str, type]:
    """What multiprocessing asks of a pool, by class name, of pools that `pool` makes."""
    suite = pytest.importorskip("test._test_multiprocessing", reason=NO_SUITE)

    def test_make_pool(test: unittest.TestCase) -> None:
        """Theirs counts the processes in the attribute _pool; a grid has none. This is the rest of it."""
        for processes in (-1, 0):
            with test.assertRaises(ValueError):  # noqa: PT027
                pool(processes)

    hook = {"TYPE": "processes", "Pool": staticmethod(pool), "__module__": where}
    bases = (suite.ProcessesMixin, unittest.TestCase)
    return {
        "TestPool": type("TestPool", (suite._TestPool, *bases), {**hook, "test_make_pool": test_make_pool}),
        "TestPoolWorkerErrors": type("TestPoolWorkerErrors", (suite._TestPoolWorkerErrors, *bases), hook),
    }


def executor_tests(where: str, executor: Make) -> dict[str, type]:
    """What concurrent.futures asks of an executor, by class name, of executors that `executor` makes."""
    suite = pytest.importorskip("test.test_concurrent_futures", reason=NO_SUITE)

    def of_theirs(module: str, name: str) -> Any:
        """A class of CPython's, which was in one file up to 3.11 and is in a package since."""
        inside = (
            importlib.import_module(f"{suite.__name__}.{module}") if hasattr(suite, "__path__") else suite
        )
        return getattr(inside, name)

    mixin, base = of_theirs("util", "ExecutorMixin"), of_theirs("util", "BaseTestCase")
    hook = {"executor_type": staticmethod(executor), "__module__": where}
    asked = {"executor": "ExecutorTest", "test_wait": "WaitTests", "test_as_completed": "AsCompletedTests"}
    return {
        f"Test{name}": type(f"Test{name}", (mixin, of_theirs(module, name), base), hook)
        for module, name in asked.items()
    }
