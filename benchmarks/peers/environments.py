"""A virtual environment for each peer that does not come with Python, made when it is needed."""

import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers.calls import MODULES
from benchmarks.peers.peer import Peer

SEEN_PACKAGES = ("numpy", "opencv-python-headless", "dlib-bin")  # bring MODULES
SAID_CHARACTERS_MAX = 300


class CannotInstall(Exception):
    """pip did not bring a peer; its last words."""


def python_for(peer: type[Peer], folder: Path | None, *, seen: bool) -> str:
    """The interpreter that runs this peer: one of `folder`, where it is installed if it is not yet.

    Without a folder this process's own, whatever that has. `seen`: with what `calls.seen` imports, too.
    """
    if folder is None or not peer.packages:
        return sys.executable
    place = folder / peer.name
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    _ensure(python, (peer.module,), peer.packages)
    if seen:
        _ensure(python, MODULES, SEEN_PACKAGES)
    return str(python)


def _ensure(python: Path, modules: tuple[str, ...], packages: tuple[str, ...]) -> None:
    look = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {modules!r})))"
    if subprocess.run([python, "-c", look], check=False, cwd=python.parent).returncode == 0:
        return
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(pip, check=False, capture_output=True, text=True)
    if done.returncode:
        words = " ".join(done.stderr.split())
        raise CannotInstall(f"pip cannot install {' '.join(packages)}: {words[-SAID_CHARACTERS_MAX:]}")
