"""The workers of all jobs of calls on one agent: as many as run at a time, and those that wait for more calls of their job.

A worker belongs to one job and lives until that has ended, or until another job needs its room. What its calls print is
kept by task.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from discogrid.calls.frames import Call
from discogrid.errors import CallLost, SandboxError
from discogrid.types import Attempt, JobId
from discogrid_agent.call_runner import Answer, CallRunner
from discogrid_agent.call_worker import CallWorker, Stage
from discogrid_agent.log_keeper import LogKeeper
from discogrid_agent.log_pipe import LogPipe
from discogrid_agent.sandbox.box import Box
from discogrid_agent.sandbox.late_box import known
from discogrid_agent.sandbox.unboxed import Unboxed
from discogrid_agent.usage import Meter
from discogrid_agent.verdict import last_lines
from discogrid_agent.watch import Watch, Watched
from discogrid_agent.work_folder import Placed, WorkFolder

STDOUT: Final = "stdout"
STDERR: Final = "stderr"

LAST_BYTES: Final = 4 << 10  # of what a worker printed that did not start
LOG_BYTES_MAX: Final = 256 << 10  # kept of each stream of one task: its archive travels in a message

OnLog = Callable[[Attempt, str], None]


@dataclass(frozen=True, slots=True)
class CallScene:
    """What all workers of a job have in common."""

    job: JobId
    stage: Stage
    initializer: bytes  # packed; empty: none
    files: tuple[Placed, ...]
    seconds: float | None  # that one call may run
    calls_max: int | None
    tries: int = 2  # of a call under which its worker dies


@dataclass(frozen=True, slots=True)
class Answered:
    """What has come of a task's calls, and what they printed."""

    answers: Sequence[Answer]
    stdout: LogKeeper
    stderr: LogKeeper

    @property
    def printed(self) -> bool:
        """Whether there is anything to keep."""
        return bool(self.stdout.total or self.stderr.total)


@dataclass(slots=True, eq=False)
class _Slot:
    """A worker's place, whoever is in it: its runner, and the task that it is at."""

    scene: CallScene
    runner: CallRunner | None = None
    attempt: Attempt | None = None
    logs: dict[str, LogKeeper] = field(default_factory=dict)
    pipes: dict[str, LogPipe] = field(default_factory=dict)
    before: int = 0  # bytes on stderr of its task before its worker was started


class CallFloor:
    """For one event loop. Everything lies below one folder, which the box has been settled in."""

    def __init__(self, folder: Path, box: Box, watch: Watch, slots: int, on_log: OnLog) -> None:
        """At most `slots` workers wait without calls; `on_log(attempt, stream)` is called whenever something was printed."""
        self._folder = folder
        self._box = box
        self._watch = watch
        self._slots = slots
        self._on_log = on_log
        self._bare: Unboxed | None = None
        self._numbers = itertools.count()
        self._idle: list[_Slot] = []  # longest first
        self._busy: dict[Attempt, tuple[_Slot, asyncio.Task[object] | None]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def run(
        self,
        attempts: Sequence[Attempt],
        scene: CallScene,
        functions: Mapping[int, bytes],
        calls: Sequence[Call],
    ) -> Answered:
        """Answer the calls of some tasks, one after the other. CancelledError after `kill`; SandboxError or OSError when there can be no worker."""
        slot = self._take(scene)
        most = min(scene.stage.limits.log_bytes, LOG_BYTES_MAX)
        logs = {stream: LogKeeper(most) for stream in (STDOUT, STDERR)}
        slot.attempt, slot.logs = attempts[0], logs
        for stream, pipe in slot.pipes.items():
            pipe.keeper = logs[stream]
        running = asyncio.current_task()
        for attempt in attempts:
            self._busy[attempt] = (slot, running)
        answers: list[Answer] = []
        try:
            assert slot.runner is not None
            await slot.runner.run(functions, calls, answers.append)
        except SandboxError as error:
            for pipe in slot.pipes.values():
                pipe.drain()
            said = logs[STDERR].tail(min(LAST_BYTES, logs[STDERR].total - slot.before))
            words = last_lines(said) if said and not error.why else ""
            raise SandboxError(error.what, f"It said: {words}" if words else error.why, error.fix) from error
        finally:
            for attempt in attempts:
                del self._busy[attempt]
            for pipe in slot.pipes.values():
                pipe.drain()
            slot.attempt = None
            self._put_back(slot)
        return Answered(answers, logs[STDOUT], logs[STDERR])

    def kill(self, attempt: Attempt) -> None:
        """End what runs of a task; nothing happens when nothing does."""
        _, running = self._busy.get(attempt, (None, None))
        if running is not None:
            running.cancel()

    def logs(self, attempt: Attempt) -> dict[str, LogKeeper]:
        """What the calls of a running task have printed, by stream; empty when it does not run."""
        slot, _ = self._busy.get(attempt, (None, None))
        return {} if slot is None else slot.logs

    def forget(self, job: JobId) -> None:
        """Nothing of the job will run any more."""
        for slot in [slot for slot in self._idle if slot.scene.job == job]:
            self._idle.remove(slot)
            self._end(slot)

    async def close(self) -> None:
        """End all workers."""
        for slot in self._idle:
            self._end(slot)
        self._idle.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    # -- bookkeeping

    def _take(self, scene: CallScene) -> _Slot:
        for slot in reversed(self._idle):
            if slot.scene is scene:
                self._idle.remove(slot)
                return slot
        slot = _Slot(scene)
        slot.runner = CallRunner(
            lambda: self._start(slot),
            seconds=scene.seconds,
            calls_max=scene.calls_max,
            tries=scene.tries,
            on_lost=lambda call, error: self._note(slot, call, error),
        )
        return slot

    def _note(self, slot: _Slot, call: int, error: CallLost) -> None:
        """In the log of the task that a worker was lost, which nobody else may notice: the call is made again."""
        kind = "call" if slot.scene.stage.place is None else "seat"
        slot.logs[STDERR].add(f"discogrid: {kind} {call}: {error.what}\n".encode())
        self._listener(slot, STDERR)()

    def _put_back(self, slot: _Slot) -> None:
        self._idle.append(slot)
        if len(self._idle) > self._slots:
            self._end(self._idle.pop(0))

    def _end(self, slot: _Slot) -> None:
        if slot.runner is not None:
            closing = asyncio.get_running_loop().create_task(slot.runner.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _start(self, slot: _Slot) -> CallWorker:
        """A worker in a folder of its own, which is removed when it has ended."""
        scene = slot.scene
        box = self._box if scene.stage.place is None else self._unboxed()
        await known(box)
        work = WorkFolder(self._folder / f"calls-{next(self._numbers)}", box.owner)
        loop = asyncio.get_running_loop()
        for pipe in slot.pipes.values():
            pipe.finish()
        slot.pipes = {
            stream: LogPipe(loop, slot.logs[stream], self._listener(slot, stream))
            for stream in (STDOUT, STDERR)
        }
        pipes = dict(slot.pipes)
        slot.before = slot.logs[STDERR].total
        try:
            try:
                await asyncio.to_thread(work.lay_out, scene.files)
                out, err = pipes[STDOUT].far, pipes[STDERR].far
                worker = CallWorker.start(box, work, scene.stage, out, err, scene.initializer)
            finally:
                for pipe in pipes.values():
                    pipe.close_far()
        except BaseException:
            for pipe in pipes.values():
                pipe.finish()
            if work.path.exists():
                work.remove()
            raise
        folders = (work.work, work.temporary)
        watched = Watched(Meter(worker.boxed, folders), scene.stage.limits, worker.stop_for)
        self._watch.begin(watched)

        def ended(_: object) -> None:
            self._watch.end(watched)
            for pipe in pipes.values():
                pipe.finish()
            with suppress(OSError):
                work.remove()

        worker.ended.add_done_callback(ended)
        return worker

    def _listener(self, slot: _Slot, stream: str) -> Callable[[], None]:
        def heard() -> None:
            if slot.attempt is not None:
                self._on_log(slot.attempt, stream)

        return heard

    def _unboxed(self) -> Unboxed:
        """For calls of this machine's own user, which asked for no box."""
        if self._bare is None:
            self._bare = Unboxed(adopt=False)  # not settled: its calls have the PATH of who makes them
        return self._bare
