"""What is said of Python calls: batches that clients add, answers that agents give, and what of it is passed on."""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from discogrid.answers import TaskAnswers, open_answers, seal_answers
from discogrid.batches import Batch, Chunk, check_chunks, encode_chunk, open_batch, seal_batch
from discogrid.bundle import CallTerms, Job, seal_job, seal_result
from discogrid.calls.frames import Call, Returned
from discogrid.messages import (
    Act,
    AddCalls,
    Answer,
    BlobsMissing,
    CallsAnswered,
    CallsDone,
    CallsLost,
    CallSlots,
    CallsOver,
    CallsSeen,
    CancelCalls,
    CancelTasks,
    Goodbye,
    Heartbeat,
    JobAccepted,
    Message,
    Refused,
    RunCalls,
    SubmitJob,
    TaskDone,
    TasksCommitted,
    TasksDiscarded,
)
from discogrid.transfer import pack_small
from discogrid.types import Attempt, FileRef, JobState, Outcome, Requirements, Run, SandboxLevel
from discogrid.wire import pack_parts, unpack_parts
from discogrid_coordinator import call_job, events
from discogrid_coordinator.peers import Peer
from tests.coordinator.bench import Bench, M
from tests.trust.forge import body_of, digest_of

PARCEL = b"a function, packed"
FUNCTION = FileRef("function", digest_of(PARCEL), len(PARCEL))
INITIALIZER = FileRef("initializer", digest_of(b""), 0)


class Program:
    """A client with one job of calls."""

    def __init__(self, bench: Bench, name: str = "program") -> None:
        self.bench = bench
        self.peer = bench.client(name)
        bench.store.put_bytes(b"", INITIALIZER.digest)
        self.job: Job = seal_job(
            bench.cast.manifest(
                [],
                time.time(),
                root=b"",
                nonce=name.encode().ljust(16),
                script=INITIALIZER,
                requirements=Requirements(protocol=5),
                calls=CallTerms(python=(3, 11)),
            ),
            bench.cast.submitter,
        )
        self.given = 0
        self.id = self.submit().job

    def submit(self, seen: int = 0) -> JobAccepted:
        self.say(SubmitJob(request=1, seen=seen), self.job.envelope, pack_parts([]))
        [accepted] = self.told(JobAccepted)
        return accepted

    def back(self, name: str, seen: int = 0) -> JobAccepted:
        """The same program over another line."""
        self.peer = self.bench.client(name)
        return self.submit(seen)

    def batch(
        self, count: int, start: int | None = None, job: Job | None = None
    ) -> tuple[Batch, list[bytes]]:
        start = self.given if start is None else start
        calls = [(Call(start + at, 0, b"argument"),) for at in range(count)]
        chunks = [encode_chunk(Chunk(start + at, calls[at])) for at in range(count)]
        return seal_batch(job or self.job, start, chunks, {0: FUNCTION}, self.bench.cast.submitter), chunks

    def add(self, count: int) -> None:
        self.offer(*self.batch(count))
        self.given += count

    def offer(self, batch: Batch, chunks: Sequence[bytes], request: int = 0, *, small: bool = True) -> None:
        riders = pack_small([FUNCTION], lambda _: PARCEL) if small else b""
        message = AddCalls(request=request, job=self.id)
        self.say(message, batch.envelope, pack_parts(chunks), riders)

    def say(self, message: Message, *payload: bytes) -> None:
        self.bench.hear(self.peer, message, *payload)

    def told(self, kind: type[M]) -> list[M]:
        return self.bench.told(self.peer, kind)

    def done(self) -> list[tuple[CallsDone, Sequence[bytes]]]:
        """What it has been told of answers, with them."""
        self.bench.settle()
        mine = [sent for sent in self.bench.sent if sent.route == self.peer.route]
        return [(sent.message, sent.payload) for sent in mine if isinstance(sent.message, CallsDone)]

    @property
    def state(self) -> JobState:
        view = self.bench.engine.books.job(self.id)
        assert view is not None
        return view.state


def given(bench: Bench, agent: Peer) -> list[Attempt]:
    """Calls that the agent was told to run, proven as it proves them."""
    bench.settle()
    mine = [one for one in bench.sent if one.route == agent.route and isinstance(one.message, RunCalls)]
    bench.sent = [one for one in bench.sent if one not in mine]
    return [
        attempt
        for sent in mine
        if isinstance(sent.message, RunCalls)
        for run in sent.message.runs
        for attempt in run.attempts()
    ]


def answer(
    bench: Bench, agent: Peer, program: Program, *attempts: Attempt, logs: Sequence[bytes] = (), **other: Any
) -> None:
    """The agent's answers to the calls of these attempts; of the first ones with what they have printed."""
    tasks = [TaskAnswers(one.index, (Returned(one.index, 0.001, b"result"),)) for one in attempts]
    packed, envelope = seal_answers(
        program.job.digest, tasks, bench.cast.agent, SandboxLevel.STRICT, time.time()
    )
    runs = tuple(Run(one.job, one.index, one.index + 1, one.number, one.lease) for one in attempts)
    dones, envelopes = [], []
    for attempt, content in zip(attempts, logs, strict=False):
        digest = digest_of(content)
        dones.append(
            TaskDone(
                attempt=attempt, outcome=Outcome.SUCCEEDED, exit=0, archive=digest, archive_bytes=len(content)
            )
        )
        body = body_of(program.job, attempt, bench.cast.agent, other.pop("signed", content))
        envelopes.append(seal_result(body, bench.cast.agent))
    known: dict[str, Any] = {"runs": runs, "seconds": (0.001,) * len(attempts), "logs": tuple(dones)}
    bench.hear(
        agent,
        CallsAnswered(**{**known, **other}),
        pack_parts([packed, envelope]),
        pack_parts(envelopes),
        pack_parts(list(logs)),
    )


def later(bench: Bench, agent: Peer, seconds: float) -> None:
    """So much time passes, and the agent is still there."""
    bench.now += seconds
    bench.hear(agent, Heartbeat())
    bench.engine.tell(events.TimePassed())


@pytest.fixture
def agent(bench: Bench) -> Peer:
    return bench.agent(slots=4)


@pytest.fixture
def program(bench: Bench, agent: Peer) -> Program:
    return Program(bench)


# What clients add.


def test_calls_reach_an_agent_with_what_proves_them(bench: Bench, agent: Peer, program: Program) -> None:
    program.add(3)
    bench.settle()
    [sent] = [one for one in bench.sent if one.route == agent.route and isinstance(one.message, RunCalls)]
    assert isinstance(sent.message, RunCalls)
    leaves, proofs, envelopes = (unpack_parts(part, part_bytes_max=1 << 20) for part in sent.payload[:3])
    [proof] = [unpack_parts(proof, part_bytes_max=32) for proof in proofs]
    batch = open_batch(envelopes[0], program.job, bench.cast.roster, now=time.time())
    assert [chunk.index for chunk in check_chunks(batch, 0, leaves, proof)] == [0, 1, 2]


def test_who_asks_hears_that_calls_were_taken_and_who_does_not_hears_nothing(program: Program) -> None:
    program.offer(*program.batch(1), request=7)
    assert [said.request for said in program.told(Answer)] == [7]
    program.offer(*program.batch(1, start=1))
    assert not program.told(Answer)


def test_a_function_that_did_not_come_along_is_asked_for_and_nothing_runs_without_it(
    bench: Bench, agent: Peer, program: Program
) -> None:
    program.offer(*program.batch(1), request=7, small=False)
    [missing] = program.told(BlobsMissing)
    assert (missing.request, missing.digests) == (7, (FUNCTION.digest,))
    assert not given(bench, agent)
    bench.store.put_bytes(PARCEL, FUNCTION.digest)
    program.offer(*program.batch(1), request=8, small=False)
    assert len(given(bench, agent)) == 1


def test_a_batch_whose_forerunner_was_lost_with_a_line_waits_until_it_comes_again(
    bench: Bench, agent: Peer, program: Program
) -> None:
    program.offer(*program.batch(2, start=5))
    assert program.state is JobState.QUEUED
    assert not given(bench, agent)
    assert program.back("another").tasks == 0


@pytest.mark.parametrize("request_", [0, 7])
@pytest.mark.parametrize("wrong", ["chunks", "job", "garbage", "nothing"])
def test_calls_that_are_not_what_was_signed_are_refused(
    bench: Bench, agent: Peer, program: Program, wrong: str, request_: int
) -> None:
    batch, chunks = program.batch(2)
    message = AddCalls(request=request_, job=program.id)
    match wrong:
        case "chunks":
            program.offer(batch, chunks[::-1], request_)
        case "job":
            program.offer(*program.batch(2, job=Program(bench, "other").job), request_)
        case "garbage":
            program.say(message, b"garbage", pack_parts(chunks))
        case _:
            program.say(message, batch.envelope)
    assert not given(bench, agent)
    if request_:
        assert [refused.code for refused in program.told(Refused)] == ["signature"]
        assert program.state is JobState.QUEUED
    else:  # nobody waits for an answer, and calls that never come would be waited for
        assert program.state is JobState.CANCELLED
        assert [over.job for over in program.told(CallsOver)] == [program.id]


@pytest.mark.parametrize("what", ["add", "cancel", "seen"])
def test_another_member_has_no_say_in_it(bench: Bench, agent: Peer, program: Program, what: str) -> None:
    program.add(1)
    [attempt] = given(bench, agent)
    stranger = bench.peer(bench.cast.other_submitter, program.peer.role, "stranger")
    bench.engine.peers.add(stranger)
    batch, chunks = program.batch(1)
    match what:
        case "add":
            bench.hear(stranger, AddCalls(request=3, job=program.id), batch.envelope, pack_parts(chunks))
            assert [refused.request for refused in bench.told(stranger, Refused)] == [3]
            assert not given(bench, agent)
        case "cancel":
            bench.hear(stranger, CancelCalls(job=program.id, index=0))
            assert not bench.told(agent, CancelTasks)
        case _:
            answer(bench, agent, program, attempt)
            bench.hear(stranger, CallsSeen(job=program.id, number=1))
            assert program.back("another").tasks == 1
            assert len(program.done()) == 1


def test_what_waits_of_one_job_is_limited(
    bench: Bench, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_job, "CHUNKS_WAITING_MAX", 3)
    program.add(3)
    program.offer(*program.batch(1), request=7)
    [refused] = program.told(Refused)
    assert "imap" in refused.fix
    assert program.state is not JobState.CANCELLED


def test_a_job_that_has_ended_takes_no_more_and_says_so(program: Program) -> None:
    program.say(Act(request=2, job=program.id, what="cancel"))
    assert len(program.told(CallsOver)) == 1
    program.offer(*program.batch(1), request=7)
    assert [refused.code for refused in program.told(Refused)] == ["over"]


def test_a_cancelled_call_is_taken_from_its_agent_and_the_others_run_on(
    bench: Bench, agent: Peer, program: Program
) -> None:
    program.add(2)
    first, second = given(bench, agent)
    program.say(CancelCalls(job=program.id, index=0))
    [cancel] = bench.told(agent, CancelTasks)
    assert [attempt for run in cancel.runs for attempt in run.attempts()] == [first]
    answer(bench, agent, program, second)
    assert len(program.done()) == 1


# What agents answer.


def test_answers_are_passed_on_as_their_agent_signed_them(
    bench: Bench, agent: Peer, program: Program
) -> None:
    program.add(2)
    answer(bench, agent, program, *given(bench, agent))
    [(message, payload)] = program.done()
    assert (message.number, message.agent) == (1, "attic")
    found = open_answers(payload[0], payload[1], program.job.digest, bench.cast.roster)
    assert [task.index for task in found.tasks] == [0, 1]


def test_only_the_first_answer_of_a_task_is_passed_on(bench: Bench, agent: Peer, program: Program) -> None:
    program.add(1)
    [attempt] = given(bench, agent)
    for _ in range(2):
        answer(bench, agent, program, attempt)
    assert len(program.done()) == 1


def test_an_attempt_that_nobody_was_given_has_no_answer(bench: Bench, agent: Peer, program: Program) -> None:
    program.add(1)
    [attempt] = given(bench, agent)
    answer(bench, agent, program, Attempt(attempt.job, attempt.index, 9, attempt.lease))
    assert not program.done()
    answer(bench, agent, program, attempt)
    assert len(program.done()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": ()},
        {"seconds": (float("nan"),)},
        {"seconds": (-1.0,)},
        {"stored": (digest_of(b"never arrived"),)},
    ],
)
def test_answers_that_cannot_be_true_are_not_accepted_and_their_task_runs_again(
    bench: Bench, agent: Peer, program: Program, wrong: dict[str, Any]
) -> None:
    program.add(1)
    [attempt] = given(bench, agent)
    answer(bench, agent, program, attempt, **wrong)
    assert not program.done()
    later(bench, agent, 60.0)
    assert [(again.index, again.number) for again in given(bench, agent)] == [(0, 2)]


def test_what_calls_have_printed_is_their_task_s_log(bench: Bench, agent: Peer, program: Program) -> None:
    program.add(2)
    attempts = given(bench, agent)
    answer(bench, agent, program, *attempts, logs=[b"an archive"])
    assert len(program.done()) == 1
    bench.settle()
    [row] = bench.engine.journal.results(program.id, 0, 2)
    assert (row.attempt, row.archive) == (attempts[0], digest_of(b"an archive"))


def test_a_log_that_is_not_the_signed_one_is_none(bench: Bench, agent: Peer, program: Program) -> None:
    program.add(1)
    answer(bench, agent, program, *given(bench, agent), logs=[b"an archive"], signed=b"another")
    assert not program.done()
    assert not bench.store.has(digest_of(b"an archive"))


# What a client has not seen yet.


def test_a_client_that_comes_back_hears_what_it_has_missed_and_where_its_job_is(
    bench: Bench, agent: Peer, program: Program
) -> None:
    program.add(3)
    for attempt in given(bench, agent):
        answer(bench, agent, program, attempt)
    assert [message.number for message, _ in program.done()] == [1, 2, 3]
    assert program.back("another", seen=1).tasks == 3
    assert [message.number for message, _ in program.done()] == [2, 3]
    program.say(CallsSeen(job=program.id, number=3))
    program.back("a third")
    assert not program.done()


def test_a_client_hears_how_many_of_its_calls_run_at_a_time(bench: Bench, program: Program) -> None:
    assert [told.slots for told in program.told(CallSlots)][-1:] in ([], [4])
    bench.agent(bench.cast.other_agent, name="cellar", slots=3)
    assert [told.slots for told in program.told(CallSlots)] == [7]
    program.back("another")
    assert [told.slots for told in program.told(CallSlots)] == [7]


def test_a_large_answer_is_kept_until_the_client_has_it(bench: Bench, agent: Peer, program: Program) -> None:
    program.add(1)
    large = digest_of(b"large")
    bench.store.put_bytes(b"large", large)
    answer(bench, agent, program, *given(bench, agent), stored=(large,))
    [(message, _)] = program.done()
    assert bench.store.has(large)
    program.say(CallsSeen(job=program.id, number=message.number))
    assert not bench.store.has(large)


@pytest.mark.parametrize("closed", [True, False])
def test_a_large_answer_that_was_never_confirmed_goes_with_its_client(
    bench: Bench, agent: Peer, program: Program, closed: bool
) -> None:
    program.add(1)
    attempts = given(bench, agent)
    if closed:
        program.say(Act(request=2, job=program.id, what="close"))
    large = bench.store.put_bytes(b"large")
    answer(bench, agent, program, *attempts, stored=(large,))
    assert bench.store.pinned(large)
    program.say(Goodbye())
    assert not bench.store.has(large)


def test_a_large_answer_that_the_client_has_when_it_is_back_is_not_kept(
    bench: Bench, agent: Peer, program: Program
) -> None:
    program.add(2)
    first, second = given(bench, agent)
    large, other = bench.store.put_bytes(b"large"), bench.store.put_bytes(b"other")
    answer(bench, agent, program, first, stored=(large,))
    answer(bench, agent, program, second, stored=(other,))
    (message, _), _ = program.done()
    program.back("another", seen=message.number)
    assert not bench.store.has(large)
    assert bench.store.has(other)


def test_a_large_answer_is_confirmed_however_fast_it_was_or_its_agent_would_bring_it_again(
    bench: Bench, agent: Peer, program: Program
) -> None:
    program.add(2)
    first, second = given(bench, agent)
    large = bench.store.put_bytes(b"large")
    answer(bench, agent, program, first, stored=(large,))
    answer(bench, agent, program, second)
    assert [one.attempts for one in bench.told(agent, TasksCommitted)] == [(first,)]


def test_a_large_answer_that_nobody_waits_for_is_not_kept(
    bench: Bench, agent: Peer, program: Program
) -> None:
    program.add(1)
    attempts = given(bench, agent)
    answer(bench, agent, program, *attempts)
    large = bench.store.put_bytes(b"large")
    answer(bench, agent, program, *attempts, stored=(large,))
    assert not bench.store.has(large)
    assert [one.attempts for one in bench.told(agent, TasksDiscarded)] == [tuple(attempts)]
    large = bench.store.put_bytes(b"large")
    program.say(Goodbye())
    answer(bench, agent, program, *attempts, stored=(large,))
    assert not bench.store.has(large)


def test_a_client_that_takes_no_answers_loses_its_job_before_they_fill_the_memory(
    bench: Bench, agent: Peer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_job, "UNSEEN_BYTES_MAX", 100)
    program.add(2)
    answer(bench, agent, program, *given(bench, agent))
    assert program.state is JobState.CANCELLED
    [over] = program.told(CallsOver)
    assert "does not take the answers" in over.reason


def test_a_program_that_ends_takes_its_calls_along(bench: Bench, agent: Peer, program: Program) -> None:
    program.add(1)
    assert given(bench, agent)
    program.say(Goodbye())
    assert program.state is JobState.CANCELLED
    assert bench.told(agent, CancelTasks)


def test_a_closed_job_ends_with_its_last_answer_and_says_it_after_that(
    bench: Bench, agent: Peer, program: Program
) -> None:
    program.add(1)
    program.say(Act(request=2, job=program.id, what="close"))
    assert not program.told(CallsOver)
    answer(bench, agent, program, *given(bench, agent))
    bench.settle()
    kinds = [type(one.message) for one in bench.sent if one.route == program.peer.route]
    assert kinds.index(CallsDone) < kinds.index(CallsOver)
    assert program.state is JobState.SUCCEEDED


def test_calls_of_which_no_attempt_comes_back_are_told_as_lost(
    bench: Bench, agent: Peer, program: Program
) -> None:
    program.add(1)
    lost: list[CallsLost] = []
    for _ in range(20):
        for attempt in given(bench, agent):
            answer(bench, agent, program, attempt, seconds=())
        later(bench, agent, 600.0)
        lost += program.told(CallsLost)
    assert [(one.start, one.stop) for one in lost] == [(0, 1)]
