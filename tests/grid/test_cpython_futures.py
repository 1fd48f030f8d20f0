"""What CPython asks of an executor, asked of `discogrid.Executor` on a grid: TCP, CURVE, the strict box, signatures."""

from functools import partial

import pytest

import discogrid
from tests.calls.cpython import executor_tests

pytestmark = pytest.mark.usefixtures("at_grid")

globals().update(executor_tests(__name__, partial(discogrid.Executor, grid="home")))
