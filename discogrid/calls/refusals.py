"""What cannot go to another machine: which object it is, why, and what to do instead.

Most of it refuses to be pickled, with words that help nobody; some of it can be pickled and would be useless there: a
manager's proxy, the end of a pipe. Ordinary calls pay for this with a look for a few words in their pickle.
"""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from discogrid.errors import InputError

MARK = b"multiprocessing"
"""In pickle: perhaps something that can be pickled and is of no use elsewhere."""
MARK_BY_VALUE = b"StringIO"
"""In cloudpickle's: perhaps a text file, whose content it would send."""


class Unshareable(InputError, TypeError):
    """An object lives on this machine alone, and cannot be given to a call."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Objects that live on one machine. `name` is empty where the class is called as people know it."""

    why: str
    fix: str
    name: str = ""


_QUEUE = Kind(
    "A queue lives in the memory of this machine.",
    "Return the value instead: `map` gives results in order, `imap_unordered` as they come.",
)
_LOCK = Kind(
    "A lock, like everything that threads or processes wait for, works among those of one machine.",
    "Calls share no memory, so that there is nothing to lock: leave it out, or make it inside of the function.",
)
_EVENT = Kind(
    _LOCK.why,
    "Take results as they come (`imap_unordered`) and end the rest with `terminate()`, or leave it out.",
)
_MEMORY = Kind(
    "Its memory is of this machine.", "Give the value as an argument, and return what has become of it."
)
_PIPE = Kind("Its other end is on this machine.", _QUEUE.fix, "connection of a pipe")
_MANAGER = Kind(
    "A manager serves processes of this machine.",
    "Give plain values as arguments, and return what has become of them.",
    "manager",
)
_PROXY = Kind(_MANAGER.why, _MANAGER.fix, "manager's proxy")
_FILE = Kind(
    "An open file is of this process, and the files of this machine are not there.",
    "Read it here and give what is in it, or send the file along (`const=`) and open it inside of the function.",
    "open file",
)
_SOCKET = Kind(
    "A connection is of this process.",
    "Connect inside of the function, where the calls have a network (`network=True`).",
    "socket",
)
_DATABASE = Kind(_SOCKET.why, "Ask it here and give what it answers.", "connection to a database")
_RUNNING = Kind("It runs on this machine.", "Make it inside of the function.")
_FUTURE = Kind("What it waits for is on this machine.", "Give its result() instead.", "Future")
_ITERATOR = Kind("It is code that has begun to run here.", "Give a list of what it yields.", "generator")

_KINDS: dict[str, Kind] = {
    "multiprocessing.queues.Queue": _QUEUE,
    "multiprocessing.queues.JoinableQueue": _QUEUE,
    "multiprocessing.queues.SimpleQueue": _QUEUE,
    "queue.Queue": _QUEUE,
    "_queue.SimpleQueue": _QUEUE,
    "asyncio.queues.Queue": _QUEUE,
    "multiprocessing.synchronize.SemLock": _LOCK,
    "multiprocessing.synchronize.Condition": _LOCK,
    "multiprocessing.synchronize.Event": _EVENT,
    "multiprocessing.synchronize.Barrier": _LOCK,
    "_thread.lock": Kind(_LOCK.why, _LOCK.fix, "threading.Lock"),
    "_thread.RLock": Kind(_LOCK.why, _LOCK.fix, "threading.RLock"),
    "_thread._local": Kind("It is of the threads of this process.", _RUNNING.fix, "threading.local"),
    "threading._RLock": Kind(_LOCK.why, _LOCK.fix, "threading.RLock"),
    "threading.Condition": _LOCK,
    "threading.Semaphore": _LOCK,
    "threading.Event": _EVENT,
    "threading.Barrier": _LOCK,
    "threading.Thread": _RUNNING,
    "multiprocessing.sharedctypes.SynchronizedArray": Kind(_MEMORY.why, _MEMORY.fix, "multiprocessing.Array"),
    "multiprocessing.sharedctypes.SynchronizedBase": Kind(_MEMORY.why, _MEMORY.fix, "multiprocessing.Value"),
    "multiprocessing.shared_memory.SharedMemory": _MEMORY,
    "multiprocessing.shared_memory.ShareableList": _MEMORY,
    "mmap.mmap": Kind(_MEMORY.why, _MEMORY.fix, "shared piece of memory"),
    "multiprocessing.connection._ConnectionBase": _PIPE,
    "multiprocessing.connection.Listener": _SOCKET,
    "multiprocessing.managers.BaseManager": _MANAGER,
    "multiprocessing.managers.BaseProxy": _PROXY,
    "multiprocessing.pool.Pool": _RUNNING,
    "multiprocessing.process.BaseProcess": _RUNNING,
    "subprocess.Popen": _RUNNING,
    "concurrent.futures._base.Executor": _RUNNING,
    "concurrent.futures._base.Future": _FUTURE,
    "_io.TextIOWrapper": _FILE,
    "_io.BufferedReader": _FILE,
    "_io.BufferedWriter": _FILE,
    "_io.BufferedRandom": _FILE,
    "_io.FileIO": _FILE,
    "tempfile._TemporaryFileWrapper": _FILE,
    "socket.socket": _SOCKET,
    "_socket.socket": _SOCKET,
    "sqlite3.Connection": _DATABASE,
    "builtins.generator": _ITERATOR,
    "builtins.coroutine": Kind(_ITERATOR.why, "Await it here and give its result.", "coroutine"),
}
_OWN_WAYS = {"__reduce__", "__reduce_ex__", "__getstate__"}
_STREAMS = {"<stdin>", "<stdout>", "<stderr>"}


def check(named: Mapping[str, Any], cause: BaseException | None = None, what: str = "") -> None:
    """Unshareable, from `cause`, names the first of these values that is or holds what lives on this machine alone.

    `what` is said before it: of what these are parts.
    """
    for name, value in named.items():
        if (found := find(value)) is not None:
            kind = kind_of(found)
            assert kind is not None
            raise Unshareable(
                f"{what}{name} {'is' if found is value else 'holds'} {_called(found, kind)},"
                " which cannot be shared with another machine",
                why=kind.why,
                fix=kind.fix,
            ) from cause


def find(value: Any) -> Any:
    """The first object in it, itself included, that lives on this machine alone; None when there is none."""
    import cloudpickle

    class Finder(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        def reducer_override(self, value: Any) -> Any:
            if kind_of(value) is not None:
                raise _Found(value)
            return super().reducer_override(value)

    try:
        Finder(_Nowhere(), protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    except _Found as found:
        return found.value
    except Exception:  # noqa: BLE001 (whatever it is, it is nothing that we know better)
        return None
    return None


def kind_of(value: Any) -> Kind | None:
    """What it is of that lives on one machine; None when it is not, or when its class knows a way to travel."""
    if isinstance(value, io.TextIOWrapper) and value.name in _STREAMS:
        return None  # which the other side has, too
    for base in type(value).__mro__:
        if (kind := _KINDS.get(f"{base.__module__}.{base.__qualname__}")) is not None:
            return kind
        if _OWN_WAYS & base.__dict__.keys():
            return None
    return None


class _Found(Exception):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class _Nowhere:
    """Where the pickle of a search is written to."""

    def write(self, content: bytes) -> int:
        return len(content)


def _called(value: Any, kind: Kind) -> str:
    name = kind.name
    if not name:
        module, _, _ = type(value).__module__.lstrip("_").partition(".")
        name = f"{module}.{type(value).__name__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
