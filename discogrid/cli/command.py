"""What our commands have in common: options that stand anywhere, settings as defaults, values such as 2G and 90s."""

import sys
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from discogrid.cli.console import Console
from discogrid.quantities import parse_duration, parse_size


class Command(click.Command):
    """A command with -q, -v, --color and --debug, whose defaults come from the settings."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Like click's."""
        super().__init__(*arguments, **options)
        self.params.extend(global_options())
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])
        self.context_settings.setdefault("max_content_width", 100)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let the settings stand in for options that were not given."""
        from discogrid.settings import load

        given = {
            setting.key.rpartition(".")[2].replace("-", "_"): setting.value
            for setting in load().values()
            if "." not in setting.key or setting.key.startswith(f"{self.name}.")
        }
        ctx.default_map = {**given, **(ctx.default_map or {})}
        return super().parse_args(ctx, args)


class CommandGroup(Command, click.Group):
    """A command that does something by itself, and has commands below it."""


def global_options() -> list[click.Parameter]:
    """New instances of the options that every command and the program itself take."""
    return [
        _flag(["-q", "--quiet"], "Only warnings and errors on stderr.", _set_quiet),
        _flag(["-v", "--verbose"], "More on stderr.", _set_verbose),
        click.Option(
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            expose_value=False,
            callback=_set_colour,
            help="When to colour; NO_COLOR is obeyed.",
        ),
        _flag(["--debug"], "Show the traceback of an error.", _set_debug),
    ]


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def as_size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """A callback for options such as --memory 2G: bytes."""
    return None if value is None else int(_parsed(parse_size, value))


def as_duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """A callback for options such as --timeout 90s: seconds."""
    return None if value is None else _parsed(parse_duration, value)


def _parsed(parse: Callable[[str], float], value: str) -> float:
    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _flag(
    names: list[str], help_text: str, callback: Callable[[click.Context, click.Parameter, bool], None]
) -> click.Option:
    return click.Option(names, is_flag=True, expose_value=False, callback=callback, help=help_text)


def _set_quiet(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Console).narration.quiet = True


def _set_verbose(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Console).narration.verbose = True
        _show_log()


def _set_colour(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    console = ctx.ensure_object(Console)
    given = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    if value and (given or not console.coloured):
        console.colour(value)
        console.coloured = given


def _set_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Console).debug = True


def _show_log() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
