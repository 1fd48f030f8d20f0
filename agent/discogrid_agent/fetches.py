"""Which blobs an agent fetches, keeps and lets go. Pure: part of the agent machine."""

from dataclasses import dataclass, field
from enum import Enum, auto

from discogrid.types import Attempt, Digest, FileRef, JobId
from discogrid_agent.events import Action, DropBlobs, Fetch, StopFetch

FETCHES_MAX = 4
"""Blobs on their way at the same time."""
FETCH_TRIES_MAX = 4
"""Failed fetches of one blob before the tasks that need it are reported as failed transfers."""
FETCH_PAUSE_S = 1.0
"""Before the second try; doubles with each further one."""

User = Attempt | JobId


class _State(Enum):
    WANTED = auto()
    COMING = auto()
    HERE = auto()
    FAILED = auto()


@dataclass(slots=True)
class _Blob:
    file: FileRef
    passing: bool
    state: _State = _State.WANTED
    tries: int = 0
    due: float = 0.0
    users: dict[User, None] = field(default_factory=dict)


class Fetches:
    """The blobs that queued and running tasks need, and those their jobs keep for the next task."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, _Blob] = {}
        self._wanted: dict[Digest, None] = {}  # in the order of their first need
        self._coming = 0

    def need(self, file: FileRef, user: User, *, passing: bool = False) -> bool:
        """The user needs the blob from now on; `passing`: nobody else will. True when it is here already."""
        blob = self._blobs.get(file.digest)
        if blob is None:
            blob = self._blobs[file.digest] = _Blob(file, passing)
            self._wanted[file.digest] = None
        elif blob.state is _State.FAILED:
            blob.state, blob.tries, blob.due = _State.WANTED, 0, 0.0
            self._wanted[file.digest] = None
        blob.users[user] = None
        return blob.state is _State.HERE

    def here(self, digest: Digest) -> bool:
        """Whether somebody needs the blob, and it is here."""
        blob = self._blobs.get(digest)
        return blob is not None and blob.state is _State.HERE

    def release(self, digests: list[Digest], user: User) -> list[Action]:
        """The user needs these no more."""
        actions: list[Action] = []
        unpinned: list[Digest] = []
        for digest in digests:
            blob = self._blobs[digest]
            del blob.users[user]
            if blob.users:
                continue
            del self._blobs[digest]
            self._wanted.pop(digest, None)
            if blob.state is _State.COMING:
                self._coming -= 1
                actions.append(StopFetch(digest))
            elif blob.state is _State.HERE:
                unpinned.append(digest)
        if unpinned:
            actions.append(DropBlobs(tuple(unpinned)))
        return actions

    def on_ready(self, digest: Digest) -> list[User] | None:
        """Who waited for the blob; None when nobody needs it any more."""
        blob = self._blobs.get(digest)
        if blob is None:
            return None
        if blob.state is _State.HERE:
            return []
        self._leave(blob, _State.HERE)
        return list(blob.users)

    def on_failed(self, digest: Digest, now: float) -> list[User]:
        """Who is to give up because the last try failed; nobody while tries are left."""
        blob = self._blobs.get(digest)
        if blob is None or blob.state is not _State.COMING:
            return []
        blob.tries += 1
        if blob.tries >= FETCH_TRIES_MAX:
            self._leave(blob, _State.FAILED)
            return list(blob.users)
        self._leave(blob, _State.WANTED)
        self._wanted[digest] = None
        blob.due = now + FETCH_PAUSE_S * 2.0 ** (blob.tries - 1)
        return []

    def step(self, now: float) -> list[Action]:
        """The fetches to begin now."""
        actions: list[Action] = []
        for digest in list(self._wanted):
            if self._coming >= FETCHES_MAX:
                break
            blob = self._blobs[digest]
            if blob.due <= now:
                del self._wanted[digest]
                blob.state = _State.COMING
                self._coming += 1
                actions.append(Fetch(blob.file, blob.passing))
        return actions

    def deadline(self) -> float | None:
        """When the next try is due."""
        if self._coming >= FETCHES_MAX:
            return None
        return min((self._blobs[digest].due for digest in self._wanted), default=None)

    def _leave(self, blob: _Blob, state: _State) -> None:
        """A fetch has ended, whether it was ours (in flight) or one given up earlier."""
        self._coming -= blob.state is _State.COMING
        self._wanted.pop(blob.file.digest, None)
        blob.state = state

    def check(self, users: dict[User, list[Digest]]) -> None:
        """Every invariant, given what each user needs."""
        states = [blob.state for blob in self._blobs.values()]
        assert self._coming == states.count(_State.COMING) <= FETCHES_MAX
        wanted = {digest for digest, blob in self._blobs.items() if blob.state is _State.WANTED}
        assert wanted == set(self._wanted), "a wanted blob is not waited for"
        assert all(blob.users for blob in self._blobs.values()), "a blob is kept for nobody"
        needed = {(user, digest) for user, digests in users.items() for digest in digests}
        assert needed == {(user, digest) for digest, blob in self._blobs.items() for user in blob.users}
