"""Warm starts: a Python that has loaded what a script imports first forks each of its tasks into a box of its own."""
