"""What it costs to believe nobody: signatures verified a second, and one job of 100,000 inputs from end to end.

    python benchmarks/verification.py [INPUTS]

One core. Jobs and results are verified as coordinator and agent do it, roster and decoding included; a batch is one
result envelope for many results. The large job is signed, taken in and written to a journal, then every range of it is
verified with its proof as an agent's shelf does. Memory is the most this process has had, above what it began with.
"""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from nacl.signing import VerifyKey

from discogrid import merkle
from discogrid.bundle import (
    RESULT_TYPE,
    Leaf,
    Manifest,
    ResultBody,
    digest_of_payload,
    encode_leaf,
    job_id_candidates,
    open_job,
    open_results,
    seal_job,
)
from discogrid.envelope import unseal
from discogrid.keys import Identity, new_identity
from discogrid.trust.keeper import RosterKeeper
from discogrid.trust.roster import ROSTER_TYPE, Member, Roster, RosterBody, open_roster
from discogrid.types import Digest, FileRef, JobState, Limits, Outcome, Role, Run, SandboxLevel
from discogrid.wire import pack_parts
from discogrid_agent.shelf import Shelf
from discogrid_coordinator.intake import Intake
from discogrid_coordinator.journal import JobRecord, Journal

INPUTS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
ROUNDS = 5
SIGNATURES = 2_000  # a round
BATCH = 64  # results in one envelope
RANGE = 512  # tasks in one message to an agent
DIGEST = digest_of_payload(b"content")


def a_second(work: Callable[[], object], count: int) -> float:
    """How often a second, the median of ROUNDS."""
    rates = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(count):
            work()
        rates.append(count / (time.perf_counter() - started))
    return statistics.median(rates)


def a_grid(node: Identity) -> Roster:
    """A grid of one node that may do everything."""
    now = time.time()
    member = Member(node.id, "bench", node.public, node.curve_public, tuple(Role))
    body = RosterBody(1, node.id, now - 60, now + 3600, (member,))
    return open_roster(node.seal(ROSTER_TYPE, msgspec.msgpack.encode(body)), node.public, now)


def a_manifest(node: Identity, leaves: list[bytes]) -> Manifest:
    """A job over these leaves."""
    now = time.time()
    return Manifest(
        grid=node.id,
        audience=node.id,
        nonce=b"n" * 16,
        issued=now,
        expires=now + 3600,
        submitter=node.id,
        name="bench",
        script=FileRef("script.py", DIGEST, 7),
        tasks=len(leaves),
        root=merkle.Tree([merkle.leaf_hash(leaf) for leaf in leaves]).root,
    )


def a_result(node: Identity, job: Digest, index: int) -> ResultBody:
    """What an agent signs of one attempt."""
    return ResultBody(
        job=job,
        index=index,
        number=1,
        lease=1,
        agent=node.id,
        sandbox=SandboxLevel.STRICT,
        outcome=Outcome.SUCCEEDED,
        exit=0,
        started=1.0,
        ended=2.0,
        seconds=1.0,
        archive=DIGEST,
        archive_bytes=600,
        outputs=(FileRef("result.txt", DIGEST, 7),),
    )


def leaves_of(count: int) -> list[bytes]:
    """Tasks with names as cameras give them."""
    return [encode_leaf(Leaf(at, FileRef(f"holiday-2026-{at:06}.jpeg", DIGEST, 7))) for at in range(count)]


def verify_many(node: Identity, roster: Roster) -> None:
    """Print verifications a second."""
    job = seal_job(a_manifest(node, leaves_of(1)), node)
    single = node.seal(RESULT_TYPE, msgspec.msgpack.encode([a_result(node, job.digest, 0)]))
    batch = node.seal(
        RESULT_TYPE, msgspec.msgpack.encode([a_result(node, job.digest, index) for index in range(BATCH)])
    )
    now = time.time()
    key = VerifyKey(node.public)
    bare = a_second(lambda: unseal(single, RESULT_TYPE, lambda _: key), SIGNATURES)
    jobs = a_second(lambda: open_job(job.envelope, roster, audience=node.id, now=now), SIGNATURES)
    results = a_second(lambda: open_results(single, roster), SIGNATURES)
    batched = a_second(lambda: open_results(batch, roster), SIGNATURES // BATCH) * BATCH
    print(f"envelopes             {bare:8,.0f} /s")
    print(f"jobs                  {jobs:8,.0f} /s, decoded and checked")
    print(f"results, one each     {results:8,.0f} /s, decoded")
    print(f"results, {BATCH} a batch   {batched:8,.0f} /s, decoded")


def one_large_job(node: Identity, roster: Roster, folder: Path) -> None:
    """Print the seconds of each step, and the memory of all."""
    before = peak_bytes()
    clock = time.perf_counter
    at = [clock()]
    leaves = leaves_of(INPUTS)
    job = seal_job(a_manifest(node, leaves), node)
    at.append(clock())
    packed = pack_parts(leaves)
    intake = Intake(RosterKeeper(roster), node.id, Nothing(), {}.get)  # type: ignore[arg-type]
    verified = intake.verify(job.envelope, packed, node.id, time.time())
    accepted = intake.accept(verified)
    at.append(clock())
    journal = Journal(folder / "journal.sqlite")
    journal.add_job(
        JobRecord(accepted.id, job.digest, job.envelope, packed, time.time(), False, JobState.QUEUED)
    )
    journal.commit()
    at.append(clock())
    shelf = Shelf(folder / "mounts", RosterKeeper(roster), node.id, Limits(), SandboxLevel.STRICT, node.id)
    id_ = job_id_candidates(job.digest)[0]
    shelf.put(id_, job.envelope, time.time())
    for start in range(0, INPUTS, RANGE):
        run = Run(id_, start, min(INPUTS, start + RANGE), 1, 1)
        some, proof = accepted.parcel(run.start, run.stop)
        checked = shelf.check([run], pack_parts(some), pack_parts([proof]), time.time())[run]
        assert isinstance(checked, list)
    at.append(clock())
    signed, taken, kept, proven = (at[step + 1] - at[step] for step in range(4))
    print(f"a job of {INPUTS:,} inputs, {len(packed) / 2**20:.1f} MiB of leaves")
    print(
        f"  sign {signed:.2f} s · verify {taken:.2f} s · journal {kept:.2f} s · prove {proven:.2f} s", end=""
    )
    print(f" · at most {(peak_bytes() - before) / 2**20:.0f} MiB more")
    journal.close()


class Nothing:
    """Stands for a blob store: what is pinned in it costs the same in every run."""

    def pin(self, digest: Digest, holder: str) -> None:
        """Keep nothing."""


def peak_bytes() -> int:
    """The most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    somebody = new_identity()
    grid = a_grid(somebody)
    verify_many(somebody, grid)
    with tempfile.TemporaryDirectory() as scratch:
        one_large_job(somebody, grid, Path(scratch))
