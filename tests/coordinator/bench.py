"""A coordinator without sockets: engine and desks over a real journal and real blobs; every message is encoded and decoded."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from discogrid.blobs import BlobStore
from discogrid.bundle import Job, seal_result
from discogrid.channel import Received
from discogrid.keys import Identity
from discogrid.messages import PROTOCOL, Message, RunTasks, TaskDone, TasksDone
from discogrid.submission import Prepared
from discogrid.types import GIB, AgentId, Attempt, JobId, Outcome, Role
from discogrid.wire import decode, encode, pack_parts
from discogrid_coordinator.agent_desk import AgentDesk
from discogrid_coordinator.blob_desk import BlobDesk
from discogrid_coordinator.call_desk import CallDesk
from discogrid_coordinator.client_desk import ClientDesk
from discogrid_coordinator.engine import Engine
from discogrid_coordinator.journal import Journal
from discogrid_coordinator.peers import Peer
from discogrid_coordinator.permits import Permits
from discogrid_coordinator.writer import write
from tests.coordinator.house import hello
from tests.trust.forge import Cast, body_of, digest_of

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Sent:
    route: bytes
    message: Message
    payload: Sequence[bytes]


class Bench:
    """One incarnation; another one on the same folder is a restart."""

    def __init__(self, cast: Cast, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.cast = cast
        self.now = 1000.0
        self.store = BlobStore(folder / "blobs", GIB)
        self.journal = Journal(folder / "journal.sqlite")
        self.engine = Engine(
            cast.grid(cast.coordinator),
            self.store,
            self.journal,
            lease=7,
            blob_endpoint="tcp://*:1",
            clock=lambda: self.now,
            wall=time.time,
        )
        permits = Permits(self.engine)
        calls = CallDesk(self.engine)
        self.agents = AgentDesk(self.engine, BlobDesk(self.engine, permits, lambda: self.now), calls)
        self.clients = ClientDesk(self.engine, permits, calls)
        self.sent: list[Sent] = []

    def peer(
        self, identity: Identity, role: Role, name: str, session: str = "session", route: str = ""
    ) -> Peer:
        return Peer((route or name).encode(), identity.id, role, session, AgentId(name), self.now)

    def agent(self, identity: Identity | None = None, name: str = "attic", **other: Any) -> Peer:
        """An agent that has said hello."""
        peer = self.peer(
            identity or self.cast.agent,
            Role.AGENT,
            name,
            other.pop("session", "session"),
            other.pop("route", ""),
        )
        self.agents.hello(peer, hello(Role.AGENT, **other))
        return peer

    def client(self, name: str = "client") -> Peer:
        peer = self.peer(self.cast.submitter, Role.SUBMITTER, name)
        peer.protocol = PROTOCOL
        self.engine.peers.add(peer)
        return peer

    def hear(self, peer: Peer, message: Message, *payload: bytes) -> None:
        desk = self.agents if peer.role is Role.AGENT else self.clients
        desk.hear(peer, Received(decode(encode(message)), list(payload), peer.node, peer.route))

    def settle(self) -> None:
        def send(route: bytes, message: Message, payload: Sequence[bytes]) -> None:
            self.sent.append(Sent(route, decode(encode(message)), payload))

        self.engine.outbox.send(self.engine.outbox.take_prompt(), send)
        batch = self.engine.take()
        write(batch, self.journal, self.store)
        self.engine.let_go(batch, send)

    def told(self, peer: Peer, kind: type[M]) -> list[M]:
        """Everything of this kind that the peer has been told, which is then forgotten."""
        self.settle()
        mine = [sent for sent in self.sent if sent.route == peer.route and isinstance(sent.message, kind)]
        self.sent = [sent for sent in self.sent if sent not in mine]
        return [sent.message for sent in mine if isinstance(sent.message, kind)]

    def assigned(self, peer: Peer) -> list[Attempt]:
        return [
            attempt
            for message in self.told(peer, RunTasks)
            for run in message.runs
            for attempt in run.attempts()
        ]

    def take(self, job: Prepared, *, hold: bool = False) -> JobId:
        """Submit, all blobs being here."""
        for path in job.files.values():
            self.store.put_file(path)
        verified = self.engine.intake.verify(
            job.job.envelope, pack_parts(job.leaves), self.cast.submitter.id, time.time()
        )
        return self.engine.accept(verified, hold=hold)

    def end(
        self, peer: Peer, job: Job, attempt: Attempt, outcome: Outcome = Outcome.SUCCEEDED, **other: Any
    ) -> None:
        """The agent has run the attempt; `other` are fields of what it tells, `body` those of what it has signed, `content` is its archive."""
        archive = other.pop("content", f"archive of {attempt}".encode())
        body = {"outcome": outcome, **other.pop("body", {})}
        signer = other.pop("signer", self.cast.agent)
        envelope = seal_result(body_of(job, attempt, signer, archive, **body), signer)
        known: dict[str, Any] = {
            "attempt": attempt,
            "outcome": outcome,
            "exit": 0,
            "archive": digest_of(archive),
            "archive_bytes": len(archive),
            "inline": True,
        }
        riders = other.pop("riders", [archive])
        done = TaskDone(**{**known, **other})
        self.hear(peer, TasksDone(tasks=(done,)), pack_parts([envelope]), pack_parts(riders))
