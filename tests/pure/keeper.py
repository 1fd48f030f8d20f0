"""Watches an agent machine from outside and asserts what must hold whatever happens."""

from collections import Counter
from dataclasses import dataclass, field

from discogrid.types import (
    GIB,
    Attempt,
    Digest,
    FileRef,
    JobId,
    Limits,
    Offer,
    Requirements,
    Run,
    SandboxLevel,
)
from discogrid_agent import events
from discogrid_agent.events import Action, Event
from discogrid_agent.fetches import FETCHES_MAX
from discogrid_agent.machine import Machine
from discogrid_agent.outbox import SENDS_MAX

LEASE = 7


def file(name: str) -> FileRef:
    return FileRef(name, Digest(f"digest of {name}"), 1)


def verified(job: str, requirements: Requirements | None = None, *shared: str) -> events.JobVerified:
    files = tuple(file(name) for name in shared)
    return events.JobVerified(JobId(job), requirements or Requirements(), Limits(), files)


def received(run: Run, *, inputs: bool = True) -> events.RunReceived:
    files = (file(f"{run.job}-{index}") if inputs else None for index in range(run.start, run.stop))
    return events.RunReceived(run, tuple(files))


@dataclass
class Keeper:
    """A machine whose every step is checked, and the world it believes to be in."""

    machine: Machine = field(default_factory=lambda: Machine(Offer(2, 8 * GIB, SandboxLevel.STRICT)))
    slots: int = 2
    now: float = 0.0
    thorough: bool = True  # check all invariants after each event
    running: dict[Attempt, int] = field(default_factory=dict)
    killed: set[Attempt] = field(default_factory=set)
    fetching: dict[Digest, None] = field(default_factory=dict)
    pinned: set[Digest] = field(default_factory=set)
    sending: dict[Attempt, events.SendDone] = field(default_factory=dict)
    archives: set[Attempt] = field(default_factory=set)
    starts: Counter[Attempt] = field(default_factory=Counter)
    online: bool = False
    exited: bool = False

    def tell(self, event: Event, now: float | None = None) -> list[Action]:
        if now is not None:
            assert now >= self.now
            self.now = now
        self._before(event)
        actions = self.machine.handle(event, self.now)
        for action in actions:
            assert not self.exited, "an agent acts after its end"
            self._after(action)
        if not self.exited:
            if self.thorough:
                self.machine.check()
            due = self.machine.deadline()
            assert due is None or due > self.now, "what was due is not done"
        else:
            assert self.machine.deadline() is None
        assert sum(self.running.values()) <= self.slots, "more runs than the owner lends"
        assert len(self.fetching) <= FETCHES_MAX
        assert len(self.sending) <= SENDS_MAX
        return actions

    def _before(self, event: Event) -> None:
        match event:
            case events.BlobReady(digest):
                self.fetching.pop(digest, None)
                self.pinned.add(digest)
            case events.BlobFailed(digest):
                self.fetching.pop(digest, None)
            case events.BoxEmptied(attempt) if attempt in self.running:
                self.running[attempt] = 0  # it uses no slot any more, but is not over
            case events.AttemptEnded(attempt, _, _, result) if attempt in self.running:
                del self.running[attempt]
                self.killed.discard(attempt)
                if result is not None:
                    self.archives.add(attempt)
            case events.CallsAnswered(attempts):
                for attempt in attempts:
                    self.running.pop(attempt, None)
                    self.killed.discard(attempt)
            case events.ResultSent(attempt) | events.SendFailed(attempt):
                self.sending.pop(attempt, None)
            case events.Connected() | events.Disconnected() | events.Resynced():
                self.sending.clear()
                self.online = False
            case events.Welcomed():
                self.online = True
            case _:
                pass

    def _after(self, action: Action) -> None:
        match action:
            case events.Start(attempt, cpus, more=more):
                for one, taken in ((attempt, cpus), *((other, 0) for other, _ in more)):
                    self.starts[one] += 1
                    assert self.starts[one] == 1, "an attempt starts twice"
                    self.running[one] = taken
            case events.Kill(attempt):
                assert attempt in self.running, "what does not run is killed"
                assert attempt not in self.killed, "an attempt is killed twice"
                self.killed.add(attempt)
            case events.Fetch(wanted):
                assert wanted.digest not in self.fetching, "a blob is fetched twice at a time"
                self.fetching[wanted.digest] = None
            case events.StopFetch(digest):
                del self.fetching[digest]
            case events.DropBlobs(digests):
                assert self.pinned.issuperset(digests)
                self.pinned.difference_update(digests)
            case events.SendDone(attempt, _, _, result):
                assert attempt not in self.sending, "a result is sent twice at a time"
                assert result is None or attempt in self.archives, "a result without its archive"
                self.sending[attempt] = action
            case events.DropArchive(attempt):
                self.archives.remove(attempt)
                self.sending.pop(attempt, None)
            case events.SendHello():
                self.sending.clear()
                self.online = False
            case events.Exit():
                self.exited = True
            case _:
                pass
        if isinstance(action, events.SendBeat | events.SendStarted | events.SendDone | events.GiveBack):
            assert self.online, "a message without a line"
