"""Tells agents from whom to get a blob: asks the tracker, and lets nobody be named who may not read it."""

import ipaddress
from collections.abc import Callable, Sequence

from discogrid.messages import BlobNews, BlobSource, ServeBlob, WantBlob
from discogrid_coordinator.engine import Engine
from discogrid_coordinator.peers import Peer
from discogrid_coordinator.permits import Permits
from discogrid_coordinator.tracker import Advice

PORT_MAX = 65535
NEWS_MAX = 256  # digests of one message that are looked at
INSIDE = "tcp://*:"  # at the host on which the coordinator was dialled: its own, for who runs there, too
AVOID_MAX = 64  # agents of one message that are looked at


class BlobDesk:
    """Hears of agents' blobs and says where they are."""

    def __init__(self, engine: Engine, permits: Permits, clock: Callable[[], float]) -> None:
        """Speak for this engine; `clock` runs evenly (seconds)."""
        self._engine = engine
        self._permits = permits
        self._clock = clock
        self._tracker = engine.tracker
        engine.peers.on_agent_gone = lambda peer: self._tell(self._tracker.left(peer.name, self._clock()))

    def hello(self, peer: Peer) -> None:
        """An agent has come, for the first time or again."""
        endpoint = peer.blob_endpoint
        self._tracker.joined(peer.name, serves=bool(endpoint), inside=endpoint.startswith(INSIDE))

    def want(self, peer: Peer, asked: WantBlob) -> None:
        """An agent asks where to get a blob."""
        digest = asked.digest
        size = self._engine.store.size(digest)
        if size is None or not self._permits.may_read(peer.node, digest):
            self._put(peer, BlobSource(digest=digest))  # where it is refused, with the reason
            return
        there = self._engine.peers.agent
        avoid = [agent for agent in asked.avoid[:AVOID_MAX] if there(agent) is not None]
        failed = asked.failed if asked.failed is not None and there(asked.failed) is not None else None
        self._tell(self._tracker.want(peer.name, digest, size, self._clock(), avoid=avoid, failed=failed))

    def news(self, peer: Peer, news: BlobNews) -> None:
        """What an agent has got, is getting and has let go."""
        now = self._clock()
        for digest in news.dropped[:NEWS_MAX]:
            self._tell(self._tracker.dropped(peer.name, digest, now))
        for digest in news.coming[:NEWS_MAX]:
            self._tracker.coming(peer.name, digest, now)
        for digest in news.held[:NEWS_MAX]:
            if self._permits.may_read(peer.node, digest):
                self._tell(self._tracker.held(peer.name, digest, now))

    def _tell(self, advices: Sequence[Advice]) -> None:
        for advice in advices:
            if (peer := self._engine.peers.agent(advice.agent)) is not None:
                self._put(peer, self._source(peer, advice))

    def _source(self, peer: Peer, advice: Advice) -> BlobSource:
        digest = advice.digest
        if advice.wait:
            return BlobSource(digest=digest, wait=True)
        holder = self._engine.peers.agent(advice.holder) if advice.holder is not None else None
        if holder is None or not self._permits.may_read(peer.node, digest):
            return BlobSource(digest=digest)
        self._engine.outbox.put(holder.route, ServeBlob(digest=digest, reader=peer.node))
        return BlobSource(digest=digest, agent=holder.name, node=holder.node, endpoint=holder.blob_endpoint)

    def _put(self, peer: Peer, source: BlobSource) -> None:
        self._engine.outbox.put(peer.route, source)


def served_at(address: str, port: int) -> str:
    """Where to dial an agent that dialled from `address`; empty when it serves nobody.

    One that dialled from the coordinator's own machine is reached there alone: where the coordinator was dialled.
    """
    if not 0 < port <= PORT_MAX:
        return ""
    try:
        host = ipaddress.ip_address(address)
    except ValueError:  # it came over a socket file
        return ""
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    if host.is_loopback:
        return f"{INSIDE}{port}"
    return f"tcp://[{host}]:{port}" if isinstance(host, ipaddress.IPv6Address) else f"tcp://{host}:{port}"
