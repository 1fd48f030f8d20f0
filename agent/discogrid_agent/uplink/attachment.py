"""Gives a box that is held back a network of its own, and takes it away with the box."""

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from discogrid.errors import SandboxError
from discogrid_agent.sandbox.box import BoxEnd, Owner
from discogrid_agent.sandbox.credentials import acting_as

ATTACH_S: Final = 10.0  # for the router to be ready; it takes some 50 ms
END_S: Final = 0.5  # for it to end by itself; it takes a millisecond
SAID_BYTES_MAX: Final = 4096  # of what it says; it is two short lines
_GET_USER_NAMESPACE: Final = 0xB701  # NS_GET_USERNS: the one that a namespace belongs to
_PACKAGE: Final = Path(__file__).parents[2]
_START: Final = f"import sys; sys.path.insert(0, {str(_PACKAGE)!r}); from discogrid_agent.uplink.router import main; main()"


@dataclass(frozen=True, slots=True)
class Uplink:
    """What gives boxes networks on this machine."""

    program: Path  # slirp4netns
    owner: Owner | None  # whom boxes belong to; None when that is the agent's own user


class Attachment:
    """One box's network."""

    def __init__(
        self, uplink: Uplink, first: int, on_ready: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        """Begin to attach the box whose process 1 is `first`.

        Either `on_ready` is called, and perhaps `on_lost` later, or `on_lost` alone; neither from here, nor after `end`.
        To be made on the event loop's own thread: the router dies with the thread that started it.
        """
        self._loop = asyncio.get_running_loop()
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._on_ended: Callable[[], None] | None = None
        self._said = b""
        self._lost = ""
        self._speaker: int | None = None
        self._over = False  # it was lost, or is no longer needed
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process, self._report = _router(uplink, first)
        except (OSError, SandboxError) as error:
            self._loop.call_soon(self._lose, f"its router could not be started: {error}")
            return
        self._alive = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._report, self._on_report)
        self._loop.add_reader(self._alive, self._on_dead)
        self._timer = self._loop.call_later(ATTACH_S, self._lose, f"it was not ready within {ATTACH_S:g} s")

    def end(self, on_ended: Callable[[], None]) -> None:
        """Take it away; `on_ended` is called when all of it is dead."""
        self._over = True
        if self._process is None or self._process.returncode is not None:
            on_ended()
            return
        self._on_ended = on_ended
        self._timer.cancel()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._timer = self._loop.call_later(END_S, self._process.kill)

    def close(self, end: BoxEnd) -> BoxEnd:
        """How the box ended, with what its network had to do with it; after `end`."""
        return replace(end, no_network=self._lost)

    def _on_report(self) -> None:
        part = os.read(self._report, SAID_BYTES_MAX)
        *lines, self._said = (self._said + part).split(b"\n")
        if not part or len(self._said) > SAID_BYTES_MAX:
            self._loop.remove_reader(self._report)
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            if word == "speaker":
                self._speaker = int(rest)
            elif word == "ready" and not self._over:
                self._timer.cancel()
                self._on_ready()
            elif word == "lost":
                self._lose(rest)

    def _on_dead(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._loop.remove_reader(self._alive)
        os.close(self._alive)
        self._process.wait()
        self._process.stdin.close()
        if self._speaker is not None:
            with suppress(ChildProcessError):  # the router's, unless that was killed: then it dies just now
                os.waitpid(self._speaker, 0)
        self._timer.cancel()
        self._on_report()  # its last word, if there is one
        self._loop.remove_reader(self._report)
        os.close(self._report)
        self._lose("its router was killed")
        if self._on_ended is not None:
            self._on_ended()

    def _lose(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._lost = reason
            self._on_lost()


def _router(uplink: Uplink, first: int) -> tuple["subprocess.Popen[bytes]", int]:
    """A router for a box, and the descriptor of what it says."""
    owner = uplink.owner
    ids = (-1, -1) if owner is None else (owner.uid, owner.gid)
    given = _namespaces(first, owner)
    report, far = os.pipe()
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", _START),
                *map(str, (os.getpid(), *ids, *given, uplink.program)),
            ],
            env={},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=far,
            stderr=subprocess.DEVNULL,
            pass_fds=given,
        )
    except BaseException:
        os.close(report)
        raise
    finally:
        for descriptor in (far, *given):
            os.close(descriptor)
    return process, report


def _namespaces(first: int, owner: Owner | None) -> tuple[int, int]:
    """Descriptors of the box's network and of the users whose network it is."""
    with acting_as(owner):  # root without CAP_SYS_PTRACE may not look into others, their own user may
        network = os.open(f"/proc/{first}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return network, fcntl.ioctl(network, _GET_USER_NAMESPACE)
        except BaseException:
            os.close(network)
            raise
