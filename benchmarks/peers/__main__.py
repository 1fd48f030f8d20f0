"""The same Python calls over discogrid and over its peers, in turns, and one table of all of them.

    python -m benchmarks.peers --works W1,W2 --peers multiprocessing,dask,discogrid-grid --reps 3
    python -m benchmarks.peers --tabulate FILE      # the table of what --json FILE has written

Each run of a peer is a process of its own, and everything that it leaves running is ended. Peers that do not come with
Python run in environments of their own below --environments, where pip installs what is missing; without that option in
this one. What is not there, and what a peer does not offer, is in the table and says so.
"""

import argparse
import os
import platform
import shlex
import signal
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.peers import measure, processes
from benchmarks.peers.adapters import PEERS
from benchmarks.peers.measure import Measure
from benchmarks.peers.running import Plan, pythons, run
from benchmarks.peers.table import Table
from benchmarks.peers.works import WORKS


def main() -> int:
    """Run and tabulate, or tabulate alone; 1 when there is no number at all."""
    parser = _parser()
    wanted = parser.parse_args()
    if wanted.tabulate:
        found = list(measure.read(wanted.tabulate))
    else:
        if wanted.workers < 1 or wanted.reps < 1:
            parser.error("there has to be one worker, and one run, at least")
        found = _run(wanted)
    print(Table(found).text())
    print(f"\nMedians of all runs, with the least and the most. Made by: {_command()}")
    return int(all(one.value is None for one in found))


def _run(wanted: argparse.Namespace) -> list[Measure]:
    """All peers in turns, so that what else the machine does meets all of them."""
    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started ends, too
    plan = Plan(
        works=tuple(work for work in WORKS if work in wanted.works),
        workers=wanted.workers,
        scale=wanted.scale,
        patience_s=wanted.patience,
        environments=None if wanted.environments is None else wanted.environments.absolute(),
    )
    print(_machine(wanted), flush=True)
    where = pythons(wanted.peers, plan)
    found: list[Measure] = []
    for number in range(1, wanted.reps + 1):
        for peer in wanted.peers:
            print(f"run {number} of {wanted.reps}: {peer}", file=sys.stderr, flush=True)
            made = run(peer, where[peer], number, plan)
            if wanted.json:
                measure.append(wanted.json, made)
            found += made
    return found


def _machine(wanted: argparse.Namespace) -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors,"
        f" Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} before;"
        f" {wanted.workers} workers, {wanted.reps} runs in turns, {wanted.scale:g} of the usual sizes\n"
    )


def _command() -> str:
    return shlex.join(["python", "-m", "benchmarks.peers", *sys.argv[1:]])


def _parser() -> argparse.ArgumentParser:
    told = "\n".join(f"  {name:4} {work.what}" for name, work in sorted(WORKS.items()))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=(__doc__ or "").partition("\n")[0],
        epilog=f"works:\n{told}\n\npeers:\n  {', '.join(PEERS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--works", type=_some(WORKS), default=list(WORKS), metavar="W,…")
    parser.add_argument("--peers", type=_some(PEERS), default=list(PEERS), metavar="NAME,…")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--reps", type=int, default=3, help="runs of each peer [3]")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the usual sizes [1]")
    parser.add_argument("--patience", type=float, default=900.0, help="seconds for one run of one peer [900]")
    parser.add_argument("--environments", type=Path, metavar="FOLDER", help="where peers are installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where each number goes as a line of JSON")
    parser.add_argument("--tabulate", type=Path, metavar="FILE", help="run nothing: the table of such a file")
    return parser


def _some(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Names with commas between them, each of which has to be known."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown)} is unknown. There are: {', '.join(known)}"
            )
        return list(dict.fromkeys(found))

    return names


if __name__ == "__main__":
    sys.exit(main())
