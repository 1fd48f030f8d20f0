"""What CPython asks of a pool, asked of ours over processes of this machine."""

from tests.calls.cpython import pool_tests
from tests.calls.local_line import local_pool

globals().update(pool_tests(__name__, local_pool))
