"""The box of an agent that is on its grid before it is known which box works here: nothing starts in it until then."""

import asyncio
import sys
from pathlib import Path

from discogrid.errors import SandboxError
from discogrid.types import SandboxLevel
from discogrid_agent.sandbox.box import Box, Boxed, Owner, Scene
from discogrid_agent.sandbox.credentials import task_owner


class LateBox:
    """See Box. Until `become` its level is the lowest, whatever may come."""

    def __init__(self) -> None:
        """It is settled like any other, and becomes another one once."""
        self._box: Box | None = None
        self._folder: Path | None = None
        self._known = asyncio.Event()

    async def known(self) -> None:
        """Until it is another box: for whatever is to start in it."""
        await self._known.wait()

    def become(self, box: Box) -> None:
        """From now on it is this one, which has not been settled; on the event loop's own thread."""
        if self._folder is not None:
            box.settle(self._folder)
        self._box = box
        self._known.set()

    @property
    def level(self) -> SandboxLevel:
        """See Box.level."""
        return SandboxLevel.NONE if self._box is None else self._box.level

    @property
    def owner(self) -> Owner | None:
        """See Box.owner."""
        return task_owner() if self._box is None else self._box.owner

    @property
    def python(self) -> Path:
        """See Box.python."""
        return Path(sys.executable) if self._box is None else self._box.python

    @property
    def no_network(self) -> str:
        """See Box.no_network."""
        return "whether it can is being found out" if self._box is None else self._box.no_network

    def settle(self, folder: Path) -> None:
        """See Box.settle."""
        self._folder = folder
        if self._box is not None:
            self._box.settle(folder)

    def start(self, scene: Scene) -> Boxed:
        """See Box.start."""
        if self._box is None:
            raise SandboxError("This agent does not know its box yet.", fix="Run the task a second later.")
        return self._box.start(scene)

    def close(self) -> None:
        """See Box.close."""
        if self._box is not None:
            self._box.close()


async def known(box: Box) -> None:
    """Until something can start in the box."""
    if isinstance(box, LateBox):
        await box.known()
