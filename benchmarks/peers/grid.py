"""A grid of real processes on loopback, whose only member is this user."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

READY_S = 30.0
POLL_S = 0.02


class Grid:
    """A coordinator and one agent, in the home that DISCOGRID_HOME names."""

    coordinator: subprocess.Popen[bytes]
    agent: subprocess.Popen[bytes]

    def __init__(self, folder: Path, slots: int) -> None:
        """What they say goes to files in `folder`."""
        self._folder = folder
        self._slots = slots

    def start(self) -> str:
        """Returns when calls may be made: the level of the agent's box."""
        from discogrid.grid import ADDRESS_FILE, HOME
        from discogrid.places import grid_folder

        address = grid_folder(HOME) / ADDRESS_FILE
        self.coordinator = self._run("coordinator", "--listen", "127.0.0.1:0", "--no-announce")
        until = time.monotonic() + READY_S
        while not address.exists():
            self._check(self.coordinator, until)
            time.sleep(POLL_S)
        self.agent = self._run("agent", "--slots", str(self._slots))
        return asyncio.run(self._level(until))

    def stop(self) -> None:
        """End both as their owner would."""
        for process in (self.agent, self.coordinator):
            process.terminate()
        for process in (self.agent, self.coordinator):
            process.wait()

    async def _level(self, until: float) -> str:
        from discogrid.client import AsyncClient
        from discogrid.grid import HOME, open_grid

        async with AsyncClient(open_grid(HOME)) as client:
            while True:
                for agent in await client.agents():
                    if agent.state == "live":
                        return str(agent.sandbox)
                self._check(self.agent, until)
                await asyncio.sleep(POLL_S)

    def _run(self, command: str, *options: str) -> "subprocess.Popen[bytes]":
        with (self._folder / f"{command}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "discogrid", command, *options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _check(self, process: "subprocess.Popen[bytes]", until: float) -> None:
        if process.poll() is not None or time.monotonic() > until:
            logs = "".join(path.read_text(errors="replace") for path in self._folder.glob("*.log"))
            raise RuntimeError(f"the grid does not start: {logs[-500:]}")
