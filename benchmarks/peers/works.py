"""The works by their names: what each does with a peer, and what is measured of it."""

import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import calls, processes
from benchmarks.peers.client_memory import client_memory
from benchmarks.peers.imbalance import imbalance, imbalance_by_default
from benchmarks.peers.loss import loss
from benchmarks.peers.peer import NotOffered, Peer
from benchmarks.peers.sizes import Sizes

BLOB_BYTES = 8 << 20
MEGA = 1e6
COORDINATOR = "coordinator CPU µs/call"
SCRIPT = """import sys
text = open(sys.argv[1]).read()
out = sys.argv[2] if len(sys.argv) > 2 else "run-result/" + sys.argv[1]
open(out, "w").write(text.upper())
"""

Numbers = Mapping[str, float | str]
"""By metric; a text says why there is no number."""


@dataclass(frozen=True, slots=True)
class Work:
    """`do` returns its numbers by metric; `count` says of how many calls they are, by so many workers."""

    what: str
    metrics: tuple[str, ...]
    do: Callable[[Peer, Sizes], Numbers]
    count: Callable[[Sizes, int], int]
    only_some: tuple[str, ...] = field(default=())  # of its metrics, those that not every peer has


def no_ops(peer: Peer, sizes: Sizes) -> Numbers:
    """W1. The processor time is that of this process and all below it, daemons included; and of a coordinator alone."""
    coordinator = peer.coordinator()
    used, began = processes.cpu_s(os.getpid()), time.perf_counter()
    used_there = 0.0 if coordinator is None else processes.cpu_s_alone(coordinator)
    peer.no_ops(sizes.calls)
    took = time.perf_counter() - began
    used = processes.cpu_s(os.getpid()) - used
    found = {"calls/s": sizes.calls / took, "CPU µs/call": used / sizes.calls * 1e6}
    if coordinator is None:
        return found
    used_there = processes.cpu_s_alone(coordinator) - used_there
    return found | {COORDINATOR: used_there / sizes.calls * 1e6}


def no_ops_by_default(peer: Peer, sizes: Sizes) -> Numbers:
    """W1d, after a few calls that are not counted: some peers have workers of their own for it."""
    peer.map_by_default(calls.same, range(4 * peer.workers))
    began = time.perf_counter()
    found = peer.map_by_default(calls.same, range(sizes.calls))
    took = time.perf_counter() - began
    if found != list(range(sizes.calls)):
        raise RuntimeError(f"{peer.name} returned something else than it was to")
    return {"calls/s": sizes.calls / took}


def latency(peer: Peer, sizes: Sizes) -> Numbers:
    """W2."""
    took = []
    for _ in range(sizes.latencies):
        began = time.perf_counter()
        peer.no_op()
        took.append((time.perf_counter() - began) * 1e3)
    return {"p50 ms": statistics.median(took), "p99 ms": percentile(took, 0.99)}


def percentile(numbers: list[float], share: float) -> float:
    """The smallest of them that so large a share does not exceed."""
    return sorted(numbers)[min(len(numbers) - 1, int(len(numbers) * share))]


def scripts(peer: Peer, sizes: Sizes) -> Numbers:
    """W3, after a few of them that are not counted."""
    _scripts(peer, "first", 2 * peer.workers)
    return {
        metric: sizes.scripts / seconds for metric, seconds in _scripts(peer, "all", sizes.scripts).items()
    }


def _scripts(peer: Peer, name: str, count: int) -> Mapping[str, float]:
    folder: Path = peer.folder / f"scripts-{name}"
    (folder / "run-result").mkdir(parents=True)
    (folder / "trivial.py").write_text(SCRIPT)
    inputs = [f"in{number:05d}.txt" for number in range(count)]
    for one in inputs:
        (folder / one).write_text(f"of {one}\n")
    took = peer.scripts(folder, "trivial.py", inputs)
    for one in inputs:
        if (folder / "run-result" / one).read_text() != f"OF {one.upper()}\n":
            raise RuntimeError(f"{peer.name} did not run the script on {one}")
    return took


def blobs(peer: Peer, sizes: Sizes) -> Numbers:
    """W4: megabytes that went in, and came out again, a second."""
    content = [os.urandom(BLOB_BYTES) for _ in range(sizes.blobs)]
    found: dict[str, float | str] = {}
    for metric, way in (("MB/s", peer.map), ("MB/s, scattered first", peer.map_large)):
        began = time.perf_counter()
        try:
            back = way(calls.turned, content)
        except NotOffered:
            if not found:
                raise
            continue
        took = time.perf_counter() - began
        skipped = 0 if peer.echoes else 1
        if any(
            there[skipped:] != here[: BLOB_BYTES - skipped] for there, here in zip(content, back, strict=True)
        ):
            raise RuntimeError(f"{peer.name} returned other bytes than it was to")
        found[metric] = 2 * len(content) * BLOB_BYTES / MEGA / took
    return found


def heavy(peer: Peer, sizes: Sizes) -> Numbers:
    """W7: in a process of its own each, and, where there are any, in workers that have imported everything."""
    if missing := [name for name in calls.MODULES if not importlib.util.find_spec(name)]:
        raise ModuleNotFoundError(f"No module named {', '.join(missing)}")
    found: dict[str, float | str] = {"calls/s, a process each": sizes.afresh / peer.seen_afresh(sizes.afresh)}
    try:
        peer.map(calls.seen, range(2 * peer.workers))
    except NotOffered:
        return found
    began = time.perf_counter()
    peer.map(calls.seen, range(sizes.seen))
    return found | {"calls/s, in workers that have imported": sizes.seen / (time.perf_counter() - began)}


def nothing(peer: Peer, sizes: Sizes) -> Numbers:  # noqa: ARG001
    """W0 is measured by whoever starts the peer."""
    return {}


WORKS: dict[str, Work] = {
    "W0": Work("first result from nothing", ("s",), nothing, lambda *_: 1),
    "W1": Work(
        "no-op calls, one a task",
        ("calls/s", "CPU µs/call", COORDINATOR),
        no_ops,
        lambda sizes, _: sizes.calls,
        (COORDINATOR,),
    ),
    "W1d": Work(
        "the same, chunked by default", ("calls/s",), no_ops_by_default, lambda sizes, _: sizes.calls
    ),
    "W2": Work("one call at a time", ("p50 ms", "p99 ms"), latency, lambda sizes, _: sizes.latencies),
    "W3": Work(
        "trivial scripts",
        ("scripts/s", "scripts/s, whole command"),
        scripts,
        lambda sizes, _: sizes.scripts,
        ("scripts/s, whole command",),
    ),
    "W4": Work(
        "8 MiB in and out",
        ("MB/s", "MB/s, scattered first"),
        blobs,
        lambda sizes, _: sizes.blobs,
        ("MB/s, scattered first",),
    ),
    "W5": Work(
        "log-normal processor time, the longest last, one a task",
        ("ratio to greedy", "ratio to best"),
        imbalance,
        lambda sizes, _: sizes.unequal,
    ),
    "W5d": Work(
        "the same, chunked by default",
        ("ratio to greedy", "ratio to best"),
        imbalance_by_default,
        lambda sizes, _: sizes.unequal,
    ),
    "W7": Work(
        "calls that import numpy, cv2 and dlib",
        ("calls/s, a process each", "calls/s, in workers that have imported"),
        heavy,
        lambda sizes, _: sizes.seen,
        ("calls/s, in workers that have imported",),
    ),
    "W8": Work(
        "a stream of calls",
        ("calls/s", "MB more in the client"),
        client_memory,
        lambda sizes, _: sizes.stream,
    ),
    "W6": Work(
        "a worker killed at 2 s of 5 s",
        ("% received", "s over ideal"),
        loss,
        lambda sizes, workers: sizes.naps * workers,
    ),
}
"""In the order in which they are done: the one that kills a worker is the last."""
