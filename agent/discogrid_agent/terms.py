"""On what terms this agent runs what it is asked to: the roster, the owner's rules, and what it remembers of before."""

import logging
import time
from collections.abc import Callable

from discogrid.bundle import Job, Manifest
from discogrid.keys import shown_id
from discogrid.trust.roster import Roster
from discogrid.types import Attempt, Digest, Limits, NodeId, Role
from discogrid_agent import acceptance
from discogrid_agent.call_history import CallHistory
from discogrid_agent.charges import Charges
from discogrid_agent.ledger import Ledger, LedgerError
from discogrid_agent.rules import Refusal, Submitter
from discogrid_agent.rules_file import RulesFile

BOOK_S = 10.0  # between two bookings of what running tasks use: so much may be lost with a killed agent
LOOK_S = 1.0  # for which an answer about a job of calls holds; changed rules are heard of by themselves
LEDGER_PAUSE_S = 600.0  # before a task is wanted again that could not be written down

log = logging.getLogger(__name__)


class Terms:
    """Says no, and why. `now` is in seconds since 1970 throughout."""

    def __init__(self, file: RulesFile, ledger: Ledger, roster: Callable[[], Roster]) -> None:
        """Go by these rules and the roster that `roster` gives at that moment."""
        self._file = file
        self._ledger = ledger
        self._roster = roster
        self._charges = Charges()
        self._calls = CallHistory()
        self._looked: dict[
            Digest, tuple[float, Refusal | None]
        ] = {}  # when a job of calls was looked at, and what was said
        self._booked = time.monotonic()
        self._warn_of_strangers()

    @property
    def limits(self) -> Limits:
        """The most that any task may use, by the owner's rules."""
        return self._file.rules.limits

    @property
    def network(self) -> bool:
        """Whether the owner lets anybody's tasks reach the network."""
        return self._file.rules.network

    def changed(self) -> bool:
        """Whether the owner has laid down other rules; to be called every second."""
        if not self._file.look():
            return False
        self._warn_of_strangers()
        return True

    def refusal(self, manifest: Manifest, now: float) -> Refusal | None:
        """Why no task of the job may start here now; None when it may."""
        member = self._roster().member(manifest.submitter)
        submitter = _submitter(manifest.submitter, member.name if member else "")
        if member is None or Role.SUBMITTER not in member.roles:
            return Refusal(f"{submitter.name or submitter.shown} may not submit to this grid any more")
        try:
            spent_s = self._spent_s(manifest.submitter, now)
        except LedgerError as error:
            return Refusal(error.what, now + LEDGER_PAUSE_S)
        network = manifest.requirements.network
        return self._file.rules.refusal(submitter, network=network, spent_s=spent_s, now=now)

    def start(self, job: Job, attempt: Attempt, now: float) -> Refusal | None:
        """Why the attempt may not start; None when it does, which is remembered."""
        manifest = job.manifest
        if refusal := self.refusal(manifest, now):
            return refusal
        try:
            ran = self._ledger.ran(job.digest, attempt)
            if reason := acceptance.refusal(ran=ran.times, same=ran.same, retries=manifest.retries):
                log.error("task %d of job %s was refused: %s", attempt.index, attempt.job, reason)
                return Refusal(reason)
            self._ledger.note(job.digest, attempt, manifest.expires, now)
        except LedgerError as error:
            return Refusal(error.what, now + LEDGER_PAUSE_S)
        self._charges.begin(attempt, manifest.submitter, manifest.requirements.cpus, time.monotonic())
        return None

    def start_calls(self, job: Job, attempt: Attempt, now: float) -> Refusal | None:
        """The same for a task of calls, of which there may be thousands in a second: it is remembered in memory alone."""
        manifest = job.manifest
        until, refusal = self._looked.get(job.digest, (0.0, None))
        if not now - LOOK_S < until <= now:
            refusal = self.refusal(manifest, now)
            self._looked[job.digest] = (now, refusal)
        if refusal is not None:
            return refusal
        if reason := self._calls.start(job.digest, attempt.index, manifest.retries):
            return Refusal(reason)
        self._charges.begin(attempt, manifest.submitter, manifest.requirements.cpus, time.monotonic())
        return None

    def stop(self, attempt: Attempt) -> None:
        """The attempt uses nothing any more."""
        self._charges.end(attempt, time.monotonic())

    def job_ended(self, job: Job) -> None:
        """The coordinator says that nothing of the job will run any more."""
        if job.manifest.calls is not None:
            self._calls.end(job.digest)
            self._looked.pop(job.digest, None)
            return
        try:
            self._ledger.job_ended(job.digest)
        except LedgerError as error:
            log.warning("%s", error)  # its attempts are kept one by one until it expires

    def book(self, now: float, *, at_once: bool = False) -> None:
        """Write down what tasks have used since the last time; every BOOK_S unless `at_once`."""
        moment = time.monotonic()
        if moment - self._booked < BOOK_S and not at_once:
            return
        self._booked = moment
        for submitter, seconds in self._charges.book(moment).items():
            try:
                self._ledger.spend(submitter, seconds, now)
            except LedgerError as error:
                log.warning("%.0f CPU seconds of %s are not booked: %s", seconds, submitter[:8], error)

    def close(self) -> None:
        """Book the last and close the ledger."""
        self.book(time.time(), at_once=True)
        self._ledger.close()

    def _spent_s(self, submitter: NodeId, now: float) -> float:
        return self._ledger.spent(submitter, now) + self._charges.open(submitter, time.monotonic())

    def _warn_of_strangers(self) -> None:
        """A rule for a name that nobody has may be one for a name that was mistyped."""
        members = [
            _submitter(member.id, member.name)
            for member in self._roster().body.members
            if Role.SUBMITTER in member.roles
        ]
        known = {name for member in members for name in (member.id, member.shown, member.name)}
        for name in self._file.rules.submitters:
            if name not in known:
                log.warning("the rules name %r, and no submitter of this grid is called so", name)


def _submitter(node: NodeId, name: str) -> Submitter:
    return Submitter(node, shown_id(node), name)
