"""Finds out what box this machine has and what it gives tasks, by trying: also beside an agent that serves meanwhile.

What is tried starts processes from a main thread and waits for them, so that beside an agent it is another process that
tries: forked from the agent, with its rights, its interpreter and its variables, and dead with it.
"""

import asyncio
import ctypes
import logging
import os
import signal
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from discogrid.errors import SandboxError
from discogrid.types import SandboxLevel
from discogrid_agent.capabilities import capabilities
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.control_groups import ControlGroups
from discogrid_agent.sandbox.probe import best_box, strict_box, untried
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.uplink.proof import give_network, prove_network
from discogrid_agent.warm.proof import prove_warm
from discogrid_agent.warm.warm_box import WarmBox

NICE = 10  # what runs already goes first
READ_BYTES = 1 << 16
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG

log = logging.getLogger(__name__)


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out. Each text says why something is not to be had; empty when it is."""

    level: SandboxLevel
    way: str = ""  # in which the strict box is made
    weak: str = ""  # why there is none
    no_network: str = ""
    mend_network: str = ""  # the command that mends it, where there is one
    cold: str = ""
    capabilities: tuple[str, ...] = ()


def find_out(groups: ControlGroups | None, *, warm: bool) -> Findings:
    """Try everything; outside of a running event loop, on the main thread."""
    probed = best_box(groups)
    names = tuple(sorted(capabilities()))
    box = probed.box
    if not isinstance(box, StrictBox):
        return Findings(
            level=box.level,
            weak=probed.reason,
            no_network=box.no_network,
            cold="only the strict box can",
            capabilities=names,
        )
    network = prove_network(box)
    proof = prove_warm(box) if warm else None
    return Findings(
        level=box.level,
        way=box.way.name,
        no_network=network.reason,
        mend_network=network.fix,
        cold="that is not wanted" if proof is None else proof.reason,
        capabilities=names,
    )


def box_as_found(found: Findings, groups: ControlGroups | None) -> Box:
    """The box that was found to work in a process like this one, in this process. SandboxError when it cannot be made now."""
    if found.level is not SandboxLevel.STRICT:
        return untried(found.level, groups)
    box = strict_box(found.way, groups)
    if found.no_network:
        box.no_network = found.no_network
    else:
        give_network(box)
    return box if found.cold else WarmBox(box)


@dataclass(slots=True)
class Prover:
    """A process that finds it out."""

    process: int
    said: int  # the descriptor that its findings come from

    @classmethod
    def begin(cls, groups: ControlGroups | None, *, warm: bool) -> "Prover":
        """Start it; before any thread and any event loop."""
        near, far = os.pipe()
        agent = os.getpid()
        process = os.fork()
        if process == 0:
            os.close(near)
            _prove(agent, far, groups, warm=warm)
        os.close(far)
        os.set_blocking(near, False)
        return cls(process, near)

    async def findings(self) -> Findings:
        """Once they are there; once. SandboxError when the process has died of it."""
        loop = asyncio.get_running_loop()
        content = bytearray()
        ended: asyncio.Future[None] = loop.create_future()

        def read() -> None:
            piece = os.read(self.said, READ_BYTES)
            content.extend(piece)
            if not piece and not ended.done():
                ended.set_result(None)

        loop.add_reader(self.said, read)
        try:
            await ended
        finally:
            loop.remove_reader(self.said)
            os.close(self.said)
        os.waitpid(self.process, 0)  # noqa: ASYNC222 (it ends right after its last word)
        try:
            return msgspec.msgpack.decode(content, type=Findings)
        except msgspec.MsgspecError:
            raise SandboxError(
                "This agent could not find out which box works here.",
                why="The process that tried has died; what it said is above in this log.",
                fix="`discogrid doctor` tries the same.",
            ) from None


def _prove(agent: int, far: int, groups: ControlGroups | None, *, warm: bool) -> NoReturn:
    """Be that process."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == agent:
            os.nice(NICE)
            content = memoryview(msgspec.msgpack.encode(find_out(groups, warm=warm)))
            while content:
                content = content[os.write(far, content) :]
            code = 0
    except BaseException:  # nobody above this frame is to go on as a second agent
        log.exception("what box works here could not be found out")
    finally:
        os._exit(code)
