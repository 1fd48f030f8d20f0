"""What waits for the journal before it leaves: messages by route, and lines to agents that are joined into batches."""

from collections.abc import Callable, Sequence

from discogrid.messages import (
    PROTOCOL_OLDEST,
    CancelTasks,
    JobEnded,
    JobSpec,
    Message,
    RunTasks,
    TasksCommitted,
    TasksDiscarded,
)
from discogrid.transfer import pack_small
from discogrid.types import AgentId, Attempt, FileRef, JobId, Run
from discogrid.wire import pack_parts
from discogrid_coordinator.intake import Accepted
from discogrid_coordinator.peers import Peer, Peers

ITEMS_MESSAGE_MAX = 512  # runs or attempts in one message
LEAVES_BYTES_MAX = 4 << 20  # in one message

Line = Run | Attempt | JobId
Kind = type[RunTasks] | type[CancelTasks] | type[TasksCommitted] | type[TasksDiscarded] | type[JobEnded]


class Outbox:
    """Everything the coordinator has to say, held until `flush`."""

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
        self._messages: list[tuple[bytes, Message, Sequence[bytes]]] = []
        self._lines: dict[AgentId, list[tuple[Kind, list[Line]]]] = {}

    def put(self, route: bytes, message: Message, payload: Sequence[bytes] = ()) -> None:
        """A message for one session; one that its protocol does not know is kept from it."""
        peer = self._peers.get(route)
        if message.since <= (peer.protocol if peer else PROTOCOL_OLDEST):
            self._messages.append((route, message, payload))

    def tell(self, agent: AgentId, kind: Kind, items: Sequence[Line]) -> None:
        """Lines for an agent, kept in order; neighbours of one kind share a message."""
        lines = self._lines.setdefault(agent, [])
        if lines and lines[-1][0] is kind:
            lines[-1][1].extend(items)
        else:
            lines.append((kind, list(items)))

    def flush(self, send: Callable[[bytes, Message, Sequence[bytes]], None]) -> None:
        """Let everything leave."""
        messages, self._messages = self._messages, []
        for route, message, payload in messages:
            send(route, message, payload)
        lines, self._lines = self._lines, {}
        for agent, parts in lines.items():
            if (peer := self._peers.agent(agent)) is None:
                continue
            for kind, items in parts:
                for message, payload in self._compose(peer, kind, items):
                    send(peer.route, message, payload)

    def _compose(self, peer: Peer, kind: Kind, items: list[Line]) -> list[tuple[Message, Sequence[bytes]]]:
        if kind is RunTasks:
            return self._run_tasks(peer, [item for item in items if isinstance(item, Run)])
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

    def _run_tasks(self, peer: Peer, runs: list[Run]) -> list[tuple[Message, Sequence[bytes]]]:
        composed: list[tuple[Message, Sequence[bytes]]] = []
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
            if run.job not in peer.jobs_told:
                close_page()
                peer.jobs_told.add(run.job)
                small = pack_small(job.job.blobs(), self._read)
                composed.append((JobSpec(job=run.job), (job.job.envelope, small)))
            run_leaves, proof = job.parcel(run.start, run.stop)
            page.append(run)
            leaves.extend(run_leaves)
            proofs.append(proof)
            inputs.extend(file for file in job.verified.inputs[run.start : run.stop] if file is not None)
            if len(page) == ITEMS_MESSAGE_MAX or sum(map(len, leaves)) > LEAVES_BYTES_MAX:
                close_page()
        close_page()
        return composed
