"""This machine's agent in a process that is forked from the coordinator's while that has loaded what both need, and no more.

Half of an agent's start is the loading of what a coordinator has loaded, too. The fork comes before the coordinator has
made a thread, a socket or a loop, and before it holds a lock.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from discogrid.cli.main import run

POSSIBLE = hasattr(os, "fork") and hasattr(os, "pidfd_open")


class ForkedAgent:
    """As `asyncio.subprocess.Process`, as far as a supervisor uses that. Whoever drops it ends the agent, by its leash."""

    def __init__(self, process: int, leash: int) -> None:
        """Use `fork`."""
        self.pid = process
        self.returncode: int | None = None
        self._leash = leash
        self._ended: asyncio.Future[int] | None = None

    @classmethod
    def fork(cls, options: Sequence[str], not_its_own: Sequence[int] = ()) -> "ForkedAgent":
        """Start it; it waits for `go` before it dials. `not_its_own` are descriptors that it is not to keep open."""
        end, leash = os.pipe()
        process = os.fork()
        if process == 0:
            for descriptor in (leash, *not_its_own):
                os.close(descriptor)
            _live(end, options)
        os.close(end)
        return cls(process, leash)

    def go(self) -> None:
        """The coordinator can be dialled; nothing happens when it has ended before."""
        if self._leash >= 0:
            with suppress(BrokenPipeError):  # it has died, of which its supervisor hears
                os.write(self._leash, b"\n")

    def let_go(self) -> None:
        """Close its leash: it ends by itself."""
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1  # the number may be another file's by now

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
            alive = os.pidfd_open(self.pid)
            asyncio.get_running_loop().add_reader(alive, self._on_ended, alive, self._ended)
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def _on_ended(self, alive: int, ended: "asyncio.Future[int]") -> None:
        asyncio.get_running_loop().remove_reader(alive)
        os.close(alive)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.let_go()
        ended.set_result(self.returncode)


def _live(leash: int, options: Sequence[str]) -> None:
    """Be the agent, in a session of its own, and never return."""
    code = 1
    try:
        os.setsid()
        os.dup2(leash, 0)
        os.close(leash)
        code = run(["agent", "--leash", "--told", *options])
    finally:
        sys.stdout.flush()
        os._exit(code)
