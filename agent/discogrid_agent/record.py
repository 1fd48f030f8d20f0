"""Writes `DiscoTask.json`, what an agent says about one attempt."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from discogrid.types import Attempt, FileRef, Limits, SandboxLevel
from discogrid_agent.verdict import Verdict

SCHEMA: Final = "discogrid.task/1"


@dataclass(frozen=True, slots=True)
class Record:
    """The facts of one attempt; times are seconds since the epoch."""

    attempt: Attempt
    label: str
    input_name: str | None
    agent: str
    started: float
    ended: float
    seconds: float  # the script's own run time
    verdict: Verdict
    limits: Limits
    sandbox: SandboxLevel
    outputs: Sequence[FileRef]
    skipped: Sequence[tuple[str, str]]

    def to_json(self) -> bytes:
        """The document, in one order of fields."""
        document = {
            "schema": SCHEMA,
            "job": self.attempt.job,
            "task": self.label,
            "index": self.attempt.index,
            "input": self.input_name,
            "agent": self.agent,
            "attempt": self.attempt.number,
            "started": _utc(self.started),
            "ended": _utc(self.ended),
            "seconds": round(self.seconds, 3),
            "exit": self.verdict.exit,
            "outcome": self.verdict.outcome,
            "reason": self.verdict.reason,
            "limit_exceeded": self.verdict.limit,
            "limits": asdict(self.limits),
            "sandbox": self.sandbox.value,
            "outputs": [
                {"name": output.name, "digest": output.digest, "size": output.size} for output in self.outputs
            ],
            "skipped": [{"name": name, "why": why} for name, why in self.skipped],
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
