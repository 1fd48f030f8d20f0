"""Sessions: by route, agents also by name, and no name for two nodes."""

from discogrid.keys import new_identity
from discogrid.types import AgentId, NodeId, Role
from discogrid_coordinator.peers import Peer, Peers

ONE, OTHER = new_identity().id, new_identity().id


def peer(
    route: str, name: str = "attic", node: NodeId = ONE, session: str = "s", role: Role = Role.AGENT
) -> Peer:
    return Peer(route.encode(), node, role, session, AgentId(name), 0.0)


def test_a_name_is_free_or_gets_the_beginning_of_its_node() -> None:
    peers = Peers()
    assert peers.free_name("attic", ONE) == "attic"
    peers.add(peer("1"))
    assert peers.free_name("attic", ONE) == "attic"
    assert peers.free_name("attic", OTHER) == f"attic-{OTHER[:4]}"


def test_a_name_that_was_made_for_a_node_is_not_taken_from_whoever_has_it() -> None:
    peers = Peers()
    peers.add(peer("1", "attic", ONE))
    peers.add(peer("2", f"attic-{OTHER[:4]}", new_identity().id))
    assert peers.free_name("attic", OTHER) == f"attic-{OTHER[:5]}"


def test_a_new_session_of_an_agent_takes_over_and_the_older_one_is_nobody_any_more() -> None:
    peers = Peers()
    old, new = peer("1"), peer("2", session="t")
    assert peers.add(old) is None
    assert peers.add(new) is old
    assert peers.agent(AgentId("attic")) is new
    assert peers.get(b"1") is None
    assert peers.get(b"2") is new
    peers.remove(old)  # late
    assert peers.agent(AgentId("attic")) is new


def test_a_client_takes_no_agent_s_name() -> None:
    peers = Peers()
    agent = peer("1")
    peers.add(agent)
    client = peer("2", role=Role.SUBMITTER)
    peers.add(client)
    assert peers.agent(AgentId("attic")) is agent
    assert peers.clients() == [client]
    peers.remove(client)
    assert peers.agent(AgentId("attic")) is agent
    assert len(peers) == 1
