"""`discogrid demo`: a real video job on a generated movie, on this machine alone."""

import tempfile
import time
from pathlib import Path

import click

import discogrid
from discogrid.cli.command import Command
from discogrid.cli.connect import GridChoice
from discogrid.cli.console import Console
from discogrid.cli.follow import Stay
from discogrid.cli.look import plural
from discogrid.cli.sending import run, with_own_box
from discogrid.download import OUTPUT, Wish
from discogrid.errors import DiscogridError, ExitCode
from discogrid.quantities import duration_text
from discogrid.submission import Submission

SCRIPT = "glasses_5.py"
CLIP_S = 1.0
MOVIE_S_MAX = 600.0


@click.command(cls=Command)
@click.option(
    "--seconds",
    type=click.FloatRange(1.0, MOVIE_S_MAX),
    default=6.0,
    show_default=True,
    help="Length of the movie.",
)
@click.pass_obj
def demo(console: Console, *, seconds: float) -> int:
    """Make a movie with a face, cut it into clips, put disco glasses on every frame in parallel, and join the clips.

    Everything runs on this machine's own grid. The new movie's path is printed on stdout.
    """
    from discogrid.demo.merge import merge_movies
    from discogrid.demo.movie import make_movie, split_movie

    began = time.monotonic()
    say = console.narration.say
    with tempfile.TemporaryDirectory(prefix="discogrid-demo-") as scratch:
        say(f"Making a movie of {duration_text(seconds)} with a face in it…")
        movie = make_movie(Path(scratch, "movie.mp4"), seconds=seconds)
        clips = split_movie(movie, Path(scratch, "clips"), CLIP_S)
        say(f"Cut it into {plural(len(clips), 'clip')}; each becomes a task that puts the glasses on.")
        choice = GridChoice(local=True)
        submission = Submission(script=find_script(), inputs=clips, name="demo")
        sent = time.monotonic()
        ended = run(console, choice, with_own_box(submission, choice), Stay(Wish()))
        if ended.folder is None or ended.code is not ExitCode.SUCCEEDED:
            return ended.code
        took = time.monotonic() - sent
        target = ended.folder / "disco.mp4"
        parts = [ended.folder / OUTPUT / f"disco_{clip.name}" for clip in clips]
        report = merge_movies(parts, movie, target)
    say(
        f"Joined {report.frames_out} of {report.frames_in} frames in {duration_text(time.monotonic() - began)}; "
        f"the grid took {duration_text(took)} of it. The sound is "
        f"{'the original' if report.audio_is_identical else 'NOT the original'}."
    )
    console.output.path(target)
    return ended.code


def find_script() -> Path:
    """The example's script: in an installed package beside the demo's code, in a checkout among the examples."""
    package = Path(discogrid.__file__).parent
    for place in (package / "demo" / SCRIPT, package.parent / "examples" / SCRIPT):
        if place.is_file():
            return place
    raise DiscogridError(
        f"the demo's script {SCRIPT} is missing",
        why="This installation is not complete.",
        fix="Install discogrid again.",
    )
