"""discogrid turns idle machines into one computer for scripts and Python calls.

`from discogrid import Pool, Process` in place of the same line of multiprocessing; see docs/python.md.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing import TimeoutError  # noqa: A004 (as multiprocessing calls it)

    from discogrid.calls.functions import HeavyFunction
    from discogrid.calls.pool import AsyncResult
    from discogrid.calls.refusals import Unshareable
    from discogrid.client import AsyncClient
    from discogrid.errors import (
        CallLost,
        DiscogridError,
        NoAgentFits,
        OutOfMemory,
        TaskTimeout,
        UntrustedResult,
        VersionMismatch,
        WorkerLost,
    )
    from discogrid.executor import Executor
    from discogrid.pool import Pool
    from discogrid.process import Process
    from discogrid.remote_function import function
    from discogrid.sync_client import Client

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "AsyncResult",
    "CallLost",
    "Client",
    "DiscogridError",
    "Executor",
    "HeavyFunction",
    "NoAgentFits",
    "OutOfMemory",
    "Pool",
    "Process",
    "TaskTimeout",
    "TimeoutError",
    "Unshareable",
    "UntrustedResult",
    "VersionMismatch",
    "WorkerLost",
    "function",
]

_PLACES = {
    "AsyncClient": "discogrid.client",
    "AsyncResult": "discogrid.calls.pool",
    "Client": "discogrid.sync_client",
    "Executor": "discogrid.executor",
    "HeavyFunction": "discogrid.calls.functions",
    "Pool": "discogrid.pool",
    "Process": "discogrid.process",
    "TimeoutError": "multiprocessing",
    "Unshareable": "discogrid.calls.refusals",
    "function": "discogrid.remote_function",
}
"""Where names come from that are not errors; each is imported when it is used, since the command line uses none."""


if not TYPE_CHECKING:  # which would believe that every name is there

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found = getattr(import_module(_PLACES.get(name, "discogrid.errors")), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
