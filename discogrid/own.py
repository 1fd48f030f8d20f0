"""This machine's own grid: started in the background when somebody needs it, gone after ten idle minutes."""

import os
import subprocess
import sys
import time
from pathlib import Path

from discogrid import places
from discogrid.errors import GridError
from discogrid.locks import is_held

IDLE_S = 600.0
IDLE_VARIABLE = "DISCOGRID_IDLE_EXIT"
READY_S = 20.0  # on a busy machine; one that goes down gives its tasks back first
POLL_S = 0.02
LOG_BYTES_MAX = 4 << 20


_started: list[
    subprocess.Popen[bytes]
] = []  # which outlive whoever starts them, and are not to be complained of


def lock_file() -> Path:
    """Held by the process that runs this machine's own grid."""
    return places.runtime_folder() / "own.lock"


def ready_file() -> Path:
    """Exists while that process listens."""
    return places.runtime_folder() / "own.ready"


def is_running() -> bool:
    """Whether this machine's own grid runs and listens."""
    return ready_file().exists() and is_held(lock_file())


def ensure_own_grid() -> bool:
    """Start this machine's own grid unless it runs; True when it was started here. GridError when it does not come up."""
    started: subprocess.Popen[bytes] | None = None
    until = time.monotonic() + READY_S
    while not is_running():
        # While the lock is held somebody else's grid comes up or goes down; ours would only make way for it.
        if started is None or started.poll() is not None:
            if started is not None and started.returncode != 0:
                break
            if not is_held(lock_file()):
                started = _start()
        if time.monotonic() > until:
            break
        time.sleep(POLL_S)
    else:
        return started is not None
    raise GridError(
        "this machine's own grid did not come up",
        why=_last_words(places.log_file("own")),
        fix=f"The whole story is in {places.log_file('own')}; `discogrid doctor` checks this machine.",
    )


def _start() -> subprocess.Popen[bytes]:
    log = places.log_file("own")
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.unlink()
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "discogrid", "up", "--own"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            cwd=places.home(),
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
    _started.append(process)
    return process


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:500] if lines else ""
