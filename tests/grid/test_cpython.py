"""What CPython asks of a pool, asked of `discogrid.Pool` on a grid: TCP, CURVE, the strict box, signatures."""

from functools import partial

import pytest

import discogrid
from tests.calls.cpython import pool_tests

pytestmark = pytest.mark.usefixtures("at_grid")

globals().update(pool_tests(__name__, partial(discogrid.Pool, grid="home")))
