"""Follows the roster: takes a newer one, lets everybody know, and puts out at once whoever is no member any more."""

import logging
import time

from discogrid.channel import Received
from discogrid.envelope import unseal
from discogrid.errors import DiscogridError, SignatureRefused
from discogrid.grid import Grid
from discogrid.keys import ROTATION_TYPE
from discogrid.messages import Answer, PublishRoster, Refused, RosterPushed, RotateKeys
from discogrid.trust.owner import renew_in_time
from discogrid.trust.roster import RENEW_BEFORE_S, WARN_BEFORE_S, Roster
from discogrid.types import Role
from discogrid_coordinator import events
from discogrid_coordinator.client_desk import ClientDesk
from discogrid_coordinator.engine import Engine
from discogrid_coordinator.peers import Peer

WARN_EVERY_S = 86400.0

log = logging.getLogger(__name__)


class Membership:
    """Everything about who belongs to the grid that is said to its coordinator, or by it."""

    def __init__(self, grid: Grid, engine: Engine, clients: ClientDesk) -> None:
        """Put out of `engine` whoever the grid's roster does not name."""
        self._grid = grid
        self._engine = engine
        self._clients = clients
        self._warned = float("-inf")

    def put_out(self, peer: Peer) -> None:
        """End a session whose node is no member any more, or not in this role; its tasks go elsewhere."""
        log.warning("%s (node %s) is no member any more", peer.name, peer.node[:8])
        # So that it knows by the owner's own word, also after a restart: from now on it is not even let in.
        self._engine.outbox.put(peer.route, RosterPushed(), (self._grid.roster.envelope,))
        self._engine.outbox.put(
            peer.route,
            Refused(
                code="revoked",
                what="this node was put out of the grid",
                why="The grid's owner took it out of the roster, or gave it other keys.",
                fix="Ask the owner for a new code and join again.",
            ),
        )
        if peer.role is Role.AGENT:
            self._engine.tell(events.AgentLeft(peer.name, "it was put out of the grid"))
            self._engine.peers.remove(peer)
        else:
            self._clients.leave(peer)

    def changed(self, roster: Roster) -> None:
        """A newer roster is in force: tell the members, put out the others, end the jobs of those."""
        for peer in self._engine.peers.all():
            if roster.may(peer.node, peer.role):
                self._engine.outbox.put(peer.route, RosterPushed(), (roster.envelope,))
            else:
                self.put_out(peer)
        self.end_jobs_of_strangers(roster)

    def end_jobs_of_strangers(self, roster: Roster) -> None:
        """Cancel the open jobs of submitters who are none any more."""
        for submitter, jobs in self._engine.intake.usage.open_jobs().items():
            if not roster.may(submitter, Role.SUBMITTER):
                for job in jobs:
                    self._engine.tell(events.JobCancelled(job, "its submitter was put out of the grid"))

    def publish(self, received: Received, message: PublishRoster, now: float) -> None:
        """Take a newer roster from whoever has it: the owner's signature is its authority."""
        try:
            offered = b"".join(received.payload[:1])
            if not self._grid.keeper.offer(offered, now) and offered != self._grid.roster.envelope:
                raise SignatureRefused(
                    f"roster {self._grid.roster.version} of this grid's owner is in force already, a newer or another one",
                    fix="Run the command again: it begins from that one.",
                )
        except DiscogridError as error:
            if message.request:
                self._refuse(received, message.request, error)
            return
        if message.request:
            self._engine.outbox.put(received.route, Answer(request=message.request))

    def rotate(self, peer: Peer, received: Received, message: RotateKeys, now: float) -> None:
        """Give a member the new keys that it asks for with its old one, when the owner's key is at hand."""
        roster, owner = self._grid.roster, self._grid.owner()
        try:
            if owner is None:
                raise SignatureRefused(
                    "the grid's owner key is not with its coordinator",
                    fix="Ask the owner for a code and join again with the new key.",
                )
            member = roster.member(peer.node)
            key = roster.signing_key(peer.node, member.roles[0]) if member else None
            opened = unseal(
                b"".join(received.payload[:1]),
                ROTATION_TYPE,
                lambda signer: key if signer == peer.node else None,
            )
            newer = owner.rotate(roster, peer.node, opened.payload, now)
        except DiscogridError as error:
            self._refuse(received, message.request, error)
            return
        # Roster and answer come before what follows from them: to put this very session out.
        self._engine.outbox.put(received.route, RosterPushed(), (newer.envelope,))
        self._engine.outbox.put(received.route, Answer(request=message.request))
        self._grid.keeper.offer(newer.envelope, now)

    def watch_the_time(self, now: float) -> None:
        """Renew the roster while its owner is in reach; otherwise say in time that it will end."""
        left_s = self._grid.roster.body.expires - now
        if left_s > RENEW_BEFORE_S:
            return
        if (owner := self._grid.owner()) is not None:
            renew_in_time(self._grid.keeper, owner, now)
        elif left_s < WARN_BEFORE_S and time.monotonic() - self._warned > WARN_EVERY_S:
            self._warned = time.monotonic()
            log.warning(
                "the roster of this grid ends in %.0f days: run `discogrid trust renew` on the machine with its"
                " owner's key",
                left_s / 86400,
            )

    def _refuse(self, received: Received, request: int, error: DiscogridError) -> None:
        self._engine.outbox.put(
            received.route,
            Refused(code="signature", what=error.what, why=error.why, fix=error.fix, request=request),
        )
