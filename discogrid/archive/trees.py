"""Packs a folder for `--mount` and unpacks it on an agent: the same tree is the same archive on every machine."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from discogrid.archive.limits import DEFAULT_LIMITS, ArchiveLimits
from discogrid.archive.names import DEPTH_MAX
from discogrid.archive.reader import open_archive
from discogrid.archive.writer import ArchiveWriter, Sealed
from discogrid.errors import InputError

FOLDER_MODE, PLAIN_MODE, PROGRAM_MODE = 0o755, 0o644, 0o755  # readable by whatever user the box runs as


def pack_tree(folder: Path, target: Path, *, limits: ArchiveLimits = DEFAULT_LIMITS) -> Sealed:
    """Pack a folder, sorted by name and stored; what a symlink inside points to inside is packed in its place.

    InputError names a symlink that leads out or in a circle, a special file, or a name that some platform cannot have.
    """
    root = Path(os.path.realpath(folder))
    if not root.is_dir():
        raise InputError(f"{folder} is not a folder")
    with ArchiveWriter(target, limits=limits, deflate=False) as writer:
        try:
            for name, path, mode in _walk(root, root, "", ()):
                if name.endswith("/"):
                    writer.add_folder(name)
                else:
                    writer.add_file(name, path, executable=bool(mode & stat.S_IXUSR))
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be packed", why=str(error)) from None
        return writer.close()


def unpack_tree(archive: Path | int, folder: Path, *, limits: ArchiveLimits = DEFAULT_LIMITS) -> None:
    """Unpack a tree as the new (or so far empty) folder `folder`, which appears complete or not at all, readable by every user.

    HostileArchive before anything is written; IntegrityError when a file in it is damaged.
    """
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already and is no empty folder")
    with open_archive(archive, limits) as opened:
        part = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=folder.parent))
        try:
            opened.unpack(part)
            for member in opened.members():
                if member.folder:
                    continue
                (part / member.name).chmod(PROGRAM_MODE if member.executable else PLAIN_MODE)
            for above, _, _ in os.walk(part):
                os.chmod(above, FOLDER_MODE)
            part.replace(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _walk(root: Path, folder: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[tuple[str, Path, int]]:
    """Name in the archive, real path and mode of every file, and of every empty folder with a `/` at its end."""
    if folder in above or len(above) > DEPTH_MAX:
        raise InputError(
            f"{prefix.rstrip('/')!r} leads in a circle", fix="Remove the symlink and submit again."
        )
    entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    if not entries and prefix:
        yield prefix, folder, stat.S_IFDIR
    for entry in entries:
        name = prefix + entry.name
        path = Path(entry.path)
        if entry.is_symlink():
            path = _inside(root, path, name)
        mode = path.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _walk(root, path, name + "/", (*above, folder))
        elif stat.S_ISREG(mode):
            yield name, path, mode
        else:
            raise InputError(
                f"{name!r} is neither a file nor a folder", fix="Leave it out of the mounted tree."
            )


def _inside(root: Path, link: Path, name: str) -> Path:
    """What a symlink points to in the end, which must exist below `root`."""
    target = Path(os.path.realpath(link))
    if not target.is_relative_to(root):
        raise InputError(
            f"the symlink {name!r} leads out of the tree, to {target}", fix="Copy the file into the tree."
        )
    if not target.exists():
        raise InputError(f"the symlink {name!r} leads nowhere", fix="Remove it or restore what it points to.")
    return target
