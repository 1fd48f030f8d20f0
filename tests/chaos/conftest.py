"""Runs need hosts on a network of their own."""

from tests.network.conftest import hosts

__all__ = ["hosts"]
