"""Runs a command of this Python as an unprivileged user, with nothing but what such a user would have.

The folders of Python and of the project may lie in root's closed home: in a mount namespace of its own, an open home
takes its place that holds those folders alone.
"""

import ctypes
import os
import stat
import sys
from pathlib import Path

NOBODY = 65534
ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT))

# Run by its path: the project may lie where only root can look.
from tests.network import namespaces  # noqa: E402


def mount(
    source: bytes | None, target: Path, kind: bytes | None, flags: int, options: bytes | None = None
) -> None:
    namespaces.check(
        namespaces.library.mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), options)
    )


def closed(path: Path) -> Path | None:
    """The topmost folder above `path` that not everybody may enter."""
    above = reversed(path.parents)
    return next((folder for folder in above if not folder.stat().st_mode & stat.S_IXOTH), None)


def open_up(paths: list[Path]) -> None:
    homes: dict[Path, list[Path]] = {}
    for path in paths:
        if (home := closed(path)) is not None:
            homes.setdefault(home, []).append(path)
    if not homes:
        return
    for home, wanted in homes.items():
        handles = [(path, os.open(path, os.O_PATH)) for path in wanted]
        mount(b"open", home, b"tmpfs", 0, b"mode=0755")
        for path, handle in handles:
            path.mkdir(parents=True, exist_ok=True)
            mount(f"/proc/self/fd/{handle}".encode(), path, None, namespaces.BIND | namespaces.RECURSIVE)
            os.close(handle)


def main() -> None:
    folder, *command = sys.argv[1:]
    namespaces.unshare(namespaces.MOUNTS)
    namespaces.keep_mounts()
    open_up([Path(sys.prefix), Path(sys.base_prefix), ROOT])
    namespaces.open_tun()
    os.chown(folder, NOBODY, NOBODY)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.chdir(ROOT)
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    own = {
        "HOME": folder,
        "TMPDIR": folder,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": folder,
    }
    os.execve(sys.executable, [sys.executable, *command], kept | own)


main()
