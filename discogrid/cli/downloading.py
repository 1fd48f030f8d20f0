"""What every command that downloads has in common: its options, and what it prints."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from discogrid.cli.console import Console
from discogrid.cli.follow import Outcome
from discogrid.documents import job_document
from discogrid.download import Wish
from discogrid.errors import ExitCode


def download_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add -o, --force, --no-unpack and --no-archives; the command gets them as `wish`."""

    @functools.wraps(command)
    def with_wish(
        *arguments: Any, folder: Path | None, force: bool, no_unpack: bool, no_archives: bool, **options: Any
    ) -> Any:
        if no_unpack and no_archives:
            raise click.UsageError("--no-unpack and --no-archives together leave nothing to download")
        wish = Wish(folder, force=force, unpack=not no_unpack, archives=not no_archives)
        return command(*arguments, wish=wish, **options)

    for option in (
        click.option("--no-archives", is_flag=True, help="Keep output/ only, not the signed archives."),
        click.option("--no-unpack", is_flag=True, help="Keep the archives only, unpack nothing."),
        click.option("--force", is_flag=True, help="Replace files that exist."),
        click.option(
            "-o",
            "--output",
            "folder",
            metavar="DIR",
            type=click.Path(path_type=Path),
            help="The folder for the results. [default: ./<job>-<name>]",
        ),
    ):
        with_wish = option(with_wish)
    return with_wish


def tell_folder(console: Console, ended: Outcome, *, as_json: bool) -> ExitCode:
    """The folder on stdout, or the job's document with it; the outcome's exit code."""
    if as_json:
        folder = str(ended.folder) if ended.folder else None
        console.output.json("job", {**job_document(ended.job), "folder": folder})
    elif ended.folder is not None:
        console.output.path(ended.folder)
    return ended.code
