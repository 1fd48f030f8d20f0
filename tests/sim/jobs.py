"""What a simulated submitter wants done: all that a real manifest tells, and how its tasks will turn out."""

from random import Random

import msgspec

from discogrid.types import GIB, Digest, FileRef, JobId, NodeId, Requirements, SandboxLevel
from discogrid_coordinator import events


class Manifest(msgspec.Struct, frozen=True):
    """One job. It travels packed, as the real one does, so that only what was journaled survives."""

    id: JobId
    seed: int
    tasks: int
    cpus: int = 1
    gigabytes: int = 0
    retries: int = 1
    priority: int = 0
    submitter: NodeId = NodeId("somebody")
    weight: float = 1.0
    held: bool = False
    repeatable: bool = True
    with_inputs: bool = True
    seconds: float = 10.0  # that a task takes in the middle, on an agent of speed 1
    doomed: tuple[int, ...] = ()  # tasks that fail wherever they run
    final: bool = False  # and say that another try would end alike

    @property
    def requirements(self) -> Requirements:
        memory = self.gigabytes * GIB
        return Requirements(cpus=self.cpus, memory_bytes=memory, sandbox=SandboxLevel.NONE)

    @property
    def script(self) -> FileRef:
        return _file(f"script of {self.kind}")

    @property
    def kind(self) -> str:
        """What jobs have in common whose tasks take alike long."""
        return f"{self.seconds:g} s"

    def input(self, index: int) -> FileRef | None:
        return _file(f"{self.id}-{index}") if self.with_inputs else None

    def duration(self, index: int) -> float:
        """Seconds of work in a task, the same in each attempt."""
        chance = Random(f"{self.seed}-{self.id}-{index}")  # a string's digest, whatever the hash seed
        return self.seconds * chance.lognormvariate(0.0, 0.7)

    def submitted(
        self,
        *,
        held: bool,
        restored: bool = False,
        done: tuple[events.Span, ...] = (),
        failed: tuple[events.Span, ...] = (),
        expected: tuple[float, ...] = (),
    ) -> events.JobSubmitted:
        return events.JobSubmitted(
            self.id,
            self.tasks,
            self.requirements,
            self.retries,
            self.priority,
            held,
            done,
            failed,
            self.submitter,
            self.weight,
            self.repeatable,
            expected,
            restored,
        )


def pack(manifest: Manifest) -> bytes:
    return msgspec.msgpack.encode(manifest)


def unpack(envelope: bytes) -> Manifest:
    return msgspec.msgpack.decode(envelope, type=Manifest)


def any_job(random: Random, seed: int, number: int, tasks: int, slots_max: int) -> Manifest:
    """A job as they come: short and long tasks, now and then a mistake in the script."""
    doomed: tuple[int, ...] = ()
    if random.random() < 0.3:
        doomed = tuple(sorted(random.sample(range(tasks), random.randint(1, max(1, tasks // 4)))))
    elif random.random() < 0.1:
        doomed = tuple(range(tasks))
    return Manifest(
        id=JobId(f"j{number}"),
        seed=seed,
        tasks=tasks,
        cpus=min(slots_max, random.choice([1, 1, 1, 2])),
        gigabytes=random.choice([0, 0, 3]),
        retries=random.choice([0, 1, 1, 2]),
        priority=random.choice([0, 0, 5]),
        submitter=NodeId(random.choice(["ada", "bob", "cem"])),
        weight=random.choice([1.0, 1.0, 2.0]),
        held=random.random() < 0.1,
        repeatable=random.random() < 0.8,
        with_inputs=random.random() < 0.7,
        seconds=random.choice([0.2, 3.0, 20.0]),
        doomed=doomed,
        final=random.random() < 0.5,
    )


def _file(name: str) -> FileRef:
    return FileRef(name, Digest(f"digest of {name}"), 1)
