"""Reads films and pictures the way the tests compare them, and runs the examples as a user does."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from discogrid.programs import find_ffmpeg

Pixels = npt.NDArray[np.uint8]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
REAL_MEDIA = ROOT.parent / "shared" / "media"


def run_example(
    name: str, *arguments: str | Path, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run an example script alone, as `python examples/NAME ARGUMENT…`."""
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def run_ffmpeg(*arguments: str | Path) -> None:
    program = find_ffmpeg()
    assert program is not None
    subprocess.run([program, "-nostdin", "-loglevel", "error", "-y", *arguments], check=True)


def frames(movie: Path, pixel_format: str = "bgr24") -> Iterator[Pixels]:
    with av.open(str(movie)) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format=pixel_format), np.uint8)


def sound(movie: Path) -> list[bytes]:
    """The content of every packet of sound."""
    with av.open(str(movie)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def rate(movie: Path) -> Fraction | None:
    with av.open(str(movie)) as container:
        return container.streams.video[0].average_rate


_found: dict[tuple[bytes, int], list[tuple[complex, complex]]] = {}


def eyes_of(example: Any, picture: Pixels, long_side: int = 960) -> list[tuple[complex, complex]]:
    """The eyes of all faces, by a full search; remembered, because it is what these tests spend their time on."""
    key = hashlib.blake2b(picture.tobytes()).digest(), long_side
    if key not in _found:
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        _found[key] = [example.find_eyes(grey, face) for face in example.search_everywhere(grey, long_side)]
    return _found[key]


def lenses_differ(
    example: Any, bare: Pixels, one: Pixels, other: Pixels | None = None, *, long_side: int = 960
) -> list[float]:
    """For each eye in BGR picture `bare`: how far two pictures (`bare` and `one`, if there is no `other`)
    are apart within its lens, in mean grey levels."""
    changes = []
    for left, right in eyes_of(example, bare, long_side):
        radius = round(abs(right - left) / 706 * example.LENS_RADIUS * 0.8)
        for eye in (left, right):
            x, y = round(eye.real), round(eye.imag)
            box = np.s_[max(0, y - radius) : y + radius, max(0, x - radius) : x + radius]
            against = (bare if other is None else other)[box]
            changes.append(float(np.abs(one[box].astype(int) - against).mean()))
    return changes
