"""Lends a machine: runs signed tasks in a box and returns their results."""
