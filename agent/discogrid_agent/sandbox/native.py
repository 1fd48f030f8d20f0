"""The strict box by a program of our own, which makes the namespaces and builds the box itself (Linux 5.12)."""

import asyncio
import os
import platform
import socket
import subprocess
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from discogrid.errors import SandboxError
from discogrid_agent.sandbox.box import Owner, Scene
from discogrid_agent.sandbox.credentials import acting_as
from discogrid_agent.sandbox.kernel_limits import box_limits
from discogrid_agent.sandbox.memory_files import program_file
from discogrid_agent.sandbox.native_boxed import NativeBoxed
from discogrid_agent.sandbox.strict_program import Plan, capabilities, orders, strict_program
from discogrid_agent.sandbox.world import Shown

if TYPE_CHECKING:
    from discogrid_agent.sandbox.strict import StrictBox

ORDERS_S: Final = 2.0  # for the program to read all that it has to know
PROGRAMS_MAX: Final = 16  # kept, each for tasks that see something of their own at the same places

Places = tuple[Shown, ...]
Fit = tuple[bool, Places]  # with a network or without, and what is shown where


class Native:
    """See Way."""

    name = "without bwrap"

    def __init__(self) -> None:
        """Programs are made as they are needed."""
        self._programs: OrderedDict[Fit, int] = OrderedDict()  # the one used last is last

    def settle(self, _: "StrictBox") -> None:
        """See Way.settle."""
        self._forget(0)

    def start(
        self, box: "StrictBox", scene: Scene, own: list[Shown], variables: dict[str, str]
    ) -> NativeBoxed:
        """See Way.start."""
        program = self._program(box, own, network=scene.network)
        near, far = socket.socketpair()
        near.settimeout(ORDERS_S)
        try:
            told = orders(box_limits(scene.limits), [thing.source for thing in own])
            with acting_as(box.owner):
                process = subprocess.Popen(
                    [f"/proc/self/fd/{program}", *scene.command],
                    env=variables,
                    stdin=far.fileno(),
                    stdout=scene.stdout,
                    stderr=scene.stderr,
                    pass_fds=[program],
                )
            with suppress(ConnectionError):  # it has ended, which is heard from it
                near.sendall(told)  # many mounts fill the socket: it reads meanwhile
        except OSError as error:
            near.close()
            raise SandboxError(
                f"The program of the box could not be started: {error.strerror or error}."
            ) from error
        finally:
            far.close()
        group = box.groups.make(scene.limits) if box.groups else None
        uplink = box.uplink if scene.network else None
        return NativeBoxed(process, near, group, uplink, asyncio.get_running_loop())

    def _program(self, box: "StrictBox", own: list[Shown], *, network: bool) -> int:
        """The descriptor of the program that shows things where `own` are shown."""
        places = tuple(replace(thing, source="") for thing in own)
        fit = (network, places)
        if fit in self._programs:
            self._programs.move_to_end(fit)
            return self._programs[fit]
        self._forget(PROGRAMS_MAX - 1)
        plan = plan_of(box, places, network=network)
        self._programs[fit] = program_file(strict_program(platform.machine(), plan))
        return self._programs[fit]

    def _forget(self, kept: int) -> None:
        while len(self._programs) > kept:
            _, descriptor = self._programs.popitem(last=False)
            os.close(descriptor)


def plan_of(box: "StrictBox", own: Sequence[Shown], *, network: bool = False) -> Plan:
    """What a program builds that shows what all tasks see, and `own`."""
    return Plan(
        user=box.owner or Owner(os.getuid(), os.getgid()),
        capabilities=capabilities(),
        landlock=box.landlock,
        filter=box.filter(network=network),
        before=box.before,
        own=tuple(own),
        after=box.after,
        network=network,
    )
