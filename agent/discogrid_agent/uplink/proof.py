"""Whether a strict box can give its tasks a network of their own on this machine: found out by doing it."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discogrid.errors import SandboxError
from discogrid_agent.sandbox.box import Owner
from discogrid_agent.sandbox.credentials import acting_as
from discogrid_agent.sandbox.probe import try_box
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.uplink.attachment import Uplink

PROGRAM: Final = "slirp4netns"
TUN: Final = Path("/dev/net/tun")
_FOLDERS: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"  # beside the PATH, which a service may lack


@dataclass(frozen=True, slots=True)
class NetworkProof:
    """Why tasks get no network; empty when they do. `fix` is the command that mends it, where there is one."""

    reason: str = ""
    fix: str = ""


def prove_network(box: StrictBox) -> NetworkProof:
    """Let the box give networks if the probe's script keeps all promises with one; outside of a running event loop."""
    program = _program()
    if program is None:
        proof = NetworkProof(
            f"it needs {PROGRAM}, which is not on this machine", f"sudo apt-get install {PROGRAM}"
        )
    else:
        proof = _prove(box, Uplink(Path(program), box.owner))
    box.no_network = proof.reason
    return proof


def give_network(box: StrictBox) -> None:
    """The same without trying, where `prove_network` has just told that it works for a box made in this way."""
    program = _program()
    if program is None:
        box.no_network = f"{PROGRAM} is not on this machine any more"
        return
    box.uplink = Uplink(Path(program), box.owner)
    box.no_network = ""


def _program() -> str | None:
    return shutil.which(PROGRAM) or shutil.which(PROGRAM, path=_FOLDERS)


def _prove(box: StrictBox, uplink: Uplink) -> NetworkProof:
    proof = _closed(box.owner)
    if proof.reason:
        return proof
    box.uplink = uplink
    try:
        refusal = try_box(box, network=True)
    except (SandboxError, OSError) as error:
        refusal = str(error)
    if refusal is None:
        return proof
    box.uplink = None
    return NetworkProof(refusal)


def _closed(owner: Owner | None) -> NetworkProof:
    """Whether the device can be opened from which the program takes what a task sends."""
    try:
        with acting_as(owner):
            os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        who = "this user" if owner is None else "the user of the tasks"
        return NetworkProof(f"{who} may not open {TUN}", f"sudo chmod 0666 {TUN}")
    except OSError as error:
        return NetworkProof(
            f"this kernel gives no {TUN}: {error.strerror}",
            "sudo modprobe tun (for a container: --device /dev/net/tun)",
        )
    return NetworkProof()
