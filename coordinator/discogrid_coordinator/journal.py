"""What must survive a restart of the coordinator: jobs, results and small archives, in SQLite.

Law of the file: a write only waits here, until `take` gathers what waits and `write` makes it one transaction that
survives the kill of this process and a power cut (WAL, synchronous=FULL). Readers see what was written, nothing else.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from discogrid.bundle import TASKS_MAX
from discogrid.errors import DiscogridError
from discogrid.types import AgentId, Attempt, Digest, JobId, JobState, Outcome, TaskState
from discogrid.views import JobView
from discogrid_coordinator.retention import Kept

SCHEMA_VERSION = 2
BUSY_S = 5.0
RUN_TIMES_MAX = 1_000_000  # that are remembered, the newest; older ones go when the file is opened

Write = tuple[str, tuple[object, ...]]
"""A statement and its values."""

_TABLES = """
create table if not exists jobs (
    id text primary key, digest text not null unique, envelope blob not null, leaves blob not null,
    created real not null, held integer not null, state text not null,
    started real, ended real, reason text not null default '', view blob
);
create table if not exists results (
    job text not null, idx integer not null, number integer not null, lease integer not null, agent text not null,
    outcome text not null, exit integer, started real, ended real, seconds real not null, reason text not null,
    archive text, archive_bytes integer not null, envelope blob not null,
    state text, failures integer not null default 0,
    primary key (job, idx)
) without rowid;
create table if not exists agents (name text primary key) without rowid;
create table if not exists run_times (
    age integer primary key, kind text not null, input text not null, seconds real not null, unique (kind, input)
);
create index if not exists results_archive on results (archive);
create index if not exists jobs_ended on jobs (ended);
create table if not exists archives (digest text primary key, bytes blob not null);
"""

_FROM_1 = """
alter table jobs add column view blob;
alter table results add column failures integer not null default 0;
"""
"""What made version 2 of version 1."""

_decode_view = msgspec.msgpack.Decoder(JobView).decode


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it was accepted and as far as it has come. Times are seconds since 1970.

    Of one that has ended, `view` says all that a restart needs; envelope and leaves are empty then, see `content`.
    """

    id: JobId
    digest: Digest
    envelope: bytes
    leaves: bytes
    created: float
    held: bool
    state: JobState
    started: float | None = None
    ended: float | None = None
    reason: str = ""
    view: JobView | None = None


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """One ended attempt. `state` is the task's end, None while the task goes on with another attempt.

    `failures` are the attempts of the task that have failed so far, this one among them.
    """

    attempt: Attempt
    agent: AgentId
    outcome: Outcome
    exit: int | None
    started: float | None
    ended: float | None
    seconds: float
    reason: str
    archive: Digest | None
    archive_bytes: int
    envelope: bytes
    state: TaskState | None
    failures: int = 0


class Journal:
    """One SQLite file. Everything is for one thread, but `write`, which is for one thread at a time, any one."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; DiscogridError when it belongs to another version or cannot be used."""
        self._waiting: list[Write] = []
        with contextlib.ExitStack() as opened:
            try:
                self._writer = opened.enter_context(contextlib.closing(_connect(path)))
                _prepare(self._writer, path)
                # Another connection to read: one that is writing makes whoever reads by it wait for the disk.
                self._db = opened.enter_context(contextlib.closing(_connect(path)))
                self._db.execute("pragma query_only=on")
            except sqlite3.Error as error:
                raise _unusable(path, error) from None
            opened.pop_all()

    def close(self) -> None:
        """Close; what still waits was promised to nobody and is forgotten."""
        self._db.close()
        self._writer.close()

    def __len__(self) -> int:
        """How many writes wait."""
        return len(self._waiting)

    def take(self) -> list[Write]:
        """What waits, in order; it does not wait any more."""
        taken, self._waiting = self._waiting, []
        return taken

    def write(self, writes: Sequence[Write]) -> None:
        """Make these durable, all or none; sqlite3.Error when that fails."""
        if not writes:
            return
        db = self._writer
        db.execute("begin immediate")
        try:
            for statement, values in writes:
                db.execute(statement, values)
            db.execute("commit")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have done so itself
                db.execute("rollback")
            raise

    def commit(self) -> None:
        """Make all that waits durable, here and now."""
        self.write(self.take())

    # -- writing

    def add_job(self, job: JobRecord) -> None:
        """Keep an accepted job."""
        self._write(
            "insert into jobs (id, digest, envelope, leaves, created, held, state) values (?, ?, ?, ?, ?, ?, ?)",
            (job.id, job.digest, job.envelope, job.leaves, job.created, job.held, job.state),
        )

    def hold_job(self, job: JobId, reason: str) -> None:
        """Nothing more of the job starts until it is released."""
        self._write(
            "update jobs set held = 1, state = ?, reason = ? where id = ?", (JobState.HELD, reason, job)
        )

    def release_job(self, job: JobId) -> None:
        """The job is not held any more."""
        self._write("update jobs set held = 0, reason = '', state = ? where id = ?", (JobState.QUEUED, job))

    def start_job(self, job: JobId, now: float) -> None:
        """The job's first task runs."""
        self._write("update jobs set state = ?, started = ? where id = ?", (JobState.RUNNING, now, job))

    def end_job(self, view: JobView) -> None:
        """The job has ended, and this is what is shown of it from now on."""
        self._write(
            "update jobs set state = ?, reason = ?, ended = ?, view = ? where id = ?",
            (view.state, view.reason, view.ended, msgspec.msgpack.encode(view), view.id),
        )

    def put_result(self, result: ResultRecord, archive: bytes | None) -> None:
        """Keep an attempt's end, with its archive when it came inline, unless the task was done already."""
        attempt = result.attempt
        self._write(
            "insert into results values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " on conflict (job, idx) do update set number = excluded.number, lease = excluded.lease,"
            " agent = excluded.agent, outcome = excluded.outcome, exit = excluded.exit, started = excluded.started,"
            " ended = excluded.ended, seconds = excluded.seconds, reason = excluded.reason,"
            " archive = excluded.archive, archive_bytes = excluded.archive_bytes, envelope = excluded.envelope,"
            " state = excluded.state, failures = excluded.failures where results.state is not 'done'",
            (
                attempt.job,
                attempt.index,
                attempt.number,
                attempt.lease,
                result.agent,
                result.outcome,
                result.exit,
                result.started,
                result.ended,
                result.seconds,
                result.reason,
                result.archive,
                result.archive_bytes,
                result.envelope,
                result.state,
                result.failures,
            ),
        )
        if archive is not None and result.archive is not None:
            self._write(
                "insert or ignore into archives select ?, ?"
                " where exists (select 1 from results where job = ? and idx = ? and archive = ?)",
                (result.archive, archive, attempt.job, attempt.index, result.archive),
            )

    def end_task(self, job: JobId, index: int, state: TaskState, reason: str) -> None:
        """The task ended in this state, whatever its newest attempt said."""
        self._write(
            "insert into results values (?, ?, 0, 0, '', ?, null, null, null, 0, ?, null, 0, x'', ?, 0)"
            " on conflict (job, idx) do update set state = excluded.state, reason = excluded.reason"
            " where results.state is not 'done'",
            (job, index, Outcome.BOX_FAILED, reason, state),
        )

    def drop_job(self, job: JobId) -> None:
        """Forget a job with its results, and small archives that are of no other job."""
        self._write(
            "delete from archives where digest in (select archive from results where job = ?) and not exists"
            " (select 1 from results where archive = archives.digest and job <> ?)",
            (job, job),
        )
        self._write("delete from results where job = ?", (job,))
        self._write("delete from jobs where id = ?", (job,))

    def add_agent(self, agent: AgentId) -> None:
        """The agent has come: after a restart it may still have tasks."""
        self._write("insert or ignore into agents values (?)", (agent,))

    def drop_agent(self, agent: AgentId) -> None:
        """The agent is gone."""
        self._write("delete from agents where name = ?", (agent,))

    def learn(self, kind: str, task: str, seconds: float) -> None:
        """A task of this kind took so long, as it may the next time."""
        self._write(
            "insert or replace into run_times (kind, input, seconds) values (?, ?, ?)", (kind, task, seconds)
        )

    # -- reading

    def agents(self) -> tuple[AgentId, ...]:
        """Who was here when it was last written."""
        rows = self._db.execute("select name from agents order by name")
        return tuple(AgentId(name) for (name,) in rows)

    def durations(self, kind: str) -> dict[str, float]:
        """Seconds that tasks of this kind took, the newest of each: at most RUN_TIMES_MAX."""
        rows = self._db.execute(
            "select input, seconds from run_times where kind = ? limit ?", (kind, RUN_TIMES_MAX)
        )
        return dict(rows.fetchall())

    def oldest(self, most: int) -> list[Kept]:
        """The jobs that ended first, and what their archives take."""
        rows = self._db.execute(
            "select id, ended, (select coalesce(sum(archive_bytes), 0) from results where job = id)"
            " from jobs where ended is not null order by ended, id limit ?",
            (most,),
        )
        return [Kept(JobId(id_), ended, size) for id_, ended, size in rows]

    def jobs(self) -> Iterator[JobRecord]:
        """All jobs, in the order in which they were accepted."""
        for row in self._db.execute(
            "select id, digest, iif(view is null, envelope, x''), iif(view is null, leaves, x''), created, held, state,"
            " started, ended, reason, view from jobs order by rowid"
        ):
            id_, digest, envelope, leaves, created, held, state, started, ended, reason, shown = row
            view = _view(shown)
            if view is None and shown is not None:  # written by a version that showed other things
                envelope, leaves = self.content(JobId(id_)) or (b"", b"")
            yield JobRecord(
                JobId(id_),
                Digest(digest),
                envelope,
                leaves,
                created,
                bool(held),
                JobState(state),
                started,
                ended,
                reason,
                view,
            )

    def content(self, job: JobId) -> tuple[bytes, bytes] | None:
        """A job's envelope and leaves."""
        row = self._db.execute("select envelope, leaves from jobs where id = ?", (job,)).fetchone()
        return None if row is None else (bytes(row[0]), bytes(row[1]))

    def stored_archives(self) -> Iterator[tuple[JobId, Digest]]:
        """The result archives of all jobs that did not come inline: they are blobs."""
        for job, digest in self._db.execute(
            "select job, archive from results where archive is not null"
            " and not exists (select 1 from archives where digest = results.archive)"
        ):
            yield JobId(job), Digest(digest)

    def results(self, job: JobId, start: int = 0, stop: int = TASKS_MAX) -> Iterator[ResultRecord]:
        """The newest kept attempt of each of a job's tasks `start <= index < stop` that has one, in order of index."""
        for row in self._db.execute(
            "select * from results where job = ? and idx >= ? and idx < ? order by idx", (job, start, stop)
        ):
            yield _result(row)

    def result(self, job: JobId, index: int) -> ResultRecord | None:
        """The newest kept attempt of one task."""
        row = self._db.execute("select * from results where job = ? and idx = ?", (job, index)).fetchone()
        return _result(row) if row else None

    def archive(self, digest: Digest) -> bytes | None:
        """A small archive that came inline."""
        row = self._db.execute("select bytes from archives where digest = ?", (digest,)).fetchone()
        return bytes(row[0]) if row else None

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        self._waiting.append((statement, values))


def _connect(path: Path) -> sqlite3.Connection:
    # The thread that writes is not the one that opens and closes.
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables; DiscogridError when the file is another version's, which is left as it is."""
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=full")
    version = db.execute("pragma user_version").fetchone()[0]
    if version == 1:
        db.executescript(f"begin; {_FROM_1} pragma user_version={SCHEMA_VERSION}; commit;")
    elif version not in (0, SCHEMA_VERSION):
        raise DiscogridError(
            f"the journal {path} was written by another version of discogrid ({version})",
            fix="Start that version, or move the file away to begin with an empty grid.",
        )
    # At once: a new file would else wait for the disk once a table.
    stamp = "" if version == SCHEMA_VERSION else f"pragma user_version={SCHEMA_VERSION};"
    db.executescript(f"begin; {_TABLES} {stamp} commit;")
    db.execute("delete from run_times where age <= (select max(age) from run_times) - ?", (RUN_TIMES_MAX,))


def _view(shown: bytes | None) -> JobView | None:
    try:
        return None if shown is None else _decode_view(shown)
    except msgspec.MsgspecError:
        return None


def _unusable(path: Path, error: sqlite3.Error) -> DiscogridError:
    return DiscogridError(
        f"the journal {path} cannot be used: {error}",
        fix="Free some disk space, or move the file away to begin with an empty grid.",
    )


def _result(row: tuple[object, ...]) -> ResultRecord:
    (
        job,
        index,
        number,
        lease,
        agent,
        outcome,
        exit_,
        started,
        ended,
        seconds,
        reason,
        archive,
        size,
        envelope,
        state,
        failures,
    ) = row
    return ResultRecord(
        Attempt(JobId(str(job)), int(str(index)), int(str(number)), int(str(lease))),
        AgentId(str(agent)),
        Outcome(str(outcome)),
        None if exit_ is None else int(str(exit_)),
        None if started is None else float(str(started)),
        None if ended is None else float(str(ended)),
        float(str(seconds)),
        str(reason),
        None if archive is None else Digest(str(archive)),
        int(str(size)),
        bytes(envelope) if isinstance(envelope, bytes) else b"",
        None if state is None else TaskState(str(state)),
        int(str(failures)),
    )
