"""`discogrid map`: a Python function over many items, from the command line."""

import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import click

from discogrid.cli.command import Command, as_duration, as_size
from discogrid.cli.connect import GridChoice, grid_options
from discogrid.cli.console import Console
from discogrid.errors import ExitCode, InputError, UsageError

CPUS_MAX = 4096


@click.command(cls=Command)
@click.argument("function", metavar="FILE.py:FUNCTION")
@click.argument("items", metavar="ITEMS")
@click.option("--star", is_flag=True, help="Each item is an array of arguments.")
@click.option(
    "--unordered", is_flag=True, help="Print results as they come, whatever the order of the items."
)
@click.option("--processes", type=click.IntRange(1), metavar="N", help="Run at most N calls at a time.")
@click.option("--timeout", callback=as_duration, metavar="DURATION", help="How long one call may run.")
@click.option("--cpus", type=click.IntRange(1, CPUS_MAX), default=1, show_default=True, help="Slots a call.")
@click.option("--memory", callback=as_size, metavar="SIZE", help="Memory a call.")
@click.option("--needs", default="", metavar="NAMES", help="Modules and programs that an agent must have.")
@click.option("-c", "--const", multiple=True, metavar="FILE", help="A file in the folder of every call.")
@click.option("--box", is_flag=True, help="In a box on this machine's own grid, too.")
@click.option("-n", "--name", default="", help="The job's name. [default: the function's]")
@grid_options
@click.pass_context
def map_command(
    ctx: click.Context,
    /,
    choice: GridChoice,
    *,
    function: str,
    items: str,
    star: bool,
    unordered: bool,
    processes: int | None,
    name: str,
    **options: Any,
) -> int:
    """Call a function of FILE.py once for every item, and print what it returns, one JSON value a line.

    ITEMS is a file, - for stdin, or a JSON array; a file holds a JSON array or one JSON value a line, and may be endless.
    The file is imported as a module: what stands below `if __name__ == "__main__"` does not run. A call that fails
    prints null, and why on stderr; the command then ends with 1.
    """
    from discogrid.calls.pool import CallPool
    from discogrid.remote.early import open_calls
    from discogrid.remote.keywords import call_options

    console = ctx.ensure_object(Console)
    if choice.coordinator is not None:
        raise UsageError("calls go to a grid by its name", fix="Use --grid NAME.")
    called = load(function)
    if star:
        called = _Starred(called)
    with ExitStack() as opened:
        arguments = opened_items(items, opened)
        asked = {**options, "memory": options["memory"] or 0, "local": choice.local, "grid": choice.grid}
        title = name or function.rpartition(":")[2]
        chosen = call_options({**asked, "name": title}, processes=processes)  # type: ignore[typeddict-item]
        pool = opened.enter_context(CallPool(open_calls(chosen)))
        results = (pool.imap_unordered if unordered else pool.imap)(called, arguments)
        return _print(console, iter(results.take, None))


def _print(console: Console, found: Iterator[tuple[Any, BaseException | None]]) -> int:
    code = ExitCode.SUCCEEDED
    try:
        for value, error in found:
            said, wrong = _as_json(value) if error is None else ("null", error)
            if wrong is not None:
                code = ExitCode.TASK_FAILED
                console.narration.say(_told(wrong))
            console.output.line(said)
    except StopIteration:
        pass
    return code


def _told(error: BaseException) -> str:
    if isinstance(error, InputError):
        return str(error)
    return "".join(traceback.format_exception(error, limit=0)).rstrip()


def _as_json(value: Any) -> tuple[str, BaseException | None]:
    try:
        return json.dumps(value, ensure_ascii=False), None
    except (TypeError, ValueError) as error:
        wrong = InputError(
            f"a call returned what JSON cannot say: {error}",
            fix="Return numbers, texts, lists and dictionaries; or use discogrid.Pool in Python.",
        )
        return "null", wrong


class _Starred:
    """The function, of an array of arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, arguments: list[Any]) -> Any:
        return self._function(*arguments)


# -- the function


def load(text: str) -> Callable[..., Any]:
    """The function that FILE.py:FUNCTION names, its file imported as a module; UsageError or InputError when it cannot be."""
    import importlib.util

    path_text, _, name = text.rpartition(":")
    if not path_text or not name.isidentifier():
        raise UsageError(f"{text!r} names no function", fix="Write FILE.py:FUNCTION.")
    path = Path(path_text).resolve()
    if not path.is_file():
        raise InputError(f"the file {path_text} does not exist", fix="Look at its spelling and this folder.")
    module = path.stem
    if path.suffix != ".py" or not module.isidentifier() or module in sys.stdlib_module_names:
        raise InputError(
            f"{path.name} cannot be imported as a module",
            why="A module of Python's own has that name, or it is no name of a module.",
            fix="Rename it, to letters, digits and _, with .py at its end.",
        )
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None, "a path that ends with .py has a loader"
    assert spec.loader is not None
    loaded = sys.modules[module] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except Exception as error:
        raise InputError(f"{path_text} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(loaded, name, None)
    if not callable(function):
        import difflib

        known = [key for key, value in vars(loaded).items() if callable(value)]
        near = difflib.get_close_matches(name, known, 1)
        raise UsageError(
            f"{path_text} has no function {name!r}", fix=f"Did you mean {near[0]!r}?" if near else ""
        )
    return function  # type: ignore[no-any-return]


# -- the items


def opened_items(text: str, opened: ExitStack) -> Iterator[Any]:
    """What ITEMS means; `opened` closes its file. InputError when there is none, or it is no JSON."""
    if text == "-":
        return items_of(sys.stdin, "stdin")
    if text.lstrip().startswith("["):
        return items_of([text], "ITEMS")
    try:
        file = opened.enter_context(Path(text).open(encoding="utf-8"))  # noqa: SIM115 (`opened` closes it)
    except OSError as error:
        raise InputError(
            f"the items {text} cannot be read: {error.strerror}",
            fix="Name a file, -, or a JSON array in quotes.",
        ) from None
    return items_of(file, text)


def items_of(lines: Iterable[str], where: str) -> Iterator[Any]:
    """A JSON array, or one JSON value a line, read as it is used. InputError names the line that is no JSON."""
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    first = next(numbered, None)
    second = next(numbered, None)
    if first is None:
        raise _none(where)
    try:
        value = json.loads(first[1])
    except ValueError:
        whole = chain((first[1],), () if second is None else (second[1],), (line for _, line in numbered))
        value = _value("".join(whole), where, first[0])
        second = None
    if second is not None or not isinstance(value, list):
        rest = () if second is None else chain((second,), numbered)
        return chain((value,), (_value(line, where, number) for number, line in rest))
    if not value:
        raise _none(where)
    return iter(value)


def _value(text: str, where: str, line: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        at = line + getattr(error, "lineno", 1) - 1
        raise InputError(
            f"line {at} of {where} is no JSON: {getattr(error, 'msg', error)}",
            fix='Write a JSON array, or one JSON value a line; texts stand in "quotes".',
        ) from None


def _none(where: str) -> InputError:
    return InputError(f"{where} holds no items; nothing was run")
