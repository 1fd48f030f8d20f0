"""What an agent says of its tasks, in order, in as few messages as the coordinator's answer can wait for.

While tasks wait here for a slot, nobody waits for the word that another one has ended: such words are held for a
moment and leave together. For hundreds of short tasks a second that is most of the work of both sides.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from discogrid.messages import Message, TaskDone, TasksDone, TasksStarted
from discogrid.types import Run
from discogrid.wire import pack_parts

WAIT_S = 0.1
MESSAGE_BYTES_MAX = 4 << 20
MESSAGE_TASKS_MAX = 64


@dataclass(frozen=True, slots=True)
class Report:
    """The end of an attempt, its signed result (empty when nothing ran) and its archive, if that travels along."""

    done: TaskDone
    envelope: bytes = b""
    archive: bytes | None = None

    @property
    def bytes(self) -> int:
        """Its share of a message."""
        return len(self.envelope) + len(self.archive or b"")


class Send(Protocol):
    """How a message leaves."""

    def __call__(self, message: Message, *payload: bytes) -> object:
        """Hand it to the line."""


class Reports:
    """Starts and ends of tasks on their way out."""

    def __init__(self, send: Send, may_wait: Callable[[], bool]) -> None:
        """`may_wait` tells whether this agent has work without an answer."""
        self._send = send
        self._may_wait = may_wait
        self._loop = asyncio.get_running_loop()
        self._started: list[Run] = []
        self._ended: list[Report] = []
        self._due: asyncio.TimerHandle | None = None

    def started(self, runs: tuple[Run, ...]) -> None:
        """These run now."""
        self._started += runs
        self._leave_soon()

    def ended(self, report: Report) -> None:
        """This attempt is over."""
        self._ended.append(report)
        self._leave_soon()

    def flush(self) -> None:
        """Let everything leave now."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        ended, self._ended = self._ended, []
        over = {report.done.attempt for report in ended}
        runs = tuple(run for run in self._started if not over.issuperset(run.attempts()))
        self._started = []
        if runs:
            self._send(TasksStarted(runs=runs))
        page: list[Report] = []
        for report in ended:
            size = sum(other.bytes for other in page) + report.bytes
            if page and (len(page) == MESSAGE_TASKS_MAX or size > MESSAGE_BYTES_MAX):
                self._send_page(page)
                page = []
            page.append(report)
        if page:
            self._send_page(page)

    def _leave_soon(self) -> None:
        wait_s = WAIT_S if self._may_wait() else 0.0
        if self._due is not None and wait_s:
            return
        if self._due is not None:
            self._due.cancel()
        self._due = self._loop.call_later(wait_s, self.flush)

    def _send_page(self, page: list[Report]) -> None:
        envelopes = pack_parts(report.envelope for report in page)
        archives = pack_parts(report.archive for report in page if report.archive is not None)
        self._send(TasksDone(tasks=tuple(report.done for report in page)), envelopes, archives)
