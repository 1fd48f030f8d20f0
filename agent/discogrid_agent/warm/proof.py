"""Whether warm starts keep a box's promises on this machine: found out by running one."""

from dataclasses import dataclass

from discogrid.errors import SandboxError
from discogrid_agent.sandbox.probe import try_box
from discogrid_agent.sandbox.strict import StrictBox
from discogrid_agent.warm.warm_box import WarmBox


@dataclass(frozen=True, slots=True)
class Proof:
    """The warm box, or why there is none."""

    box: WarmBox | None
    reason: str = ""


def prove_warm(cold: StrictBox) -> Proof:
    """Run the probe's script in a task that starts warm; outside of a running event loop."""
    box = WarmBox(cold)
    try:
        refusal = try_box(box, box.prepare)
    except (SandboxError, OSError) as error:
        return Proof(None, str(error))
    if refusal is None and box.warm_starts != 1:
        refusal = "the probe started cold"
    return Proof(None, refusal) if refusal else Proof(box)
