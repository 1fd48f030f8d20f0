"""From what a worker has said to what travels: large values become blobs, and what was printed an archive like a script's."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discogrid.answers import Answer, TaskAnswers
from discogrid.archive import ArchiveWriter
from discogrid.batches import Batch, Chunk
from discogrid.blobs import digest_of
from discogrid.calls.frames import Call, Raised, Returned, Stored
from discogrid.types import Attempt, Digest, FileRef, Limits, Outcome, SandboxLevel
from discogrid_agent.call_floor import LOG_BYTES_MAX, Answered
from discogrid_agent.record import Record
from discogrid_agent.task import Ended
from discogrid_agent.verdict import Verdict

INLINE_BYTES_MAX: Final = 256 << 10  # of one value that travels in a message
INLINE_BYTES_ALL_MAX: Final = 8 << 20  # of those of one task


@dataclass(frozen=True, slots=True)
class Cargo:
    """A chunk of calls, proven to be of its batch."""

    batch: Batch
    chunk: Chunk


class Packed(Mapping[int, bytes]):
    """The functions that some tasks name, read when a worker needs them."""

    def __init__(self, tasks: Sequence[tuple[Attempt, Cargo]], read: Callable[[Digest], bytes]) -> None:
        """`read` gives a blob that has been fetched."""
        self._files: dict[int, FileRef] = {}
        for batch in {id(cargo.batch): cargo.batch for _, cargo in tasks}.values():
            self._files.update(batch.body.functions)
        self._read = read

    def __getitem__(self, number: int) -> bytes:
        """As `functions` packed it."""
        return self._read(self._files[number].digest)

    def __iter__(self) -> Iterator[int]:
        """Their numbers."""
        return iter(self._files)

    def __len__(self) -> int:
        """How many."""
        return len(self._files)


def calls_of(tasks: Sequence[tuple[Attempt, Cargo]], read: Callable[[Digest], bytes]) -> list[Call]:
    """All calls of some tasks, those with large arguments filled in from their blobs."""
    calls: list[Call] = []
    for _, cargo in tasks:
        chunk = cargo.chunk
        if not chunk.large:
            calls += chunk.calls
            continue
        for place, call in enumerate(chunk.calls):
            file = chunk.large.get(place)
            calls.append(call if file is None else Call(call.number, call.function, read(file.digest)))
    return calls


def pack_answers(index: int, answers: Sequence[Returned | Raised]) -> tuple[TaskAnswers, dict[Digest, bytes]]:
    """What travels in the message of a task's answers, and the blobs that it names."""
    blobs: dict[Digest, bytes] = {}
    room = INLINE_BYTES_ALL_MAX
    packed: list[Answer] = []
    for answer in answers:
        size = len(answer.value) if isinstance(answer, Returned) else 0
        if isinstance(answer, Returned) and (size > INLINE_BYTES_MAX or size > room):
            digest = digest_of(answer.value)
            blobs[digest] = answer.value
            packed.append(Stored(answer.number, answer.seconds, digest, size))
        else:
            room -= size
            packed.append(answer)
    return TaskAnswers(index, tuple(packed)), blobs


def keep_log(
    answered: Answered,
    attempt: Attempt,
    seconds: float,
    label: str,
    agent: str,
    limits: Limits,
    sandbox: SandboxLevel,
    path: Path,
) -> Ended:
    """The archive of what a task's calls printed, in memory; `path` is where it would lie, were it larger."""
    now = time.time()
    record = Record(
        attempt=attempt,
        label=label,
        input_name=None,
        agent=agent,
        started=now - seconds,
        ended=now,
        seconds=seconds,
        verdict=Verdict(Outcome.SUCCEEDED, 0, None, "", retryable=False),
        limits=limits,
        sandbox=sandbox,
        outputs=(),
        skipped=(),
    )
    with ArchiveWriter(path, memory_bytes=4 * LOG_BYTES_MAX) as archive:
        archive.add_bytes("DiscoTask.stdout.0.txt", answered.stdout.kept())
        archive.add_bytes("DiscoTask.stderr.0.txt", answered.stderr.kept())
        archive.add_bytes("DiscoTask.json", record.to_json())
        sealed = archive.close()
    assert archive.content is not None, "two logs are smaller than what is kept in memory"
    return Ended(
        attempt=attempt,
        outcome=Outcome.SUCCEEDED,
        exit=0,
        limit_exceeded=None,
        reason="",
        started=record.started,
        ended=now,
        seconds=seconds,
        outputs=(),
        skipped=(),
        archive=archive.content,
        archive_digest=sealed.digest,
        archive_size=sealed.size,
        retryable=False,
    )
