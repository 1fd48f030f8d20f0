"""A peer: whatever runs Python calls in processes, behind the few verbs that the works need."""

import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers import calls

Function = Callable[[Any], Any]
Wait = Callable[[float], Any]
"""The answer of one call; TimeoutError when it is not there after so many seconds."""
TOLD_S = 0.1  # that a call takes which tells its process
ASKED_MAX = 6


class NotOffered(Exception):
    """A peer has nothing that could do this work; its text says what is missing."""


@dataclass(frozen=True, slots=True)
class Received:
    """What has come of calls within some time."""

    results: list[Any]
    first_error: str = ""


class Peer(ABC):
    """One peer with so many workers. What it writes goes into `folder`."""

    name: ClassVar[str]
    includes: ClassVar[str]  # what its numbers are of, for the table
    packages: ClassVar[tuple[str, ...]] = ()  # as pip calls them; none: it comes with Python, or is ours
    module: ClassVar[str] = ""  # that these bring
    echoes: ClassVar[bool] = False  # what it is given comes back as it was, since it calls nothing
    shares: ClassVar[Mapping[str, float]] = {}  # of a work's size, for those it is slow at

    def __init__(self, workers: int, folder: Path) -> None:
        """Nothing is started yet."""
        self.workers = workers
        self.folder = folder

    # -- its life

    @abstractmethod
    def start(self) -> None:
        """Everything that has to run before the first call. ImportError when it is not installed."""

    @abstractmethod
    def stop(self) -> None:
        """End it as its users would; what it leaves behind is ended by others."""

    # -- calls

    @abstractmethod
    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """Results in the order of the items, each item a call and a task of its own."""

    def map_by_default(self, function: Function, items: Sequence[Any]) -> list[Any]:  # noqa: ARG002
        """The same in whatever chunks it makes when nobody says how."""
        raise NotOffered(f"{self.name} has no map that makes chunks")

    def map_large(self, function: Function, items: Sequence[Any]) -> list[Any]:  # noqa: ARG002
        """The same by what it has for large arguments."""
        raise NotOffered(f"{self.name} has no other way for large arguments")

    def one(self, function: Function, item: Any) -> Any:
        """One call, and its result."""
        return self.map(function, [item])[0]

    def submit(self, function: Function, items: Sequence[Any]) -> list[Wait]:  # noqa: ARG002
        """A call of each, each with an answer of its own."""
        raise NotOffered(f"{self.name} has no answers of single calls")

    def unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:  # noqa: ARG002
        """Results as they come."""
        raise NotOffered(f"{self.name} has no results as they come")

    # -- what works ask for

    def received(self, function: Function, items: Sequence[Any], patience_s: float) -> Received:
        """What has come of a call of each item, after `patience_s` at most."""
        until = time.monotonic() + patience_s
        results, errors = [], []
        for wait in self.submit(function, items):
            try:
                results.append(wait(max(0.01, until - time.monotonic())))
            except TimeoutError:
                errors.append("no answer")
            except Exception as error:  # noqa: BLE001 (whatever a peer makes of a lost worker)
                errors.append(f"{type(error).__name__}: {error}")
        return Received(results, errors[0] if errors else "")

    def victims(self) -> list[int]:
        """The processes that run calls, as this machine knows them."""
        found: set[int] = set()
        for _ in range(ASKED_MAX):
            found.update(self.map(calls.process_id, [TOLD_S] * (self.workers * 3)))
            if len(found) >= self.workers:
                break
        return sorted(found)

    def coordinator(self) -> int | None:
        """The process that says who runs which call, and does nothing else; None where there is none to be named."""
        return None

    def no_ops(self, count: int) -> None:
        """So many calls that do nothing, one a task."""
        if list(self.map(calls.same, range(count))) != list(range(count)):
            raise RuntimeError(f"{self.name} returned something else than it was to")

    def no_op(self) -> None:
        """One of them."""
        self.one(calls.same, 1)

    def scripts(self, folder: Path, script: str, inputs: Sequence[str]) -> dict[str, float]:
        """Seconds, by metric, for a script of `folder` on each of its inputs; the results lie in `run-result` there."""
        began = time.perf_counter()
        self.map(calls.script, [words_for(folder, script, name) for name in inputs])
        return {"scripts/s": time.perf_counter() - began}

    def seen_afresh(self, count: int) -> float:
        """Seconds for so many calls of `calls.seen`, each in a process of its own."""
        self.map(calls.seen_afresh, range(self.workers))
        began = time.perf_counter()
        self.map(calls.seen_afresh, range(count))
        return time.perf_counter() - began


def words_for(folder: Path, script: str, name: str) -> tuple[str, str, str]:
    """What follows `python` to run the script on this input."""
    return str(folder / script), str(folder / name), str(folder / "run-result" / name)


class PoolPeer(Peer):
    """A peer with the interface of multiprocessing.Pool."""

    _pool: Any

    @abstractmethod
    def pool(self, calls_max: int | None = None) -> Any:
        """A new pool, whose workers end after `calls_max` calls."""

    def start(self) -> None:
        """See Peer."""
        self._pool = self.pool()

    def stop(self) -> None:
        """See Peer."""
        self._pool.terminate()
        self._pool.join()

    def map(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return list(self._pool.map(function, items, 1))

    def map_by_default(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """See Peer."""
        return list(self._pool.map(function, items))

    def one(self, function: Function, item: Any) -> Any:
        """See Peer."""
        return self._pool.apply(function, (item,))

    def submit(self, function: Function, items: Sequence[Any]) -> list[Wait]:
        """See Peer."""
        return [waiting(self._pool.apply_async(function, (item,)).get) for item in items]

    def unordered(self, function: Function, items: Iterable[Any]) -> Iterator[Any]:
        """See Peer."""
        return iter(self._pool.imap_unordered(function, items))

    def seen_afresh(self, count: int) -> float:
        """See Peer: by workers that end after one call."""
        pool = self.pool(calls_max=1)
        try:
            pool.map(calls.seen, range(self.workers), 1)
            began = time.perf_counter()
            pool.map(calls.seen, range(count), 1)
            return time.perf_counter() - began
        finally:
            pool.terminate()


def waiting(get: Wait) -> Wait:
    """The same, with Python's own TimeoutError instead of multiprocessing's."""
    from multiprocessing import TimeoutError as MultiprocessingTimeoutError

    def wait(seconds: float) -> Any:
        try:
            return get(seconds)
        except MultiprocessingTimeoutError:
            raise TimeoutError from None

    return wait


def program(name: str) -> str:
    """Where it lies; NotOffered when this machine has none."""
    found = shutil.which(name)
    if found is None:
        raise NotOffered(f"this machine has no {name}")
    return found


def run_quietly(words: Sequence[str], folder: Path, lines: Iterable[str] = ()) -> None:
    """Run a program to its end, which is to be a good one."""
    text = "".join(f"{line}\n" for line in lines)
    subprocess.run(words, cwd=folder, input=text, text=True, check=True, stdout=subprocess.DEVNULL)
