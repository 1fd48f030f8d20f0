"""How often a signed task may run on one agent. Pure: what ran before in, why it may not run again out.

A coordinator may send a task again, because attempts fail, are lost or are given back. A stolen one must not make this
machine run a signed job for ever: beyond what honest trouble explains, the agent refuses.
"""

ATTEMPTS_LOST_MAX = 16
"""Attempts of one task, beside its first and its retries, that may be lost to boxes, agents, transfers, coordinators.

More than a coordinator allows a task in all (5 losses, 8 transfers), though each of them may be on this agent.
"""


def attempts_max(retries: int) -> int:
    """How often a task whose submitter signed so many retries may run on one agent."""
    return 1 + retries + ATTEMPTS_LOST_MAX


def refusal(*, ran: int, same: bool, retries: int) -> str:
    """Why the task may not run; empty when it may. `ran`: its attempts here before; `same`: this very one among them."""
    if same:
        return "it has run this attempt already"
    if ran >= attempts_max(retries):
        return f"it has run this task {ran} times, and no honest trouble explains one more"
    return ""
