"""Whoever steals a coordinator, with its keys, makes no agent run what no submitter signed.

Each test says something false to a real agent with a real box, then has a harmless job run: when that has ended, the
agent has dealt with the falsehood too.
"""

import time
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from discogrid import merkle
from discogrid.bundle import JOB_TYPE, Job, Leaf, digest_of_payload, encode_leaf, seal_job
from discogrid.keys import Identity
from discogrid.messages import PROTOCOL, JobEnded, JobSpec, RosterPushed, RunTasks, TasksReturned, Welcome
from discogrid.trust.roster import Member
from discogrid.types import (
    Digest,
    FileRef,
    JobId,
    Limits,
    Mount,
    Outcome,
    Requirements,
    Role,
    Run,
)
from discogrid.wire import pack_parts
from discogrid_agent import acceptance, fetches
from tests.hostile.false_coordinator import EVIL_SCRIPT, LEASE, CountingBox, FalseCoordinator, Parcel, lent
from tests.trust.forge import HOUR, cast, member, roster_envelope

HARMLESS = b"(['a.txt', 'argument'], 'alpha')"


async def nothing_ran(thief: FalseCoordinator, box: CountingBox, parcel: Parcel) -> None:
    """Of the parcel; while the harmless twin runs as ever."""
    assert await thief.twin() == HARMLESS
    assert thief.started(parcel.id) == []
    assert len(box.started) == 1
    assert all(
        done.outcome is not Outcome.SUCCEEDED
        for attempt, (done, _, _) in thief.done.items()
        if attempt.job == parcel.id
    )


def changed(parcel: Parcel, change: dict[str, Any]) -> Parcel:
    """The parcel with another manifest under the signature of the first, and a name that fits it."""
    kind, payload, signatures = msgpack.unpackb(parcel.job.envelope)
    other = msgspec.msgpack.encode({**msgspec.msgpack.decode(payload), **change})
    envelope = bytes(msgpack.packb([kind, other, signatures]))
    return Parcel(Job(parcel.job.manifest, digest_of_payload(other), envelope), parcel.leaves)


# What it cannot change: the manifest.


async def test_a_true_job_runs_and_says_what_its_submitter_signed(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    parcel = thief.parcel()
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 3))
    said = [thief.canary(await thief.ended(parcel.run(index, index + 1))) for index in range(3)]
    assert said[1:] == [b"(['b.txt', 'argument'], 'beta')", b"(['c.txt', 'argument'], 'gamma')"]
    assert len(box.started) == 3


EVIL = FileRef("canary.py", Digest("blake3:" + "0" * 64), 0)
CHANGES: dict[str, Any] = {
    "name": "another",
    "arguments": ["--delete-everything"],
    "environment": {"LD_PRELOAD": "/tmp/evil.so"},
    "retries": 1000,
    "priority": 9,
    "expires": time.time() + 6 * 86400,
    "issued": time.time() - 60,
    "nonce": b"another nonce",
    "tasks": 2,
    "root": merkle.root([merkle.leaf_hash(b"evil")]),
    "constants": [{"name": "x", "digest": "blake3:" + "0" * 64, "size": 1}],
    "mounts": [{"target": "/home/x", "tree": {"name": "m", "digest": "blake3:" + "0" * 64, "size": 1}}],
    "limits": {"seconds": 1e9, "memory_bytes": 1 << 50, "processes": 1 << 20},
    "requirements": {"cpus": 1, "sandbox": "none", "network": True},
}


@pytest.mark.parametrize("field", [*CHANGES, "script"])
async def test_a_changed_manifest_runs_nothing(thief: FalseCoordinator, box: CountingBox, field: str) -> None:
    evil = msgspec.to_builtins(thief.put(EVIL_SCRIPT, "canary.py"))
    parcel = changed(thief.parcel(), {field: CHANGES.get(field, evil)})
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 1))
    assert (await thief.ended(parcel.run(0, 1)))[0].outcome is Outcome.REFUSED
    await nothing_ran(thief, box, parcel)


async def test_the_same_manifest_under_the_same_signature_runs(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    """The harmless twin of the changed ones: taking an envelope apart and putting it together refuses nothing."""
    parcel = changed(thief.parcel(["a.txt"]), {})
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 1))
    assert thief.canary(await thief.ended(parcel.run(0, 1))) == HARMLESS


async def test_a_job_that_the_thief_signed_itself_runs_nothing(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    """It has the coordinator's signing key, too: that may coordinate, not submit."""
    true = thief.parcel()
    for signer, submitter in (
        (thief.cast.coordinator, thief.cast.coordinator),
        (thief.cast.coordinator, thief.cast.submitter),
        (thief.cast.other_agent, thief.cast.other_agent),
    ):
        manifest = msgspec.structs.replace(true.job.manifest, submitter=submitter.id)
        parcel = Parcel(seal_job(manifest, signer), true.leaves)
        await thief.offer(parcel)
        await thief.assign(parcel, parcel.run(0, 1))
        await thief.ended(parcel.run(0, 1))
    await nothing_ran(thief, box, parcel)


async def test_a_roster_that_makes_the_thief_a_submitter_is_worth_nothing(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    me: Identity = thief.cast.coordinator
    members: list[Member] = [member(me), member(thief.cast.agent, Role.AGENT)]
    for owner in (me, thief.cast.owner):
        envelope = roster_envelope(owner, members, version=99)
        if owner is thief.cast.owner:  # whose key it has not: it can only keep the signature
            kind, _, signatures = msgpack.unpackb(thief.cast.roster.envelope)
            envelope = msgpack.packb([kind, msgpack.unpackb(envelope)[1], signatures])
        await thief.send(thief.welcome(), envelope)
    manifest = msgspec.structs.replace(thief.parcel().job.manifest, submitter=me.id)
    parcel = Parcel(seal_job(manifest, me), thief.parcel().leaves)
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 1))
    assert (await thief.ended(parcel.run(0, 1)))[0].outcome is Outcome.REFUSED
    await nothing_ran(thief, box, parcel)


@pytest.mark.parametrize(
    "other",
    [
        {"grid": "another grid"},
        {"audience": "another coordinator"},
        {"issued": time.time() - 3 * HOUR, "expires": time.time() - HOUR},
        {"issued": time.time() + HOUR, "expires": time.time() + 2 * HOUR},
        {"expires": time.time() + 30 * 86400},
        {"limits": Limits(seconds=float("nan"))},
        {"requirements": Requirements(cpus=-1)},
        {"requirements": Requirements(protocol=PROTOCOL + 1)},
        {"mounts": (Mount("/usr/lib", FileRef("m", EVIL.digest, 0)),)},
    ],
    ids=[
        "another grid",
        "another coordinator",
        "expired",
        "not yet",
        "for ever",
        "no limit",
        "no need",
        "a newer protocol",
        "mount",
    ],
)
async def test_a_signed_job_that_is_not_for_here_and_now_runs_nothing(
    thief: FalseCoordinator, box: CountingBox, other: dict[str, Any]
) -> None:
    parcel = thief.parcel(**other)
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 1))
    assert (await thief.ended(parcel.run(0, 1)))[0].outcome is Outcome.REFUSED
    await nothing_ran(thief, box, parcel)


async def test_a_job_that_was_signed_as_something_else_runs_nothing(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    parcel = thief.parcel()
    payload = msgpack.unpackb(parcel.job.envelope)[1]
    for kind in ("discogrid/result/1", "discogrid/roster/1", JOB_TYPE + "x"):
        await thief.offer(parcel, envelope=thief.cast.submitter.seal(kind, payload))
    await thief.assign(parcel, parcel.run(0, 1))
    assert (await thief.ended(parcel.run(0, 1)))[0].outcome is Outcome.REFUSED
    await nothing_ran(thief, box, parcel)


# What it cannot change: the tasks.


async def test_another_input_under_the_true_proof_runs_nothing(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    parcel = thief.parcel()
    await thief.offer(parcel)
    other = encode_leaf(Leaf(0, thief.put(b"other input", "a.txt")))
    await thief.assign(parcel, parcel.run(0, 1), leaves=[other])
    assert (await thief.ended(parcel.run(0, 1)))[0].outcome is Outcome.REFUSED
    await nothing_ran(thief, box, parcel)


@pytest.mark.parametrize(
    "what", ["another place", "another name", "no input", "turned round", "another proof"]
)
async def test_a_task_that_was_not_signed_runs_nothing(
    thief: FalseCoordinator, box: CountingBox, what: str
) -> None:
    parcel = thief.parcel()
    await thief.offer(parcel)
    run, leaves, proof = parcel.run(0, 1), parcel.leaves[0:1], parcel.tree.prove(0, 1)
    match what:
        case "another place":
            leaves = parcel.leaves[1:2]
        case "another name":
            leaves = [encode_leaf(Leaf(0, thief.put(b"alpha", "../../a.txt")))]
        case "no input":
            leaves = [encode_leaf(Leaf(0, None))]
        case "turned round":
            run, leaves, proof = parcel.run(0, 2), parcel.leaves[1::-1], parcel.tree.prove(0, 2)
        case "another proof":
            proof = thief.parcel(["c.txt", "b.txt", "a.txt"]).tree.prove(0, 1)
    await thief.assign(parcel, run, leaves, proof)
    assert (await thief.ended(run))[0].outcome is Outcome.REFUSED
    await nothing_ran(thief, box, parcel)


async def test_tasks_of_a_job_nobody_has_shown_run_nothing(thief: FalseCoordinator, box: CountingBox) -> None:
    parcel = thief.parcel()
    await thief.assign(parcel, parcel.run(0, 3))
    for index in range(3):
        assert (await thief.ended(parcel.run(index, index + 1)))[0].outcome is Outcome.REFUSED
    await nothing_ran(thief, box, parcel)


async def test_tasks_of_one_job_under_the_name_of_another_run_nothing(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    first, second = thief.parcel(), thief.parcel(["c.txt"], arguments=("--other",))
    await thief.offer(first)
    await thief.offer(second)
    await thief.send(
        RunTasks(runs=(Run(first.id, 0, 1, 1, LEASE),)),
        pack_parts(second.leaves),
        pack_parts([pack_parts([])]),
    )
    assert (await thief.ended(first.run(0, 1)))[0].outcome is Outcome.REFUSED
    await nothing_ran(thief, box, first)


async def test_a_job_under_a_name_that_is_not_its_own_runs_nothing(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    parcel = thief.parcel()
    parcel.id = JobId("zzzzzzzz")
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 1))
    assert (await thief.ended(parcel.run(0, 1)))[0].outcome is Outcome.REFUSED
    await nothing_ran(thief, box, parcel)


async def test_two_jobs_of_one_name_are_not_mixed(thief: FalseCoordinator, box: CountingBox) -> None:
    """Tasks that were proven for one job wait while the other comes: they must not run with its script."""
    seen: dict[JobId, Parcel] = {}
    evil = thief.put(EVIL_SCRIPT, "canary.py")
    base = thief.parcel()
    number = 0
    while True:
        number += 1
        script = evil if number % 2 else base.job.manifest.script
        manifest = msgspec.structs.replace(base.job.manifest, nonce=number.to_bytes(16), script=script)
        made = Parcel(seal_job(manifest, thief.cast.submitter), base.leaves)
        twin = seen.setdefault(made.id, made)
        if twin.job.manifest.script != script:
            break
    true, false = (twin, made) if made.job.manifest.script == evil else (made, twin)
    await thief.offer(true)
    await thief.assign(true, true.run(0, 3))
    await thief.offer(false)
    said = [thief.canary(await thief.ended(true.run(index, index + 1))) for index in range(3)]
    assert said[0] == HARMLESS
    assert b"EVIL" not in b"".join(said)


# What it cannot change: the blobs.


@pytest.mark.parametrize("which", ["script", "input"])
async def test_other_bytes_under_a_true_digest_run_nothing(
    tmp_path: Path, box: CountingBox, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(fetches, "FETCH_PAUSE_S", 0.01)
    thief = FalseCoordinator(cast(), tmp_path / "coordinator")
    parcel = thief.parcel(["b.txt"])
    script = parcel.job.manifest.script
    file = script if which == "script" else FileRef("b.txt", thief.store.put_bytes(b"beta"), 4)
    evil = (EVIL_SCRIPT * 10)[: file.size]
    thief.swapped = {file.digest: evil}
    async with lent(thief, box, tmp_path):
        await thief.offer(parcel)
        await thief.assign(parcel, parcel.run(0, 1))
        assert (await thief.ended(parcel.run(0, 1)))[0].outcome is Outcome.TRANSFER_FAILED
        thief.swapped[file.digest] = b""  # and now the truth
        await nothing_ran(thief, box, parcel)


async def test_other_bytes_that_ride_along_are_not_used(thief: FalseCoordinator, box: CountingBox) -> None:
    parcel = thief.parcel(["a.txt"])
    await thief.offer(parcel, EVIL_SCRIPT, b"other")
    await thief.send(
        RunTasks(runs=(parcel.run(0, 1),)),
        pack_parts(parcel.leaves),
        pack_parts([pack_parts([])]),
        pack_parts([b"other", EVIL_SCRIPT]),
    )
    assert thief.canary(await thief.ended(parcel.run(0, 1))) == HARMLESS


# What it cannot do again.


async def test_an_attempt_is_run_once_however_often_it_is_sent(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    parcel = thief.parcel(["a.txt"])
    await thief.offer(parcel)
    for _ in range(3):
        await thief.assign(parcel, parcel.run(0, 1))
    await thief.ended(parcel.run(0, 1))
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 1))
    assert await thief.twin() == HARMLESS
    assert len(box.started) == 2


async def test_a_signed_job_is_not_run_again_and_again(
    thief: FalseCoordinator, box: CountingBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "ATTEMPTS_LOST_MAX", 1)
    parcel = thief.parcel(["a.txt"], retries=1)
    outcomes = []
    for number in range(1, 6):
        await thief.offer(parcel)  # each time as if it were new
        await thief.assign(parcel, parcel.run(0, 1, number=number))
        outcomes.append((await thief.ended(parcel.run(0, 1, number=number)))[0].outcome)
        await thief.send(JobEnded(job=parcel.id))
    assert outcomes == [Outcome.SUCCEEDED] * 3 + [Outcome.REFUSED] * 2
    assert await thief.twin() == HARMLESS


async def test_nothing_runs_for_a_submitter_that_the_newer_roster_does_not_name(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    cast, stays = thief.cast, thief.parcel()
    await thief.offer(stays)
    others = [known for known in cast.roster.body.members if known.id != cast.submitter.id]
    newer = roster_envelope(cast.owner, others, version=2)
    await thief.send(RosterPushed(), newer)
    await thief.send(RosterPushed(), cast.roster.envelope)  # the old one, in which the submitter is a member
    for parcel in (stays, thief.parcel(nonce=b"another")):
        await thief.offer(parcel)
        await thief.assign(parcel, parcel.run(0, 1))
        assert (await thief.ended(parcel.run(0, 1)))[0].outcome is Outcome.REFUSED
    assert box.started == []
    assert cast.keeper.current.version == 2


async def test_a_run_of_another_lease_runs_nothing(thief: FalseCoordinator, box: CountingBox) -> None:
    parcel = thief.parcel()
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 1, lease=LEASE + 1))
    await nothing_ran(thief, box, parcel)


async def test_tasks_of_an_ended_job_run_nothing_until_it_is_shown_again(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    parcel = thief.parcel()
    await thief.offer(parcel)
    await thief.send(JobEnded(job=parcel.id))
    await thief.assign(parcel, parcel.run(0, 1))
    await nothing_ran(thief, box, parcel)


# What does not even confuse it.


async def test_messages_without_sense_run_nothing_and_end_nothing(
    thief: FalseCoordinator, box: CountingBox
) -> None:
    parcel = thief.parcel()
    await thief.send(JobSpec(job=parcel.id))
    await thief.send(JobSpec(job=parcel.id), b"\xc1 no envelope", b"\xc1")
    await thief.send(RunTasks(runs=()))
    await thief.offer(parcel)
    await thief.send(RunTasks(runs=(parcel.run(0, 1),)))
    await thief.send(RunTasks(runs=(parcel.run(0, 1),)), b"\xc1", b"\xc1", b"\xc1")
    for start, stop in ((3, 0), (0, 2**60), (-1, 1), (2**63, 2**63 + 1), (0, 0)):
        await thief.send(
            RunTasks(runs=(parcel.run(start, stop),)), pack_parts(parcel.leaves[:1]), pack_parts([b""]), b""
        )
    await thief.send(TasksReturned(runs=()))
    for heartbeat_s in (0.0, -1.0, float("nan"), float("inf"), 1e-9):
        welcome: Welcome = msgspec.structs.replace(thief.welcome(), heartbeat_s=heartbeat_s)
        await thief.send(welcome, b"\xc1 no roster")
    await thief.send(msgspec.structs.replace(thief.welcome(), blob_endpoint="smoke://signals"))
    await thief.send(thief.welcome())
    await nothing_ran(thief, box, parcel)
