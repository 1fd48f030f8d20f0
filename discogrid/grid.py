"""Which grid a command means: the one this user joined, or this machine's own."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from discogrid import places
from discogrid.errors import UsageError
from discogrid.keys import Identity, load_or_create
from discogrid.trust import Roster, own_roster

OWN = "own"
"""This machine's own grid: over a socket file, started on demand."""
HOME = "home"
"""The grid of this user's other machines: over TCP, started with `discogrid coordinator` or `discogrid up`."""
COORDINATOR_VARIABLE = "DISCOGRID_COORDINATOR"
ADDRESS_FILE = "address.json"
PORT_DEFAULT = 7717


@dataclass(frozen=True, slots=True)
class Grid:
    """One grid as this node knows it; `endpoint` is its coordinator's address, if known."""

    name: str
    identity: Identity
    roster: Roster
    endpoint: str | None

    @property
    def own(self) -> bool:
        """Whether it is this machine's own."""
        return self.name == OWN


def open_grid(name: str) -> Grid:
    """The grid of this name; its owner key and roster are made on first use."""
    identity = load_or_create(places.identity_file())
    folder = places.grid_folder(name)
    return Grid(name, identity, own_roster(folder, identity), _address(name, folder))


def choose_grid(*, local: bool = False, coordinator: str | None = None, grid: str | None = None) -> Grid:
    """The grid a command works on: flags, then `DISCOGRID_COORDINATOR`, then the joined grid, then this machine's own."""
    named = coordinator or os.environ.get(COORDINATOR_VARIABLE)
    if local and (coordinator or grid):
        raise UsageError(
            "--local names this machine's own grid; it cannot be combined with --grid or --coordinator"
        )
    if local:
        return open_grid(OWN)
    if grid is not None and not (places.home() / "grids" / grid).is_dir():
        raise UsageError(
            f"no grid called {grid!r} was joined", fix=f"Joined grids: {', '.join(joined()) or 'none'}."
        )
    name = grid or (HOME if named or HOME in joined() else OWN)
    found = open_grid(name)
    return Grid(name, found.identity, found.roster, parse_endpoint(named)) if named else found


def joined() -> list[str]:
    """The names of the grids whose coordinator's address this node keeps."""
    folder = places.home() / "grids"
    return (
        sorted(entry.name for entry in folder.glob("*") if (entry / ADDRESS_FILE).exists())
        if folder.is_dir()
        else []
    )


def remember_address(grid: str, endpoint: str) -> None:
    """Keep where the grid's coordinator answers: from now on the grid counts as joined."""
    kept = places.grid_folder(grid) / ADDRESS_FILE
    draft = kept.with_name(f".{ADDRESS_FILE}.{os.getpid()}")
    draft.write_text(json.dumps({"schema": "discogrid.address/1", "endpoint": endpoint}))
    draft.replace(kept)


def forget_address(grid: str) -> None:
    """No longer count the grid as joined; its keys stay."""
    (places.grid_folder(grid) / ADDRESS_FILE).unlink(missing_ok=True)


def own_endpoint() -> str:
    """The socket file of this machine's own grid."""
    return f"ipc://{places.runtime_folder() / 'own.sock'}"


def parse_endpoint(text: str) -> str:
    """`host`, `host:port`, `[v6]:port` or a ZeroMQ endpoint, as a ZeroMQ endpoint."""
    if "://" in text:
        return text
    host, separator, port = text.rpartition(":")
    if not separator or (text.startswith("[") and text.endswith("]")):
        host, port = text, str(PORT_DEFAULT)
    if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise UsageError(f"{text!r} is no address", fix="Write HOST:PORT, such as attic.local:7717.")
    return f"tcp://{host}:{port}"


def _address(name: str, folder: Path) -> str | None:
    if name == OWN:
        return own_endpoint()
    try:
        kept = json.loads((folder / ADDRESS_FILE).read_text())
        return str(kept["endpoint"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{folder / ADDRESS_FILE} is damaged", fix="Remove it and start or join the grid again."
        ) from None
