"""Keeps a job's results in a folder: signed archives as tasks end, then their files, flat, and what the job was.

`results/<task>.zip` and `.sig`, `output/…`, `job.json`. Nothing is unpacked before its agent's signature and digest
held; a file appears complete or not at all; nothing existing is overwritten, except by the same job or by force.
"""

import asyncio
import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from discogrid.archive import open_archive
from discogrid.blobs import BlobStore, digest_of
from discogrid.bundle import Job, ResultBody, decode_leaf
from discogrid.client import AsyncClient, checked_result
from discogrid.documents import job_document, task_document
from discogrid.errors import BlobError, DiscogridError, GridError, InputError, IntegrityError
from discogrid.outputs import flat_names
from discogrid.quantities import size_text
from discogrid.types import JobId, Outcome
from discogrid.views import JobView, TaskView, task_label

BLOBS_AT_ONCE = 4  # archives too large to come with their results
FOLDER_NAME_CHARACTERS_MAX = 80
JOB_FILE = "job.json"
JOB_FILE_BYTES_MAX = 256 << 20
RESULTS = "results"
OUTPUT = "output"
INCOMING = ".incoming"  # archives on their way, beside those that are whole

_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user wants to keep of a job. `folder` is made when it is not there; None: `<job>-<name>` here."""

    folder: Path | None = None
    force: bool = False  # replace files that are there
    unpack: bool = True
    archives: bool = True

    def check(self) -> None:
        """InputError when the folder cannot be used by a job that is new."""
        if self.folder is not None:
            _refuse_foreign(self.folder, None, force=self.force)


class Archives:
    """The signed archives of one job's tasks in one folder."""

    def __init__(self, client: AsyncClient, job: JobId, opened: Job, folder: Path) -> None:
        """`opened` is the job with its signature checked; `folder` exists."""
        self._client = client
        self._job = job
        self._opened = opened
        self._folder = folder
        self.bodies: dict[int, ResultBody] = {}

    def path(self, index: int) -> Path:
        """Where the archive of a task is, or would be."""
        return self._folder / f"{task_label(self._job, index)}.zip"

    def signature(self, index: int) -> Path:
        """Where its agent's signed result is."""
        return self.path(index).with_suffix(".sig")

    async def fetch(self, indices: Iterable[int]) -> None:
        """Get what is not here yet; tasks without an archive are left out. Afterwards `bodies` tells what is here."""
        wanted = [index for index in indices if index not in self.bodies]
        results = await self._client.results(self._job, wanted)
        large = [result for result in results if result.archive is None]
        small = [(result.body, result.envelope, result.archive) for result in results if result.archive]
        await asyncio.to_thread(self._keep, small)
        if not large:
            return
        needed = sum(result.body.archive_bytes for result in large)
        _check_room(self._folder, needed)
        incoming = self._folder / INCOMING
        gate = asyncio.Semaphore(BLOBS_AT_ONCE)
        store = BlobStore(incoming, needed, free_floor_bytes=0)

        async def take(body: ResultBody, envelope: bytes) -> None:
            async with gate:
                arrived = await self._client.blob(body.archive, body.archive_bytes, store)
            arrived.chmod(self._folder.stat().st_mode & 0o666)  # as readable as the folder
            arrived.replace(self.path(body.index))
            self._note(body, envelope)

        taking = [asyncio.create_task(take(result.body, result.envelope)) for result in large]
        try:
            await asyncio.gather(*taking)
        finally:
            for task in taking:
                task.cancel()
            await asyncio.wait(taking)
            shutil.rmtree(incoming, ignore_errors=True)

    def find_kept(self, tasks: Iterable[TaskView]) -> None:
        """Count archives that an earlier download left here, if they are still what was signed."""
        for task in tasks:
            try:
                envelope = self.signature(task.index).read_bytes()
                body = checked_result(self._client.grid, self._opened, task.index, envelope, b"").body
                if body.archive == task.archive == digest_of(self.path(task.index)):
                    self.bodies[task.index] = body
            except (FileNotFoundError, IntegrityError, InputError):
                continue

    def _keep(self, small: list[tuple[ResultBody, bytes, bytes]]) -> None:
        for body, envelope, archive in small:
            write_whole(self.path(body.index), archive)
            self._note(body, envelope)

    def _note(self, body: ResultBody, envelope: bytes) -> None:
        write_whole(self.signature(body.index), envelope)
        self.bodies[body.index] = body


class Download:
    """One job's results on their way into a folder; `add` what has ended, then `finish`."""

    def __init__(
        self, client: AsyncClient, job: JobView, opened: Job, inputs: list[str | None], wish: Wish
    ) -> None:
        """Use `Download.begin`."""
        self.folder: Path = wish.folder or Path(folder_name(job))
        self._job = job
        self._wish = wish
        self._inputs = inputs
        self._tasks: dict[int, TaskView] = {}
        self._resumed = _refuse_foreign(self.folder, job, force=wish.force)
        # The archives of a job whose archives are not wanted are only passing through.
        self._passing = None if wish.archives else tempfile.TemporaryDirectory(prefix="discogrid-")
        place = Path(self._passing.name) if self._passing else self.folder / RESULTS
        _make_folder(self.folder)
        place.mkdir(exist_ok=True)
        self.archives: Archives = Archives(client, job.id, opened, place)
        self._waiting: set[int] = set()
        self._fetching: asyncio.Task[None] | None = None

    @classmethod
    async def begin(cls, client: AsyncClient, job: JobView, wish: Wish) -> "Download":
        """Claim the folder; InputError when it holds something else."""
        opened, leaves = await client.content(job.id)
        inputs = [leaf.input.name if leaf.input else None for leaf in map(decode_leaf, leaves)]
        download = cls(client, job, opened, inputs, wish)
        download._write_job(job, {}, {})
        return download

    def add(self, tasks: Iterable[TaskView]) -> None:
        """Take note of tasks, and fetch the archives of those that have ended."""
        fresh = []
        for task in tasks:
            self._tasks[task.index] = task
            if task.state.ended and task.archive is not None and task.index not in self.archives.bodies:
                fresh.append(task)
        if self._resumed:
            self.archives.find_kept(fresh)
        self._waiting.update(task.index for task in fresh if task.index not in self.archives.bodies)
        if self._fetching is not None and self._fetching.done():
            ended, self._fetching = self._fetching, None
            with contextlib.suppress(GridError, BlobError):  # it is tried again: here, or in `settle`
                ended.result()  # a full disk is told now, not when the last task has ended
        if self._waiting and self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())

    async def settle(self) -> None:
        """Wait for what is on its way, which goes on when the wait is cancelled; raises what went wrong on it."""
        while self._fetching is not None or self._waiting:
            running = self._fetching = self._fetching or asyncio.create_task(self._fetch())
            try:
                await asyncio.shield(running)
            finally:
                if running.done():
                    self._fetching = None

    async def finish(self, job: JobView) -> Path:
        """Unpack (when the job has ended) and write job.json; the folder. May be called again after an error."""
        await self.settle()
        try:
            return await asyncio.to_thread(self._finish, job)
        except OSError as error:
            raise _cannot_keep(self.folder, job.id, error) from None

    async def close(self) -> None:
        """Stop what is on its way; what is whole stays."""
        if self._fetching is not None:
            self._fetching.cancel()
            with contextlib.suppress(asyncio.CancelledError, DiscogridError):
                await self._fetching
        if self._passing is not None:
            self._passing.cleanup()

    def task_file(self, index: int, name: str, limit: int) -> bytes:
        """A file of a task's archive that is here (`DiscoTask.json`, a log); empty when it is not."""
        if index not in self.archives.bodies or not self.archives.path(index).exists():
            return b""
        with open_archive(self.archives.path(index)) as archive:
            return archive.read(name, limit) if name in archive else b""

    async def _fetch(self) -> None:
        while self._waiting:
            indices = sorted(self._waiting)
            self._waiting.clear()
            try:
                await self.archives.fetch(indices)
            except BaseException as error:
                self._waiting.update(index for index in indices if index not in self.archives.bodies)
                if isinstance(error, OSError):
                    raise _cannot_keep(self.folder, self._job.id, error) from None
                raise

    def _finish(self, job: JobView) -> Path:
        names = self._names() if self._wish.unpack and job.state.ended else {}
        if names:
            self._unpack(names)
        self._write_job(job, self._tasks, names)
        return self.folder

    def _names(self) -> dict[tuple[int, str], str]:
        """The files of tasks that succeeded; what a failed one left behind stays in its archive."""
        bodies = sorted(self.archives.bodies.items())
        return flat_names(
            (index, output.name)
            for index, body in bodies
            if body.outcome is Outcome.SUCCEEDED
            for output in body.outputs
        )

    def _unpack(self, names: Mapping[tuple[int, str], str]) -> None:
        output = self.folder / OUTPUT
        output.mkdir(exist_ok=True)
        for index in dict.fromkeys(index for index, _ in names):
            with open_archive(self.archives.path(index)) as archive:
                archive.unpack(
                    output,
                    rename=lambda name, index=index: names.get((index, name)),  # type: ignore[misc]
                    overwrite=self._wish.force or self._resumed,
                )

    def _write_job(
        self, job: JobView, tasks: Mapping[int, TaskView], names: Mapping[tuple[int, str], str]
    ) -> None:
        sizes = {
            (index, output.name): output.size
            for index, body in self.archives.bodies.items()
            for output in body.outputs
        }
        document = {
            **job_document(job),
            "tasks": [
                {**task_document(tasks[index]), "input": self._inputs[index]} for index in sorted(tasks)
            ],
            "files": [
                {
                    "name": f"{OUTPUT}/{target}",
                    "task": task_label(job.id, index),
                    "source": source,
                    "size": sizes[index, source],
                }
                for (index, source), target in sorted(names.items())
            ],
        }
        write_whole(self.folder / JOB_FILE, json.dumps(document, indent=1).encode() + b"\n")


def folder_name(job: JobView) -> str:
    """`<job>-<name>`, the name made safe for every file system."""
    safe = re.sub(r"[^\w.\-]+", "-", job.name).strip("-. ")[:FOLDER_NAME_CHARACTERS_MAX]
    return f"{job.id}-{safe}" if safe else str(job.id)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears complete or not at all."""
    target = os.fspath(path)
    draft = f"{os.path.dirname(target) or '.'}/.{secrets.token_hex(8)}.part"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise


def _refuse_foreign(folder: Path, job: JobView | None, *, force: bool) -> bool:
    """Whether the folder holds an earlier download of this very job; InputError when it holds something in the way."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, results need a folder", fix="Name another folder with -o.")
    in_the_way = [name for name in (JOB_FILE, RESULTS, OUTPUT) if (folder / name).exists()]
    if not in_the_way:
        return False
    if job is not None and _kept_digest(folder) == job.digest:
        return True
    if force:
        return False
    raise InputError(
        f"{folder} already holds {' and '.join(in_the_way)} of something else; nothing was overwritten",
        fix="Name another folder with -o, or replace the files with --force.",
    )


def _kept_digest(folder: Path) -> str | None:
    try:
        with open(folder / JOB_FILE, "rb") as file:
            kept = json.loads(file.read(JOB_FILE_BYTES_MAX))
        return str(kept["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC, f"{size_text(needed)} are needed, {size_text(free)} are free", str(folder)
        )


def _cannot_keep(folder: Path, job: JobId, error: OSError) -> DiscogridError:
    return DiscogridError(
        f"the results cannot be kept in {folder}",
        why=f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror),
        fix=f"Make room, or name another folder with -o; then `discogrid attach {job}` goes on. Nothing is lost.",
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be made: {error.strerror}", fix="Name another folder with -o."
        ) from None
