#!/usr/bin/env python3
"""Put disco glasses on every face of a video. The second step: glasses_2.py on every frame, and the sound.

    python glasses_3.py IN.mp4 OUT.mp4            alone
    discogrid submit glasses_3.py split*.mp4      each task gets one clip's name as argv[1]
                                                  and writes ./run-result/disco_<name>

OpenCV decodes (and turns what a phone held sideways), ffmpeg encodes: as many frames as before at the same rate
(29.97 stays 30000/1001), with the sound copied from IN. A side of an odd number of pixels gets one more, because
H.264 counts in pairs. It needs what comes with: pip install 'discogrid[vision]'. glasses_5.py does the same three
times as fast. Exit codes: 0 done, 1 failed, 2 wrong usage or an input that cannot be read.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import dlib
import ffmpeg
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Eyes = tuple[complex, complex]  # left and right one in the picture, x + y*1j in pixels

CANVAS = (1506, 900)  # pixels: the glasses as they are drawn
LENSES: Eyes = (400 + 450j, 1106 + 450j)  # where the eyes sit in them
LENS_RADIUS = 262
FRAME_COLOUR = (60, 175, 235, 255)  # gold, BGRA
TILES = 13  # in a row of a lens
SEARCH_SIDE = 960  # pixels: the long side at which faces are searched; dlib sees those of 80 pixels and more
DEGREES_PER_FRAME = 12


@functools.cache
def load_models() -> tuple[Any, Any]:
    """Load dlib's face detector and its 5-point landmark model."""
    # Located, not imported: importing face_recognition_models needs pkg_resources, which setuptools dropped.
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or package.origin is None:
        sys.exit("glasses: the landmark model is missing; it comes with: pip install face_recognition_models")
    model = Path(package.origin).parent / "models" / "shape_predictor_5_face_landmarks.dat"
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(model))


@functools.cache
def draw_glasses(turn: int) -> Pixels:
    """Draw two discs of coloured tiles in a frame, as premultiplied BGRA; `turn` (degrees) changes the colours."""
    dice = np.random.default_rng(1977)
    hue = (dice.integers(0, 180, (TILES, TILES)) + turn // 2) % 180
    brightness = dice.integers(130, 256, (TILES, TILES))
    tiles = np.dstack([hue, np.full_like(hue, 210), brightness]).astype(np.uint8)
    side = 2 * LENS_RADIUS
    lens = cv2.resize(cv2.cvtColor(tiles, cv2.COLOR_HSV2BGR), (side, side), interpolation=cv2.INTER_NEAREST)
    disc = cv2.circle(np.zeros((side, side), np.uint8), (LENS_RADIUS, LENS_RADIUS), LENS_RADIUS, 255, -1)
    glasses = np.zeros((CANVAS[1], CANVAS[0], 4), np.uint8)
    centres = [(round(eye.real), round(eye.imag)) for eye in LENSES]
    middle = (centres[0][0] + centres[1][0]) // 2
    cv2.ellipse(glasses, (middle, 440), (92, 92), 0, 180, 360, FRAME_COLOUR, 40, cv2.LINE_AA)
    for x, y in centres:
        outward = 1 if x > middle else -1
        hinge, ear = (x + outward * LENS_RADIUS, 400), (x + outward * 400, 365)
        cv2.line(glasses, hinge, ear, FRAME_COLOUR, 42, cv2.LINE_AA)
        box = glasses[y - LENS_RADIUS : y + LENS_RADIUS, x - LENS_RADIUS : x + LENS_RADIUS]
        box[disc > 0] = np.dstack([lens, disc])[disc > 0]
        cv2.circle(glasses, (x, y), LENS_RADIUS, FRAME_COLOUR, 48, cv2.LINE_AA)
    return glasses


def find_eyes(picture: Pixels) -> list[Eyes]:
    """Find the centres of both eyes of every face in a BGR picture."""
    detector, predictor = load_models()
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
    scale = min(2.0, SEARCH_SIDE / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    eyes: list[Eyes] = []
    for box in detector(cv2.resize(grey, size, interpolation=cv2.INTER_AREA)):
        sides = (box.left(), box.top(), box.right(), box.bottom())
        face = dlib.rectangle(*(round(side / scale) for side in sides))
        corners = [complex(point.x, point.y) for point in predictor(grey, face).parts()]
        eyes.append(((corners[2] + corners[3]) / 2, (corners[0] + corners[1]) / 2))
    return eyes


def wear(picture: Pixels, eyes: Eyes, turn: int) -> Pixels:
    """Return the picture with glasses on one face: turned, scaled and moved so that the lenses sit on the eyes."""
    stretch = (eyes[1] - eyes[0]) / (LENSES[1] - LENSES[0])  # one complex number scales and turns
    scale = max(abs(stretch), 1e-6)
    size = (max(1, round(CANVAS[0] * scale)), max(1, round(CANVAS[1] * scale)))
    small = cv2.resize(draw_glasses(turn), size, interpolation=cv2.INTER_AREA)
    turning, origin = stretch / scale, eyes[0] - stretch * LENSES[0]
    matrix = np.array([[turning.real, -turning.imag, origin.real], [turning.imag, turning.real, origin.imag]])
    glasses = cv2.warpAffine(small, matrix, (picture.shape[1], picture.shape[0])).astype(np.float32)
    worn = picture * (1 - glasses[..., 3:] / 255) + glasses[..., :3]
    return np.clip(worn + 0.5, 0, 255).astype(np.uint8)


def read_frames(capture: cv2.VideoCapture) -> Iterator[Pixels]:
    """Yield all frames, upright, as BGR."""
    while True:
        there_is_one, frame = capture.read()
        if not there_is_one:
            return
        yield np.asarray(frame, np.uint8)


def start_encoder(source: Path, target: Path, first: Pixels, rate: Fraction) -> Any:
    """Start an ffmpeg that takes raw frames and adds the sound of `source`, if there is any, as it is.

    It complains on our stderr: it would stop at a full pipe that nobody reads.
    """
    height, width = first.shape[:2]
    frames = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="bgr24", s=f"{width}x{height}", r=str(rate))
    even = frames["v:0"].filter("pad", width + width % 2, height + height % 2)
    sound = ffmpeg.input(str(source))["a?"]
    # One x264 thread: with more of them the bytes would depend on the machine's cores.
    options = {"vcodec": "libx264", "pix_fmt": "yuv420p", "x264-params": "threads=1", "acodec": "copy"}
    command = ffmpeg.output(even, sound, str(target), preset="veryfast", crf=20, **options)
    command = command.global_args("-hide_banner", "-loglevel", "error").overwrite_output()
    return command.run_async(cmd=shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe(), pipe_stdin=True)


def wear_in_video(source: Path, target: Path) -> int:
    """Put glasses on every face of a video; returns the number of frames, 0 when it cannot be read."""
    capture = cv2.VideoCapture(str(source))
    frames = read_frames(capture)
    first = next(frames, None)
    if first is None:
        return 0
    rate = Fraction(capture.get(cv2.CAP_PROP_FPS)).limit_denominator(1001)
    start = int(os.environ.get("DISCOGRID_START_FRAME", "0"))  # so that the colours go on from clip to clip
    encoder = start_encoder(source, target, first, rate)
    count = 0
    with encoder.stdin as out:
        for frame in itertools.chain([first], frames):
            worn = frame
            for eyes in find_eyes(frame):
                worn = wear(worn, eyes, turn=(start + count) * DEGREES_PER_FRAME % 360)
            out.write(worn.data)
            count += 1
    if encoder.wait() != 0:
        raise OSError("ffmpeg failed; what it says stands above")
    return count


def main(arguments: list[str]) -> int:
    if len(arguments) not in {1, 2}:
        print("usage: glasses_3.py IN [OUT]   (without OUT: ./run-result/disco_IN)", file=sys.stderr)
        return 2
    cv2.setNumThreads(int(os.environ.get("OMP_NUM_THREADS", "0")) or -1)
    source = Path(arguments[0]).absolute()
    target = Path(arguments[1] if len(arguments) == 2 else f"run-result/disco_{source.name}").absolute()
    if len(arguments) == 1:
        target.parent.mkdir(exist_ok=True)
    partial = target.with_name(f".{os.getpid()}-{target.name}")  # so that OUT is never half a video
    try:
        count = wear_in_video(source, partial) if source.is_file() else 0
        if count:
            partial.replace(target)
    except OSError as problem:
        print(f"glasses_3: cannot write {target}: {problem}", file=sys.stderr)
        return 1
    finally:
        partial.unlink(missing_ok=True)
    if not count:
        print(f"glasses_3: {source}: no such file, or no video that OpenCV can decode", file=sys.stderr)
        return 2
    print(f"{target.name}: {count} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
