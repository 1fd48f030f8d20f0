"""Runs ffmpeg and turns its complaints into errors."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from discogrid.errors import DiscogridError, MissingProgram
from discogrid.programs import find_ffmpeg

COMPLAINT_LINES_MAX = 5


def run_ffmpeg(arguments: Sequence[str | Path], *, program: Path | None = None, doing: str) -> None:
    """Run ffmpeg to its end.

    `program` is the ffmpeg to run, by default the one that is found; `doing` completes "ffmpeg failed while".
    Raises MissingProgram when there is no ffmpeg, DiscogridError with its last lines when it fails.
    """
    chosen = program or find_ffmpeg()
    if chosen is None:
        raise MissingProgram(
            "There is no ffmpeg on this machine.",
            why="It is neither on PATH nor installed as a Python package.",
            fix="Install ffmpeg, or run: pip install 'discogrid[demo]'",
        )
    command = [chosen, "-hide_banner", "-nostdin", "-loglevel", "error", "-y", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode != 0:
        complaint = "\n".join(ended.stderr.strip().splitlines()[-COMPLAINT_LINES_MAX:])
        raise DiscogridError(f"ffmpeg failed while {doing} (exit {ended.returncode}).", why=complaint)
