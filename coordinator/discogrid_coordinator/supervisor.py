"""Keeps this machine's agent running beside the coordinator: a child process, started again when it dies."""

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence

from discogrid_coordinator.forked_agent import ForkedAgent

RESTART_S = 0.1
RESTART_S_MAX = 30.0
STEADY_S = 60.0  # an agent that ran this long may be restarted at once again
STOP_S = 7.0

log = logging.getLogger(__name__)


class AgentSupervisor:
    """Runs `discogrid agent`; the child ends by itself when this process is gone, see `--leash`."""

    def __init__(self, options: Sequence[str], first: ForkedAgent | None = None) -> None:
        """`options` are the agent's; `first` is one that has been started with them, and waits for `go`."""
        # -P: a user's own copy.py in the working directory is not the library's copy.
        self._command = [sys.executable, "-P", "-m", "discogrid", "agent", "--leash", *options]
        self._first = first
        self._process: asyncio.subprocess.Process | ForkedAgent | None = first

    def go(self) -> None:
        """The coordinator can be dialled; one that was started without a `first` agent need not say so."""
        if self._first is not None:
            self._first.go()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep it running while the block runs, then end it: what it had is given back."""
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping
            await self._stop()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = RESTART_S
        while True:
            started = loop.time()
            if self._first is None or self._first.returncode is not None:
                # Its stdin is the leash: the kernel closes it when this process dies, however it dies.
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=subprocess.PIPE, start_new_session=True
                )
            assert self._process is not None
            code = await self._process.wait()
            pause = RESTART_S if loop.time() - started > STEADY_S else min(pause * 2, RESTART_S_MAX)
            log.warning("this machine's agent ended (%s); starting it again in %.1f s", code, pause)
            await asyncio.sleep(pause)

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
