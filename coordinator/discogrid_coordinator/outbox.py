"""What waits for the journal before it leaves: messages by route, and lines to agents that are joined into batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from discogrid.messages import (
    PROTOCOL_OLDEST,
    BlobSource,
    CallsDone,
    CallsLost,
    CallSlots,
    CallsOver,
    CancelTasks,
    HeartbeatSeen,
    JobEnded,
    JobSpec,
    Message,
    RunCalls,
    RunTasks,
    ServeBlob,
    TasksCommitted,
    TasksDiscarded,
)
from discogrid.transfer import pack_small
from discogrid.types import AgentId, Attempt, FileRef, JobId, Run
from discogrid.wire import pack_parts
from discogrid_coordinator.call_job import CallJob, Parcel
from discogrid_coordinator.intake import Accepted
from discogrid_coordinator.peers import Peer, Peers

ITEMS_MESSAGE_MAX = 512  # runs or attempts in one message
LEAVES_BYTES_MAX = 4 << 20  # in one message

PROMISES_NOTHING = (HeartbeatSeen, BlobSource, ServeBlob, CallsDone, CallsLost, CallSlots, CallsOver)
"""What waits for no disk: a slow one must not make anybody believe that the coordinator is gone, and calls are held by their client."""

Line = Run | Attempt | JobId
Kind = (
    type[JobSpec]
    | type[RunTasks]
    | type[CancelTasks]
    | type[TasksCommitted]
    | type[TasksDiscarded]
    | type[JobEnded]
)

Send = Callable[[bytes, Message, Sequence[bytes]], None]
"""Lets one message leave by a route, with its payload."""


@dataclass(slots=True)
class Mail:
    """What leaves together: messages by route, and lines to agents, each in order."""

    messages: list[tuple[bytes, Message, Sequence[bytes]]] = field(default_factory=list)
    lines: dict[AgentId, tuple[Peer, list[tuple[Kind, list[Line]]]]] = field(default_factory=dict)


class Outbox:
    """Everything the coordinator has to say, held until it is taken and may leave."""

    def __init__(
        self,
        peers: Peers,
        accepted: Callable[[JobId], Accepted | None],
        read: Callable[[FileRef], bytes | None],
    ) -> None:
        """`accepted` finds the job that a run belongs to, `read` a blob, if it is here."""
        self._read = read
        self._peers = peers
        self._accepted = accepted
        self._mail = Mail()
        self._prompt = Mail()

    def put(self, route: bytes, message: Message, payload: Sequence[bytes] = ()) -> None:
        """A message for one session; one that its protocol does not know is kept from it."""
        peer = self._peers.get(route)
        if message.since <= (peer.protocol if peer else PROTOCOL_OLDEST):
            mail = self._prompt if isinstance(message, PROMISES_NOTHING) else self._mail
            mail.messages.append((route, message, payload))

    def tell(self, agent: AgentId, kind: Kind, items: Sequence[Line]) -> None:
        """Lines for the session that an agent has now, kept in order; neighbours of one kind share a message."""
        if (peer := self._peers.agent(agent)) is None:
            return
        known = self._mail.lines.get(agent)
        if known is None or known[0] is not peer:  # what an older session was to be told is out of date
            known = self._mail.lines[agent] = (peer, [])
        lines = known[1]
        if lines and lines[-1][0] is kind:
            lines[-1][1].extend(items)
        else:
            lines.append((kind, list(items)))

    def assign(self, agent: AgentId, run: Run) -> None:
        """A run for an agent, after its job if this session has not been told of that."""
        if (peer := self._peers.agent(agent)) is None:
            return
        if run.job not in peer.jobs_told:
            peer.jobs_told.add(run.job)
            self.tell(agent, JobSpec, [run.job])
        self.tell(agent, RunTasks, [run])

    def take(self) -> Mail:
        """All that waits; it is no more in here."""
        mail, self._mail = self._mail, Mail()
        return mail

    def take_prompt(self) -> Mail:
        """All that waits and may leave before anything is durable."""
        prompt, self._prompt = self._prompt, Mail()
        return prompt

    def send(self, mail: Mail, send: Send) -> None:
        """Let mail leave, but for what was meant for a session that has ended since."""
        for route, message, payload in mail.messages:
            send(route, message, payload)
        for peer, parts in mail.lines.values():
            if self._peers.agent(peer.name) is not peer:
                continue
            for kind, items in parts:
                for message, payload in self._compose(kind, items):
                    send(peer.route, message, payload)

    def _compose(self, kind: Kind, items: list[Line]) -> list[tuple[Message, Sequence[bytes]]]:
        if kind is RunTasks:
            return self._run_tasks([item for item in items if isinstance(item, Run)])
        if kind is JobSpec:
            return [self._job_spec(job) for item in items if (job := self._accepted(JobId(str(item))))]
        if kind is JobEnded:
            return [(JobEnded(job=JobId(str(item))), ()) for item in items]
        composed: list[tuple[Message, Sequence[bytes]]] = []
        for at in range(0, len(items), ITEMS_MESSAGE_MAX):
            page = items[at : at + ITEMS_MESSAGE_MAX]
            if kind is CancelTasks:
                composed.append((CancelTasks(runs=tuple(item for item in page if isinstance(item, Run))), ()))
            else:
                attempts = tuple(item for item in page if isinstance(item, Attempt))
                message = TasksCommitted if kind is TasksCommitted else TasksDiscarded
                composed.append((message(attempts=attempts), ()))
        return composed

    def _job_spec(self, job: Accepted) -> tuple[Message, Sequence[bytes]]:
        return JobSpec(job=job.id), (job.job.envelope, pack_small(job.job.blobs(), self._read))

    def _run_tasks(self, runs: list[Run]) -> list[tuple[Message, Sequence[bytes]]]:
        composed: list[tuple[Message, Sequence[bytes]]] = []
        of_calls: list[tuple[Run, CallJob]] = []
        page: list[Run] = []
        leaves: list[bytes] = []
        proofs: list[bytes] = []
        inputs: list[FileRef] = []

        def close_page() -> None:
            if page:
                payload = (pack_parts(leaves), pack_parts(proofs), pack_small(inputs, self._read))
                composed.append((RunTasks(runs=tuple(page)), payload))
                page.clear()
                inputs.clear()
                leaves.clear()
                proofs.clear()

        for run in runs:
            job = self._accepted(run.job)
            if job is None:
                continue
            if job.calls is not None:
                of_calls.append((run, job.calls))
                continue
            run_leaves, proof = job.parcel(run.start, run.stop)
            page.append(run)
            leaves.extend(run_leaves)
            proofs.append(proof)
            inputs.extend(filter(None, job.leaves.inputs(run.start, run.stop)))
            if len(page) == ITEMS_MESSAGE_MAX or sum(map(len, leaves)) > LEAVES_BYTES_MAX:
                close_page()
        close_page()
        return composed + _run_calls(of_calls) if of_calls else composed


def _run_calls(runs: list[tuple[Run, CallJob]]) -> list[tuple[Message, Sequence[bytes]]]:
    composed: list[tuple[Message, Sequence[bytes]]] = []
    parts: list[tuple[Run, Parcel]] = []
    size = 0
    for run, calls in _joined(runs):
        for parcel in calls.parcels(run.start, run.stop):
            part = Run(run.job, parcel.start, parcel.start + len(parcel.chunks), run.number, run.lease)
            parts.append((part, parcel))
            size += sum(map(len, parcel.chunks))
            if len(parts) == ITEMS_MESSAGE_MAX or size > LEAVES_BYTES_MAX:
                composed.append(_calls_message(parts))
                parts, size = [], 0
    if parts:
        composed.append(_calls_message(parts))
    return composed


def _joined(runs: list[tuple[Run, CallJob]]) -> list[tuple[Run, CallJob]]:
    """Neighbours as one: with each run goes a proof, and the word of who signed it."""
    joined: list[tuple[Run, CallJob]] = []
    for run, calls in runs:
        last = joined[-1][0] if joined else None
        if last and (last.job, last.stop, last.number, last.lease) == (
            run.job,
            run.start,
            run.number,
            run.lease,
        ):
            joined[-1] = (Run(run.job, last.start, run.stop, run.number, run.lease), calls)
        else:
            joined.append((run, calls))
    return joined


def _calls_message(parts: Sequence[tuple[Run, Parcel]]) -> tuple[Message, Sequence[bytes]]:
    payload = (
        pack_parts(chunk for _, parcel in parts for chunk in parcel.chunks),
        pack_parts(parcel.proof for _, parcel in parts),
        pack_parts(parcel.envelope for _, parcel in parts),
    )
    return RunCalls(runs=tuple(run for run, _ in parts)), payload
