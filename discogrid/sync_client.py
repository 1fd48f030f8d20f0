"""`AsyncClient` for programs without an event loop: the same questions, each answered when its call returns."""

import asyncio
import concurrent.futures
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

from discogrid.client import AsyncClient, Result
from discogrid.download import Download, Wish
from discogrid.errors import DiscogridError, GridError, WaitTimeout
from discogrid.executor import Executor
from discogrid.grid import Grid, choose_grid
from discogrid.inputs import expand
from discogrid.own import ensure_own_grid
from discogrid.pool import Pool
from discogrid.remote.keywords import CallKeywords
from discogrid.submission import Prepared, Submission, prepare
from discogrid.types import JobId, JobState, Limits, Requirements, SandboxLevel
from discogrid.views import AgentView, JobView, TaskView

T = TypeVar("T")
Name = str | PathLike[str]


class SubmissionKeywords(TypedDict, total=False):
    """What a script may be submitted with; see Submission."""

    name: str
    constants: Sequence[Path]
    mounts: Sequence[tuple[Path, str]]
    arguments: Sequence[str]
    environment: Mapping[str, str]
    requirements: Requirements
    limits: Limits
    retries: int
    priority: int
    repeatable: bool
    packages: Sequence[str]
    run_times: Mapping[str, float]
    imports_needed: bool


class Client:
    """One connection to a grid's coordinator, for any thread. Use `with Client() as client`.

    Jobs are named by their ids, as `submit` returns them; `resolve` finds the id for a name, a prefix or `@last`.
    """

    def __init__(self, grid: str | None = None, *, local: bool = False) -> None:
        """The grid of this name; None: the joined one, or else this machine's own, as `local` says in any case.

        GridError or UsageError when there is no such grid, or several that may be meant.
        """
        self.grid: Grid = choose_grid(local=local, grid=grid)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave: asyncio.Event | None = None
        self._client: AsyncClient | None = None

    def __enter__(self) -> Self:
        """Connect; this machine's own grid is started when it does not run. GridError when no coordinator answers."""
        if self._thread is not None:
            raise RuntimeError("this client is connected already")
        if self.grid.own:
            ensure_own_grid()
        connected: concurrent.futures.Future[AsyncClient] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._stay(connected)), name="discogrid-client", daemon=True
        )
        self._thread.start()
        try:
            self._client = connected.result()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye; jobs go on."""
        self.close()

    def close(self) -> None:
        """The same."""
        thread, self._thread, self._client = self._thread, None, None
        if thread is None:
            return
        if self._loop is not None and self._leave is not None and thread.is_alive():
            with suppress(RuntimeError):  # the loop has just ended by itself
                self._loop.call_soon_threadsafe(self._leave.set)
        thread.join()

    # -- jobs

    def submit(
        self,
        script: Name,
        inputs: Iterable[Name] | Name = (),
        *,
        hold: bool = False,
        **options: Unpack[SubmissionKeywords],
    ) -> JobId:
        """Submit a script, to run once for each input, or once when there is none; `hold`: not before `release`.

        Inputs are files or patterns, expanded here. When this returns, the grid keeps the job. InputError names the
        first file that cannot be used; then nothing was submitted.
        """
        given = [inputs] if isinstance(inputs, str | PathLike) else inputs
        submission = Submission(script=Path(script), inputs=expand([str(one) for one in given]), **options)
        if (
            self.grid.own and "requirements" not in options
        ):  # the same user, the same machine: its best box will do
            asked = replace(submission.requirements, sandbox=SandboxLevel.NONE)
            submission = replace(submission, requirements=asked)
        with tempfile.TemporaryDirectory(prefix="discogrid-") as scratch:
            prepared: Prepared = prepare(submission, self.grid, Path(scratch), time.time())
            with self._connected() as client:
                return self._wait(client.submit(prepared, hold=hold))

    def resolve(self, text: str) -> JobId:
        """The job meant by an id, a prefix of one, a unique name or `@last`; UsageError when none or several fit."""
        with self._connected() as client:
            return self._wait(client.resolve(text))

    def jobs(self) -> list[JobView]:
        """All jobs, oldest first."""
        with self._connected() as client:
            return self._wait(client.jobs())

    def job(self, job: JobId) -> JobView:
        """One job."""
        with self._connected() as client:
            return self._wait(client.job(job))

    def tasks(self, job: JobId) -> list[TaskView]:
        """All tasks of a job, in the order of its inputs."""
        with self._connected() as client:
            return self._wait(client.tasks(job))

    def agents(self) -> list[AgentView]:
        """All agents that have been seen."""
        with self._connected() as client:
            return self._wait(client.agents())

    def why(self, job: JobId) -> dict[str, str]:
        """For each agent, why it runs nothing (more) of the job."""
        with self._connected() as client:
            return self._wait(client.why(job))

    def cancel(self, job: JobId) -> None:
        """Stop what runs of the job and drop what waits."""
        with self._connected() as client:
            self._wait(client.cancel(job))

    def release(self, job: JobId) -> None:
        """Let a held job run."""
        with self._connected() as client:
            self._wait(client.release(job))

    def wait(self, job: JobId, timeout: float | None = None) -> JobView:
        """Wait until a job has ended, and say how: see its `state`. WaitTimeout after `timeout` seconds; it goes on.

        DiscogridError when the grid holds it because its first tasks failed alike.
        """
        with self._connected() as client:
            return self._wait(_ended(client, job, timeout))

    def results(self, job: JobId) -> list[Result]:
        """The signed results that there are so far, each proven, in the order of the inputs; failed ones, too."""
        with self._connected() as client:
            return self._wait(_results(client, job))

    def download(
        self,
        job: JobId,
        folder: Name | None = None,
        *,
        force: bool = False,
        unpack: bool = True,
        archives: bool = True,
    ) -> Path:
        """Keep what there is so far in a folder, and say which; None: `<job>-<name>` here.

        It gets `output/`, the files of an ended job (`unpack`), `results/`, the archives of its tasks (`archives`), and
        `job.json`. InputError when something else lies there, unless `force` replaces it.
        """
        wish = Wish(None if folder is None else Path(folder), force, unpack, archives)
        with self._connected() as client:
            return self._wait(_download(client, job, wish))

    # -- calls

    def pool(self, processes: int | None = None, **asked: Unpack[CallKeywords]) -> Pool:
        """A pool on this grid; see `discogrid.Pool`."""
        return Pool(processes, **self._here(asked))

    def executor(self, max_workers: int | None = None, **asked: Unpack[CallKeywords]) -> Executor:
        """An executor on this grid; see `discogrid.Executor`."""
        return Executor(max_workers, **self._here(asked))

    def _here(self, asked: CallKeywords) -> CallKeywords:
        if self.grid.own:
            return {**asked, "local": True}
        return {**asked, "grid": self.grid.name}

    # -- the thread with the event loop

    async def _stay(self, connected: "concurrent.futures.Future[AsyncClient]") -> None:
        """Connected, until `close`."""
        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with AsyncClient(self.grid, program="python") as client:
                connected.set_result(client)
                await self._leave.wait()
        except BaseException as error:
            if connected.done():
                raise
            connected.set_exception(error)

    @contextmanager
    def _connected(self) -> Iterator[AsyncClient]:
        if self._client is None:
            raise GridError(
                "this client is not connected", fix="Use it as `with discogrid.Client() as client:`."
            )
        yield self._client

    def _wait(self, asking: Coroutine[Any, Any, T]) -> T:
        """What this gives on the event loop; when the wait is interrupted, so is it."""
        assert self._loop is not None
        asked = asyncio.run_coroutine_threadsafe(asking, self._loop)
        try:
            return asked.result()
        except BaseException:
            asked.cancel()
            raise


async def _ended(client: AsyncClient, job: JobId, timeout: float | None) -> JobView:  # noqa: ASYNC109
    try:
        async with asyncio.timeout(timeout), client.watch(job, tasks=False) as changes:
            async for changed in changes:
                for view in changed.jobs:
                    if view.state.ended:
                        return view
                    if view.state is JobState.HELD and view.counts.ended:
                        raise DiscogridError(
                            f"job {job} is held: {view.reason}",
                            fix="`release` runs the rest all the same, `cancel` gives it up.",
                        )
    except TimeoutError:
        raise WaitTimeout(f"job {job} did not end within {timeout:g} s; it goes on") from None
    raise GridError(f"the coordinator tells no more of job {job}")


async def _results(client: AsyncClient, job: JobId) -> list[Result]:
    tasks = await client.tasks(job)
    return await client.results(job, [task.index for task in tasks if task.archive is not None])


async def _download(client: AsyncClient, job: JobId, wish: Wish) -> Path:
    download = await Download.begin(client, await client.job(job), wish)
    try:
        download.add(await client.tasks(job))
        await download.settle()
        return await download.finish(await client.job(job))
    finally:
        await download.close()
