"""Dispatchers that all functions or processes of a program with the same options share, until the interpreter exits."""

import atexit
import os
import threading

from discogrid.calls.dispatch import Dispatcher
from discogrid.remote.early import open_calls
from discogrid.remote.options import CallOptions

_lock = threading.Lock()
_open: dict[
    tuple[int, CallOptions], Dispatcher
] = {}  # by the process: one that was forked has no threads of ours


def shared(options: CallOptions) -> Dispatcher:
    """The dispatcher for these options, opened when there is none; the errors are those of `open_calls`."""
    key = (os.getpid(), options)
    with _lock:
        found = _open.get(key)
        if found is None or found.closed:
            found = _open[key] = open_calls(options)
        return found


@atexit.register
def close_all() -> None:
    """Wait for all calls that were made, and end the lines; at once where the wait is interrupted."""
    with _lock:
        own = [key for key in _open if key[0] == os.getpid()]
        dispatchers = [_open.pop(key) for key in own]
    try:
        for dispatcher in dispatchers:
            dispatcher.close()
        for dispatcher in dispatchers:
            dispatcher.drain()
    finally:
        for dispatcher in dispatchers:
            dispatcher.terminate(RuntimeError("the program has ended"))
