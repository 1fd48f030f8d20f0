"""What an agent says of its tasks, in order, in as few messages as the coordinator's answer can wait for.

While tasks wait here for a slot, nobody waits for the word that another one has ended: such words are held for a
moment and leave together. For hundreds of short tasks a second that is most of the work of both sides.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from discogrid.alarm import Alarm
from discogrid.answers import ANSWERED_TASKS_MAX, Answer, TaskAnswers
from discogrid.calls.frames import Part, Raised, Returned, Stored
from discogrid.messages import CallsAnswered, Message, TaskDone, TasksDone, TasksStarted
from discogrid.types import Attempt, Digest, JobId, Run
from discogrid.wire import pack_parts

WAIT_S = 0.1
STARTED_WAIT_S = 0.05  # of the word that calls have started
CALLS_WAIT_S = 0.002  # of answers to calls, whose client may wait for them to make the next ones
MESSAGE_BYTES_MAX = 4 << 20
MESSAGE_TASKS_MAX = 64


@dataclass(frozen=True, slots=True)
class Report:
    """The end of an attempt, its signed result (empty when nothing ran) and its archive, if that travels along."""

    done: TaskDone
    envelope: bytes = b""
    archive: bytes | None = None
    answers: TaskAnswers | None = (
        None  # to a task's calls; then envelope and archive are of what they printed, if they did
    )
    stored: tuple[Digest, ...] = ()  # of those, what is a blob

    @property
    def bytes(self) -> int:
        """Its share of a message."""
        answered = () if self.answers is None else self.answers.answers
        return len(self.envelope) + len(self.archive or b"") + sum(map(_bytes_of, answered))


Seal = Callable[[JobId, Sequence[TaskAnswers]], tuple[bytes, bytes] | None]


class Send(Protocol):
    """How a message leaves."""

    def __call__(self, message: Message, *payload: bytes) -> object:
        """Hand it to the line."""


class Reports:
    """Starts and ends of tasks on their way out."""

    def __init__(self, send: Send, may_wait: Callable[[], bool], seal: Seal) -> None:
        """`may_wait` tells whether this agent has work without an answer; `seal` signs answers to calls of a job."""
        self._send = send
        self._seal = seal
        self._may_wait = may_wait
        self._loop = asyncio.get_running_loop()
        self._started: list[Run] = []
        self._ended: list[Report] = []
        self._alarm = Alarm(self.flush)

    def started(self, runs: tuple[Run, ...], *, soon: bool) -> None:
        """These run now; not `soon`: they may have ended before anybody need know."""
        self._started += runs
        self._leave_in(self._patience(WAIT_S) if soon else STARTED_WAIT_S)

    def ended(self, report: Report) -> None:
        """This attempt is over."""
        self._ended.append(report)
        self._leave_in(self._patience(WAIT_S))

    def answered(self, reports: Sequence[Report]) -> None:
        """These have answered their calls, whose client may be waiting for nothing else."""
        self._ended += reports
        if wait_s := self._patience(CALLS_WAIT_S):
            self._leave_in(wait_s)
        else:
            self.flush()

    def flush(self) -> None:
        """Let everything leave now."""
        ended, self._ended = self._ended, []
        over = {report.done.attempt for report in ended}
        runs = tuple(run for run in self._started if not over.issuperset(run.attempts()))
        self._started = []
        if runs:
            self._send(TasksStarted(runs=runs))
        for job in dict.fromkeys(report.done.attempt.job for report in ended if report.answers is not None):
            mine = [
                report for report in ended if report.answers is not None and report.done.attempt.job == job
            ]
            for page in _pages(mine, ANSWERED_TASKS_MAX):
                self._send_answers(job, page)
        for page in _pages([report for report in ended if report.answers is None], MESSAGE_TASKS_MAX):
            self._send_page(page)

    def _patience(self, wait_s: float) -> float:
        """So long, if more is to follow."""
        return wait_s if self._may_wait() else 0.0

    def _leave_in(self, wait_s: float) -> None:
        self._alarm.set(self._loop.time() + wait_s)

    def _send_answers(self, job: JobId, page: list[Report]) -> None:
        page.sort(key=_place)
        logged = [report for report in page if report.archive is not None]
        answers = self._seal(job, [report.answers for report in page if report.answers is not None])
        if answers is None:
            return  # the job has ended meanwhile: nobody waits for them
        message = CallsAnswered(
            runs=_runs([report.done.attempt for report in page]),
            seconds=tuple(report.done.seconds for report in page),
            logs=tuple(report.done for report in logged),
            stored=tuple(digest for report in page for digest in report.stored),
        )
        logs = (
            pack_parts(report.envelope for report in logged),
            pack_parts(report.archive or b"" for report in logged),
        )
        self._send(message, pack_parts(answers), *(logs if logged else ()))

    def _send_page(self, page: list[Report]) -> None:
        envelopes = pack_parts(report.envelope for report in page)
        archives = pack_parts(report.archive for report in page if report.archive is not None)
        self._send(TasksDone(tasks=tuple(report.done for report in page)), envelopes, archives)


def _bytes_of(answer: Answer) -> int:
    match answer:
        case Returned(value=content) | Raised(error=content) | Part(values=content):
            return len(content)
        case Stored():
            return 0
        case _:
            assert_never(answer)


def _place(report: Report) -> tuple[int, int, int]:
    attempt = report.done.attempt
    return attempt.lease, attempt.number, attempt.index


def _pages(reports: list[Report], most: int) -> Iterator[list[Report]]:
    """In order, as many to a message as may be in one."""
    page: list[Report] = []
    size = 0
    for report in reports:
        size += report.bytes
        if page and (len(page) == most or size > MESSAGE_BYTES_MAX):
            yield page
            page, size = [], report.bytes
        page.append(report)
    if page:
        yield page


def _runs(attempts: list[Attempt]) -> tuple[Run, ...]:
    """Attempts of one job, sorted, as runs."""
    runs: list[Run] = []
    for attempt in attempts:
        last = runs[-1] if runs else None
        if last and (last.stop, last.number, last.lease) == (attempt.index, attempt.number, attempt.lease):
            runs[-1] = Run(last.job, last.start, attempt.index + 1, last.number, last.lease)
        else:
            runs.append(Run.of(attempt))
    return tuple(runs)
