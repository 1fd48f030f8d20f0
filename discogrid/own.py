"""This machine's own grid: started in the background when somebody needs it, gone after ten idle minutes."""

import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from discogrid import places
from discogrid.errors import GridError
from discogrid.locks import is_held

IDLE_S = 600.0
IDLE_VARIABLE = "DISCOGRID_IDLE_EXIT"
READY_S = 20.0  # on a busy machine; one that goes down gives its tasks back first
POLL_S = 0.02  # between two looks at a grid that somebody else has started
LOG_BYTES_MAX = 4 << 20


@dataclass(slots=True, eq=False)
class _Start:
    """A grid that this process has started, and the pipe that tells when it listens; -1 once that has ended."""

    process: subprocess.Popen[bytes]
    news: int

    def wait(self, seconds: float) -> None:
        """Until it listens or has ended, and no longer than `seconds`."""
        if self.news < 0:
            time.sleep(min(POLL_S, seconds))
        else:
            poll = select.poll()  # select() knows no descriptor above 1023
            poll.register(self.news, select.POLLIN)
            if poll.poll(seconds * 1000):
                self.close()

    def close(self) -> None:
        """It is heard no more."""
        if self.news >= 0:
            os.close(self.news)
            self.news = -1


_started: list[
    subprocess.Popen[bytes]
] = []  # which outlive whoever starts them, and are not to be complained of
_coming: list[_Start] = []  # begun, and not waited for yet


def lock_file() -> Path:
    """Held by the process that runs this machine's own grid."""
    return places.runtime_folder() / "own.lock"


def ready_file() -> Path:
    """Exists while that process listens."""
    return places.runtime_folder() / "own.ready"


def is_running() -> bool:
    """Whether this machine's own grid runs and listens."""
    return ready_file().exists() and is_held(lock_file())


def begin_own_grid() -> None:
    """Start this machine's own grid unless it runs or comes up already, and wait for nothing: `ensure_own_grid` does."""
    if not _coming and not is_held(lock_file()):
        _coming.append(_start())


def ensure_own_grid() -> bool:
    """Start this machine's own grid unless it runs; True when it was started here. GridError when it does not come up."""
    started: _Start | None = None
    with suppress(IndexError):  # nothing was begun, or another thread waits for it
        started = _coming.pop()
    until = time.monotonic() + READY_S
    try:
        while not is_running():
            # While the lock is held somebody else's grid comes up or goes down; ours would only make way for it.
            if started is None or started.process.poll() is not None:
                if started is not None and started.process.returncode != 0:
                    break
                if not is_held(lock_file()):
                    if started is not None:
                        started.close()
                    started = _start()
            left_s = until - time.monotonic()
            if left_s < 0:
                break
            if started is None:
                time.sleep(min(POLL_S, left_s))
            else:
                started.wait(left_s)
        else:
            return started is not None
    finally:
        if started is not None:
            started.close()
    raise GridError(
        "this machine's own grid did not come up",
        why=_last_words(places.log_file("own")),
        fix=f"The whole story is in {places.log_file('own')}; `discogrid doctor` checks this machine.",
    )


def tell_ready(news: int | None) -> None:
    """Said by the grid itself, once it listens: it can be found from now on, and who started it hears of that."""
    ready_file().touch(mode=0o600)
    if news is not None:
        with suppress(OSError):  # nobody waits any more
            os.write(news, b"\n")
        os.close(news)


def _start() -> _Start:
    log = places.log_file("own")
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.unlink()
    near, far = os.pipe()
    try:
        with log.open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "discogrid", "up", "--own", "--tell", str(far)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                cwd=places.home(),
                env={**os.environ, "PYTHONSAFEPATH": "1"},
                pass_fds=[far],
            )
    except BaseException:
        os.close(near)
        raise
    finally:
        os.close(far)
    _started.append(process)
    return _Start(process, near)


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:500] if lines else ""
