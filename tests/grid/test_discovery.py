"""Agents and coordinators of one user find each other; strangers' announcements are nobody's business."""

from contextlib import aclosing

from discogrid.discovery import announced, members, presence_tag
from discogrid.types import NodeId, Role
from tests.grid.machines import Machine, until


async def test_a_member_finds_what_its_grid_announces_and_nothing_else() -> None:
    async with announced(NodeId("own grid"), Role.COORDINATOR, 7717) as multicast:
        assert multicast, "this machine has no multicast"
        async with aclosing(members(NodeId("own grid"), Role.COORDINATOR)) as found:
            first = await anext(found)
        others = [other async for other in members(NodeId("another grid"), Role.COORDINATOR, 0.5)]

    assert all(endpoint.endswith(":7717") for endpoint in first.endpoints)
    assert first.endpoints
    assert not others


def test_the_announced_tag_does_not_tell_the_grid() -> None:
    assert presence_tag(NodeId("grid")) != presence_tag(NodeId("grie"))
    assert "grid" not in presence_tag(NodeId("grid"))


def test_an_agent_finds_its_users_coordinator_without_being_told(machine: Machine) -> None:
    machine.start("coordinator", "--listen", "0.0.0.0:0")
    address = machine.address
    until(address.exists)
    machine.environment["DISCOGRID_COORDINATOR"] = address.read_text().split('"tcp://')[1].split('"')[0]
    address.unlink()  # nothing is remembered: only the network can tell

    told = machine.environment.pop("DISCOGRID_COORDINATOR")
    machine.start("agent", "--name", "attic", "--slots", "1")
    machine.environment["DISCOGRID_COORDINATOR"] = told

    assert until(machine.live_agents) == ["attic"]
