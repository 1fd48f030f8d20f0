"""One table of all peers: medians, with the least and the most of all runs."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.peers.adapters import PEERS
from benchmarks.peers.adapters.curve_echo import CurveEcho
from benchmarks.peers.adapters.discogrid import DiscogridGrid
from benchmarks.peers.measure import Measure
from benchmarks.peers.works import WORKS

FLOOR = CurveEcho.name
FLOOR_METRIC = "MB/s"
GRIDS = (DiscogridGrid.name,)  # that encrypt what they send

Column = tuple[str, str]  # work and metric


class Table:
    """Of measures; a peer or a work without any number is in it with one word, and with its reason below."""

    def __init__(self, measures: Iterable[Measure]) -> None:
        """In any order."""
        self._measures = list(measures)
        self._peers = [name for name in PEERS if any(one.peer == name for one in self._measures)]
        self._works = [work for work in sorted(WORKS) if any(one.work == work for one in self._measures)]
        self._values: defaultdict[tuple[str, Column], list[float]] = defaultdict(list)
        self._reasons: dict[tuple[str, Column], str] = {}
        for one in self._measures:
            place = (one.peer, (one.work, one.metric))
            if one.value is not None:
                self._values[place].append(one.value)
            else:
                self._reasons[place] = one.said

    def text(self) -> str:
        """In Markdown, with whatever has to be said about it below."""
        rows = [["peer", "includes", *(f"{work} {metric}" for work, metric in self._columns())]]
        rows += [[self._title(peer), PEERS[peer].includes, *self._cells(peer)] for peer in self._peers]
        return "\n".join(
            [*_aligned(rows), "", *self._works_told(), *self._floors_told(), *self._reasons_told()]
        )

    def _columns(self) -> list[Column]:
        return [(work, metric) for work in self._works for metric in self._metrics(work)]

    def _metrics(self, work: str) -> list[str]:
        """Those of it that every peer has, and those that one of these has."""
        some = {metric for (_, (of, metric)) in self._values if of == work}
        return [
            metric for metric in WORKS[work].metrics if metric in some or metric not in WORKS[work].only_some
        ]

    def _title(self, peer: str) -> str:
        versions = {one.version for one in self._measures if one.peer == peer} - {""}
        return " ".join([peer, *sorted(versions)])

    def _cells(self, peer: str) -> Iterator[str]:
        for work, metric in self._columns():
            values = self._values.get((peer, (work, metric)))
            if values:
                failed = len({one.run for one in self._of(peer)}) - len(values)
                yield cell(values) + (f", {failed} without" if failed else "")
            else:
                reason = self._reasons.get((peer, (work, metric))) or self._reasons.get((peer, (work, "")))
                yield "-" if reason is None else reason.partition(":")[0]

    def _of(self, peer: str) -> list[Measure]:
        return [one for one in self._measures if one.peer == peer]

    def _works_told(self) -> Iterator[str]:
        for work in self._works:
            counts: dict[int, list[str]] = {}
            for one in self._measures:
                if one.work == work and one.count and one.peer not in counts.setdefault(one.count, []):
                    counts[one.count].append(one.peer)
            told = "; ".join(
                f"{count:,}" + (f" ({', '.join(peers)})" if len(counts) > 1 else "")
                for count, peers in sorted(counts.items(), reverse=True)
                if peers
            )
            yield f"{work}: {WORKS[work].what}" + (f". Calls: {told}" if told else "")

    def _floors_told(self) -> Iterator[str]:
        """How much of the floor of encrypted grids each of ours reaches, run by run."""
        by_run = {(one.peer, one.run): one.value for one in self._measures if one.metric == FLOOR_METRIC}
        for peer in GRIDS:
            shares = [
                value / floor
                for (of, run), value in by_run.items()
                if of == peer and value and (floor := by_run.get((FLOOR, run)))
            ]
            if shares:
                yield f"{FLOOR_METRIC} of {peer}: {cell(shares)} of {FLOOR} in the same run"

    def _reasons_told(self) -> Iterator[str]:
        for peer in self._peers:
            by_reason: dict[str, list[str]] = {}
            for (of, (work, _)), reason in self._reasons.items():
                if of == peer and work not in by_reason.setdefault(reason, []):
                    by_reason[reason].append(work)
            yield from (f"{peer}, {', '.join(works)}: {reason}" for reason, works in by_reason.items())


def cell(values: Sequence[float]) -> str:
    """The median, and what the others were."""
    least, most = number(min(values)), number(max(values))
    middle = number(statistics.median(values))
    return middle if least == most else f"{middle} ({least} to {most})"


def number(value: float) -> str:
    """Three digits of it, or all that stand before the point."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for index, row in enumerate(rows):
        yield "| " + " | ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) + " |"
        if not index:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
