"""Whoever steals a coordinator, with its keys, makes no agent call what no submitter signed, and no client take what no agent did.

Each test says something false of calls to a real agent with a real box, then has a harmless call made: when that is
answered, the agent has dealt with the falsehood too.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discogrid import merkle
from discogrid.answers import TaskAnswers, open_answers, seal_answers
from discogrid.batches import BATCH_TYPE, Batch, Chunk, encode_chunk, seal_batch
from discogrid.bundle import CallTerms
from discogrid.calls import functions
from discogrid.calls.arguments import pack_arguments
from discogrid.calls.codec import loads
from discogrid.calls.frames import Call, Returned
from discogrid.calls.parts import joined
from discogrid.errors import IntegrityError, SignatureRefused
from discogrid.keys import Identity
from discogrid.messages import JobEnded, RunCalls
from discogrid.types import FileRef, Outcome, Requirements, Run, SandboxLevel
from discogrid.wire import pack_parts
from discogrid_agent import acceptance
from tests.hostile.false_coordinator import CountingBox, FalseCoordinator, Parcel, lent
from tests.trust.forge import cast

TRUE, EVIL, HARMLESS = 0, 1, 2  # functions, by their numbers


# Of a main program: they travel alone, without this module and what it imports.
MAIN: dict[str, Any] = {"__name__": "__main__"}
exec("def double(x): return 2 * x\ndef spoil(x): return f'EVIL {x}'", MAIN)
double, spoil = MAIN["double"], MAIN["spoil"]


class Calls:
    """A job of calls of which the thief knows all that its coordinator knew."""

    def __init__(self, thief: FalseCoordinator, name: bytes = b"calls") -> None:
        self.thief = thief
        self.parcel: Parcel = thief.parcel(
            [],
            nonce=name,
            root=b"",
            arguments=(),
            script=thief.put(b"", "initializer"),
            requirements=Requirements(protocol=5),
            calls=CallTerms(python=(sys.version_info[0], sys.version_info[1])),
        )
        self.functions = {
            TRUE: thief.put(functions.pack(double), "double"),
            HARMLESS: thief.put(functions.pack(len), "len"),
        }
        self.evil = thief.put(functions.pack(spoil), "spoil")

    def chunk(self, index: int, function: int = TRUE, argument: Any = 21) -> bytes:
        return encode_chunk(Chunk(index, (Call(index, function, joined(pack_arguments((argument,), {}))),)))

    def sealed(
        self,
        chunks: Sequence[bytes],
        start: int = 0,
        signer: Identity | None = None,
        evil: FileRef | None = None,
    ) -> Batch:
        named = self.functions | ({EVIL: evil} if evil else {})
        return seal_batch(self.parcel.job, start, chunks, named, signer or self.thief.cast.submitter)

    def run(self, start: int, stop: int, number: int = 1) -> Run:
        return self.parcel.run(start, stop, number)

    async def assign(
        self, run: Run, envelope: bytes, chunks: Sequence[bytes], proof: Sequence[bytes] | None = None
    ) -> None:
        """Calls with the proof that they are the whole of their batch, or another one."""
        if proof is None:
            proof = merkle.Tree([merkle.leaf_hash(chunk) for chunk in chunks]).prove(0, len(chunks))
        await self.thief.send(
            RunCalls(runs=(run,)), pack_parts(chunks), pack_parts([pack_parts(proof)]), pack_parts([envelope])
        )

    async def refused(self, run: Run) -> None:
        """The run ends without a call."""
        assert (await self.thief.ended(run))[0].outcome is Outcome.REFUSED

    async def value(self, run: Run) -> Any:
        """What the one call of the run returned, as its agent signed it."""
        attempt = run.attempts()[0]
        await self.thief.until(lambda: attempt in self.thief.answers)
        packed, envelope = self.thief.answers[attempt]
        opened = open_answers(packed, envelope, self.parcel.job.digest, self.thief.cast.roster)
        [answers] = [task.answers for task in opened.tasks if task.index == attempt.index]
        [answer] = answers
        assert isinstance(answer, Returned)
        return loads(answer.value, trusted=False)

    async def harmless(self) -> None:
        """A call that is as it should be, made and answered; and nothing evil has been until then."""
        chunk = self.chunk(1000, HARMLESS, "four")
        await self.assign(self.run(1000, 1001), self.sealed([chunk], 1000).envelope, [chunk])
        assert await self.value(self.run(1000, 1001)) == 4
        assert not any(b"EVIL" in packed for packed, _ in self.thief.answers.values())


@pytest.fixture
async def calls(thief: FalseCoordinator) -> Calls:
    calls = Calls(thief)
    await thief.offer(calls.parcel)
    return calls


async def test_a_true_batch_runs_and_its_answers_are_its_agents(calls: Calls, box: CountingBox) -> None:
    chunks = [calls.chunk(index, argument=index) for index in range(3)]
    batch = calls.sealed(chunks)
    tree = merkle.Tree([merkle.leaf_hash(chunk) for chunk in chunks])
    for index in (2, 0, 1):
        run = calls.run(index, index + 1)
        await calls.assign(run, batch.envelope, chunks[index : index + 1], tree.prove(index, index + 1))
    assert [await calls.value(calls.run(index, index + 1)) for index in range(3)] == [0, 2, 4]
    assert 1 <= len(box.started) <= 2  # workers, which stay


# What it cannot add or change.


@pytest.mark.parametrize("who", ["coordinator", "other_agent", "agent", "owner", "other_submitter"])
async def test_calls_that_somebody_else_signed_are_not_made(calls: Calls, who: str) -> None:
    chunk = calls.chunk(0, EVIL)
    batch = calls.sealed([chunk], signer=getattr(calls.thief.cast, who), evil=calls.evil)
    await calls.assign(calls.run(0, 1), batch.envelope, [chunk])
    await calls.refused(calls.run(0, 1))
    await calls.harmless()


async def test_a_changed_batch_under_its_first_signature_is_not_made(calls: Calls) -> None:
    chunk = calls.chunk(0)
    evil = calls.chunk(0, EVIL)
    batch = calls.sealed([chunk])
    kind, payload, signatures = msgspec.msgpack.decode(batch.envelope)
    assert kind == BATCH_TYPE
    changes: list[dict[str, Any]] = [
        {"root": merkle.root([merkle.leaf_hash(evil)])},
        {"functions": {TRUE: msgspec.to_builtins(calls.evil), EVIL: msgspec.to_builtins(calls.evil)}},
        {"start": 1},
    ]
    for number, change in enumerate(changes):
        other = msgspec.msgpack.encode({**msgspec.msgpack.decode(payload, strict=False), **change})
        envelope = msgspec.msgpack.encode([kind, other, signatures])
        run = calls.run(number, number + 1)
        await calls.assign(run, envelope, [evil if "root" in change else chunk])
        await calls.refused(run)
    await calls.harmless()


@pytest.mark.parametrize("what", ["argument", "function", "place", "one more", "one less"])
async def test_chunks_that_are_not_the_signed_ones_are_not_made(calls: Calls, what: str) -> None:
    chunks = [calls.chunk(0), calls.chunk(1)]
    batch = calls.sealed(chunks)
    evil = {
        "argument": [calls.chunk(0, argument=666), chunks[1]],
        "function": [calls.chunk(0, EVIL), chunks[1]],
        "place": chunks[::-1],
        "one more": [*chunks, calls.chunk(2)],
        "one less": chunks[:1],
    }[what]
    await calls.assign(calls.run(0, len(evil)), batch.envelope, evil)
    await calls.refused(calls.run(0, len(evil)))
    await calls.harmless()


async def test_a_true_chunk_with_its_true_proof_is_not_made_at_another_place(calls: Calls) -> None:
    chunks = [calls.chunk(0), calls.chunk(1)]
    batch = calls.sealed(chunks)
    tree = merkle.Tree([merkle.leaf_hash(chunk) for chunk in chunks])
    await calls.assign(calls.run(1, 2), batch.envelope, chunks[:1], tree.prove(0, 1))
    await calls.refused(calls.run(1, 2))
    await calls.harmless()


async def test_calls_of_one_job_are_not_made_as_those_of_another_of_the_same_program(calls: Calls) -> None:
    other = Calls(calls.thief, b"other")
    await calls.thief.offer(other.parcel)
    chunk = other.chunk(0)
    await calls.assign(calls.run(0, 1), other.sealed([chunk]).envelope, [chunk])
    await calls.refused(calls.run(0, 1))
    await calls.harmless()


async def test_a_call_names_only_functions_that_its_batch_names(calls: Calls) -> None:
    chunk = calls.chunk(0, EVIL)
    await calls.assign(calls.run(0, 1), calls.sealed([chunk]).envelope, [chunk])
    await calls.refused(calls.run(0, 1))
    await calls.harmless()


async def test_a_function_that_is_served_instead_of_the_signed_one_is_not_called(
    box: CountingBox, tmp_path: Path
) -> None:
    thief = FalseCoordinator(cast(), tmp_path / "coordinator")
    true = Calls(thief).functions[TRUE]
    thief.swapped[true.digest] = functions.pack(spoil)[: true.size].ljust(true.size, b"\0")
    async with lent(thief, box, tmp_path):  # which dials where the lies are
        calls = Calls(thief)
        await thief.offer(calls.parcel)
        chunk = calls.chunk(0)
        await calls.assign(calls.run(0, 1), calls.sealed([chunk]).envelope, [chunk])
        done, _, _ = await thief.ended(calls.run(0, 1))
        assert done.outcome in (Outcome.TRANSFER_FAILED, Outcome.REFUSED)
        assert not thief.answers


# What it can say again.


async def test_what_was_signed_once_does_not_run_for_ever(calls: Calls) -> None:
    chunk = calls.chunk(0)
    envelope = calls.sealed([chunk]).envelope
    most = acceptance.attempts_max(calls.parcel.job.manifest.retries)
    for number in range(1, most + 1):
        await calls.assign(calls.run(0, 1, number), envelope, [chunk])
        assert await calls.value(calls.run(0, 1, number)) == 42
    await calls.assign(calls.run(0, 1, most + 1), envelope, [chunk])
    await calls.refused(calls.run(0, 1, most + 1))


async def test_of_a_job_that_has_ended_nothing_begins_again(calls: Calls) -> None:
    await calls.harmless()
    await calls.thief.send(JobEnded(job=calls.parcel.id))
    await calls.thief.offer(calls.parcel)
    chunk = calls.chunk(0)
    await calls.assign(calls.run(0, 1), calls.sealed([chunk]).envelope, [chunk])
    await calls.refused(calls.run(0, 1))


# What it cannot tell the client.


def test_answers_that_no_agent_of_the_grid_has_signed_for_this_job_are_not_taken(
    thief: FalseCoordinator,
) -> None:
    members, job = thief.cast, Calls(thief).parcel.job.digest
    other = Calls(thief, b"other").parcel.job.digest
    tasks = [TaskAnswers(0, (Returned(0, 0.0, b"EVIL"),))]
    now = time.time()

    def taken(packed: bytes, envelope: bytes) -> bool:
        try:
            open_answers(packed, envelope, job, members.roster)
        except (SignatureRefused, IntegrityError):
            return False
        return True

    assert taken(*seal_answers(job, tasks, members.agent, SandboxLevel.STRICT, now))
    for signer in (members.coordinator, members.submitter, members.owner):
        assert not taken(*seal_answers(job, tasks, signer, SandboxLevel.STRICT, now))
    packed, envelope = seal_answers(other, tasks, members.agent, SandboxLevel.STRICT, now)
    assert not taken(packed, envelope)
    packed, envelope = seal_answers(job, tasks, members.agent, SandboxLevel.STRICT, now)
    assert not taken(packed.replace(b"EVIL", b"evil"), envelope)
