"""Runs of peers, each in a process and a folder of its own, of which nothing is left afterwards."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import measure, processes
from benchmarks.peers.adapters import PEERS
from benchmarks.peers.environments import CannotInstall, python_for
from benchmarks.peers.measure import Measure

ROOT = Path(__file__).parents[2]
HEAVY = "W7"
BY_ITSELF = "W8"  # the memory that other works have left free would hide what this one takes
MEASURES = "measures"  # the file in which they come back
TEMPORARY = "t"
LOG = "log"
END_S = 20.0  # after its works, for a peer to end
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
LAST_WORDS_CHARACTERS = 200
LOG_CHARACTERS_MAX = 4000


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run. The works of one run of a peer take `patience_s` together at most."""

    works: tuple[str, ...]
    workers: int
    scale: float
    patience_s: float
    environments: Path | None


def pythons(peers: Sequence[str], plan: Plan) -> dict[str, str | CannotInstall]:
    """The interpreter of each peer, installed if need be."""
    found: dict[str, str | CannotInstall] = {}
    for name in peers:
        try:
            found[name] = python_for(PEERS[name], plan.environments, seen=HEAVY in plan.works)
        except CannotInstall as error:
            found[name] = error
    return found


def run(peer: str, python: str | CannotInstall, number: int, plan: Plan) -> list[Measure]:
    """One run of one peer; a work without any number is named with what is known of why."""
    if isinstance(python, CannotInstall):
        return [_none(peer, work, number, f"missing: {python}") for work in plan.works]
    found: list[Measure] = []
    for works in together(plan.works):
        found += _alone(peer, python, works, number, plan)
    return found


def together(works: Sequence[str]) -> list[list[str]]:
    """Those that one process may do after each other."""
    groups = [[work for work in works if (work == BY_ITSELF) is alone] for alone in (False, True)]
    return [group for group in groups if group]


def _alone(peer: str, python: str, works: Sequence[str], number: int, plan: Plan) -> list[Measure]:
    folder = Path(tempfile.mkdtemp(prefix="peer-"))  # short, for the paths of sockets in it
    (folder / TEMPORARY).mkdir()
    for place in (folder, folder / TEMPORARY):
        place.chmod(0o711)  # tasks in boxes of another user's are below it
    words = [python, "-m", "benchmarks.peers.alone", peer, ",".join(works)]
    words += ["--workers", str(plan.workers), "--run", str(number), "--scale", str(plan.scale)]
    try:
        why = _why(words, python, plan.patience_s, folder)
        found = list(measure.read(folder / MEASURES))
        measured = {one.work for one in found}
        found += [_none(peer, work, number, why) for work in works if work not in measured]
        if any(one.said.startswith("failed") for one in found):
            print((folder / LOG).read_text(errors="replace")[-LOG_CHARACTERS_MAX:], file=sys.stderr)
        return found
    finally:
        processes.end_below(os.getpid())
        shutil.rmtree(folder, ignore_errors=True)


def _why(words: Sequence[str], python: str, patience_s: float, folder: Path) -> str:
    """Run it, and say why it has ended too early, if it has."""
    log = folder / LOG
    # What a peer leaves behind would hold a pipe open: it writes to a file.
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*words, "--out", str(folder / MEASURES)],
            cwd=folder,
            env=environment(os.environ, Path(python), folder),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        process.wait(patience_s + END_S)
    except subprocess.TimeoutExpired:
        return f"failed: no answer after {patience_s:.0f} s"
    said = " ".join(log.read_text(errors="replace").split())
    return f"failed: it ended with {process.returncode}: {said[-LAST_WORDS_CHARACTERS:]}"


def environment(own: Mapping[str, str], python: Path, folder: Path) -> dict[str, str]:
    """Variables of a peer: this user's, but for those of discogrid; its programs and what works call are found.

    What it writes goes into `folder`, whatever it would do by itself.
    """
    # Of peers that were installed everything is compiled; of a checkout it is once its first run may keep that.
    kept = {
        name: value
        for name, value in own.items()
        if not name.startswith("DISCOGRID") and name != "PYTHONDONTWRITEBYTECODE"
    }
    path = os.pathsep.join([str(python.parent), *filter(None, [own.get("PATH")])])
    places = {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder / TEMPORARY),
        "IPYTHONDIR": str(folder),
    }
    return {**kept, **ONE_THREAD, **places}


def _none(peer: str, work: str, number: int, said: str) -> Measure:
    return Measure(peer=peer, work=work, metric="", value=None, run=number, said=said)
