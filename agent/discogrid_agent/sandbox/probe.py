"""Finds the best box that works on this machine, by running it: no sysctl and no version tells as much.

The probe runs one script in the box. For everything that a task must not do, it tries that and, beside it, a harmless
twin that must work: a script that cannot do anything would pass otherwise.
"""

import asyncio
import json
import os
import platform
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discogrid.errors import SandboxError
from discogrid.types import Limits, SandboxLevel
from discogrid_agent.sandbox.box import Box, Scene
from discogrid_agent.sandbox.confined import ConfinedBox
from discogrid_agent.sandbox.control_groups import ControlGroups
from discogrid_agent.sandbox.seccomp import knows
from discogrid_agent.sandbox.strict import StrictBox, ways
from discogrid_agent.sandbox.unboxed import Unboxed

PROBE_S: Final = 20.0  # for one run of the script; it takes some 30 ms
_SAID_BYTES: Final = 64 * 1024
SCRIPT: Final = Path(__file__).with_name("probe_script.py")


Prepare = Callable[[Scene], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Probed:
    """The best box of this machine; when it is not the strict one: why, and what fixes that."""

    box: Box
    reason: str = ""
    fix: str = ""


def best_box(groups: ControlGroups | None = None) -> Probed:
    """The strict box if it works here, else the confined one, else none; outside of a running event loop.

    `groups`: those of this agent, where it has some; a probe by itself needs none.
    """
    try:
        return Probed(_strict_box(groups))
    except SandboxError as error:
        reason, fix = "\n".join(filter(None, (error.what, error.why))), error.fix
    try:
        return Probed(_confined_box(groups), reason, fix)
    except SandboxError:
        return Probed(Unboxed(), reason, fix)


def box_of(level: SandboxLevel, groups: ControlGroups | None = None) -> Box:
    """A box of this very level; SandboxError with the fixing command when it does not work here."""
    match level:
        case SandboxLevel.STRICT:
            return _strict_box(groups)
        case SandboxLevel.NONE:
            return Unboxed()
        case SandboxLevel.CONFINED:
            return _confined_box(groups)


def strict_box(way: str, groups: ControlGroups | None) -> StrictBox:
    """The strict box made in the way of this name, of which the probe has just told that it works; SandboxError if there is none."""
    found = next((known for known in ways() if known.name == way), None)
    if found is None:
        raise SandboxError(f"The strict box cannot be made {way!r} any more.")
    return StrictBox(found, groups)


def untried(level: SandboxLevel, groups: ControlGroups | None) -> Box:
    """A box of a level below the strict one, of which the probe has just told that it is the best."""
    return ConfinedBox(groups) if level is SandboxLevel.CONFINED else Unboxed()


def _confined_box(groups: ControlGroups | None) -> ConfinedBox:
    if platform.system() != "Linux" or not knows(platform.machine()):
        raise SandboxError(f"There is no confined box for {platform.system()} on {platform.machine()}.")
    box = ConfinedBox(groups)
    if refusal := try_box(box):
        raise SandboxError("The confined box does not work on this machine.", why=refusal)
    return box


def _strict_box(groups: ControlGroups | None) -> StrictBox:
    if platform.system() != "Linux" or not knows(platform.machine()):
        raise SandboxError(
            f"There is no strict box for {platform.system()} on {platform.machine()}.",
            fix="Lend a Linux machine (x86_64 or aarch64), or choose --sandbox none for your own tasks alone.",
        )
    refusals: list[str] = []
    for way in ways():
        try:
            box = StrictBox(way, groups)
            refusal = try_box(box)
        except SandboxError as error:
            if error.fix:
                raise
            refusal = str(error)
        else:
            if refusal is None:
                return box
        refusals.append(f"{way.name}: {refusal}")
    raise SandboxError("The strict box does not work on this machine.", why="\n".join(refusals), fix=_fix())


def try_box(box: Box, prepare: Prepare | None = None, *, network: bool = False) -> str | None:
    """Run the probe's script in a box; None when the box keeps all of its promises, else the first it breaks.

    `prepare` is awaited before the start, for a box that would start the first task of a kind in another way; False
    from it is a promise that is broken; `network`: the task gets one of its own. Outside of a running event loop.
    """
    return asyncio.run(_try(box, prepare, network=network))


async def _try(box: Box, prepare: Prepare | None, *, network: bool) -> str | None:
    with ExitStack() as stack:
        stack.callback(box.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="discogrid-probe-")))
        for name in ("work", "tmp", "work/run-result"):
            (folder / name).mkdir()
            if box.owner is not None:
                os.chown(folder / name, box.owner.uid, box.owner.gid)
        (folder / "work" / "probe.py").write_bytes(SCRIPT.read_bytes())
        (folder / "work" / "probe.py").chmod(0o644)
        secret = folder / "secret"
        secret.write_text("of the owner")
        secret.chmod(0o644)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        box.settle(folder)
        near, far = os.pipe()
        stack.callback(os.close, near)
        arguments = (
            *(str(secret), str(listener.getsockname()[1])),
            *(os.readlink("/proc/self/ns/pid"), box.level.value),
            *([",".join(own_addresses())] if network else []),
        )
        scene = Scene(
            work=folder / "work",
            temporary=folder / "tmp",
            mounts=(),
            command=(str(box.python), "probe.py", *arguments),
            environment={},
            limits=Limits(),
            stdout=far,
            stderr=far,
            network=network,
            submitter="probe",
        )
        try:
            if prepare is not None and not await prepare(scene):
                return "it cannot be made ready"
            boxed = box.start(scene)
        finally:
            os.close(far)
        try:
            async with asyncio.timeout(PROBE_S):
                end = await asyncio.shield(boxed.ended)
        except TimeoutError:
            boxed.kill()
            await boxed.ended
            return f"the probe did not end within {PROBE_S:g} s"
        if end.refused is not None:
            return f"the kernel does not let it build the box: {os.strerror(end.refused)}"
        if end.no_network:
            return end.no_network
        said = os.read(near, _SAID_BYTES).decode(errors="replace").strip()
        if end.exit != 0:
            return said or "it was killed from outside"
        return first_broken(said)


def own_addresses() -> list[str]:
    """The addresses of this machine that others may know it by."""
    import ifaddr  # which starts a program when it is imported

    found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    return [ip if isinstance(ip, str) else ip[0] for ip in found]


def first_broken(said: str) -> str | None:
    """What the script reports, as the first promise that is broken."""
    try:
        answers: dict[str, list[bool]] = json.loads(said)
        for promise, (kept, twin_works) in answers.items():
            if not kept:
                return f"a task can {promise}"
            if not twin_works:
                return f"whether a task can {promise} could not be told: its harmless twin failed"
    except (ValueError, TypeError, AttributeError):
        return f"the probe said {said!r:.200}"
    return None if answers else "the probe said nothing"


def _fix() -> str:
    """The one command that lets ordinary users make namespaces here."""
    for path, closed, command in _SWITCHES:
        try:
            if Path(path).read_text().strip() == closed:
                return f"Allow it: {command}"
        except OSError:
            continue
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
        return (
            "This is a container. Start it with: docker run --security-opt seccomp=unconfined "
            "--security-opt apparmor=unconfined --security-opt systempaths=unconfined …"
        )
    return "Run `discogrid doctor`, which shows every way that was tried."


_SWITCHES: Final = (
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
)
