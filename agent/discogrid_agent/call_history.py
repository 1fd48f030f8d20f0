"""How often tasks of calls have run here: a stolen coordinator may have what was signed once, but not run for ever. Pure.

Kept in memory alone, since a call may take a microsecond: an agent that was started again has forgotten it, and knows only
what the job's own signature says of its time.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from discogrid.spans import SpanSet
from discogrid.types import Digest
from discogrid_agent import acceptance

OVER_MAX = 10_000  # ended jobs of which it is remembered that they have


@dataclass(slots=True)
class _Ran:
    once: SpanSet = field(default_factory=SpanSet)
    again: dict[int, int] = field(default_factory=dict)  # how often more


class CallHistory:
    """Of one agent."""

    def __init__(self) -> None:
        """Nothing has run."""
        self._jobs: dict[Digest, _Ran] = {}
        self._over: OrderedDict[Digest, None] = OrderedDict()

    def start(self, job: Digest, index: int, retries: int) -> str:
        """Why the task may not run; empty when it does, which is remembered."""
        if job in self._over:
            return "its job had ended here before"
        ran = self._jobs.setdefault(job, _Ran())
        if index not in ran.once:
            ran.once.add(index, index + 1)
            return ""
        times = 1 + ran.again.get(index, 0)
        if reason := acceptance.refusal(ran=times, same=False, retries=retries):
            return reason
        ran.again[index] = times
        return ""

    def end(self, job: Digest) -> None:
        """Nothing of the job will run any more."""
        if self._jobs.pop(job, None) is not None:
            self._over[job] = None
            if len(self._over) > OVER_MAX:
                self._over.popitem(last=False)
