"""How long tasks will take, from whoever knows: a file of the user's, and the same on the wire.

They decide what goes first and nothing else: the longest, so that a job's end does not wait for it.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from discogrid.errors import InputError, WireError
from discogrid.quantities import parse_duration
from discogrid.wire import pack_parts, unpack_parts

RUN_TIME_S_MAX = 366 * 86400.0
FILE_BYTES_MAX = 64 << 20
TASK_BYTES_MAX = 128  # of what names a task: a digest, or its number


def read_run_times(path: Path) -> dict[str, float]:
    """Seconds by input, of a file with a line for each: its name, a space or a comma, `90s`, `1m30s` or `90`.

    Empty lines and those that begin with `#` are passed over. InputError names the first line that is no such thing.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the durations {path} cannot be read: {error}") from None
    if len(text) > FILE_BYTES_MAX:
        raise InputError(f"the durations {path} are larger than {FILE_BYTES_MAX} bytes")
    found: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if bare and not bare.startswith("#"):
            name, seconds = _line(bare, f"line {number} of {path}")
            found[name] = seconds
    return found


def run_times_of(inputs: Sequence[Path], known: Mapping[str, float]) -> list[float]:
    """Seconds of each input, by its path or its name, 0 where nothing is known. InputError when none is."""
    by_path = {str(Path(name)): seconds for name, seconds in known.items()}
    found = [by_path.get(str(path), by_path.get(path.name, 0.0)) for path in inputs]
    if known and not any(found):
        raise InputError(
            "the durations name none of the inputs",
            fix="Write a line for each: its name, a space, its seconds.",
        )
    return found


def pack_run_times(seconds: Mapping[str, float]) -> tuple[bytes, bytes]:
    """By task, as two payload frames."""
    return pack_parts(task.encode() for task in seconds), struct.pack(f"<{len(seconds)}f", *seconds.values())


def unpack_run_times(tasks: bytes, seconds: bytes) -> dict[str, float]:
    """What `pack_run_times` packed; WireError when it is something else, or no duration."""
    names = unpack_parts(tasks, part_bytes_max=TASK_BYTES_MAX)
    if len(seconds) != 4 * len(names):
        raise WireError(f"{len(seconds)} bytes of durations for {len(names)} tasks")
    values = struct.unpack(f"<{len(names)}f", seconds)
    if not all(math.isfinite(value) and 0 < value <= RUN_TIME_S_MAX for value in values):
        raise WireError("what is no duration")
    try:
        return dict(zip((name.decode("ascii") for name in names), values, strict=True))
    except UnicodeDecodeError:
        raise WireError("what names no task") from None


def _line(text: str, where: str) -> tuple[str, float]:
    cut = max(text.rfind(" "), text.rfind(","), text.rfind("\t"))
    name, value = text[:cut].rstrip(" ,\t"), text[cut + 1 :]
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise InputError(
            f"{where} is no input with its duration: {error}", fix="Write its name, a space and its seconds."
        ) from None
    if cut < 0 or not name:
        raise InputError(f"{where} names no input", fix="Write its name, a space and its seconds.")
    if seconds > RUN_TIME_S_MAX:
        raise InputError(f"{where} says more than a year")
    return name, seconds
