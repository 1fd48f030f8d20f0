"""`discogrid config`: the settings and where they come from."""

import click

from discogrid import places
from discogrid.cli.command import Command, json_option
from discogrid.cli.console import Console
from discogrid.cli.output import Column
from discogrid.settings import KNOWN, load, variable_of


@click.group(cls=click.Group)
def config() -> None:
    """Show the settings: flags win over DISCOGRID_* variables, ./discogrid.toml, your own file and defaults."""


@config.command(cls=Command)
@click.option("--origin", is_flag=True, help="Where each value comes from.")
@json_option
@click.pass_obj
def show(console: Console, *, origin: bool, as_json: bool) -> None:
    """Show every setting and its value."""
    found = load()
    if as_json:
        values = {key: {"value": each.value, "origin": each.origin} for key, each in found.items()}
        console.output.json("settings", {"settings": values})
        return
    columns = [Column("KEY"), Column("VALUE"), Column("MEANING", gives_way=True)]
    rows = [[key, found[key].value if key in found else "", known.help] for key, known in KNOWN.items()]
    if origin:
        columns.insert(2, Column("ORIGIN"))
        for row in rows:
            row.insert(
                2, found[row[0]].origin if row[0] in found else f"default ({variable_of(row[0])} is not set)"
            )
    console.output.table(columns, rows)


@config.command(cls=Command)
@click.pass_obj
def path(console: Console) -> None:
    """Print where your own settings file is, or would be."""
    console.output.path(places.settings_file())
