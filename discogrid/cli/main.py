"""The program `discogrid`: finds the command, runs it, and turns what went wrong into words and an exit code."""

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from discogrid import __version__
from discogrid.cli.command import global_options
from discogrid.cli.console import Console
from discogrid.cli.table import COMMANDS
from discogrid.errors import DiscogridError, ExitCode, UsageError

PROGRAM = "discogrid"
GARBAGE_OBJECTS = 20_000  # new ones, until rubbish is looked for
COMPLETION_VARIABLE = "_DISCOGRID_COMPLETE"
EXIT_TEXTS = {
    ExitCode.SUCCEEDED: "all succeeded",
    ExitCode.TASK_FAILED: "a task failed",
    ExitCode.USAGE: "wrong usage or configuration, or no such input",
    ExitCode.NO_GRID: "no grid in reach",
    ExitCode.UNPLACEABLE: "the work can never be placed",
    ExitCode.WAIT_TIMED_OUT: "a wait timed out",
    ExitCode.CANCELLED: "cancelled",
    ExitCode.INTEGRITY: "integrity or signature refused",
    ExitCode.INTERRUPTED: "interrupted",
}


class Program(click.Group):
    """A group whose commands are imported when they run; its help needs the table only."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command; None when there is none of that name."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        module, _, function = row.target.partition(":")
        command = getattr(importlib.import_module(module), function)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, or the nearest name of one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            nearest = difflib.get_close_matches(args[0], COMMANDS, 3)
            raise UsageError(
                f"there is no command {args[0]!r}",
                why=f"Did you mean {' or '.join(map(repr, nearest))}?" if nearest else "",
                fix="`discogrid --help` lists the commands.",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The table, by section."""
        for section in dict.fromkeys(row.section for row in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name, row.help) for name, row in COMMANDS.items() if row.section == section],
                    col_max=14,
                )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), text) for code, text in EXIT_TEXTS.items()])
        formatter.write_paragraph()
        formatter.write_text("`discogrid COMMAND --help` tells more about a command.")


def program() -> Program:
    """The top of the command line."""
    return Program(
        PROGRAM,
        params=[*global_options(), _version_option()],
        help="Turns idle machines into one computer: run one script over many inputs, in parallel, in a box.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def main() -> int:
    """Run the command line of this process; its exit code."""
    gc.set_threshold(
        GARBAGE_OBJECTS, 20, 20
    )  # importing makes objects that stay; looking for rubbish costs 20 ms
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a name must not crash a terminal that cannot show it
    return run(sys.argv[1:])


def run(arguments: list[str]) -> int:
    """Run a command line; its exit code. Errors are told on stderr."""
    console = Console()
    try:
        code = _invoke(console, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.SUCCEEDED
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where anything can be said about it
        if console.debug:
            import traceback

            traceback.print_exc()
        told = told_error(error, arguments)
        console.narration.error(told)
        return told.exit_code
    return code


def _invoke(console: Console, arguments: list[str]) -> int:
    """Parse and run. Not by click's own `main`, which exits with 1 when the reader of our output is gone."""
    top = program()
    if COMPLETION_VARIABLE in os.environ:
        top.main(args=arguments, prog_name=PROGRAM, complete_var=COMPLETION_VARIABLE)
    try:
        with top.make_context(PROGRAM, arguments, obj=console) as context:
            result = top.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return int(result) if isinstance(result, int) else ExitCode.SUCCEEDED


def told_error(error: Exception, arguments: Sequence[str] = ()) -> DiscogridError:
    """The error in words for its user: ours as it is, click's in our form, anything else as a fault of ours."""
    match error:
        case DiscogridError():
            return error
        case ExceptionGroup():
            return told_error(error.exceptions[0], arguments)
        case click.ClickException():
            return _usage(error, arguments)
        case OSError():
            where = f"The file is {error.filename!r}." if error.filename else ""
            return DiscogridError(str(error.strerror or error), why=where)
        case _:
            return DiscogridError(
                f"{type(error).__name__}: {error}",
                why="This is a fault in discogrid, not in what you did.",
                fix="Run the command again with --debug and report what it prints.",
            )


def _usage(error: click.ClickException, arguments: Sequence[str]) -> UsageError:
    context: click.Context | None = getattr(error, "ctx", None)
    nearest = getattr(error, "possibilities", None)
    what = error.format_message().partition("\n")[0].partition(" Did you mean")[0]
    if isinstance(error, click.NoSuchOption):
        what = f"there is no option {error.option_name}"
        for argument in arguments:
            if argument.startswith("-") and os.path.lexists(argument):
                return UsageError(
                    what, why=f"There is a file {argument!r}.", fix=f"Write ./{argument} for it."
                )
    return UsageError(
        what[:1].lower() + what[1:].rstrip("."),
        why=f"Did you mean {' or '.join(sorted(nearest))}?" if nearest else "",
        fix=f"See `{context.command_path if context else PROGRAM} --help`.",
    )


def _version_option() -> click.Option:
    def show(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        if value:
            ctx.ensure_object(Console).output.line(f"discogrid {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Print the version.",
    )
