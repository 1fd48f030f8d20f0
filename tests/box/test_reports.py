"""When what an agent says of its tasks leaves: a lone answer at once, many together."""

import asyncio
from collections.abc import Sequence

from discogrid.answers import TaskAnswers
from discogrid.calls.frames import Returned
from discogrid.messages import CallsAnswered, Message, TaskDone, TasksDone, TasksStarted
from discogrid.types import Attempt, JobId, Outcome, Run
from discogrid_agent.reports import Report, Reports

JOB = JobId("k3f9")


class Line:
    """Remembers what has left; `busy` is whether the agent has more work without an answer."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.busy = False
        self.over: set[JobId] = set()
        self.reports = Reports(self.send, lambda: self.busy, self.seal)

    def send(self, message: Message, *_: bytes) -> None:
        self.sent.append(message)

    def seal(self, job: JobId, answers: Sequence[TaskAnswers]) -> tuple[bytes, bytes] | None:
        return None if job in self.over else (bytes(len(answers)), b"sealed")

    @property
    def kinds(self) -> list[type[Message]]:
        return [type(message) for message in self.sent]


def attempt(index: int) -> Attempt:
    return Attempt(JOB, index, 1, 7)


def ended(index: int) -> Report:
    return Report(TaskDone(attempt=attempt(index), outcome=Outcome.SCRIPT_FAILED))


def answered(index: int) -> Report:
    done = TaskDone(attempt=attempt(index), outcome=Outcome.SUCCEEDED)
    return Report(done, answers=TaskAnswers(index, (Returned(index, 0.0, b"m\x01"),)))


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_lone_answer_to_calls_leaves_before_anything_else_is_done() -> None:
    line = Line()
    line.reports.started((Run.of(attempt(0)),), soon=False)
    line.reports.answered([answered(0)])
    assert line.kinds == [CallsAnswered]  # that it had started is no news any more


async def test_answers_of_a_job_that_has_ended_keep_no_other_report_from_leaving() -> None:
    line = Line()
    line.over.add(JOB)
    line.reports.ended(ended(1))
    line.reports.answered([answered(0)])
    assert line.kinds == [TasksDone]


async def test_answers_wait_for_one_another_while_there_is_more_to_run() -> None:
    line = Line()
    line.busy = True
    line.reports.answered([answered(0)])
    line.reports.answered([answered(1)])
    assert not line.sent
    line.busy = False
    line.reports.answered([answered(2)])
    [message] = line.sent
    assert isinstance(message, CallsAnswered)
    assert message.runs == (Run(JOB, 0, 3, 1, 7),)


async def test_ends_of_scripts_that_come_in_one_turn_leave_together() -> None:
    line = Line()
    for index in range(3):
        line.reports.ended(ended(index))
    assert not line.sent
    await turns()
    [message] = line.sent
    assert isinstance(message, TasksDone)
    assert len(message.tasks) == 3


async def test_that_a_script_has_started_is_told_though_its_end_is_far() -> None:
    line = Line()
    line.reports.started((Run.of(attempt(0)),), soon=True)
    await turns()
    assert line.kinds == [TasksStarted]
