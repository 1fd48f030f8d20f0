"""What the wire can carry: tasks a second through real sockets with CURVE, by size of range and kind of commit.

A coordinator (ROUTER) hands out runs of tasks, an agent in another process (DEALER) answers at once with TasksDone;
both speak the real messages. Rows differ in how many tasks share a message, whether each result is signed and
verified, and whether the coordinator commits the results of a drain to its journal before it acknowledges them.
Run: python benchmarks/wire_spike.py [TASKS]
"""

import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path

from discogrid import transport
from discogrid.bundle import ResultBody, open_results, seal_result
from discogrid.channel import Channel, Received
from discogrid.keys import Identity, load_or_create
from discogrid.messages import Heartbeat, RunTasks, TaskDone, TasksCommitted, TasksDone
from discogrid.trust.owner import own_keeper
from discogrid.trust.roster import Roster
from discogrid.types import AgentId, Attempt, Digest, JobId, NodeId, Outcome, Run, SandboxLevel
from discogrid.wire import pack_parts, unpack_parts
from discogrid_coordinator.journal import Journal, ResultRecord

JOB = JobId("spke")
DIGEST = Digest("blake3:" + "0" * 64)
REPEATS = 3
WINDOW = 1024  # tasks under way
ARCHIVE = b"x" * 600  # what the archive of a trivial task weighs


def curve(identity: Identity) -> transport.CurveKeys:
    """The node's CURVE keys."""
    return transport.CurveKeys(identity.curve_public, identity.curve_secret)


def body_of(attempt: Attempt, agent: NodeId) -> ResultBody:
    """A result as an agent signs it."""
    return ResultBody(
        job=DIGEST,
        index=attempt.index,
        number=1,
        lease=1,
        agent=agent,
        sandbox=SandboxLevel.STRICT,
        outcome=Outcome.SUCCEEDED,
        exit=0,
        started=0.0,
        ended=0.0,
        seconds=0.0,
        archive=DIGEST,
        archive_bytes=len(ARCHIVE),
        outputs=(),
    )


def agent_process(endpoint: str, server_key: bytes, folder: str, *, signed: bool) -> None:
    """Answer every run at once."""

    async def serve() -> None:
        identity = load_or_create(Path(folder) / "identity.json")
        context = transport.new_context()
        ended = asyncio.Event()

        def take(batch: list[Received]) -> None:
            for received in batch:
                if not isinstance(received.message, RunTasks):
                    continue
                for run in received.message.runs:
                    if run.stop == 0:
                        ended.set()
                        return
                    attempts = run.attempts()
                    envelopes = [
                        seal_result(body_of(attempt, identity.id), identity) if signed else b""
                        for attempt in attempts
                    ]
                    done = tuple(
                        TaskDone(
                            attempt=attempt, outcome=Outcome.SUCCEEDED, exit=0, archive=DIGEST, inline=True
                        )
                        for attempt in attempts
                    )
                    channel.send(
                        TasksDone(tasks=done), pack_parts(envelopes), pack_parts([ARCHIVE] * len(attempts))
                    )

        channel = Channel(lambda on: transport.dial(context, endpoint, curve(identity), server_key, on), take)
        channel.send(Heartbeat())
        await ended.wait()
        channel.close()
        context.destroy(linger=0)

    asyncio.run(serve())


async def measure(tasks: int, size: int, *, signed: bool, journalled: bool) -> float:
    """Tasks a second for runs of `size` tasks."""
    with tempfile.TemporaryDirectory() as folder:
        identity = load_or_create(Path(folder) / "identity.json")
        roster = own_keeper(Path(folder), identity, "attic").current
        journal = Journal(Path(folder) / "journal.sqlite")
        context = transport.new_context()
        doorkeeper = transport.Doorkeeper(context, roster.admitted)
        coordinator = _Coordinator(tasks, size, roster, journal if journalled else None, signed=signed)
        channel = Channel(
            lambda on: transport.listen(context, "tcp://127.0.0.1:0", curve(identity), doorkeeper, on),
            coordinator.take,
        )
        coordinator.channel = channel
        process = multiprocessing.get_context("spawn").Process(
            target=agent_process,
            args=(channel.endpoint, identity.curve_public, folder),
            kwargs={"signed": signed},
        )
        process.start()
        await coordinator.finished.wait()
        process.join()
        channel.close()
        doorkeeper.close()
        context.destroy(linger=0)
        return tasks / coordinator.seconds


class _Coordinator:
    channel: Channel

    def __init__(
        self, tasks: int, size: int, roster: Roster, journal: Journal | None, *, signed: bool
    ) -> None:
        self.tasks, self.size, self.roster, self.journal, self.signed = tasks, size, roster, journal, signed
        self.finished = asyncio.Event()
        self.seconds = 0.0
        self._next = self._done = 0
        self._began = 0.0

    def take(self, batch: list[Received]) -> None:
        acknowledged: list[Attempt] = []
        route = batch[0].route
        for received in batch:
            if isinstance(received.message, Heartbeat):
                self._began = time.perf_counter()
            elif isinstance(received.message, TasksDone):
                acknowledged += self._results(received.message, received.payload)
        if self.journal is not None:
            self.journal.commit()
        for at in range(0, len(acknowledged), 512):
            self.channel.send(TasksCommitted(attempts=tuple(acknowledged[at : at + 512])), route=route)
        self._done += len(acknowledged)
        while self._next < self.tasks and self._next - self._done < WINDOW:
            stop = min(self._next + self.size, self.tasks)
            self.channel.send(RunTasks(runs=(Run(JOB, self._next, stop, 1, 1),)), b"", b"", route=route)
            self._next = stop
        if self._done == self.tasks:
            self.seconds = time.perf_counter() - self._began
            self.channel.send(RunTasks(runs=(Run(JOB, 0, 0, 1, 1),)), b"", b"", route=route)
            self.finished.set()

    def _results(self, message: TasksDone, payload: list[bytes]) -> list[Attempt]:
        envelopes = unpack_parts(payload[0], part_bytes_max=1 << 20)
        archives = unpack_parts(payload[1], part_bytes_max=1 << 20)
        for done, envelope, archive in zip(message.tasks, envelopes, archives, strict=True):
            if self.signed:
                open_results(envelope, self.roster)
            if self.journal is not None:
                record = ResultRecord(
                    done.attempt,
                    AgentId("a"),
                    done.outcome,
                    0,
                    0.0,
                    0.0,
                    0.0,
                    "",
                    DIGEST,
                    len(archive),
                    envelope,
                    None,
                )
                self.journal.put_result(record, archive)
        return [done.attempt for done in message.tasks]


def main() -> None:
    """Print the table."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    print(f"{tasks} tasks, {WINDOW} under way, median of {REPEATS} runs, tasks/s")
    print(f"{'tasks a message':>16} {'bare':>10} {'journal':>10} {'signed':>10} {'both':>10}")
    for size in (1, 16, 64, 256):
        cells = []
        for signed, journalled in ((False, False), (False, True), (True, False), (True, True)):
            share = tasks if not signed else max(1, tasks // 5)
            runs = [
                asyncio.run(measure(share, size, signed=signed, journalled=journalled))
                for _ in range(REPEATS)
            ]
            cells.append(statistics.median(runs))
        print(f"{size:>16} " + " ".join(f"{cell:>10,.0f}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
