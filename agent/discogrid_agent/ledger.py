"""What an agent must not forget when it is restarted: which attempts it ran, and what each submitter has used today.

Written before the attempt starts, without waiting for the disk: a killed agent loses nothing, a power cut the last
moments. Attempts are kept until their job's signature has expired, and are bounded: of a job that has ended, or of the
longest one when there are too many, only the highest count is kept, as if each of its tasks had run so often.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from discogrid.errors import DiscogridError
from discogrid.types import Attempt, Digest
from discogrid_agent.rules import day_of

ATTEMPTS_MAX = 2_000_000  # kept one by one; about 40 bytes each
JOBS_MAX = 500_000  # whose signature has not expired; about 100 bytes each
SPENT_DAYS = 2  # today, and yesterday for an owner who wonders
SWEEP_S = 600.0  # between two removals of what has expired

_SCHEMA = """
create table if not exists jobs (
    id integer primary key, digest text not null unique, expires real not null, ran integer not null
);
create table if not exists attempts (
    job integer not null, idx integer not null, lease integer not null, number integer not null,
    primary key (job, idx, lease, number)
) without rowid;
create table if not exists spent (
    submitter text not null, day integer not null, seconds real not null, primary key (submitter, day)
) without rowid;
"""


class LedgerError(DiscogridError):
    """The agent's ledger cannot be used, so that it cannot tell what ran here before."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What is known of a task: how often it ran here, and whether this very attempt did."""

    times: int
    same: bool


class Ledger:
    """One agent's, in a file that no other process uses. LedgerError when the file cannot be read or written."""

    def __init__(self, path: Path, *, attempts_max: int = ATTEMPTS_MAX, jobs_max: int = JOBS_MAX) -> None:
        """Open or make the file."""
        self._path = path
        self._attempts_max = attempts_max
        self._jobs_max = jobs_max
        self._swept = 0.0
        try:
            self._file = sqlite3.connect(path, isolation_level=None)
            self._file.execute("pragma journal_mode = wal")
            self._file.execute("pragma synchronous = normal")
            self._file.executescript(_SCHEMA)
            self._attempts = self._number("select count(*) from attempts")
            self._jobs = self._number("select count(*) from jobs")
        except sqlite3.Error as error:
            raise LedgerError(
                f"the ledger {path} cannot be read: {error}",
                why="The disk is full or damaged, or something else wrote into the file.",
                fix="Make room; or move the file away: then attempts that ran here before may be sent once more.",
            ) from None
        path.chmod(0o600)

    def close(self) -> None:
        """Write the last of it."""
        self._file.close()

    # -- attempts

    def ran(self, job: Digest, attempt: Attempt) -> Ran:
        """What ran here of the attempt's task before."""
        with self._explained():
            known = self._file.execute("select id, ran from jobs where digest = ?", (job,)).fetchone()
            if known is None:
                return Ran(0, same=False)
            query = "select lease, number from attempts where job = ? and idx = ?"
            rows = self._file.execute(query, (known[0], attempt.index)).fetchall()
            return Ran(known[1] + len(rows), same=(attempt.lease, attempt.number) in rows)

    def note(self, job: Digest, attempt: Attempt, expires: float, now: float) -> None:
        """The attempt starts now; its job's signature `expires` then (both in seconds since 1970)."""
        with self._changing():
            if not 0 <= now - self._swept < SWEEP_S:
                self._sweep(now)
            known = self._file.execute("select id from jobs where digest = ?", (job,)).fetchone()
            key = known[0] if known else self._new_job(job, expires)
            row = (key, attempt.index, attempt.lease, attempt.number)
            self._attempts += self._file.execute(
                "insert or ignore into attempts values (?, ?, ?, ?)", row
            ).rowcount
            if self._attempts > self._attempts_max:
                longest = "select job from attempts group by job order by count(*) desc limit 1"
                self._sum_up(self._number(longest))

    def job_ended(self, job: Digest) -> None:
        """The coordinator says that nothing of the job will run any more: its attempts need no rows of their own."""
        with self._changing():
            known = self._file.execute("select id from jobs where digest = ?", (job,)).fetchone()
            if known is not None:
                self._sum_up(known[0])

    # -- CPU seconds

    def spent(self, submitter: str, now: float) -> float:
        """The CPU seconds that the submitter's tasks have used since 00:00 UTC."""
        with self._explained():
            query = "select seconds from spent where submitter = ? and day = ?"
            known = self._file.execute(query, (submitter, day_of(now))).fetchone()
            return float(known[0]) if known else 0.0

    def spend(self, submitter: str, seconds: float, now: float) -> None:
        """The submitter's tasks have used so much more."""
        with self._changing():
            self._file.execute("delete from spent where day <= ?", (day_of(now) - SPENT_DAYS,))
            self._file.execute(
                "insert into spent values (?, ?, ?)"
                " on conflict (submitter, day) do update set seconds = seconds + excluded.seconds",
                (submitter, day_of(now), seconds),
            )

    # -- bookkeeping

    def _new_job(self, job: Digest, expires: float) -> int:
        if self._jobs >= self._jobs_max:
            raise LedgerError(
                f"its ledger holds {self._jobs_max:,} jobs that have not expired, and takes no more",
                why="To forget one of them would let it be sent here again and again.",
                fix="They expire within a week.",
            )
        made = self._file.execute("insert into jobs (digest, expires, ran) values (?, ?, 0)", (job, expires))
        self._jobs += 1
        return int(made.lastrowid or 0)

    def _sum_up(self, key: int) -> None:
        """Keep of a job's attempts only how often the task ran that ran most often."""
        times = "select count(*) as times from attempts where job = ? group by idx"
        most = self._number(f"select coalesce(max(times), 0) from ({times})", key)  # noqa: S608
        self._file.execute("update jobs set ran = ran + ? where id = ?", (most, key))
        self._attempts -= self._file.execute("delete from attempts where job = ?", (key,)).rowcount

    def _sweep(self, now: float) -> None:
        """Nobody can make this agent run an expired job."""
        self._swept = now
        attempts = "delete from attempts where job in (select id from jobs where expires < ?)"
        self._attempts -= self._file.execute(attempts, (now,)).rowcount
        self._jobs -= self._file.execute("delete from jobs where expires < ?", (now,)).rowcount

    def _number(self, query: str, *values: object) -> int:
        return int(self._file.execute(query, values).fetchone()[0])

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """All of it, or nothing and an error."""
        with self._explained():
            self._file.execute("begin")
            before = self._attempts, self._jobs
            try:
                yield
                self._file.execute("commit")
            except BaseException:
                self._attempts, self._jobs = before
                if self._file.in_transaction:
                    self._file.execute("rollback")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(f"its ledger {self._path} cannot be used: {error}") from None
