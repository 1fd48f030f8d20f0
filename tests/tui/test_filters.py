import pytest

from discogrid.types import TaskState
from discogrid.views import TaskView
from discogrid_tui.columns import TASKS
from discogrid_tui.filters import FILTER_CHARS_MAX, Filter
from tests.tui.fakes import task

FAILED_IN_THE_ATTIC = task(2, state=TaskState.FAILED, agent="attic", exit=1, reason="exit code 1")


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", True),
        ("   ", True),
        ("state:failed", True),
        ("state:fail", True),
        ("state:ailed", False),
        ("state:running", False),
        ("state:running,failed", True),
        ("-state:failed", False),
        ("-state:running", True),
        ("state:", True),
        ("state:,", True),
        ("agent:ATT", True),
        ("agent:tic", True),
        ("agent:attic state:failed", True),
        ("agent:attic state:done", False),
        ("split002", True),
        ("code", True),
        ("-code", False),
        ("exit:1", True),
        ("exit:11", False),
        ("nothing", False),
        ("-", True),
    ],
)
def test_a_task_passes_a_filter_or_not(text: str, passes: bool) -> None:
    found: Filter[TaskView] = Filter.parse(text, TASKS.fields)
    assert found.accepts(FAILED_IN_THE_ATTIC) is passes


def test_a_field_that_the_list_does_not_have_is_named_and_searched_as_text() -> None:
    found = Filter.parse("colour:red 12:30", TASKS.fields)
    assert found.unknown == ("colour",)
    assert not found.accepts(FAILED_IN_THE_ATTIC)
    assert found.accepts(task(input="colour:red-12:30.mp4"))


def test_a_filter_without_end_is_cut() -> None:
    assert len(Filter.parse("x" * 10_000, TASKS.fields).text) == FILTER_CHARS_MAX
