"""One job of calls as its client holds it, against a coordinator that says what the test likes."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from typing import cast as as_type

import pytest

from discogrid.answers import Answer, Answers, TaskAnswers, seal_answers
from discogrid.bundle import CallTerms
from discogrid.calls.frames import Call, Part, Raised, Returned
from discogrid.channel import Received
from discogrid.errors import DiscogridError, GridError, JobGone, JobOver
from discogrid.keys import Identity
from discogrid.messages import (
    Act,
    AddCalls,
    CallsDone,
    CallsLost,
    CallsOver,
    CallsSeen,
    CancelCalls,
    JobAccepted,
    Message,
    SubmitJob,
)
from discogrid.messages import Answer as Yes
from discogrid.remote.call_session import CallSession
from discogrid.session import CallListener, Session
from discogrid.types import AgentId, FileRef, JobId, Requirements, SandboxLevel
from discogrid.wire import unpack_parts
from tests.trust.forge import Cast, cast, digest_of

GRID: Cast = cast()
INITIALIZER = FileRef("initializer", digest_of(b""), 0)
AGENT = AgentId("attic")


class Coordinator:
    """What a session is to the calls: it keeps jobs, and is away when the test says so."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, list[int]] = {}  # the tasks of each, as batches came
        self.bodies: dict[bytes, JobId] = {}
        self.listeners: dict[JobId, CallListener] = {}
        self.heard: list[Message] = []
        self.refusals: list[tuple[type[Message], DiscogridError]] = []  # one each, of the next such question
        self._said: dict[JobId, int] = {}

    async def ask(self, build: Callable[[int], Message], *payload: bytes, **_: object) -> Received:
        message = build(1)
        self.heard.append(message)
        for at, (kind, error) in enumerate(self.refusals):
            if isinstance(message, kind):
                del self.refusals[at]
                raise error
        await asyncio.sleep(0)
        match message:
            case SubmitJob():
                job = self.bodies.setdefault(payload[0], JobId(f"job{len(self.bodies)}"))
                tasks = self.jobs.setdefault(job, [])
                return received(JobAccepted(request=1, job=job, tasks=sum(tasks)))
            case AddCalls(job=job):
                self.take(job, payload[1])
                return received(Yes(request=1))
            case _:
                return received(Yes(request=1))

    def send(self, message: Message, *payload: bytes) -> bool:
        self.heard.append(message)
        if isinstance(message, AddCalls):
            self.take(message.job, payload[1])
        return True

    def take(self, job: JobId, chunks: bytes) -> None:
        self.jobs[job].append(len(unpack_parts(chunks, part_bytes_max=1 << 22)))

    def listen(self, job: JobId, listener: CallListener | None) -> None:
        if listener is None:
            self.listeners.pop(job, None)
        else:
            self.listeners[job] = listener

    def blobs(self, _: object) -> Any:
        raise AssertionError("nothing is large here")

    def forget(self) -> None:
        """It was started again."""
        self.jobs.clear()

    def tell(self, job: JobId, message: Message, *payload: bytes) -> None:
        if job in self.listeners:
            self.listeners[job].told(received(message, *payload))

    def number(self, job: JobId) -> int:
        self._said[job] = self._said.get(job, 0) + 1
        return self._said[job]

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]


def received(message: Message, *payload: bytes) -> Received:
    return Received(as_type(Any, message), list(payload), "", b"")


class Program:
    """The owner of the calls, and what it was told."""

    def __init__(self) -> None:
        self.coordinator = Coordinator()
        self.answers: list[Answer] = []
        self.missing: list[int] = []  # calls
        self.slots: list[int] = []
        self.end: DiscogridError | None = None
        manifest = GRID.manifest(
            [],
            time.time(),
            root=b"",
            script=INITIALIZER,
            requirements=Requirements(protocol=5),
            calls=CallTerms(python=(sys.version_info[0], sys.version_info[1])),
        )
        self.calls = CallSession(
            as_type(Session, self.coordinator), GRID.grid(GRID.submitter), manifest, b"", self
        )
        self.calls.add_function(0, b"a function")

    async def open(self, *chunks: int) -> None:
        """With a chunk of so many calls each, numbered through."""
        await self.calls.begin()
        first = 0
        made = []
        for count in chunks:
            made.append([Call(first + at, 0, b"argument") for at in range(count)])
            first += count
        await self.calls.send(made)

    # -- Owner

    def answered(self, answers: Answers, job: JobId, agent: str, then: Callable[[], object]) -> None:
        self.answers += [one for task in answers.tasks for one in task.answers]
        then()

    def lost(self, calls: Sequence[Call], error: DiscogridError) -> None:
        self.missing += [call.number for call in calls]

    def slots_changed(self, slots: int) -> None:
        self.slots.append(slots)

    def over(self, error: DiscogridError) -> None:
        self.end = error

    # -- what the coordinator says

    def answer(
        self,
        tasks: Sequence[TaskAnswers],
        signer: Identity = GRID.agent,
        number: int | None = None,
        sandbox: SandboxLevel = SandboxLevel.STRICT,
    ) -> None:
        job = self.calls.job
        listener: Any = self.coordinator.listeners[job]
        digest = listener._run.job.digest
        packed, envelope = seal_answers(digest, tasks, signer, sandbox, time.time())
        number = self.coordinator.number(job) if number is None else number
        self.coordinator.tell(job, CallsDone(job=job, number=number, agent=AGENT), packed, envelope)

    @property
    def numbers(self) -> list[int]:
        return [one.number for one in self.answers]

    async def quiet(self) -> None:
        """Whatever it had to do at once is done."""
        for _ in range(50):
            await asyncio.sleep(0)


def of_task(index: int, *numbers: int) -> TaskAnswers:
    return TaskAnswers(index, tuple(Returned(number, 0.0, b"value") for number in numbers))


@pytest.fixture
async def program() -> Program:
    return Program()


# What agents say.


async def test_answers_may_come_in_any_order(program: Program) -> None:
    await program.open(1, 2, 1)
    program.answer([of_task(2, 3)])
    program.answer([of_task(1, 1, 2), of_task(0, 0)])
    assert program.numbers == [3, 1, 2, 0]
    assert program.calls.idle


async def test_an_answer_that_comes_again_is_no_second_one(program: Program) -> None:
    await program.open(1, 1)
    program.answer([of_task(0, 0)], number=1)
    program.answer([of_task(0, 0)], number=1)  # the same word, after a line broke
    program.answer(
        [of_task(0, 0), of_task(0, 0), of_task(1, 1)], number=2
    )  # and by an agent that repeats itself
    assert program.numbers == [0, 1]


async def test_an_agent_answers_only_the_calls_that_it_was_given(program: Program) -> None:
    await program.open(1, 1, 1)
    program.answer([of_task(0, 0, 1), of_task(9, 2)])
    assert program.numbers == [0]
    program.answer([of_task(1, 1), of_task(2, 2)])
    assert program.numbers == [0, 1, 2]


async def test_a_call_that_its_agent_passed_over_is_lost_and_the_others_are_not(program: Program) -> None:
    await program.open(3)
    program.answer([of_task(0, 0, 2)])
    assert (program.numbers, program.missing) == ([0, 2], [1])


def part(offset: int, count: int, *, last: bool = False) -> Part:
    return Part(0, offset, count, 0.0, last, b"values")


@pytest.mark.parametrize(
    ("said", "kept", "missing"),
    [
        ((part(0, 2), part(2, 3, last=True)), 2, []),
        ((part(0, 2), Raised(0, 0.0, b"the rest")), 2, []),
        ((Raised(0, 0.0, b"all"),), 1, []),
        ((part(0, 2, last=True),), 0, [0]),
        ((part(0, 2), part(0, 3, last=True)), 0, [0]),
        ((part(0, 2), part(2, 9, last=True)), 0, [0]),
        ((part(0, 0), part(0, 5, last=True)), 1, []),
        ((Returned(0, 0.0, b"one value for all of them"),), 0, [0]),
    ],
)
async def test_a_row_is_answered_whole_or_not_at_all(
    program: Program, said: tuple[Answer, ...], kept: int, missing: list[int]
) -> None:
    await program.calls.begin()
    await program.calls.send([[Call(0, 0, b"arguments", 5)]])
    program.answer([TaskAnswers(0, said)])
    assert (len(program.answers), program.missing) == (kept, missing)


@pytest.mark.parametrize("wrong", ["signer", "box", "garbage", "nothing"])
async def test_answers_that_are_not_proven_are_none_and_their_calls_are_made_in_another_job(
    program: Program, wrong: str
) -> None:
    await program.open(1, 1)
    first = program.calls.job
    match wrong:
        case "signer":
            program.answer([of_task(0, 0)], signer=GRID.coordinator)
        case "box":
            program.answer([of_task(0, 0)], sandbox=SandboxLevel.NONE)
        case "garbage":
            done = CallsDone(job=first, number=1, agent=AGENT)
            program.coordinator.tell(first, done, b"garbage", b"garbage")
        case _:
            program.coordinator.tell(first, CallsDone(job=first, number=1, agent=AGENT))
    await program.quiet()
    assert not program.answers
    assert program.calls.job != first
    assert [act.what for act in program.coordinator.of(Act)] == ["cancel"]
    program.answer([of_task(0, 0), of_task(1, 1)])
    assert program.numbers == [0, 1]


# What the coordinator says.


async def test_tasks_that_are_lost_are_told_once(program: Program) -> None:
    await program.open(2, 1)
    job = program.calls.job
    for _ in range(2):
        program.coordinator.tell(job, CallsLost(job=job, number=1, start=0, stop=2, reason="x"))
    assert program.missing == [0, 1, 2]
    program.answer([of_task(0, 0)], number=2)
    assert not program.answers


async def test_after_a_line_broke_only_what_did_not_arrive_is_sent_again(program: Program) -> None:
    await program.open(1)
    job = program.calls.job
    program.coordinator.refusals.append((AddCalls, GridError("the line broke")))
    program.calls.add_function(1, b"another function")
    await program.calls.send([[Call(1, 1, b"argument")]])
    assert program.coordinator.jobs[job] == [1]
    program.calls.greeted()
    await program.quiet()
    assert program.coordinator.jobs[job] == [1, 1]
    assert program.calls.job == job


@pytest.mark.parametrize("says", ["nothing of it", "gone"])
async def test_a_coordinator_that_was_started_again_gets_the_calls_without_an_answer(
    program: Program, says: str
) -> None:
    await program.open(1)
    await program.calls.send([[Call(1, 0, b"argument")], [Call(2, 0, b"argument")]])
    first = program.calls.job
    program.answer([of_task(0, 0)])
    program.coordinator.forget()
    if says == "gone":
        program.coordinator.refusals.append((SubmitJob, JobGone("started again")))
    program.calls.greeted()
    await program.quiet()
    assert program.calls.job != first
    assert program.coordinator.jobs[program.calls.job] == [2]
    program.answer([of_task(0, 1), of_task(1, 2)])
    assert program.numbers == [0, 1, 2]
    assert program.calls.idle


async def test_one_that_goes_away_again_before_it_has_the_new_job_costs_no_call(program: Program) -> None:
    await program.open(1, 1)
    program.coordinator.forget()
    away = GridError("gone again")
    program.coordinator.refusals += [(SubmitJob, JobGone("started again")), (SubmitJob, away)]
    program.calls.greeted()
    await program.quiet()
    assert not program.calls.idle
    program.coordinator.refusals.append((SubmitJob, JobGone("started again")))
    program.calls.greeted()
    await program.quiet()
    program.answer([of_task(0, 0), of_task(1, 1)])
    assert program.numbers == [0, 1]


async def test_answers_that_are_not_proven_just_before_a_line_breaks_cost_no_call(program: Program) -> None:
    await program.open(1)
    first = program.calls.job
    program.coordinator.refusals.append((Act, GridError("the line broke")))
    program.answer([of_task(0, 0)], signer=GRID.coordinator)
    await program.quiet()
    assert program.calls.job == first
    program.calls.greeted()
    await program.quiet()
    assert program.calls.job != first
    program.answer([of_task(0, 0)])
    assert program.numbers == [0]


async def test_a_job_that_was_cancelled_by_somebody_ends_all_with_the_reason(program: Program) -> None:
    await program.open(1)
    job = program.calls.job
    program.coordinator.tell(job, CallsOver(job=job, reason="cancelled by its owner"))
    assert "cancelled by its owner" in str(program.end)
    assert program.calls.ended.is_set()


async def test_a_job_that_took_no_more_ends_all_with_the_reason(program: Program) -> None:
    await program.open(1)
    program.coordinator.refusals.append((SubmitJob, JobOver("it has ended", why="put out of the grid")))
    program.calls.greeted()
    await program.quiet()
    assert "put out of the grid" in str(program.end)


async def test_a_closed_job_ends_with_its_last_answer_also_when_it_had_to_move(program: Program) -> None:
    await program.open(1)
    await program.calls.close()
    program.coordinator.forget()
    program.calls.greeted()
    await program.quiet()
    assert [act.what for act in program.coordinator.of(Act)] == ["close", "close"]
    program.answer([of_task(0, 0)])
    job = program.calls.job
    program.coordinator.tell(job, CallsOver(job=job))
    assert program.calls.ended.is_set()
    assert program.end is None


async def test_a_call_that_is_not_wanted_any_more_is_not_made_again(program: Program) -> None:
    await program.open(1, 1)
    program.calls.end(0)
    assert [said.index for said in program.coordinator.of(CancelCalls)] == [0]
    program.coordinator.refusals.append((SubmitJob, JobGone("started again")))
    program.calls.greeted()
    await program.quiet()
    assert program.coordinator.jobs[program.calls.job] == [1]


async def test_the_coordinator_hears_how_far_its_words_have_come_and_not_of_each(program: Program) -> None:
    await program.open(*[1] * 100)
    for index in range(100):
        program.answer([of_task(index, index)])
    told = [said.number for said in program.coordinator.of(CallsSeen)]
    assert told == sorted(told)
    assert 96 <= told[-1] <= 100
    assert len(told) <= 4


async def test_words_out_of_the_blue_change_nothing(program: Program) -> None:
    await program.open(1)
    job = program.calls.job
    for message in (Yes(request=9), JobAccepted(request=9, job=job)):
        program.coordinator.tell(job, message)
    program.coordinator.tell(job, CallsLost(job=job, number=1, start=50, stop=60, reason="x"))
    assert not program.missing
    program.answer([of_task(0, 0)], number=2)
    assert program.numbers == [0]
