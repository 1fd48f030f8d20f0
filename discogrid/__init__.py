"""discogrid turns idle machines into one computer for scripts and Python calls."""

__version__ = "0.1.0"
