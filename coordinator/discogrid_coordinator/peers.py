"""Who is connected: sessions by route and agents by name."""

from collections.abc import Callable
from dataclasses import dataclass, field

from discogrid.messages import PROTOCOL_OLDEST
from discogrid.types import AgentId, JobId, NodeId, Role

CLIENT_SILENCE_S_MAX = 30.0  # a client that does not even ping is gone


@dataclass(slots=True)
class Peer:
    """One session: a process of a member that has said hello."""

    route: bytes
    node: NodeId
    role: Role
    session: str
    name: AgentId
    heard: float  # monotonic seconds
    protocol: int = PROTOCOL_OLDEST  # what it said hello in
    roster: int = 0  # the version of the roster it goes by, as it said at first
    blob_endpoint: str = ""  # where an agent serves blobs to others
    jobs_told: set[JobId] = field(default_factory=set)  # whose manifest this session has


class Peers:
    """Sessions by route; for agents also by name, which only one live session has."""

    def __init__(self) -> None:
        """Nobody is there yet."""
        self._by_route: dict[bytes, Peer] = {}
        self._agents: dict[AgentId, Peer] = {}
        self._nodes: dict[NodeId, dict[AgentId, None]] = {}
        self.on_agent_gone: Callable[[Peer], None] = lambda _: None  # told when an agent's session is over

    def add(self, peer: Peer) -> Peer | None:
        """Take up a session; the older session of the same agent name is dropped and returned."""
        self._by_route[peer.route] = peer
        older = None
        if peer.role is Role.AGENT:
            older = self._agents.get(peer.name)
            self._agents[peer.name] = peer
            self._nodes.setdefault(peer.node, {})[peer.name] = None
            if older is not None and older.route != peer.route:
                self._by_route.pop(older.route, None)
            if older is not None and older.session != peer.session:
                self.on_agent_gone(older)
        return older

    def remove(self, peer: Peer) -> None:
        """The session is over."""
        if self._by_route.get(peer.route) is peer:
            del self._by_route[peer.route]
        if self._agents.get(peer.name) is peer:
            del self._agents[peer.name]
            del self._nodes[peer.node][peer.name]
            if not self._nodes[peer.node]:
                del self._nodes[peer.node]
            self.on_agent_gone(peer)

    def get(self, route: bytes) -> Peer | None:
        """The session whose messages come by this route."""
        return self._by_route.get(route)

    def agent(self, name: AgentId) -> Peer | None:
        """The live session of this agent."""
        return self._agents.get(name)

    def free_name(self, wanted: str, node: NodeId) -> AgentId:
        """`wanted`, unless another node's agent has it: then with the beginning of this node's id."""
        longer = (AgentId(f"{wanted}-{node[:length]}") for length in range(4, len(node) + 1))
        for name in (AgentId(wanted), *longer):
            holder = self._agents.get(name)
            if holder is None or holder.node == node:
                return name
        raise AssertionError("no other node has this node's whole id in its name")

    def agents_of(self, node: NodeId) -> tuple[AgentId, ...]:
        """The names under which agents of this node are connected."""
        return tuple(self._nodes.get(node, ()))

    def told(self, job: JobId) -> list[Peer]:
        """The agents that have seen the job."""
        return [peer for peer in self._agents.values() if job in peer.jobs_told]

    def clients(self) -> list[Peer]:
        """The sessions that submit and read."""
        return [peer for peer in self._by_route.values() if peer.role is not Role.AGENT]

    def all(self) -> tuple[Peer, ...]:
        """Every session."""
        return tuple(self._by_route.values())

    def __len__(self) -> int:
        """How many sessions there are."""
        return len(self._by_route)
