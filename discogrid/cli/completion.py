"""`discogrid completion`: what a shell needs to complete our commands and options."""

import click
from click.shell_completion import get_completion_class

from discogrid.cli.command import Command
from discogrid.cli.console import Console
from discogrid.cli.main import COMPLETION_VARIABLE, PROGRAM

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell: eval "$(discogrid completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    source = kind(ctx.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source()
    ctx.ensure_object(Console).output.line(source)
