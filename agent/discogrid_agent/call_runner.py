"""Runs calls of one job to their ends, whatever they do to the worker that runs them.

A worker answers each call as soon as it has an answer, so that whoever is next when it dies was the one it died of. That
one is tried once more, since the kernel may have taken another's place for its; the others never notice.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from discogrid.calls import exceptions
from discogrid.calls.frames import Call, Open, Part, Raised, Returned
from discogrid.errors import CallLost, OutOfMemory, SandboxError, TaskTimeout, WorkerLost
from discogrid_agent.call_worker import CallWorker
from discogrid_agent.sandbox.box import BoxEnd
from discogrid_agent.verdict import Limit

TRIES_MAX: Final = 2  # of a call under which its worker dies

Answer = Returned | Raised | Part
StartWorker = Callable[[], Awaitable[CallWorker]]
OnLost = Callable[[int, CallLost], None]  # the number of the call under which a worker was lost, and how


@dataclass(slots=True)
class _Current:
    """A worker that has started, what it was given, and how much it has done."""

    worker: CallWorker
    functions: set[int]
    calls: int = 0


class CallRunner:
    """One worker at a time, started when there is a call for it. Chunks come one after the other."""

    def __init__(
        self,
        start: StartWorker,
        *,
        seconds: float | None = None,
        calls_max: int | None = None,
        tries: int = TRIES_MAX,
        on_lost: OnLost = lambda *_: None,
    ) -> None:
        """`start` makes a worker; a call may run for `seconds`; a worker ends after `calls_max` calls.

        A call under which its worker dies is made `tries` times. `on_lost` is told each time, before anything else comes of it.
        """
        self._tries = tries
        self._on_lost = on_lost
        self._start = start
        self._seconds = seconds
        self._calls_max = calls_max
        self._current: _Current | None = None

    async def run(
        self, functions: Mapping[int, bytes], calls: Sequence[Call], on_answer: Callable[[Answer], None]
    ) -> None:
        """Answer each call once, in order. `functions` are all that they name, packed. Cancelled, it ends the worker."""
        left = deque(calls)
        tries: dict[int, int] = {}
        try:
            while left:
                current = await self._ready()
                if isinstance(current, bytes):
                    for call in left:
                        on_answer(Raised(call.number, 0.0, current))
                    return
                error = await self._feed(current, functions, left, on_answer)
                if error is None:
                    continue
                culprit = left[0].number
                self._on_lost(culprit, error)
                tries[culprit] = tries.get(culprit, 0) + 1
                if tries[culprit] >= self._tries or left[0].count or not isinstance(error, WorkerLost):
                    left.popleft()
                    on_answer(Raised(culprit, 0.0, exceptions.pack(error)))
        except BaseException:
            await self.close(at_once=True)
            raise

    async def close(self, *, at_once: bool = False) -> None:
        """No more calls: let the worker end, or end it."""
        current, self._current = self._current, None
        if current is not None:
            if at_once:
                current.worker.kill()
            await current.worker.stop()

    async def _ready(self) -> _Current | bytes:
        """A worker that takes calls; or what its initializer raised, packed."""
        if self._current is not None:
            return self._current
        worker = await self._start()
        started = await worker.ready()
        if started is None:
            end = await worker.stop()
            raise SandboxError(f"A worker for calls did not start: {_how(end)}.")
        if started.raised:
            await worker.stop()
            return started.raised
        self._current = _Current(worker, set())
        return self._current

    async def _feed(
        self,
        current: _Current,
        functions: Mapping[int, bytes],
        left: deque[Call],
        on_answer: Callable[[Answer], None],
    ) -> CallLost | None:
        """Let the worker answer what is left, or as much as it may; why it ended before the answer to the next one, if so."""
        part = list(left)[: None if self._calls_max is None else self._calls_max - current.calls]
        unknown = {call.function for call in part} - current.functions
        current.functions |= unknown
        opens = [Open(number, functions[number]) for number in sorted(unknown)]
        worker = current.worker
        rest = worker.give(opens, part)
        giving = None if rest is None else asyncio.ensure_future(rest)
        try:
            for call in part:
                heard = worker.take()
                if heard is not None and heard.number == call.number:
                    answer: Answer | CallLost = heard
                else:
                    answer = await self._answer(current, call, heard)
                if isinstance(answer, CallLost):
                    return answer
                on_answer(answer)
                while isinstance(answer, Part) and not answer.last:
                    answer = await self._answer(current, call, worker.take())
                    if isinstance(answer, CallLost):
                        return answer
                    on_answer(answer)
                left.popleft()
                current.calls += max(1, call.count)
        finally:
            if giving is not None:
                giving.cancel()
                await asyncio.wait((giving,))
        if self._calls_max is not None and current.calls >= self._calls_max:
            await self.close()
        return None

    async def _answer(self, current: _Current, call: Call, answer: Answer | None) -> Answer | CallLost:
        """The worker's answer to this call, which is its next, `answer` if that is here; if there is none, it has ended."""
        timed_out = False
        try:
            if answer is None and self._seconds is None:
                answer = await current.worker.answer()
            elif answer is None:
                async with asyncio.timeout(self._seconds):
                    answer = await current.worker.answer()
        except TimeoutError:
            timed_out = True
        if answer is not None and answer.number == call.number:
            return answer
        self._current = None
        if timed_out or answer is not None:
            current.worker.kill()
        end = await current.worker.stop()  # what ends by itself is to say how
        if timed_out:
            return TaskTimeout(
                f"the call ran longer than {self._seconds:g} s, and was ended",
                fix="Give it more time, or less to do.",
            )
        stopped = current.worker.stopped
        if stopped is not None and stopped.limit is not Limit.MEMORY:
            return CallLost(f"the call was ended: {stopped.reason}")
        if end.ran_out or stopped is not None:
            return OutOfMemory(
                "the call took more memory than it may, and was ended",
                why=stopped.reason if stopped is not None else "",
                fix="Ask for more memory, or let it work in parts.",
            )
        return WorkerLost(
            f"the process that ran the call has died: {_how(end)}",
            why="The call, or a library that it uses, ended it: a crash, os._exit, a signal.",
            exit_status=end.exit,
        )


def _how(end: BoxEnd) -> str:
    if end.exit is None:
        return "it never ran"
    return f"signal {-end.exit}" if end.exit < 0 else f"exit code {end.exit}"
