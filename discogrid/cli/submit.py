"""`discogrid submit`: its options, and the submission that they mean."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from discogrid.cli.command import Command, as_duration, as_size, json_option
from discogrid.cli.connect import GridChoice, grid_options
from discogrid.cli.console import Console
from discogrid.cli.downloading import download_options, tell_folder
from discogrid.cli.follow import Stay
from discogrid.cli.plan import tell_plan
from discogrid.cli.sending import run, tell_id, with_own_box
from discogrid.download import Wish
from discogrid.errors import ExitCode, InputError, UsageError
from discogrid.inputs import expand
from discogrid.packages import read_requirements
from discogrid.run_times import read_run_times
from discogrid.submission import Submission
from discogrid.types import Limits, Requirements, SandboxLevel

ARGUMENTS = "discogrid.arguments"  # in click's meta: what follows --
CPUS_MAX = 4096
RETRIES_MAX = 100
PRIORITY_MAX = 1000


class SubmitCommand(Command):
    """Keeps what follows `--` for the script."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the script's own arguments away before click sees them."""
        own, rest = (args[: args.index("--")], args[args.index("--") + 1 :]) if "--" in args else (args, [])
        ctx.meta[ARGUMENTS] = tuple(rest)
        return super().parse_args(ctx, own)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """As click does, and the script's arguments."""
        return [*super().collect_usage_pieces(ctx), "[-- ARG…]"]


@click.command(cls=SubmitCommand)
@click.argument("script", metavar="SCRIPT")
@click.argument("inputs", metavar="[INPUT…]", nargs=-1)
@click.option("-n", "--name", default="", help="The job's name. [default: the script's]")
@click.option(
    "-c",
    "--const",
    "constants",
    metavar="FILE",
    multiple=True,
    help="A file beside the script in every task.",
)
@click.option(
    "--mount",
    "mounts",
    metavar="SRC:DST",
    multiple=True,
    help="A folder, read-only at the absolute path DST.",
)
@click.option(
    "--env",
    "environment",
    metavar="K=V",
    multiple=True,
    help="An environment variable; K alone takes it from here.",
)
@click.option(
    "-r",
    "--requirements",
    metavar="FILE",
    help="Packages of an environment that agents build from wheels; auto: those of the active one.",
)
@click.option(
    "--needs",
    metavar="NAME,…",
    multiple=True,
    help="Modules or programs an agent must have, besides what the script imports.",
)
@click.option("--any-modules", is_flag=True, help="Take agents that lack what the script imports, too.")
@click.option(
    "--cpus",
    type=click.IntRange(1, CPUS_MAX),
    default=1,
    show_default=True,
    help="Slots, and threads, of a task.",
)
@click.option("--memory", metavar="SIZE", callback=as_size, help="Memory of a task, such as 2G.")
@click.option("--gpus", type=click.IntRange(0, CPUS_MAX), default=0, help="GPUs of a task.")
@click.option(
    "--timeout",
    metavar="DURATION",
    callback=as_duration,
    help="End a task after this time, such as 90s or 2h. [default: 1h]",
)
@click.option(
    "--retries",
    type=click.IntRange(0, RETRIES_MAX),
    default=1,
    show_default=True,
    help="Further tries of a failed task.",
)
@click.option(
    "--durations",
    metavar="FILE",
    help="What is known of the inputs: on each line a name and seconds. The longest go first.",
)
@click.option(
    "--not-idempotent",
    is_flag=True,
    help="A task must not run twice at a time, as slow ones else may; only one result ever counts.",
)
@click.option(
    "--priority",
    type=click.IntRange(-PRIORITY_MAX, PRIORITY_MAX),
    default=0,
    help="Jobs of higher priority go first.",
)
@click.option(
    "--network", is_flag=True, help="Tasks need the network; only agents whose owner allows it take them."
)
@click.option(
    "--min-sandbox",
    type=click.Choice([level.value for level in SandboxLevel]),
    help="The weakest box that will do.",
)
@click.option("-d", "--detach", is_flag=True, help="Print the job's id and leave; the job runs on.")
@click.option("--hold", is_flag=True, help="Submit, but do not run before `discogrid release`.")
@click.option("--no-queue", is_flag=True, help="Do not wait for a free agent: exit code 4 instead.")
@click.option("--cancel-on-interrupt", is_flag=True, help="The first Ctrl-C cancels the job.")
@click.option("--dry-run", is_flag=True, help="Show what would be submitted.")
@download_options
@json_option
@grid_options
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    choice: GridChoice,
    wish: Wish,
    *,
    detach: bool,
    hold: bool,
    no_queue: bool,
    cancel_on_interrupt: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run SCRIPT once for every INPUT, watch, and download the results.

    In its own folder, in a box, a task gets its input's name as first argument, then each ARG; without an INPUT the
    script runs once. What it writes to run-result/ comes back, in the order of the inputs. Quoted patterns
    ("split*.mp4", "**/*.jpg") are expanded here, split2 before split10.

    The folder with the results is printed on stdout. Ctrl-C leaves the job running; twice cancels it.
    """
    console = ctx.ensure_object(Console)
    submission = submission_of(arguments=ctx.meta[ARGUMENTS], **options)
    if options["min_sandbox"] is None:
        submission = with_own_box(submission, choice)
    if dry_run:
        tell_plan(console, choice, submission, as_json=as_json)
        return ExitCode.SUCCEEDED
    stay = Stay(wish, cancel_on_interrupt=cancel_on_interrupt, no_queue=no_queue)
    ended = run(console, choice, submission, None if detach or hold else stay, hold=hold)
    if detach or hold:
        tell_id(console, ended.job, as_json=as_json)
        return ExitCode.SUCCEEDED
    return tell_folder(console, ended, as_json=as_json)


def submission_of(
    *,
    script: str,
    inputs: tuple[str, ...],
    arguments: tuple[str, ...] = (),
    name: str = "",
    constants: tuple[str, ...] = (),
    mounts: tuple[str, ...] = (),
    environment: tuple[str, ...] = (),
    requirements: str | None = None,
    needs: tuple[str, ...] = (),
    any_modules: bool = False,
    cpus: int = 1,
    memory: int | None = None,
    gpus: int = 0,
    timeout: float | None = None,
    retries: int = 1,
    durations: str | None = None,
    not_idempotent: bool = False,
    priority: int = 0,
    network: bool = False,
    min_sandbox: str | None = None,
) -> Submission:
    """The options' values as a submission, patterns expanded; InputError or UsageError names what is wrong."""
    limits = Limits()
    if timeout is not None:
        limits = replace(limits, seconds=timeout)
    if memory is not None:
        limits = replace(limits, memory_bytes=memory)
    return Submission(
        script=_script(script),
        inputs=expand(inputs),
        name=name,
        constants=expand(constants, "constant"),
        mounts=[_mount(text) for text in mounts],
        arguments=arguments,
        environment=dict(map(_variable, environment)),
        requirements=Requirements(
            cpus=cpus,
            memory_bytes=memory or 0,
            gpus=gpus,
            needs=tuple(name.strip() for text in needs for name in text.split(",") if name.strip()),
            sandbox=SandboxLevel(min_sandbox or SandboxLevel.STRICT),
            network=network,
        ),
        limits=limits,
        retries=retries,
        priority=priority,
        repeatable=not not_idempotent,
        run_times={} if durations is None else read_run_times(Path(durations)),
        packages=() if requirements is None else read_requirements(requirements),
        imports_needed=not any_modules,
    )


def _script(text: str) -> Path:
    """The script: one existing file, never a pattern's several."""
    found = expand([text], "script")
    if len(found) != 1:
        raise InputError(f"{text!r} matches {len(found)} files; a job has one script")
    return found[0]


def _mount(text: str) -> tuple[Path, str]:
    source, colon, target = text.rpartition(":")
    if not colon or not source or not target.startswith("/"):
        raise UsageError(f"--mount {text!r} is not understood", fix="Write --mount FOLDER:/absolute/path.")
    return Path(source), target


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or "\0" in text:
        raise UsageError(f"--env {text!r} is not understood", fix="Write --env NAME=VALUE.")
    if equals:
        return key, value
    if key not in os.environ:
        raise UsageError(f"--env {key}: there is no such variable here", fix=f"Write --env {key}=VALUE.")
    return key, os.environ[key]
