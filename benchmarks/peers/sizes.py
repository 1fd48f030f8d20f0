"""How much of each work is done."""

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of calls, and what goes with them. `naps` are for each worker."""

    calls: int = 20_000
    latencies: int = 500
    scripts: int = 200
    blobs: int = 32
    unequal: int = 200
    naps: int = 100
    seen: int = 200
    afresh: int = 40
    stream: int = 1_000_000

    def scaled(self, by: float) -> Self:
        """So many times as much of everything but of `naps`, which have to last until a worker is killed."""
        counts = {
            field.name: max(1, round(getattr(self, field.name) * by))
            for field in fields(self)
            if field.name != "naps"
        }
        return type(self)(**counts, naps=self.naps)
