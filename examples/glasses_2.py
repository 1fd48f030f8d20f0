#!/usr/bin/env python3
"""Put disco glasses on every face of a picture. The first step; glasses_3.py does videos, glasses_5.py both, and faster.

    python glasses_2.py IN.jpg OUT.jpg          alone
    discogrid submit glasses_2.py photos/*.jpg  each task gets one picture's name as argv[1]
                                                and writes ./run-result/disco_<name>

It needs what comes with: pip install 'discogrid[vision]'. The picture is turned as its EXIF orientation says and
saved in 8-bit colour. Exit codes: 0 done, 1 failed, 2 wrong usage or an input that cannot be read.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Eyes = tuple[complex, complex]  # left and right one in the picture, x + y*1j in pixels

CANVAS = (1506, 900)  # pixels: the glasses as they are drawn
LENSES: Eyes = (400 + 450j, 1106 + 450j)  # where the eyes sit in them
LENS_RADIUS = 262
FRAME_COLOUR = (60, 175, 235, 255)  # gold, BGRA
TILES = 13  # in a row of a lens
SEARCH_SIDE = 2400  # pixels: the long side at which faces are searched; dlib sees those of 80 pixels and more


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


def main(arguments: list[str]) -> int:
    if len(arguments) not in {1, 2}:
        print("usage: glasses_2.py IN [OUT]   (without OUT: ./run-result/disco_IN)", file=sys.stderr)
        return 2
    source = Path(arguments[0]).absolute()
    target = Path(arguments[1] if len(arguments) == 2 else f"run-result/disco_{source.name}").absolute()
    picture = cv2.imread(str(source), cv2.IMREAD_COLOR) if source.is_file() else None
    if picture is None:
        print(f"glasses_2: {source}: no such file, or no picture that OpenCV can decode", file=sys.stderr)
        return 2
    result = np.asarray(picture, np.uint8)
    faces = find_eyes(result)
    for eyes in faces:
        result = wear(result, eyes, turn=0)
    if len(arguments) == 1:
        target.parent.mkdir(exist_ok=True)
    partial = target.with_name(f".{os.getpid()}-{target.name}")  # so that OUT is never half a picture
    try:
        written = cv2.haveImageWriter(str(target)) and cv2.imwrite(str(partial), result)
        if written:
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    if not written:
        print(f"glasses_2: cannot write {target}", file=sys.stderr)
        return 1
    print(f"{target.name}: {len(faces)} faces")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
