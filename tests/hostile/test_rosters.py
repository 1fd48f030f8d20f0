"""Rosters that a stolen coordinator pushes to a live agent: an older or expired one, though the owner signed it."""

import logging
import time

import pytest

from discogrid.bundle import seal_job
from discogrid.messages import Message, RosterPushed
from discogrid.trust.roster import Member
from discogrid.types import Outcome
from tests.hostile.false_coordinator import CountingBox, FalseCoordinator, Parcel
from tests.trust.forge import HOUR, roster_envelope

HARMLESS = b"(['a.txt', 'argument'], 'alpha')"


def without_another(thief: FalseCoordinator) -> list[Member]:
    """All members but one who has nothing to do here."""
    cast = thief.cast
    return [known for known in cast.roster.body.members if known.id != cast.other_submitter.id]


async def tried(thief: FalseCoordinator) -> Outcome:
    """How a task of the other submitter ends."""
    other = thief.cast.other_submitter
    manifest = thief.parcel(["a.txt"], nonce=b"tried", submitter=other.id).job.manifest
    parcel = Parcel(seal_job(manifest, other), thief.parcel(["a.txt"]).leaves)
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 1))
    return (await thief.ended(parcel.run(0, 1)))[0].outcome


@pytest.mark.parametrize("way", ["pushed", "with a welcome"])
@pytest.mark.parametrize("kind", ["rolled back", "of the same version", "expired"])
async def test_a_live_agent_goes_on_by_its_own_roster(
    thief: FalseCoordinator, box: CountingBox, caplog: pytest.LogCaptureFixture, kind: str, way: str
) -> None:
    cast = thief.cast
    assert await thief.twin() == HARMLESS
    await thief.send(RosterPushed(), roster_envelope(cast.owner, without_another(thief), version=5))
    # In these, who was put out meanwhile is a member again.
    everybody = list(cast.roster.body.members)
    pushed, said = {
        "rolled back": (
            roster_envelope(cast.owner, everybody, version=4),
            "it is not newer than ours, version 5",
        ),
        "of the same version": (
            roster_envelope(cast.owner, everybody, version=5),
            "it is not newer than ours, version 5",
        ),
        "expired": (
            roster_envelope(cast.owner, everybody, version=6, expires=time.time() - HOUR),
            "the roster of this grid has expired",
        ),
    }[kind]
    message: Message = RosterPushed() if way == "pushed" else thief.welcome()
    with caplog.at_level(logging.INFO, "discogrid.trust.keeper"):
        await thief.send(message, pushed)
        assert await tried(thief) is Outcome.REFUSED
    assert f"another node's roster is not used: {said}" in caplog.text
    assert cast.keeper.current.version == 5
    assert await thief.twin() == HARMLESS
    assert len(box.started) == 2


@pytest.mark.parametrize("way", ["pushed", "with a welcome"])
async def test_a_live_agent_takes_a_newer_roster_that_its_owner_signed(
    thief: FalseCoordinator, way: str
) -> None:
    cast = thief.cast
    await thief.send(RosterPushed(), roster_envelope(cast.owner, without_another(thief), version=5))
    newer = roster_envelope(cast.owner, list(cast.roster.body.members), version=6)
    await thief.send(RosterPushed() if way == "pushed" else thief.welcome(), newer)
    assert await tried(thief) is Outcome.SUCCEEDED
    assert cast.keeper.current.envelope == newer


async def test_a_task_that_runs_goes_on_while_somebody_else_is_put_out(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    script = thief.put(
        b"import time; time.sleep(0.5); open('run-result/canary', 'w').write('whole')", "canary.py"
    )
    parcel = thief.parcel(["a.txt"], script=script)
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 1))
    await thief.until(lambda: bool(thief.started(parcel.id)))
    await thief.send(RosterPushed(), roster_envelope(thief.cast.owner, without_another(thief), version=5))
    assert thief.canary(await thief.ended(parcel.run(0, 1))) == b"whole"
    assert thief.cast.keeper.current.version == 5
    assert len(box.started) == 1
