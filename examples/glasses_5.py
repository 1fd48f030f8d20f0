#!/usr/bin/env python3
"""Put disco glasses on every face of a picture or of a video: alone, or as one task of a grid.

    python glasses_5.py IN OUT                    alone
    discogrid submit glasses_5.py split*.mp4      each task gets one input's name as argv[1]
                                                  and writes ./run-result/disco_<name>

One file, because a grid sends a task its script and its input and nothing else. The glasses are drawn below,
the face models come with face_recognition_models. A video keeps its frame count, its frame rate (29.97 stays
30000/1001) and its sound, packet by packet. The bytes written depend on the input alone, not on the machine's
number of cores. OMP_NUM_THREADS is obeyed; DISCOGRID_START_FRAME says which frame of the whole film the first
one is, so that the animation does not start again in every clip.

Exit codes: 0 done, 1 failed, 2 wrong usage or an input that cannot be read.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

try:
    import av
    import cv2
    import dlib
    import ffmpeg
    import imageio_ffmpeg
    import numpy as np
    import numpy.typing as npt
except ImportError as _error:
    sys.exit(f"glasses: {_error}; the packages it needs come with: pip install 'discogrid[vision]'")

Pixels = npt.NDArray[np.uint8]
Eyes = tuple[complex, complex]  # left and right one in the picture, x + y*1j in pixels

LOOKS = 12  # pictures in one turn of the mirror balls
FRAMES_PER_LOOK = 2
CANVAS = (1506, 900)
LENSES: Eyes = (400 + 450j, 1106 + 450j)  # where the eyes sit in the canvas
LENS_RADIUS = 262
TILES_AROUND = 36  # mirror tiles once around a ball; a multiple of LOOKS, so that the turn closes

PHOTO_SIDE = 2400  # pixels: the long side at which faces of a photograph are searched
VIDEO_SIDE = 960
ENLARGE_MAX = 2.0
FACE_SIDE = 104  # pixels: dlib's detector sees faces from 80 on; a known face is shown to it at this width
FULL_SEARCH_FRAMES = 15  # a new face waits at most this long
CHANGE_MAX = 6.0  # grey levels, mean: a larger change since the last full search calls for a new one


# BT.709 with limited range, for premultiplied colours of 0 to 255; the last row brings alpha to 0 to 1.
BGRA_TO_YUVA = np.array(
    [
        [0.0620, 0.6142, 0.1826, 16 / 255],
        [0.4392, -0.3386, -0.1006, 128 / 255],
        [-0.0403, -0.3989, 0.4392, 128 / 255],
        [0, 0, 0, 1 / 255],
    ],
    np.float32,
)


class UnreadableInputError(Exception):
    """The input is missing, damaged or of no known kind."""


# --- the glasses -----------------------------------------------------------------------------------------


@functools.cache
def draw_glasses(look: int, shrink: int) -> Pixels:
    """Draw two mirror balls in a frame: premultiplied BGRA, 1/`shrink` of CANVAS in size."""
    y, x = np.mgrid[0 : CANVAS[1] : shrink, 0 : CANVAS[0] : shrink].astype(np.float32)
    middle = (LENSES[0].real + LENSES[1].real) / 2
    side = np.where(x < middle, np.float32(LENSES[0].real), np.float32(LENSES[1].real))
    u, v = (x - side) / LENS_RADIUS, (y - np.float32(LENSES[0].imag)) / LENS_RADIUS
    distance = np.hypot(u, v)

    # Mirror tiles: latitude and longitude on a ball that turns a whole number of tiles from look to look.
    latitude = np.arcsin(np.clip(v, -1, 1)) * TILES_AROUND / (2 * np.pi)
    longitude = (
        np.arcsin(np.clip(u / np.sqrt(np.maximum(1 - v * v, 1e-6)), -1, 1)) * TILES_AROUND / (2 * np.pi)
    )
    row = np.floor(latitude).astype(int)
    column = (np.floor(longitude).astype(int) + look * TILES_AROUND // LOOKS) % TILES_AROUND
    dice = np.random.default_rng(1977).random((2, TILES_AROUND, TILES_AROUND), np.float32)
    hue = (dice[0, row, column] * 0.35 + (u - v) * 0.22 + look / LOOKS) % 1
    lamp = np.clip(1.25 - np.hypot(u + 0.35, v + 0.4), 0, 1)  # light from the upper left
    sparkle = dice[1, row, column]
    glint = np.clip(sparkle * 1.6 - 1.15, 0, 1) * lamp
    value = np.clip(0.30 + 0.45 * lamp + 0.35 * sparkle, 0, 1)
    edge = np.minimum(np.abs(latitude - np.round(latitude)), np.abs(longitude - np.round(longitude)))
    value *= np.clip(edge / 0.09, 0.45, 1)
    hsv = np.dstack([hue * 360, np.clip(0.85 - glint * 1.6, 0, 1), np.clip(value + glint, 0, 1)])
    colour = cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2BGR)

    # The frame: two rims, a bridge, two temples. `reach` is the distance to its middle line over its half width.
    rim = np.abs(distance - 1) * LENS_RADIUS / 24
    bridge = np.hypot(np.abs(np.hypot(x - middle, y - 440) - 92), np.maximum(y - 430, 0)) / 20
    outward = np.abs(x - middle) - (LENSES[1].real - middle) - LENS_RADIUS
    temple = np.hypot(np.maximum(-outward, 0), y - 400 + 0.25 * outward) / 21
    reach = np.minimum(np.minimum(rim, bridge), temple)
    gold = np.array([60, 175, 235], np.float32) * np.clip(1.25 - 0.85 * reach, 0.25, 1.1)[..., None]
    is_frame = np.clip((1 - reach) * 22 / shrink + 0.5, 0, 1)[..., None]
    is_lens = np.clip((1 - distance) * LENS_RADIUS / shrink + 0.5, 0, 1)[..., None] * 0.94
    paint = colour * 255 * is_lens * (1 - is_frame) + gold * is_frame
    alpha = (is_lens + is_frame - is_lens * is_frame) * 255
    return np.clip(np.concatenate([paint, alpha], axis=2) + 0.5, 0, 255).astype(np.uint8)


# --- faces -----------------------------------------------------------------------------------------------


@functools.cache
def load_models() -> tuple[Any, Any]:
    """Load dlib's face detector and its 5-point landmark model."""
    # Located, not imported: importing face_recognition_models needs pkg_resources, which setuptools dropped.
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or package.origin is None:
        sys.exit("glasses: the landmark model is missing; it comes with: pip install face_recognition_models")
    model = Path(package.origin).parent / "models" / "shape_predictor_5_face_landmarks.dat"
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(model))


def detect(grey: Pixels, scale: float) -> list[Any]:
    """Find faces in the picture scaled by `scale`; dlib rectangles in the picture's own pixels."""
    height, width = grey.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    boxes = load_models()[0](cv2.resize(grey, size, interpolation=how))
    return [
        dlib.rectangle(*(round(q / scale) for q in (b.left(), b.top(), b.right(), b.bottom()))) for b in boxes
    ]


def search_everywhere(grey: Pixels, long_side: int) -> list[Any]:
    return detect(grey, min(ENLARGE_MAX, long_side / max(grey.shape)))


def search_near(grey: Pixels, face: Any) -> Any | None:
    """Find the face again close to where it was a frame ago."""
    margin = round(face.width() * 0.6)
    left, top = max(0, face.left() - margin), max(0, face.top() - margin)
    crop = grey[top : face.bottom() + margin, left : face.right() + margin]
    found = detect(crop, FACE_SIDE / face.width())
    moved = [dlib.translate_rect(box, dlib.point(left, top)) for box in found]
    near = [box for box in moved if overlap(box, face) > 0.3]
    return max(near, key=lambda box: overlap(box, face), default=None)


def overlap(one: Any, other: Any) -> float:
    """Divide what two rectangles share by what they cover together."""
    shared = one.intersect(other).area()
    return float(shared / (one.area() + other.area() - shared))


def find_eyes(grey: Pixels, face: Any) -> Eyes:
    """Centre of both eyes: each the mean of its two corners, the landmarks 2, 3 (left) and 0, 1 (right)."""
    corners = [complex(point.x, point.y) for point in load_models()[1](grey, face).parts()]
    return (corners[2] + corners[3]) / 2, (corners[0] + corners[1]) / 2


class FaceFollower:
    """Finds the faces of one frame after the other: everywhere now and then, else where they were just before."""

    def __init__(self) -> None:
        self._faces: list[Any] = []
        self._age = FULL_SEARCH_FRAMES
        self._thumbnail: npt.NDArray[np.int16] | None = None

    def faces(self, grey: Pixels) -> list[Any]:
        """Faces of the next frame, as dlib rectangles."""
        thumbnail = cv2.resize(grey, (64, 36), interpolation=cv2.INTER_AREA).astype(np.int16)
        followed = None if self._is_due(thumbnail) else self._follow(grey)
        if followed is None:
            self._faces, self._age, self._thumbnail = search_everywhere(grey, VIDEO_SIDE), 0, thumbnail
        else:
            self._faces, self._age = followed, self._age + 1
        return self._faces

    def _is_due(self, thumbnail: npt.NDArray[np.int16]) -> bool:
        if self._age + 1 >= FULL_SEARCH_FRAMES or self._thumbnail is None:
            return True
        return bool(np.abs(thumbnail - self._thumbnail).mean() > CHANGE_MAX)

    def _follow(self, grey: Pixels) -> list[Any] | None:
        """Find every known face again; None when one was lost, so that it is searched everywhere."""
        found: list[Any] = []
        for face in self._faces:
            box = search_near(grey, face)
            if box is None:
                return None
            if all(overlap(box, other) < 0.4 for other in found):
                found.append(box)
        return found


# --- putting them on -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overlay:
    """The part of the glasses that falls into the picture: premultiplied BGRA, and where it goes."""

    left: int
    top: int
    patch: npt.NDArray[np.float32]


def fit_glasses(eyes: Eyes, look: int, shape: tuple[int, int]) -> Overlay | None:
    """Turn, scale and move the glasses so that the lenses sit on the eyes of a picture of (height, width).

    None when nothing of them is inside. Position and size are even, so that halved chroma planes fit.
    """
    height, width = shape
    stretch = (eyes[1] - eyes[0]) / (LENSES[1] - LENSES[0])  # one complex number scales and turns
    if abs(stretch) < 0.004:  # glasses of a few pixels: not a face
        return None
    shrink = 1
    while shrink < 16 and abs(stretch) * shrink * 2 <= 1:
        shrink *= 2
    origin = eyes[0] - stretch * LENSES[0]
    corners = [origin + stretch * (x + y * 1j) for x in (0, CANVAS[0]) for y in (0, CANVAS[1])]
    left, right = (int(pick(c.real for c in corners)) for pick in (min, max))
    top, bottom = (int(pick(c.imag for c in corners)) for pick in (min, max))
    left, top = max(0, left) & ~1, max(0, top) & ~1
    right, bottom = min(width, right + 2 & ~1), min(height, bottom + 2 & ~1)
    if right <= left or bottom <= top:
        return None
    a, b = stretch * shrink, origin - complex(left, top)
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    patch = cv2.warpAffine(
        draw_glasses(look, shrink), matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR
    )
    return Overlay(left, top, patch.astype(np.float32))


def blend(plane: Pixels, left: int, top: int, paint: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> None:
    """Lay premultiplied paint over a plane or an interleaved picture, in place; alpha is 0 to 1."""
    under = plane[top : top + paint.shape[0], left : left + paint.shape[1]]
    under[...] = np.clip(under * (1 - alpha) + paint + 0.5, 0, 255)


# --- a picture -------------------------------------------------------------------------------------------


def wear_in_picture(source: Path, target: Path) -> int:
    """Put glasses on the faces of a picture file; returns how many. EXIF orientation is honoured."""
    picture = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
    has_alpha = picture is not None and picture.dtype == np.uint8 and picture.shape[2:] == (4,)
    if not has_alpha:  # only this way of reading turns the picture as its EXIF orientation says
        picture = cv2.imread(str(source), cv2.IMREAD_COLOR)
    if picture is None:
        raise UnreadableInputError(f"{source.name}: is no picture that OpenCV can decode; is it damaged?")
    canvas: Pixels = np.asarray(picture, np.uint8)
    grey = np.asarray(
        cv2.cvtColor(canvas, cv2.COLOR_BGRA2GRAY if has_alpha else cv2.COLOR_BGR2GRAY), np.uint8
    )
    faces = search_everywhere(grey, PHOTO_SIDE)
    if not faces and source.suffix == target.suffix:
        shutil.copyfile(source, target)  # not a bit is lost
        return 0
    for face in faces:
        overlay = fit_glasses(find_eyes(grey, face), 0, grey.shape)
        if overlay is not None:
            alpha = overlay.patch[..., 3:] / np.float32(255)
            paint = overlay.patch if has_alpha else overlay.patch[..., :3]
            blend(canvas, overlay.left, overlay.top, paint, alpha)
    if not cv2.haveImageWriter(str(target)) or not cv2.imwrite(str(target), canvas):
        raise OSError(f"{target.parent} cannot take a picture of kind '{target.suffix}'")
    return len(faces)


# --- a video ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Film:
    """What must be known of a video before its frames are decoded."""

    path: Path
    frames: int
    rate: Fraction  # frames per second
    delay: float  # seconds from the start of the file to the first frame
    colours: dict[str, int]  # primaries, transfer and matrix as numbered by H.273


def probe(source: Path) -> Film:
    """Read what the file says of its video, without decoding; raises UnreadableInputError."""
    try:
        with av.open(str(source)) as container:
            stream, began = container.streams.video[0], Fraction(container.start_time or 0, av.time_base)
            packets = container.demux(stream)
            pts = sorted(packet.pts for packet in packets if packet.pts is not None and not packet.is_discard)
            nominal, context = stream.base_rate, stream.codec_context
            tick = Fraction(stream.time_base or 0)
    except (av.FFmpegError, IndexError) as problem:
        raise UnreadableInputError(
            f"{source.name}: is neither a picture nor a video ({problem})"
        ) from problem
    if not pts:
        raise UnreadableInputError(f"{source.name}: holds no frame; is the video cut off?")
    steps, length = len(pts) - 1, (pts[-1] - pts[0]) * tick
    # What the container calls its rate is wrong for clips and variable rates; the time stamps are not.
    if not nominal or abs(steps / nominal - length) > 1 / nominal:
        nominal = (steps / length).limit_denominator(1001) if length else Fraction(25)
    tags = {
        "color_primaries": context.color_primaries,
        "color_trc": context.color_trc,
        "colorspace": context.colorspace,
    }
    colours = {
        name: int(value) or 2 for name, value in tags.items()
    }  # 0 is RGB, which frames are no more; 2: unknown
    return Film(source, len(pts), Fraction(nominal), max(0.0, float(pts[0] * tick - began)), colours)


def decode(film: Film, program: str, threads: int) -> subprocess.Popen[bytes]:
    """Start ffmpeg writing every frame, upright, as Y4M: a line that tells the size, then raw 4:2:0 planes."""
    frames = ffmpeg.input(str(film.path), threads=threads)["v:0"]
    out = ffmpeg.output(frames, "pipe:", format="yuv4mpegpipe", pix_fmt="yuv420p", fps_mode="passthrough")
    return run(out.global_args("-nostdin"), program, pipe_stdout=True)


def encode(film: Film, size: tuple[int, int], target: Path, program: str) -> subprocess.Popen[bytes]:
    """Start ffmpeg taking Y4M frames, encoding them as H.264 and adding the film's own sound packets.

    One x264 thread: with more of them the bytes would depend on the machine's cores.
    """
    # Units of time in which a frame lasts a whole number and the delay is told to a ten-thousandth of a second.
    ticks = film.rate.numerator
    while ticks < 10_000:
        ticks *= 2
    frames = ffmpeg.input("pipe:", format="yuv4mpegpipe")["v:0"]
    frames = frames.filter("settb", f"1/{ticks}").filter("setpts", f"PTS+{film.delay:.6f}/TB")
    frames = frames.filter("setparams", **film.colours)
    odd_width, odd_height = size[0] % 2, size[1] % 2
    if odd_width or odd_height:  # 4:2:0 H.264 has even sides: the last column or row is repeated once
        frames = frames.filter("pad", size[0] + odd_width, size[1] + odd_height)
        frames = frames.filter("fillborders", right=odd_width, bottom=odd_height, mode="smear")
    options: dict[str, Any] = {
        "vcodec": "libx264",
        "preset": "veryfast",
        "crf": 20,
        "x264-params": "threads=1",
        "pix_fmt": "yuv420p",
        "enc_time_base": f"1:{ticks}",
        "fps_mode": "passthrough",
        "acodec": "copy",
        "map_metadata": 1,
    }
    sound = ffmpeg.input(str(film.path))["a?"]
    out = ffmpeg.output(frames, sound, str(target), **options)
    return run(out.overwrite_output(), program, pipe_stdin=True)


def run(command: Any, program: str, **pipes: bool) -> subprocess.Popen[bytes]:
    """Start ffmpeg; it complains on our stderr, because it would stop at a full pipe that nobody reads."""
    quiet = command.global_args("-hide_banner", "-loglevel", "error")
    started: subprocess.Popen[bytes] = quiet.run_async(cmd=program, **pipes)
    return started


def with_rate(header: bytes, rate: Fraction) -> bytes:
    """Name the frame rate in the first line of a Y4M stream; a decoder only guesses it."""
    kept = [word for word in header.split() if not word.startswith(b"F")]
    return b" ".join([*kept, f"F{rate.numerator}:{rate.denominator}".encode()]) + b"\n"


def wear_in_planes(planes: list[Pixels], eyes: Eyes, look: int) -> None:
    """Put glasses on one face of a 4:2:0 frame, in place; nothing outside of them is touched."""
    luma, blue, red = planes
    overlay = fit_glasses(eyes, look, luma.shape)
    if overlay is None:
        return
    full = cv2.transform(overlay.patch, BGRA_TO_YUVA)
    blend(luma, overlay.left, overlay.top, full[..., 0], full[..., 3])
    half = cv2.resize(
        full, ((full.shape[1] + 1) // 2, (full.shape[0] + 1) // 2), interpolation=cv2.INTER_AREA
    )
    for plane, channel in ((blue, 1), (red, 2)):
        blend(plane, overlay.left // 2, overlay.top // 2, half[..., channel], half[..., 3])


def wear_in_frames(frames: IO[bytes], out: IO[bytes], size: tuple[int, int], first: int) -> tuple[int, int]:
    """Put glasses on every face from Y4M stream to Y4M stream; returns frames and faces.

    `first` is the number of the first frame in the whole film.
    """
    width, height = size
    half = (height + 1) // 2, (width + 1) // 2
    raw = np.empty(width * height + 2 * half[0] * half[1], np.uint8)
    luma, blue, red = np.split(raw, [width * height, width * height + half[0] * half[1]])
    planes = [luma.reshape(height, width), blue.reshape(half), red.reshape(half)]
    follower = FaceFollower()
    count = faces = 0
    while frames.readline() and frames.readinto(raw) == raw.nbytes:  # type: ignore[attr-defined]
        look = (first + count) // FRAMES_PER_LOOK % LOOKS
        pairs = [find_eyes(planes[0], face) for face in follower.faces(planes[0])]
        for eyes in pairs:
            wear_in_planes(planes, eyes, look)
        out.write(b"FRAME\n")
        out.write(raw.data)
        count += 1
        faces += len(pairs)
    return count, faces


def wear_in_video(source: Path, target: Path, first: int) -> tuple[int, int]:
    """Put glasses on every face of a video file; returns frames and faces."""
    film = probe(source)
    program = shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()
    children = [decode(film, program, threads=int(os.environ.get("OMP_NUM_THREADS", "0")))]
    try:
        frames = children[0].stdout
        assert frames is not None
        header = frames.readline()
        if not header:
            raise UnreadableInputError(f"{source.name}: not one frame can be decoded; is the video cut off?")
        fields = {word[:1]: word[1:] for word in header.split()[1:]}
        size = int(fields[b"W"]), int(fields[b"H"])
        children.append(encode(film, size, target, program))
        with children[1].stdin as out:  # type: ignore[union-attr]
            out.write(with_rate(header, film.rate))
            counts = wear_in_frames(frames, out, size, first)
        if children[0].wait() != 0:
            raise UnreadableInputError(f"{source.name}: decoding ended early; is the video damaged?")
        if (
            counts[0] != film.frames
        ):  # such as the first ones of a film that was cut within a group of pictures
            print(
                f"glasses_5: {source.name}: {counts[0]} of {film.frames} frames can be decoded",
                file=sys.stderr,
            )
        if children[1].wait() != 0:
            raise OSError(f"ffmpeg cannot write this video as {target.suffix or 'a file without a suffix'}")
    except BrokenPipeError:
        raise OSError("ffmpeg stopped before the last frame; what it says stands above") from None
    finally:
        for child in children:
            child.kill()
            child.wait()
    return counts


# --- alone or as a task ----------------------------------------------------------------------------------


def wear(source: Path, target: Path) -> str:
    """Write `target`, complete or not at all; returns a line that says what was done."""
    if not source.is_file():
        raise UnreadableInputError(f"{source}: no such file")
    partial = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        if cv2.haveImageReader(str(source)):
            done = f"{wear_in_picture(source, partial)} faces"
        else:
            first = int(os.environ.get("DISCOGRID_START_FRAME", "0"))
            done = "{} frames, {} faces".format(*wear_in_video(source, partial, first))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return f"{target.name}: {done}"


def main(arguments: list[str]) -> int:
    match arguments:
        case [name]:
            target = Path("run-result", f"disco_{Path(name).name}").absolute()
            target.parent.mkdir(exist_ok=True)
        case [name, out]:
            target = Path(out).absolute()
        case _:
            print("usage: glasses_5.py IN [OUT]   (without OUT: ./run-result/disco_IN)", file=sys.stderr)
            return 2
    cv2.setNumThreads(int(os.environ.get("OMP_NUM_THREADS", "0")) or -1)
    try:
        print(wear(Path(name).absolute(), target))
    except (UnreadableInputError, OSError) as problem:
        print(f"glasses_5: {problem}", file=sys.stderr)
        return 2 if isinstance(problem, UnreadableInputError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
