"""One peer in this process, which is started for it: the works in their order, each measure written when it is there."""

import argparse
import importlib.metadata
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import measure, processes
from benchmarks.peers.adapters import PEERS
from benchmarks.peers.measure import Measure
from benchmarks.peers.peer import NotOffered, Peer
from benchmarks.peers.sizes import Sizes
from benchmarks.peers.works import WORKS

STOP_S = 15.0  # that a peer has to end by itself
SAID_CHARACTERS_MAX = 300
OURS = "discogrid"


class Alone:
    """One run of one peer."""

    def __init__(self, peer: Peer, run: int, scale: float) -> None:
        """`scale` times the usual sizes."""
        self._peer = peer
        self._run = run
        self._scale = scale

    def measures(self, works: list[str]) -> Iterator[list[Measure]]:
        """By work; a peer that does not start says so for all of them."""
        began = time.perf_counter()
        try:
            self._peer.start()
            self._peer.no_op()
        except Exception as error:  # noqa: BLE001 (whatever a peer raises is its result)
            yield [self._failed(work, error) for work in works]
            return
        took = time.perf_counter() - began
        for work in works:
            yield [self._made(work, "s", took)] if work == "W0" else self._measured(work)

    def _measured(self, work: str) -> list[Measure]:
        try:
            found = WORKS[work].do(self._peer, self._sizes(work))
        except Exception as error:  # noqa: BLE001 (whatever a peer raises is its result)
            return [self._failed(work, error)]
        return [
            self._made(work, metric, None, value)
            if isinstance(value, str)
            else self._made(work, metric, value)
            for metric, value in found.items()
        ]

    def _made(self, work: str, metric: str, value: float | None, said: str = "") -> Measure:
        return Measure(
            peer=self._peer.name,
            work=work,
            metric=metric,
            value=value,
            run=self._run,
            count=WORKS[work].count(self._sizes(work), self._peer.workers),
            said=" ".join(said.split())[:SAID_CHARACTERS_MAX],
            version=version(type(self._peer)),
        )

    def _failed(self, work: str, error: Exception) -> Measure:
        match error:
            case NotOffered():
                said = f"not offered: {error}"
            case ImportError():
                said = f"missing: {error}"
            case _:
                traceback.print_exception(error)
                said = f"failed: {type(error).__name__}: {error}"
        return self._made(work, "", None, said)

    def _sizes(self, work: str) -> Sizes:
        return Sizes().scaled(self._scale * self._peer.shares.get(work, 1.0))


def version(peer: type[Peer]) -> str:
    """Of what this environment has of it; empty for what comes with Python, whose version the table tells."""
    if peer.packages:
        package = re.split(r"[^\w-]", peer.packages[0])[0]
    elif peer.name.startswith(OURS):
        package = OURS
    else:
        return ""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def main() -> None:
    """See `running`, which starts this."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("works")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--run", type=int, required=True)
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    processes.adopt_orphans()
    peer = PEERS[wanted.peer](wanted.workers, Path.cwd())
    for found in Alone(peer, wanted.run, wanted.scale).measures(wanted.works.split(",")):
        measure.append(wanted.out, found)
    # Some wait for ever for a worker that was killed.
    stopping = threading.Thread(target=peer.stop, daemon=True)
    stopping.start()
    stopping.join(STOP_S)
    sys.stdout.flush()
    os._exit(0)  # whatever threads a peer has left; its processes are ended by whoever has started this one


if __name__ == "__main__":
    main()
