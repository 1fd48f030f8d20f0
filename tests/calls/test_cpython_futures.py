"""What CPython asks of an executor, asked of ours over processes of this machine."""

from discogrid.calls.executor import CallExecutor
from tests.calls.cpython import executor_tests
from tests.calls.local_line import local


def executor(max_workers: int | None = None) -> CallExecutor:
    """With the first argument of ProcessPoolExecutor."""
    if max_workers is not None and max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    return CallExecutor(local(max_workers or 2))


globals().update(executor_tests(__name__, executor))
