"""CPython's own tests of concurrent.futures, run against our executor: `make cpython` names an interpreter that has them."""

import importlib
from typing import Any

import pytest

from discogrid.calls.executor import CallExecutor
from tests.calls.local_line import local
from tests.skips import NO_SUITE

suite = pytest.importorskip("test.test_concurrent_futures", reason=NO_SUITE)


def of_theirs(module: str, name: str) -> Any:
    """A class of CPython's, which was in one file up to 3.11 and is in a package since."""
    inside = importlib.import_module(f"{suite.__name__}.{module}") if hasattr(suite, "__path__") else suite
    return getattr(inside, name)


def executor(max_workers: int | None = None) -> CallExecutor:
    """With the first argument of ProcessPoolExecutor."""
    if max_workers is not None and max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    return CallExecutor(local(max_workers or 2))


def ours(module: str, name: str) -> type:
    """Their tests of this name, of our executor."""
    bases = (of_theirs("util", "ExecutorMixin"), of_theirs(module, name), of_theirs("util", "BaseTestCase"))
    return type(f"Test{name}", bases, {"executor_type": staticmethod(executor), "__module__": __name__})


TestExecutorTest = ours("executor", "ExecutorTest")
TestWaitTests = ours("test_wait", "WaitTests")
TestAsCompletedTests = ours("test_as_completed", "AsCompletedTests")
