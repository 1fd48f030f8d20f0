"""What was measured, or why it was not: one line of JSON each."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

SCHEMA = "discogrid.peers/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number of one peer in one run; `value` is None where there is none, and `said` tells why."""

    peer: str
    work: str
    metric: str  # empty: the whole work
    value: float | None
    run: int
    count: int = 0  # of calls that it was measured over
    said: str = ""
    version: str = ""  # of the peer

    def line(self) -> str:
        """As one line."""
        return json.dumps({"schema": SCHEMA, **asdict(self)})


def read(path: Path) -> Iterator[Measure]:
    """All of a file; nothing where there is none. ValueError when a line is something else."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        said = json.loads(line)
        if said.pop("schema", None) != SCHEMA:
            raise ValueError(f"{path} holds a line that is no {SCHEMA}: {line[:80]}")
        yield Measure(**said)


def append(path: Path, measures: Iterable[Measure]) -> None:
    """Add them to a file."""
    with path.open("a") as file:
        file.writelines(f"{one.line()}\n" for one in measures)
