"""Virtual environments that jobs ask for: built by uv from wheels alone, kept by what is in them, shown read-only.

Nothing of a package runs while it is installed: source distributions are refused. Where wheels come from is what the
owner's uv is told (UV_INDEX_URL, UV_FIND_LINKS, …), never what a job says.
"""

import asyncio
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discogrid.errors import DiscogridError
from discogrid_agent.removal import remove_tree
from discogrid_agent.sandbox.box import Owner
from discogrid_agent.sandbox.credentials import acting_as
from discogrid_agent.sandbox.reach import REACH

BUILD_S: Final = 600.0
BUILD_BYTES_MAX: Final = 8 << 30
KEPT_MAX: Final = 16  # environments; the one used longest ago goes first
FAILED_S: Final = 600.0  # for which a failure is remembered
SAID_CHARACTERS: Final = 400  # of what uv says, in a reason
_COMPLETE: Final = "complete"
_KEPT_VARIABLES: Final = ("PATH", "LANG", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")

log = logging.getLogger(__name__)


class NoEnvironment(DiscogridError):
    """An environment cannot be had on this machine now."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One that is built: its interpreter, and the folder that a box has to show."""

    python: Path
    folder: Path


class Environments:
    """All of one agent, in a folder of their own."""

    def __init__(self, folder: Path, owner: Owner | None) -> None:
        """`owner` is whom tasks run as; uv runs as the same. NoEnvironment when there is no uv."""
        found = find_uv()
        if found is None:
            raise NoEnvironment(
                "environments are built with uv, which is not on this machine",
                fix="pip install 'discogrid[environments]'",
            )
        self._uv = found
        self._folder = folder
        self._owner = owner
        self._building: dict[str, asyncio.Task[Environment]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._used: dict[str, int] = {}
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if owner is not None:
            folder.chmod(0o711)
            for path in (folder, Path(sys.base_prefix), found.resolve()):
                REACH.show(path)

    async def get(self, packages: tuple[str, ...]) -> Environment:
        """The environment with these packages, built now if it is not there; NoEnvironment says why it cannot be.

        It stays until `release`.
        """
        name = _name(packages)
        until, reason = self._failed.get(name, (0.0, ""))
        if time.monotonic() < until:
            raise NoEnvironment(reason)
        self._used[name] = self._used.get(name, 0) + 1
        try:
            if name not in self._building:
                self._building[name] = asyncio.create_task(self._made(name, packages))
            return await asyncio.shield(self._building[name])
        except NoEnvironment as error:
            self._failed[name] = (time.monotonic() + FAILED_S, error.what)
            self._building.pop(name, None)
            self.release(packages)
            raise
        finally:
            if name in self._building and self._building[name].done():
                self._building.pop(name)

    def release(self, packages: tuple[str, ...]) -> None:
        """An attempt needs it no more."""
        name = _name(packages)
        self._used[name] -= 1
        if not self._used[name]:
            del self._used[name]

    async def _made(self, name: str, packages: tuple[str, ...]) -> Environment:
        place = self._folder / name
        made = Environment(place / "bin" / "python", place)
        if not (self._folder / f"{name}.{_COMPLETE}").exists():
            self._make_room()
            await asyncio.to_thread(self._build, place, packages)
            log.info("built an environment of %d packages", len(packages))
        (self._folder / f"{name}.{_COMPLETE}").touch()
        return made

    def _build(self, place: Path, packages: tuple[str, ...]) -> None:
        remove_tree(place)
        place.mkdir(mode=0o755)
        if self._owner is not None:
            os.chown(place, self._owner.uid, self._owner.gid)
        uv, where = REACH.path(self._uv.resolve()), REACH.path(place)
        python = REACH.path(Path(_base_python()))
        try:
            self._run([uv, "venv", "--no-config", "--no-project", "--python", python, "--clear", where])
            options = ("--no-config", "--only-binary", ":all:", "--link-mode", "copy")
            self._run(
                [uv, "pip", "install", *options, "--python", f"{where}/bin/python", "-r", "-"],
                "\n".join(packages),
            )
            _lead_back(place, python, _base_python())
            if (size := _size(place)) > BUILD_BYTES_MAX:
                raise NoEnvironment(f"the environment takes {size >> 20} MiB, more than is allowed here")  # noqa: TRY301
        except BaseException:
            remove_tree(place)
            raise

    def _run(self, command: list[str], said: str = "") -> None:
        cache = self._folder / "cache"
        cache.mkdir(mode=0o755, exist_ok=True)
        if self._owner is not None:
            os.chown(cache, self._owner.uid, self._owner.gid)
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in _KEPT_VARIABLES or name.startswith("UV_")
        }
        variables = {**kept, "HOME": REACH.path(cache), "UV_CACHE_DIR": REACH.path(cache)}
        try:
            with acting_as(self._owner):
                process = subprocess.Popen(
                    command,
                    env=variables,
                    cwd="/",
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            with process:
                try:
                    _, told = process.communicate(said, BUILD_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise NoEnvironment(f"the environment was not built within {BUILD_S:.0f} s") from None
        except OSError as error:
            raise NoEnvironment(f"uv could not be started: {error}") from None
        if process.returncode != 0:
            last = " ".join(told.split())[-SAID_CHARACTERS:]
            raise NoEnvironment(f"its environment cannot be built there from wheels alone: {last}")

    def _make_room(self) -> None:
        kept = sorted(self._folder.glob(f"*.{_COMPLETE}"), key=lambda mark: mark.stat().st_mtime)
        for mark in kept[: max(0, len(kept) - KEPT_MAX + 1)]:
            name = mark.name.removesuffix(f".{_COMPLETE}")
            if name not in self._used:
                mark.unlink()
                remove_tree(self._folder / name)


def _lead_back(place: Path, shown: str, real: str) -> None:
    """Let the environment name its Python by the path that tasks see, whatever path uv had to use."""
    if shown == real:
        return
    for link in (place / "bin").iterdir():
        if link.is_symlink() and os.readlink(link) == shown:
            link.unlink()
            link.symlink_to(real)
    config = place / "pyvenv.cfg"
    config.write_text(config.read_text().replace(os.path.dirname(shown), os.path.dirname(real)))


def _base_python() -> str:
    """The interpreter that this one's virtual environment was made of."""
    return str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))


def find_uv() -> Path | None:
    """The uv beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    return None if found is None else Path(found)


def _name(packages: tuple[str, ...]) -> str:
    """What is in an environment decides what it is called."""
    content = "\n".join((sys.version, os.uname().machine, *packages))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*"))
