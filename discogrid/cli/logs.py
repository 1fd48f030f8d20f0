"""`discogrid logs`: what tasks wrote, from their archives or while they run."""

import asyncio
import re
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click

from discogrid.archive import open_archive
from discogrid.cli.absence import Absence
from discogrid.cli.command import Command
from discogrid.cli.connect import GridChoice, Reference, find, grid_options, on_grid
from discogrid.cli.console import Console
from discogrid.client import AsyncClient
from discogrid.download import Archives
from discogrid.errors import BlobError, ExitCode, GridError
from discogrid.types import MIB, TaskState
from discogrid.views import TaskView, task_label

LOG_BYTES_MAX = 256 * MIB  # of one stream of one task, in an archive
SETTLE_S = 0.5  # a running task that says nothing for so long has told what it has
SO_FAR_S = 10.0  # one that never stops saying something has told enough
FOLLOWED_AT_ONCE = 64
STREAMS = ("stdout", "stderr")
CUT = re.compile("\n\\[… ([0-9,]+) bytes cut …\\]\n".encode())  # as agents write it


@click.command(cls=Command)
@click.argument("reference", metavar="JOB[-TASK]", default="@last")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job or task has ended.")
@click.option(
    "--stream",
    type=click.Choice([*STREAMS, "both"]),
    default="both",
    show_default=True,
    help="What to print.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a piece of log.")
@grid_options
@click.pass_obj
def logs(
    console: Console, choice: GridChoice, reference: str, *, follow: bool, stream: str, as_json: bool
) -> int:
    """Print what a job's tasks, or one task (k3f9-12), wrote to stdout and stderr.

    Logs of several tasks have the task's name before each line. Both streams go to stdout.
    """

    async def read(client: AsyncClient) -> None:
        found = await find(client, reference)
        with tempfile.TemporaryDirectory(prefix="discogrid-") as folder:
            printer = Printer(console, streams=STREAMS if stream == "both" else (stream,), as_json=as_json)
            again = f"`discogrid logs -f {reference}` when the grid is in reach again."
            absence = Absence(console.narration, client.grid, "Ctrl-C: leave", again)
            await Reader(client, found, printer, Path(folder), absence, follow=follow).run()

    on_grid(choice, read)
    return ExitCode.SUCCEEDED


class Printer:
    """Prints pieces of logs: as they are for one task, line by line with a label for several, or as JSON."""

    def __init__(self, console: Console, *, streams: Iterable[str], as_json: bool) -> None:
        """Only `streams` are printed."""
        self._console = console
        self._streams = frozenset(streams)
        self._as_json = as_json
        self._open_lines: dict[tuple[str, str], bytes] = {}
        self.labelled = False

    def piece(self, label: str, stream: str, offset: int, content: bytes) -> None:
        """Print what a task wrote next."""
        if stream not in self._streams or not content:
            return
        if self._as_json:
            text = content.decode(errors="replace")
            self._console.output.json_line(
                "log", {"task": label, "stream": stream, "offset": offset, "text": text}
            )
        elif not self.labelled:
            self._console.output.bytes(content)
        else:
            *lines, rest = (self._open_lines.pop((label, stream), b"") + content).split(b"\n")
            self._open_lines[label, stream] = rest
            self._lines(label, lines)

    def ended(self, label: str) -> None:
        """The task says no more: print what has no line end yet."""
        for stream in STREAMS:
            if rest := self._open_lines.pop((label, stream), b""):
                self._lines(label, [rest])

    def say(self, text: str) -> None:
        """A remark about the logs."""
        self._console.narration.say(text)

    def _lines(self, label: str, lines: list[bytes]) -> None:
        if lines:
            self._console.output.bytes(b"".join(f"{label} | ".encode() + line + b"\n" for line in lines))


class Reader:
    """Reads the logs of one task or of all tasks of a job."""

    def __init__(
        self,
        client: AsyncClient,
        reference: Reference,
        printer: Printer,
        folder: Path,
        absence: Absence,
        *,
        follow: bool,
    ) -> None:
        """`folder` holds archives while they are read; who follows bears the coordinator's `absence`."""
        self._client = client
        self._job = reference.id
        self._index = reference.index
        self._printer = printer
        self._folder = folder
        self._absence = absence
        self._follow = follow
        self._archives: Archives | None = None
        self._printed: dict[tuple[int, str], int] = {}  # bytes of a task's stream that were printed
        self._attempts: dict[int, int] = {}
        self._joined: set[tuple[int, str]] = set()  # streams that go on from what was printed
        self._cut: set[int] = set()  # tasks of whose output something was left out
        self._gate = asyncio.Semaphore(FOLLOWED_AT_ONCE)

    async def run(self) -> None:
        """All there is, or all that comes."""
        if self._index is not None:
            tasks = await self._client.tasks(self._job, self._index, self._index + 1)
        else:
            tasks = await self._client.tasks(self._job)
        self._printer.labelled = len(tasks) > 1
        ended = [task for task in tasks if task.state.ended]
        await self._print_archived(ended)
        rest = [task for task in tasks if not task.state.ended]
        if self._follow:
            await asyncio.gather(*(self._follow_task(task) for task in rest))
            return
        for task in rest:
            if task.state is TaskState.RUNNING:
                await self._print_so_far(task)
            elif self._index is not None:
                self._printer.say(f"{task.label} is {task.state}: `discogrid why {task.label}` says more.")

    async def _follow_task(self, task: TaskView) -> None:
        async with self._gate:
            while True:
                try:
                    await self._follow_to_the_end(task)
                except (GridError, BlobError) as error:
                    await self._absence.bear(error)
                else:
                    return

    async def _follow_to_the_end(self, task: TaskView) -> None:
        [now] = await self._client.tasks(self._job, task.index, task.index + 1)
        self._absence.end()
        if not now.state.ended:
            self._joined -= {(task.index, stream) for stream in STREAMS}
            async with self._client.logs(self._job, task.index) as chunks:
                async for pushed, content in chunks:
                    if pushed.state is not None:
                        break
                    self._live(task, pushed.attempt, pushed.stream, pushed.offset, content)
        # What came between the last push and the end, and what was written before anybody listened.
        await self._print_archived(await self._client.tasks(self._job, task.index, task.index + 1))

    async def _print_so_far(self, task: TaskView) -> None:
        async with self._client.logs(self._job, task.index) as chunks:
            with suppress(TimeoutError, StopAsyncIteration):
                end = time.monotonic() + SO_FAR_S
                while time.monotonic() < end:
                    async with asyncio.timeout(SETTLE_S):
                        pushed, content = await anext(chunks)
                    if pushed.state is not None:
                        break
                    self._live(task, pushed.attempt, pushed.stream, pushed.offset, content)
        self._printer.ended(task.label)
        self._printer.say(f"{task.label} still runs; -f goes on.")

    def _live(self, task: TaskView, attempt: int, stream: str, offset: int, content: bytes) -> None:
        if self._attempts.setdefault(task.index, attempt) != attempt:
            self._attempts[task.index] = attempt
            self._printed = {key: end for key, end in self._printed.items() if key[0] != task.index}
            self._printer.say(f"{task.label} is tried again (attempt {attempt})")
        printed = self._printed.get((task.index, stream), 0)
        if offset > printed and (task.index, stream) not in self._joined:
            return  # what was kept of the log comes first, or what was missed would never be printed
        self._joined.add((task.index, stream))
        if offset > printed and task.index not in self._cut:
            self._cut.add(task.index)
            self._printer.say(
                f"{offset - printed:,} bytes of {stream} of {task.label} are left out here: it writes more than is "
                "sent while it runs, or than is kept (said once)"
            )
        fresh = content[max(printed - offset, 0) :]
        if fresh:
            self._printer.piece(task.label, stream, max(offset, printed), fresh)
            self._printed[task.index, stream] = offset + len(content)

    async def _print_archived(self, tasks: list[TaskView]) -> None:
        with_archive = [task for task in tasks if task.archive is not None]
        if with_archive:
            if self._archives is None:
                opened, _ = await self._client.content(self._job)
                self._archives = Archives(self._client, self._job, opened, self._folder)
            await self._archives.fetch([task.index for task in with_archive])
        for task in tasks:
            if self._archives is None or task.index not in self._archives.bodies:
                if self._index is not None:
                    self._printer.say(f"{task_label(self._job, task.index)} is {task.state} and left no log.")
                continue
            self._print_archive(self._archives, task)

    def _print_archive(self, archives: Archives, task: TaskView) -> None:
        label = task.label
        with open_archive(archives.path(task.index)) as archive:
            for stream in STREAMS:
                name = f"DiscoTask.{stream}.0.txt"
                content = archive.read(name, LOG_BYTES_MAX) if name in archive else b""
                same = self._attempts.get(task.index, task.attempt) == task.attempt
                printed = self._printed.get((task.index, stream), 0) if same else 0
                self._printer.piece(label, stream, printed, rest_of(content, printed))
        self._printer.ended(label)
        archives.path(task.index).unlink()


def rest_of(content: bytes, printed: int) -> bytes:
    """What an archived log has beyond the first `printed` bytes of the stream, of which its middle may be cut."""
    # Of a log that was cut, both halves are as long; what a script printed itself may look like a cut.
    cuts = (found for found in CUT.finditer(content) if abs(found.start() + found.end() - len(content)) <= 1)
    cut = next(cuts, None)
    if cut is None:
        return content[printed:]
    resumes = cut.start() + int(cut[1].replace(b",", b""))
    if printed < resumes:
        return content[min(printed, cut.start()) :]
    return content[cut.end() + printed - resumes :]
