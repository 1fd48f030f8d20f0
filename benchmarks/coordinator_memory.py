"""What a coordinator takes in memory when a million tasks are open, when they are done, and after a restart.

    python benchmarks/coordinator_memory.py [TASKS] [--own-inputs]

The engine, journal and store are the real ones; signatures, leaves and proofs, too; agents are one peer that takes what
it gets. Each phase prints the process's resident memory and what it is per task, beside the floor: the bytes of the
leaves that the submitters signed. With --own-inputs every task has a small input of its own, else all tasks share
one.
"""

import argparse
import gc
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from discogrid import merkle
from discogrid.blobs import BlobStore
from discogrid.bundle import Leaf, Manifest, encode_leaf, seal_job
from discogrid.messages import RunTasks, TaskDone
from discogrid.types import GIB, AgentId, Attempt, Digest, FileRef, Offer, Outcome, Role, Run, SandboxLevel
from discogrid.wire import pack_parts
from discogrid_coordinator import events
from discogrid_coordinator.engine import Engine, Pending
from discogrid_coordinator.journal import Journal
from discogrid_coordinator.outbox import Mail
from discogrid_coordinator.peers import Peer
from discogrid_coordinator.writer import write
from tests.trust.forge import Cast, cast, digest_of

TASKS_JOB = 100_000
SETTLED = 2000  # tasks that end between two commits
ENVELOPE_BYTES = 500  # of a signed result
AGENT = AgentId("agent")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
BOUND_BYTES_SHARED = 300
"""Of a task that is open and waits, with an input that others share."""
BOUND_BYTES_OWN = 1000
"""Of one with an input of its own, which is in the store's books and pinned."""


def resident() -> int:
    """Bytes of this process in memory now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def _to_nobody(*_: object) -> None:
    """Mail that leaves for no socket."""


class House:
    """A coordinator without sockets."""

    def __init__(self, people: Cast, folder: Path) -> None:
        self.people = people
        self.store = BlobStore(folder / "blobs", GIB)
        self.journal = Journal(folder / "journal.sqlite")
        self.engine = Engine(
            people.grid(people.coordinator),
            self.store,
            self.journal,
            lease=7,
            blob_endpoint="tcp://*:1",
            clock=time.monotonic,
            wall=time.time,
        )

    def settle(self) -> Mail:
        self.engine.outbox.take_prompt()
        batch = self.engine.take()
        write(batch, self.journal, self.store)
        self.engine.let_go(batch, _to_nobody)
        return batch.mail

    def submit(self, number: int, tasks: int, own_inputs: bool) -> None:
        """A job of so many tasks, each with an input of a name of its own."""
        script = FileRef("work.py", self.store.put_bytes(b"pass"), 4)
        leaves = []
        for index in range(tasks):
            name = f"split-{index:06d}.mp4"
            digest = self.store.put_bytes(f"{number}/{name}".encode()) if own_inputs else script.digest
            leaves.append(encode_leaf(Leaf(index, FileRef(name, digest, self.store.size(digest) or 0))))
        now = time.time()
        manifest = Manifest(
            grid=self.people.roster.grid,
            audience=self.people.coordinator.id,
            nonce=number.to_bytes(16),
            issued=now,
            expires=now + 86400,
            submitter=self.people.submitter.id,
            name=f"job {number}",
            script=script,
            tasks=tasks,
            root=merkle.Tree([merkle.leaf_hash(leaf) for leaf in leaves]).root,
        )
        job = seal_job(manifest, self.people.submitter)
        verified = self.engine.intake.verify(
            job.envelope, pack_parts(leaves), self.people.submitter.id, time.time()
        )
        self.engine.accept(verified, hold=False)
        self._settle_without_disk() if own_inputs else self.settle()

    def _settle_without_disk(self) -> None:
        batch = self.engine.take()
        self.journal.write(batch.writes)
        self.engine.let_go(batch, _to_nobody)

    def work(self) -> None:
        """Everything that is open is done by one agent."""
        engine = self.engine
        engine.peers.add(Peer(b"agent", self.people.agent.id, Role.AGENT, "session", AGENT, 0.0))
        engine.tell(events.AgentJoined(AGENT, Offer(SETTLED, 1 << 50, SandboxLevel.STRICT)))
        envelope = b"e" * ENVELOPE_BYTES
        while engine.busy:
            for kind, items in self.settle().lines[AGENT][1]:
                if kind is RunTasks:
                    for run in items:
                        assert isinstance(run, Run)
                        for attempt in run.attempts():
                            self._end(attempt, envelope)
        self.settle()

    def _end(self, attempt: Attempt, envelope: bytes) -> None:
        archive = f"{attempt}".encode()
        done = TaskDone(
            attempt=attempt,
            outcome=Outcome.SUCCEEDED,
            exit=0,
            started=time.time(),
            ended=time.time(),
            seconds=time.time() % 100.0,
            archive=digest_of(archive),
            archive_bytes=len(archive),
            inline=True,
        )
        self.engine.ended(AGENT, Pending(done, envelope, archive))


class Account:
    """What a process has taken since the account was opened."""

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks
        self._before = resident()

    def tell(self, phase: str, size: int | None = None) -> float:
        """Print a line; bytes a task."""
        grown = (resident() if size is None else size) - self._before
        print(f"{grown / 1e6:8.0f} MB {grown / self._tasks:8.0f} bytes a task  {phase}", flush=True)
        return grown / self._tasks


def submit(people: Cast, folder: Path, tasks: int, own_inputs: bool) -> None:
    """First incarnation: everything is submitted."""
    account, house = Account(tasks), House(people, folder)
    for number in range(0, tasks, TASKS_JOB):
        house.submit(number, min(TASKS_JOB, tasks - number), own_inputs)
    waiting = account.tell("all open, none begun")
    if waiting > (bound := BOUND_BYTES_OWN if own_inputs else BOUND_BYTES_SHARED):
        sys.exit(f"{waiting:.0f} bytes a task are over the bound of {bound}")


def work(people: Cast, folder: Path, tasks: int) -> None:
    """Second incarnation: everything is done."""
    account, house = Account(tasks), House(people, folder)
    account.tell("the same after a restart")
    house.work()
    account.tell("all done, all kept")
    account.tell("the highest on the way", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def rest(people: Cast, folder: Path, tasks: int) -> None:
    """Third incarnation: everything has ended before."""
    account, house = Account(tasks), House(people, folder)
    assert house.engine.books.job_count() == -(-tasks // TASKS_JOB)
    account.tell("the same after a restart")


def main() -> None:
    """Print a line for each phase; each incarnation is a process of its own."""
    parser = argparse.ArgumentParser(description="Memory of a coordinator, in MB and bytes a task.")
    parser.add_argument("tasks", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--own-inputs", action="store_true")
    given = parser.parse_args()
    leaf = len(encode_leaf(Leaf(123_456, FileRef("split-123456.mp4", Digest("blake3:" + "0" * 64), 4))))
    print(f"{leaf * given.tasks / 1e6:8.0f} MB {leaf:8d} bytes a task  floor: the signed leaves", flush=True)
    people, processes = cast(), multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        known = (people, Path(folder), given.tasks)
        phases: list[tuple[Callable[..., None], tuple[object, ...]]] = [(submit, (*known, given.own_inputs))]
        if not given.own_inputs:
            phases += [(work, known), (rest, known)]
        for phase, values in phases:
            process = processes.Process(target=phase, args=values)
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(process.exitcode)


if __name__ == "__main__":
    main()
