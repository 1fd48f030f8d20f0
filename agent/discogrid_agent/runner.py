"""Runs one attempt from its files to its archive: lay out, box, watch, collect, record.

The event loop starts boxes, drains their output and keeps time; files are moved in threads.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from discogrid.archive import ArchiveWriter, Sealed
from discogrid.errors import DiscogridError, InputError, UsageError
from discogrid.types import MIB, Attempt, Outcome
from discogrid_agent.collector import Collected, collect, is_small
from discogrid_agent.log_keeper import LogKeeper
from discogrid_agent.log_pipe import LogPipe
from discogrid_agent.record import Record
from discogrid_agent.removal import remove_tree
from discogrid_agent.sandbox.box import Box, Boxed, BoxEnd, Scene
from discogrid_agent.sandbox.late_box import known
from discogrid_agent.task import Ended, Task
from discogrid_agent.usage import Meter, free_bytes
from discogrid_agent.verdict import Cancelled, Exceeded, Limit, Stop, Verdict, judge
from discogrid_agent.watch import FREE_DISK_BYTES, Watch, Watched
from discogrid_agent.work_folder import Placed, WorkFolder

__all__ = ["Ended", "Runner", "Task"]

INLINE_BYTES: Final = (
    256 * 1024
)  # of files, moved on the event loop itself: a thread would cost more than the copy
INLINE_S: Final = 0.1  # a script that ran no longer leaves little to clear away
MEMORY_BYTES: Final = 64 * 1024  # an archive up to this size is kept in memory, and travels in a message
USED_MAX: Final = 64  # empty folders kept for further attempts
REASON_BYTES: Final = 8 * 1024  # of stderr, looked at for the reason of an end

STDOUT: Final = "stdout"
STDERR: Final = "stderr"

OnLog = Callable[[Attempt, str], None]
_NEVER_STARTED: Final = BoxEnd(ran=False, exit=None, seconds=0.0)


@dataclass(slots=True)
class _Running:
    """An attempt on its way."""

    task: Task
    stdout: LogKeeper
    stderr: LogKeeper
    started: float = field(default_factory=time.time)
    boxed: Boxed | None = None
    stop: Stop | None = None

    def stop_for(self, stop: Stop) -> None:
        """End it; the first reason is kept."""
        if self.stop is None:
            self.stop = stop
        if self.boxed is not None:
            self.boxed.kill()


class Runner:
    """Runs attempts in one box, below one folder that no other agent uses."""

    def __init__(self, folder: Path, box: Box, agent: str, on_log: OnLog | None = None) -> None:
        """Take `folder` for this agent alone; `on_log(attempt, stream)` is called whenever it has written to a log.

        UsageError when another agent holds the folder.
        """
        self._box = box
        self._agent = agent
        self._on_log = on_log
        self._running: dict[Attempt, _Running] = {}
        self._used: list[Path] = []  # cleared folders of earlier attempts
        self._attempts = folder / "attempts"
        self._archives = folder / "archives"
        for made in (folder, self._attempts, self._archives):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        if box.owner is not None:
            self._attempts.chmod(0o711)
        self._lock = _locked(folder / "lock")
        box.settle(folder)
        self.watch = Watch(self._attempts)

    @property
    def attempts(self) -> Path:
        """Where the folders of attempts are."""
        return self._attempts

    def sweep(self) -> None:
        """Remove what a killed agent left in this folder; before the first attempt."""
        for kept in (self._attempts, self._archives):
            for left in kept.iterdir():
                if left.is_dir() and not left.is_symlink():
                    remove_tree(left)
                else:
                    left.unlink()

    def close(self) -> None:
        """Give the folder back; when nothing runs any more."""
        self._box.close()
        while self._used:
            remove_tree(self._used.pop())
        os.close(self._lock)

    async def run(self, task: Task, on_emptied: Callable[[], None] = lambda: None) -> Ended:
        """Run one attempt to its end, however it ends; OSError when not even its logs could be kept.

        `on_emptied` is called once nothing of it runs any more, before its result is packed.
        """
        running = _Running(task, LogKeeper(task.limits.log_bytes), LogKeeper(task.limits.log_bytes))
        self._running[task.attempt] = running
        try:
            await known(self._box)
        except BaseException:
            del self._running[task.attempt]
            raise
        used = self._used.pop() if self._used else None
        work = WorkFolder(self._attempts / _name(task.attempt), self._box.owner, used)
        try:
            end, early = await self._attempt(running, work)
            on_emptied()
            await asyncio.sleep(0)  # whoever takes its place starts first
            finish = partial(self._finish, running, work, self._archive(task.attempt), end, early)
            if end.seconds < INLINE_S and is_small(work.result):
                return finish()
            return await asyncio.to_thread(finish)
        finally:
            del self._running[task.attempt]
            if not work.removed:
                work.remove()

    def kill(self, attempt: Attempt, reason: str) -> None:
        """End an attempt, which then ends as cancelled; nothing happens when it is not running."""
        running = self._running.get(attempt)
        if running is not None:
            running.stop_for(Cancelled(reason))

    def drop(self, attempt: Attempt) -> None:
        """Remove the archive of an attempt that ended; nothing happens when there is none."""
        self._archive(attempt).unlink(missing_ok=True)

    def logs(self, attempt: Attempt) -> dict[str, LogKeeper]:
        """What a running attempt has written, by stream; empty when it does not run."""
        running = self._running.get(attempt)
        return {} if running is None else {STDOUT: running.stdout, STDERR: running.stderr}

    async def _attempt(self, running: _Running, work: WorkFolder) -> tuple[BoxEnd, Verdict | None]:
        """How the box ended, or the verdict on an attempt that had none."""
        if running.task.network and self._box.no_network:
            reason = f"This agent cannot give a network of its own: {self._box.no_network}."
            return _NEVER_STARTED, _without_box(Outcome.REFUSED, reason)
        try:
            sources = [running.task.script, running.task.input, *(path for _, path in running.task.constants)]
            if sum(map(_size, sources)) <= INLINE_BYTES:
                command = self._prepare(running.task, work)
            else:
                command = await asyncio.to_thread(self._prepare, running.task, work)
            if running.stop is not None:
                return _NEVER_STARTED, None
            return await self._in_box(running, work, command), None
        except InputError as error:
            return _NEVER_STARTED, _without_box(Outcome.SCRIPT_FAILED, str(error))
        except DiscogridError as error:
            return _NEVER_STARTED, _without_box(Outcome.BOX_FAILED, str(error))
        except OSError as error:
            return _NEVER_STARTED, _without_box(
                Outcome.BOX_FAILED, f"The task could not be laid out: {error}."
            )

    def _prepare(self, task: Task, work: WorkFolder) -> tuple[str, ...]:
        """Lay out the folder; the command to run in it."""
        free = free_bytes(self._attempts)
        if free < FREE_DISK_BYTES:
            raise OSError(
                f"this machine has {free // MIB:,} MiB left on disk, and its owner keeps {FREE_DISK_BYTES // MIB:,}"
            )
        interpreter = self._box.python if task.interpreter is None else task.interpreter.python
        command = task.command(str(interpreter))
        files = [Placed(task.script_name, task.script, executable=True)]
        if task.input is not None and task.input_name is not None:
            files.append(Placed(task.input_name, task.input))
        files += (Placed(name, path) for name, path in task.constants)
        work.lay_out(files)
        return command

    async def _in_box(self, running: _Running, work: WorkFolder, command: tuple[str, ...]) -> BoxEnd:
        loop = asyncio.get_running_loop()
        stdout = LogPipe(loop, running.stdout, self._listener(running.task.attempt, STDOUT))
        stderr = LogPipe(loop, running.stderr, self._listener(running.task.attempt, STDERR))
        try:
            try:
                boxed = self._box.start(_scene(running.task, work, command, stdout.far, stderr.far))
            finally:
                stdout.close_far()
                stderr.close_far()
            running.boxed = boxed
            return await self._until_dead(running, boxed, (work.work, work.temporary))
        finally:
            stdout.finish()
            stderr.finish()

    async def _until_dead(self, running: _Running, boxed: Boxed, folders: tuple[Path, ...]) -> BoxEnd:
        """Wait, within all limits."""
        limits = running.task.limits
        out_of_time = Exceeded(Limit.TIME, f"The task ran longer than the limit of {limits.seconds:g} s.")
        timer = asyncio.get_running_loop().call_later(limits.seconds, running.stop_for, out_of_time)
        watched = Watched(Meter(boxed, folders), limits, running.stop_for)
        self.watch.begin(watched)
        try:
            return await asyncio.shield(boxed.ended)
        except asyncio.CancelledError:
            boxed.kill()
            await boxed.ended
            raise
        finally:
            self.watch.end(watched)
            timer.cancel()

    def _archive(self, attempt: Attempt) -> Path:
        return self._archives / f"{_name(attempt)}.zip"

    def _listener(self, attempt: Attempt, stream: str) -> Callable[[], None] | None:
        return None if self._on_log is None else partial(self._on_log, attempt, stream)

    def _finish(
        self, running: _Running, work: WorkFolder, path: Path, end: BoxEnd, early: Verdict | None
    ) -> Ended:
        """Everything is dead: collect, judge, record and remove; in a thread."""
        try:
            ended = self._pack(running, work, path, end, early)
        except OSError as error:  # most likely a full disk: without the outputs there may be room
            early = _without_box(Outcome.BOX_FAILED, f"The results could not be packed: {error}.")
            ended = self._pack(running, None, path, end, early)
        if work.clear() and len(self._used) < USED_MAX:
            self._used.append(work.path)
        elif work.path.exists():
            work.remove()
        return ended

    def _pack(
        self, running: _Running, work: WorkFolder | None, path: Path, end: BoxEnd, early: Verdict | None
    ) -> Ended:
        task = running.task
        collected = Collected()
        with ArchiveWriter(path, memory_bytes=MEMORY_BYTES) as archive:
            if end.ran and work is not None:
                collected = collect(work.result, archive, task.limits)
            stderr = running.stderr.tail(REASON_BYTES)
            verdict = early or judge(end, running.stop, stderr, collected.over, task.limits)
            record = Record(
                attempt=task.attempt,
                label=task.label,
                input_name=task.input_name,
                agent=self._agent,
                started=running.started,
                ended=time.time(),
                seconds=end.seconds,
                verdict=verdict,
                limits=task.limits,
                sandbox=self._box.level,
                outputs=tuple(collected.outputs),
                skipped=tuple(collected.told()),
            )
            archive.add_bytes("DiscoTask.stdout.0.txt", running.stdout.kept())
            archive.add_bytes("DiscoTask.stderr.0.txt", running.stderr.kept())
            archive.add_bytes("DiscoTask.json", record.to_json())
            sealed = archive.close()
        return _ended(record, path if archive.content is None else archive.content, sealed)


def _size(source: Path | bytes | None) -> int:
    if source is None:
        return 0
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _name(attempt: Attempt) -> str:
    return f"{attempt.job}-{attempt.index}-{attempt.number}-{attempt.lease}"


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(
            f"Another agent is using {path.parent}.",
            fix="Stop it, or give this one another name (--name).",
        ) from None
    return descriptor


def _without_box(outcome: Outcome, reason: str) -> Verdict:
    return Verdict(outcome, None, None, reason, retryable=outcome is Outcome.BOX_FAILED)


def _scene(task: Task, work: WorkFolder, command: tuple[str, ...], stdout: int, stderr: int) -> Scene:
    return Scene(
        work=work.work,
        temporary=work.temporary,
        mounts=task.mounts,
        command=command,
        environment=task.variables(),
        limits=task.limits,
        stdout=stdout,
        stderr=stderr,
        shown=() if task.interpreter is None else (task.interpreter.folder,),
        network=task.network,
        submitter=task.submitter,
    )


def _ended(record: Record, archive: Path | bytes, sealed: Sealed) -> Ended:
    verdict = record.verdict
    return Ended(
        attempt=record.attempt,
        outcome=verdict.outcome,
        exit=verdict.exit,
        limit_exceeded=verdict.limit,
        reason=verdict.reason,
        started=record.started,
        ended=record.ended,
        seconds=record.seconds,
        outputs=tuple(record.outputs),
        skipped=tuple(record.skipped),
        archive=archive,
        archive_digest=sealed.digest,
        archive_size=sealed.size,
        retryable=verdict.retryable,
    )
