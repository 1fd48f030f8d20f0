"""Makes folders of root reachable for the unprivileged user that root's tasks run as.

That user cannot walk through root's closed home, where the agent's Python and work folders may be. So a root agent
moves into a mount namespace of its own, which dies with it, and shows them there a second time, side by side.
"""

import ctypes
import os
import stat
from pathlib import Path
from typing import Final

from discogrid.errors import SandboxError

_PUBLIC: Final = Path("/run/discogrid")
_CLONE_NEWNS: Final = 0x0002_0000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_SLAVE = 0x2, 0x4, 0x1000, 0x4000, 0x8_0000
_MNT_DETACH: Final = 0x2
_TABLE_BYTES: Final = 1024 * 1024  # of the little file system that holds the mount points

_library = ctypes.CDLL(None, use_errno=True)


class Reach:
    """The second places of folders; one for a process, as there is one namespace."""

    def __init__(self) -> None:
        """Nothing is moved before a folder needs it."""
        self._entered = False
        self._shown: dict[Path, Path] = {}
        self._number = 0

    def show(self, folder: Path) -> None:
        """Show `folder`, now and as long as it exists, if others cannot reach it; on the main thread.

        SandboxError when root may not do that here.
        """
        if folder in self._shown or _open_to_all(folder):
            return
        if not self._entered:
            _enter_own_namespace()
            self._entered = True
        self._drop_removed()
        self._number += 1
        point = _PUBLIC / str(self._number)
        if folder.is_dir():
            point.mkdir(mode=0o755)
        else:
            point.touch()
        _mount(str(folder), point, None, _MS_BIND | _MS_REC)
        self._shown[folder] = point

    def path(self, source: Path) -> str:
        """The same file, under a path that the tasks' user can walk."""
        text = str(source)
        for folder, point in self._shown.items():
            whole = str(folder)
            if text.startswith(whole) and text[len(whole) : len(whole) + 1] in ("", "/"):
                return f"{point}{text[len(whole) :]}"
        return text

    def _drop_removed(self) -> None:
        """Forget folders that are gone, such as the trees of a job that ended."""
        for folder, point in list(self._shown.items()):
            if not folder.exists():
                _check(_library.umount2(os.fsencode(point), _MNT_DETACH))
                del self._shown[folder]


REACH: Final = Reach()


def _open_to_all(path: Path) -> bool:
    """Whether every user may walk to it."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in path.resolve().parents)


def _enter_own_namespace() -> None:
    """From here on this thread, and every thread and process that it starts, has mounts of its own."""
    try:
        _PUBLIC.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise _unreachable(error) from error
    _check(_library.unshare(_CLONE_NEWNS))
    _mount(None, Path("/"), None, _MS_REC | _MS_SLAVE)
    _mount("discogrid", _PUBLIC, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={_TABLE_BYTES},mode=0755")


def _mount(
    source: str | None, target: Path, kind: str | None, flags: int, options: str | None = None
) -> None:
    _check(
        _library.mount(
            *(None if text is None else os.fsencode(text) for text in (source, str(target), kind)),
            ctypes.c_ulong(flags),
            None if options is None else options.encode(),
        )
    )


def _check(answer: int) -> None:
    if answer != 0:
        code = ctypes.get_errno()
        raise _unreachable(OSError(code, os.strerror(code)))


def _unreachable(error: OSError) -> SandboxError:
    return SandboxError(
        f"This agent's Python and work folders are closed to the user that root's tasks run as: {error.strerror}.",
        why="Root may not mount here (a container?), and they are in a home that only root may enter.",
        fix="Run the agent as an ordinary user, or install it where every user may read, such as /opt/discogrid.",
    )
