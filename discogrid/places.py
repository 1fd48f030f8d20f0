"""The only module that knows directories."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

import platformdirs

from discogrid.errors import KeyFileError

HOME_VARIABLE = "DISCOGRID_HOME"
COORDINATOR_VARIABLE = "DISCOGRID_COORDINATOR"
OWN = "own"
"""The name of this machine's own grid."""
ADDRESS_FILE = "address.json"
PRIVATE = 0o700


def home() -> Path:
    """Where this user's keys, grids and kept work are: `DISCOGRID_HOME`, else the platform's folder for such files."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named).absolute() if named else Path(platformdirs.user_data_dir("discogrid", appauthor=False))


def settings_file() -> Path:
    """This user's settings: in the home that was named, else in the platform's folder for such files."""
    if os.environ.get(HOME_VARIABLE):
        return home() / "settings.toml"
    return Path(platformdirs.user_config_dir("discogrid", appauthor=False)) / "settings.toml"


def identity_file() -> Path:
    """This node's keys."""
    return private_folder(home()) / "identity.json"


def grid_folder(grid: str) -> Path:
    """What this node knows of one grid: its roster, its address, the owner's key if it is kept here."""
    return private_folder(home() / "grids" / grid)


def joined_grids() -> list[str]:
    """The names of the grids whose coordinator's address this node keeps."""
    return sorted(file.parent.name for file in (home() / "grids").glob(f"*/{ADDRESS_FILE}"))


def coordinator_folder(grid: str) -> Path:
    """Journal and blobs of a coordinator."""
    return private_folder(home() / "coordinator" / grid)


def agent_folder(grid: str, name: str) -> Path:
    """Blobs and work folders of an agent."""
    return private_folder(home() / "agent" / grid / name)


def rules_file(grid: str) -> Path:
    """What the owner of this machine lets each submitter of a grid do on it; there may be none."""
    return private_folder(home() / "agent" / grid) / "rules.toml"


def log_file(name: str) -> Path:
    """Where a process in the background writes what it has to say."""
    return private_folder(home() / "logs") / f"{name}.log"


def runtime_folder() -> Path:
    """Sockets and locks of this user's running processes; short, because a socket's path holds 107 bytes."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    root = Path(base) / "discogrid" if base and os.access(base, os.W_OK) else _runtime_fallback()
    return private_folder(private_folder(root) / hashlib.sha256(os.fsencode(home())).hexdigest()[:12])


def private_folder(folder: Path) -> Path:
    """Make the folder if needed, for its owner only; KeyFileError when others may enter it."""
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(mode=PRIVATE, exist_ok=True)  # parents=True would make the upper ones as umask says
    status = folder.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077):
        raise KeyFileError(
            f"{folder} belongs to somebody else or can be entered by others",
            why="Keys and sockets in it would not be private.",
            fix=f"Run: chmod 700 {folder}  (or name another folder with {HOME_VARIABLE})",
        )
    return folder


def _runtime_fallback() -> Path:
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"discogrid-{owner}"
