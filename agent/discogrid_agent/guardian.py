"""Stands guard over the agent: when it ends, by whatever means, nothing that it started lives on.

A box dies with its agent by itself, except one of bwrap in the few milliseconds in which it is being built: its inner
process asks for that late. A confined task's daemons never do. So the agent runs as the child of a process that adopts what it leaves behind, and ends it.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import Final, NoReturn

from discogrid_agent.sandbox.processes import adopt_orphans, children

_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_SENT_BY_KERNEL: Final = 0x80  # SI_KERNEL: Ctrl-C in a terminal, which the agent gets as well


def stand_guard() -> None:
    """Return in a new process, the agent's; this one waits for its end, clears up and ends in the same way.

    Before any thread is started. Signals that end or steer this process are passed on to the agent.
    """
    library = ctypes.CDLL(None)
    adopt_orphans()
    signals = {signal.SIGCHLD, *_PASSED_ON}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # none is lost between fork and wait
    guard = os.getpid()
    agent = os.fork()
    if agent == 0:
        library.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        return
    _guard(agent, signals)


def _guard(agent: int, signals: set[signal.Signals]) -> NoReturn:
    status: int | None = None
    while status is None:
        arrived = signal.sigwaitinfo(signals)
        if arrived.si_signo != signal.SIGCHLD:
            if arrived.si_code != _SENT_BY_KERNEL:
                os.kill(agent, arrived.si_signo)
            continue
        for ended, code in _reaped():
            if ended == agent:
                status = code
    while left := children(os.getpid()):
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.stdout.flush()
    os._exit(code if code >= 0 else 128 - code)


def _reaped() -> list[tuple[int, int]]:
    """Children that have ended, adopted ones as well."""
    found: list[tuple[int, int]] = []
    with suppress(ChildProcessError):
        while True:
            process, code = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                break
            found.append((process, code))
    return found
