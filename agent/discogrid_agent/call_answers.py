"""From what a worker has said to what travels: large values become blobs, and what was printed an archive like a script's."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, assert_never

from msgspec import structs

from discogrid.answers import Answer, TaskAnswers
from discogrid.archive import ArchiveWriter
from discogrid.batches import Batch, Chunk
from discogrid.blobs import digest_of
from discogrid.calls.frames import Call, LargeCall, Part, Raised, Returned, Stored
from discogrid.pieces import Pieces
from discogrid.types import Attempt, Digest, FileRef, Limits, Outcome, SandboxLevel
from discogrid_agent.call_floor import LOG_BYTES_MAX, Answered
from discogrid_agent.call_worker import Answer as WorkersAnswer
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


def calls_of(tasks: Sequence[tuple[Attempt, Cargo]], read: Callable[[Digest], bytes | Pieces]) -> list[Call]:
    """All calls of some tasks, those with large arguments filled in from their blobs."""
    calls: list[Call] = []
    for _, cargo in tasks:
        chunk = cargo.chunk
        if not chunk.large:
            calls += chunk.calls
            continue
        for place, call in enumerate(chunk.calls):
            file = chunk.large.get(place)
            calls.append(call if file is None else _with(call, read(file.digest)))
    return calls


def _with(call: Call, arguments: bytes | Pieces) -> Call:
    if isinstance(arguments, bytes):
        return structs.replace(call, arguments=arguments)
    return LargeCall(call.number, call.function, b"", call.count, parts=arguments)


def answers_of(chunk: Chunk, answers: Sequence[WorkersAnswer], start: int) -> Sequence[WorkersAnswer]:
    """Those of a chunk, which begin at `start` and are in order of its calls; a row of calls has several."""
    last = chunk.calls[-1].number
    stop = start
    while stop < len(answers) and answers[stop].number <= last:
        stop += 1
    return answers[start:stop]


def pack_answers(
    index: int, answers: Sequence[WorkersAnswer], log: int | None
) -> tuple[TaskAnswers, dict[Digest, bytes]]:
    """What travels in the message of a task's answers, and the blobs that it names; `log` is the task with its log, if any."""
    blobs: dict[Digest, bytes] = {}
    room = INLINE_BYTES_ALL_MAX
    packed: list[Answer] = []
    for answer in answers:
        content = _content(answer)
        if len(content) <= min(INLINE_BYTES_MAX, room):
            room -= len(content)
            packed.append(answer)
            continue
        digest = digest_of(content)
        blobs[digest] = content
        if isinstance(answer, Part):
            packed.append(structs.replace(answer, values=b"", stored=digest, size=len(content)))
        else:
            packed.append(Stored(answer.number, answer.seconds, digest, len(content)))
    return TaskAnswers(index, tuple(packed), log), blobs


def _content(answer: WorkersAnswer) -> bytes:
    """What of it may be a blob."""
    match answer:
        case Returned(value=content) | Part(values=content):
            return content
        case Raised():
            return b""
        case _:
            assert_never(answer)


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
