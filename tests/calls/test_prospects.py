"""What is said of calls that may have to wait, whatever comes between two questions."""

from typing import Any, cast

import pytest

from discogrid.errors import NoAgentFits
from discogrid.grid import Grid
from discogrid.messages import Answer
from discogrid.remote.prospects import NOBODY, Prospects
from discogrid.session import Session
from discogrid.types import JobId

JOB = JobId("k3f9")


class Coordinator:
    """Answers as it is told to; its one agent is there whenever agents are asked for."""

    def __init__(self, reasons: dict[str, str], *, placeable: bool = False) -> None:
        self.why = Answer(request=1, reasons=reasons, placeable=placeable)
        self.message: Answer | None = None

    async def ask(self, build: Any) -> "Coordinator":
        agents = cast(Any, (type("View", (), {"state": "live", "python": "3.11.7"})(),))
        self.message = self.why if build(1).what == "why" else Answer(request=1, agents=agents)
        return self


def of(coordinator: Coordinator) -> Session:
    return cast(Session, coordinator)


def prospects(*, own: bool) -> Prospects:
    grid = cast(Grid, type("Grid", (), {"own": own, "name": "attic"})())
    return Prospects(grid, (3, 11), bare=True)


@pytest.mark.parametrize("own", [True, False])
async def test_an_agent_that_comes_between_two_questions_is_not_one_that_cannot_run_calls(own: bool) -> None:
    assert await prospects(own=own).check(of(Coordinator({})), JOB) == ("" if own else NOBODY)


async def test_agents_that_are_there_and_never_can_end_it_at_once() -> None:
    with pytest.raises(NoAgentFits, match="attic") as caught:
        await prospects(own=False).check(of(Coordinator({"box": "no numpy"})), JOB)
    assert caught.value.why == "box: no numpy"


async def test_what_agents_say_does_not_act_on_a_terminal_and_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    coordinator = of(Coordinator({"box": "\x1b[2Jgone\a"}))
    said = await prospects(own=False).explain(coordinator, JOB, "")
    assert await prospects(own=False).explain(coordinator, JOB, said) == said
    assert capsys.readouterr().err == (
        "discogrid: no agent of the grid attic can run these calls now; they wait. box:  [2Jgone \n"
    )


async def test_calls_that_may_run_soon_are_not_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert await prospects(own=False).explain(of(Coordinator({}, placeable=True)), JOB, "before") == "before"
    assert not capsys.readouterr().err
