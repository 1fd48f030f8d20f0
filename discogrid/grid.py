"""Which grid a command means: the one this user joined, or this machine's own."""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from discogrid import places
from discogrid.errors import GridError, HandshakeRefused, UsageError
from discogrid.keys import Identity, load_or_create, store
from discogrid.private_files import replace_file
from discogrid.trust.keeper import RosterKeeper, begin
from discogrid.trust.owner import (
    KEY_FILE,
    OWN_ROSTER_S,
    ROSTER_S,
    Owner,
    free_name,
    own_keeper,
    renew_in_time,
)
from discogrid.trust.roster import Roster, open_roster

if TYPE_CHECKING:  # what seals a backup is loaded by who makes one
    from discogrid.trust.vault import Backup

OWN = places.OWN
"""This machine's own grid: over a socket file, started on demand."""
HOME = "home"
"""The grid of this user's other machines: over TCP, started with `discogrid coordinator` or `discogrid up`."""
COORDINATOR_VARIABLE = places.COORDINATOR_VARIABLE
ADDRESS_FILE = places.ADDRESS_FILE
GRID_FILE = "grid.json"
IDENTITY_FILE = "identity.json"
OLD_IDENTITY_FILE = "identity.old.json"
NEXT_IDENTITY_FILE = "identity.next.json"
PORT_DEFAULT = 7717
GRID_NAME_CHARACTERS_MAX = 32
JOIN = "Ask its owner for a code (`discogrid invite`) and run: discogrid join CODE"


@dataclass(frozen=True, slots=True)
class Grid:
    """One grid as this node knows it; `endpoint` is its coordinator's address, if known."""

    name: str
    identity: Identity
    keeper: RosterKeeper
    endpoint: str | None

    @property
    def own(self) -> bool:
        """Whether it is this machine's own."""
        return self.name == OWN

    @property
    def roster(self) -> Roster:
        """Who belongs to it, as far as this node knows now."""
        return self.keeper.current

    def check_membership(self) -> None:
        """HandshakeRefused when this node's own copy of the roster says that it was put out."""
        if self.roster.member(self.identity.id) is None:
            raise HandshakeRefused(
                f"this machine was put out of the grid {self.name}",
                why="The grid's owner took it out of the roster, or gave it other keys.",
                fix="Ask the owner for a new code and join again.",
            )

    def owner(self) -> Owner | None:
        """The key that signs its rosters, when it lies on this machine."""
        return Owner.of(places.grid_folder(self.name), OWN_ROSTER_S if self.own else ROSTER_S)


def open_grid(name: str) -> Grid:
    """The grid of this name. This machine's own and the home grid are made on first use.

    GridError when this machine never joined it.
    """
    if name not in (OWN, HOME, *_folders()):
        raise GridError(f"this machine has joined no grid called {name!r}", fix=JOIN)
    folder = places.grid_folder(name)
    identity = load_or_create(_identity_file(folder))
    owner, roster_s = _owner_of(folder), OWN_ROSTER_S if name == OWN else ROSTER_S
    held = Owner.of(folder, roster_s)
    if name in (OWN, HOME) and (held or owner is None):
        keeper = own_keeper(folder, identity, OWN if name == OWN else _machine(), roster_s=roster_s)
        if owner is None:
            _remember_owner(folder, keeper.current.owner)
    elif owner is not None:
        keeper = RosterKeeper.load(folder, owner)
        if held:
            renew_in_time(keeper, held, time.time())
    else:
        raise GridError(f"the grid {name!r} was not joined to the end", fix=JOIN)
    return Grid(name, identity, keeper, _address(name, folder))


def adopt_grid(
    owner: bytes, envelope: bytes, endpoint: str | None, now: float, identity: Identity | None = None
) -> Grid:
    """Join: keep the roster (an envelope) of the grid whose owner has this public key, and where it answers.

    The grid is called as its owner calls it, unless another one here has that name. To join again keeps the folder, but
    not keys that this machine had in the grid before, when `identity`, which the roster names, has others.
    SignatureRefused when the roster is not the owner's or its time is over.
    """
    roster = open_roster(envelope, owner, now)
    known = {name: _owner_of(places.grid_folder(name)) for name in _folders()}
    again = next((name for name, other in known.items() if other == owner), None)
    name = again or free_name(_folder_name(roster.body.name), [OWN, HOME, *known])
    folder = places.grid_folder(name)
    keeper = begin(folder, roster)
    _remember_owner(folder, owner)
    if endpoint is not None:
        remember_address(name, endpoint)
    before = folder / IDENTITY_FILE
    if identity is not None and before.exists() and load_or_create(before).id != identity.id:
        before.replace(folder / OLD_IDENTITY_FILE)
    return Grid(name, load_or_create(_identity_file(folder)), keeper, endpoint)


def put_back(backup: "Backup") -> str:
    """Keep an owner's key of a backup in the folder of its grid, and say which; a machine that is new gets the folder.

    The coordinator's keys, if they are in it, make this machine the one that coordinates. A member of the grid that
    gets the key alone keeps to the roster it knows: a newer one would undo what was changed since the backup.
    KeyFileError when another key lies there already.
    """
    known = {name: _owner_of(places.grid_folder(name)) for name in _folders()}
    name = next((name for name, owner in known.items() if owner == backup.owner.public), None)
    is_member = name is not None
    if name is None and backup.coordinator is not None and HOME not in known:
        name = HOME
    name = name or free_name(_folder_name(backup.roster.body.name), [OWN, HOME, *known])
    folder = places.grid_folder(name)
    now, owner = time.time(), Owner(backup.owner)
    keeper = begin(folder, backup.roster)
    if backup.coordinator is not None or not is_member:
        keeper.offer(owner.restored(keeper.current, now).envelope, now)
    _remember_owner(folder, backup.owner.public)
    if backup.coordinator is not None and backup.coordinator.id != load_or_create(_identity_file(folder)).id:
        store(folder / IDENTITY_FILE, backup.coordinator)
    store(folder / KEY_FILE, backup.owner)
    return name


def renewed_keys(grid: Grid) -> Identity:
    """New keys for one grid, kept but not used before `adopt_keys`; after an interruption the same ones again."""
    return load_or_create(places.grid_folder(grid.name) / NEXT_IDENTITY_FILE)


def adopt_keys(grid: Grid) -> None:
    """Use the keys of `renewed_keys` in this grid from now on."""
    folder = places.grid_folder(grid.name)
    (folder / NEXT_IDENTITY_FILE).replace(folder / IDENTITY_FILE)


def choose_grid(*, local: bool = False, coordinator: str | None = None, grid: str | None = None) -> Grid:
    """The grid a command works on: flags, then `DISCOGRID_COORDINATOR`, then the joined grid, then this machine's own."""
    named = coordinator or os.environ.get(COORDINATOR_VARIABLE)
    if local and (coordinator or grid):
        raise UsageError(
            "--local names this machine's own grid; it cannot be combined with --grid or --coordinator"
        )
    if local:
        return open_grid(OWN)
    if grid is not None and grid not in (OWN, *_folders()):
        raise UsageError(
            f"no grid called {grid!r} was joined", fix=f"Joined grids: {', '.join(joined()) or 'none'}."
        )
    found = open_grid(grid or _default(named))
    return Grid(found.name, found.identity, found.keeper, parse_endpoint(named)) if named else found


def _default(named: str | None) -> str:
    """The grid meant when none is: the home grid, else the only joined one; with an address never this machine's own."""
    if (meant := _only(joined() if named is None else shared_grids())) is not None:
        return meant
    if named is not None:
        raise GridError(f"this machine has joined no grid, so it knows nobody at {named}", fix=JOIN)
    return OWN


def lent_grid() -> Grid | None:
    """The grid that this machine is lent to when none is named; None when it has joined none."""
    name = _only(shared_grids())
    return None if name is None else open_grid(name)


def grid_of(is_owner: Callable[[bytes], bool]) -> Grid | None:
    """The grid here whose owner has the public key that `is_owner` is true of."""
    for name in _folders():
        owner = _owner_of(places.grid_folder(name))
        if owner is not None and is_owner(owner):
            return open_grid(name)
    return None


def _only(names: list[str]) -> str | None:
    if HOME in names:
        return HOME
    if len(names) > 1:
        raise UsageError(
            f"this machine has joined several grids: {', '.join(names)}",
            fix="Say which one you mean, for example: --grid " + names[0],
        )
    return names[0] if names else None


def shared_grids() -> list[str]:
    """The names of the grids here that are not this machine's own."""
    return [name for name in _folders() if name != OWN]


def joined() -> list[str]:
    """The names of the grids whose coordinator's address this node keeps."""
    return places.joined_grids()


def _folders() -> list[str]:
    folder = places.home() / "grids"
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def remember_address(grid: str, endpoint: str) -> None:
    """Keep where the grid's coordinator answers: from now on the grid counts as joined."""
    kept = json.dumps({"schema": "discogrid.address/1", "endpoint": endpoint})
    replace_file(places.grid_folder(grid) / ADDRESS_FILE, kept.encode())


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


def _identity_file(folder: Path) -> Path:
    """This node's keys for one grid: those of the whole node, unless they were exchanged in this grid."""
    own = folder / IDENTITY_FILE
    return own if own.exists() else places.identity_file()


def _owner_of(folder: Path) -> bytes | None:
    """The public key of the owner of the grid in this folder, if it is known."""
    try:
        kept = json.loads((folder / GRID_FILE).read_text())
        return bytes.fromhex(kept["owner"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{folder / GRID_FILE} is damaged", fix="Move the folder away and join the grid again."
        ) from None


def _remember_owner(folder: Path, owner: bytes) -> None:
    """Keep by which key this grid's rosters are proven, for ever."""
    kept = json.dumps({"schema": "discogrid.grid/1", "owner": owner.hex()})
    replace_file(folder / GRID_FILE, kept.encode())


def _folder_name(title: str) -> str:
    """A grid's name as a folder, whatever its owner calls it."""
    kept = "".join(character for character in title.lower() if character.isalnum() or character in "-_")
    return kept[:GRID_NAME_CHARACTERS_MAX] or "grid"


def _machine() -> str:
    return platform.node().partition(".")[0] or "home"


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
