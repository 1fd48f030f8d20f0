"""Which programs a task finds on its PATH although they are in none of the system's folders."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from discogrid.programs import find_ffmpeg
from discogrid_agent.sandbox.interpreter import Interpreter

SYSTEM_FOLDERS: Final = ("/usr/local/bin", "/usr/bin", "/bin")


def task_programs(interpreter: Interpreter) -> dict[str, Path]:
    """By the name a script calls them: ffmpeg, ffprobe where the machine has it, and python."""
    ffprobe = shutil.which("ffprobe")
    found = {
        "ffmpeg": find_ffmpeg(),
        "ffprobe": None if ffprobe is None else Path(ffprobe),
        # a virtual environment has one; a system may have nothing but python3
        "python": None if (interpreter.executable.parent / "python").exists() else interpreter.executable,
    }
    return {
        name: program
        for name, program in found.items()
        if program is not None and (str(program.parent) not in SYSTEM_FOLDERS or program.name != name)
    }


def unseen(programs: Iterable[Path], roots: Sequence[Path]) -> list[Path]:
    """Those that a box must show by themselves: they lie neither in the system's programs nor in `roots`."""
    return [
        program
        for program in programs
        if not any(program.is_relative_to(root) for root in (Path("/usr"), *roots))
    ]
