"""CPython's own tests of multiprocessing.Pool, run against ours."""

import unittest

import pytest

from tests.calls.local_line import local_pool
from tests.skips import NO_SUITE

suite = pytest.importorskip("test._test_multiprocessing", reason=NO_SUITE)


class Grid(suite.ProcessesMixin):  # type: ignore[name-defined, misc]
    TYPE = "processes"
    Pool = staticmethod(local_pool)


class TestPool(suite._TestPool, Grid, unittest.TestCase):  # type: ignore[name-defined, misc]
    def test_make_pool(self) -> None:
        """Theirs counts the processes in the attribute _pool; a grid has none. This is the rest of it."""
        for processes in (-1, 0):
            with self.assertRaises(ValueError):  # noqa: PT027
                self.Pool(processes)


class TestPoolWorkerErrors(suite._TestPoolWorkerErrors, Grid, unittest.TestCase):  # type: ignore[name-defined, misc]
    pass
