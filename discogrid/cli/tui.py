"""`discogrid tui`: the dashboard, which lives in a package of its own."""

import importlib

import click

from discogrid.cli.command import Command
from discogrid.cli.connect import GridChoice, grid_options
from discogrid.cli.console import Console
from discogrid.errors import UsageError


@click.command(cls=Command)
@grid_options
@click.pass_obj
def tui(console: Console, choice: GridChoice) -> int:
    """Watch jobs, tasks and agents live. `?` shows the keys."""
    if not console.output.terminal:
        raise UsageError(
            "the dashboard needs a terminal", fix="`discogrid status --json` is made for programs."
        )
    return int(importlib.import_module("discogrid_tui.app").run(choice.open()))
