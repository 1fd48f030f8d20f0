"""A movie with a face and a sound, made from nothing that needs a licence, and its cut into clips.

The picture is the portrait of the astronaut Eileen Collins (NASA, public domain) that scikit-image carries.
"""

from __future__ import annotations

import importlib.util
import tempfile
from fractions import Fraction
from pathlib import Path

from discogrid.demo.ffmpeg import run_ffmpeg
from discogrid.errors import DiscogridError, MissingProgram

NTSC = Fraction(30000, 1001)  # frames per second; what merging gets wrong first
OVERSCAN = 1.25  # room for a turn of 0.11 rad in a picture of 16:9
FLASH_FRAMES = 3


def make_movie(
    path: Path,
    *,
    seconds: float = 6.0,
    size: tuple[int, int] = (1280, 720),
    rate: Fraction = NTSC,
    ffmpeg: Path | None = None,
) -> Path:
    """Make an MP4 of a moving face with a flash and a beep at each keyframe, one about every second.

    `size` is (width, height) in pixels, both even; `rate` in frames per second. GOPs are closed, so that every
    keyframe is a place to cut. The same call gives the same bytes. Returns `path`, which appears when complete.
    Raises MissingProgram without scikit-image or ffmpeg.
    """
    width, height = size
    if width % 2 or height % 2:
        raise ValueError(f"a size of {width}x{height}: both sides must be even")
    frames, per_second = max(1, round(seconds * rate)), max(1, round(rate))
    wide, high = (round(side * OVERSCAN / 2) * 2 for side in size)
    picture = (
        "crop=512:256:0:0,"  # the head; 16:9 first, so that the face is large
        "pad=512:288:0:32,fillborders=top=32:mode=smear,"  # air above it
        # Twice the size first: zoompan moves by whole pixels, and that would be seen.
        f"scale={2 * wide}:{2 * high}:force_original_aspect_ratio=increase:flags=bicubic:out_color_matrix=bt709,"
        f"crop={2 * wide}:{2 * high},format=yuv420p,"
        "zoompan=z='1.1+0.1*sin(on/31)':x='(iw-iw/zoom)*(0.5+0.5*sin(on/23))':y='(ih-ih/zoom)*(0.5-0.4*cos(on/19))'"
        f":d={frames}:s={wide}x{high}:fps={rate},"
        f"rotate=0.11*sin(n/27),crop={width}:{height},"
        f"drawbox=x=iw*0.92:y=ih*0.06:w=iw*0.05:h=iw*0.05:color=white:t=fill:enable='lt(mod(n,{per_second}),{FLASH_FRAMES})',"
        "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
    )
    beat, flash = float(per_second / rate), float(FLASH_FRAMES / rate)
    beep = f"0.3*sin(2*PI*880*t)*lt(mod(t,{beat}),{flash})"
    drum = f"0.5*sin(2*PI*55*mod(t,{beat / 2}))*exp(-12*mod(t,{beat / 2}))"
    sound = f"aevalsrc='{beep}+{drum}':s=48000:d={float(frames / rate)}"
    with tempfile.TemporaryDirectory(prefix=".movie-", dir=path.parent) as scratch:
        made = Path(scratch, "movie.mp4")
        arguments: list[str | Path] = ["-i", find_portrait(), "-f", "lavfi", "-i", sound]
        arguments += ["-filter_complex", f"[0:v]{picture}[v]", "-map", "[v]", "-map", "1:a"]
        arguments += ["-c:v", "libx264", "-preset", "veryfast", "-crf", "22", "-pix_fmt", "yuv420p"]
        arguments += ["-g", str(per_second), "-x264-params", "threads=1:open-gop=0:scenecut=0"]
        arguments += ["-c:a", "aac", "-b:a", "96k", "-frames:v", str(frames)]
        arguments += ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"]
        run_ffmpeg([*arguments, made], program=ffmpeg, doing="making the movie")
        made.replace(path)
    return path


def find_portrait() -> Path:
    """Find the astronaut's portrait of scikit-image, which is not imported for it: that takes a second."""
    package = importlib.util.find_spec("skimage")
    portrait = Path(package.origin or "").parent / "data" / "astronaut.png" if package else None
    if portrait is None or not portrait.is_file():
        raise MissingProgram(
            "The demo's movie cannot be made.",
            why="Its picture comes with scikit-image, which is not installed.",
            fix="Run: pip install 'discogrid[demo]'",
        )
    return portrait


def split_movie(movie: Path, folder: Path, seconds: float, *, ffmpeg: Path | None = None) -> list[Path]:
    """Cut a movie at keyframes into clips of at least `seconds` each, without encoding; returns them in order.

    They are `folder`/split000.mp4 and so on, with the movie's own suffix, each with its part of the sound. Only a
    movie of closed GOPs is cut without losing frames. `folder` is made; other splits in it are an error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pattern = f"split*{movie.suffix}"
    if any(folder.glob(pattern)):
        raise DiscogridError(
            f"{folder} already holds {pattern}.", fix="Choose an empty folder, or remove them."
        )
    arguments: list[str | Path] = ["-i", movie.absolute(), "-map", "0:v:0", "-map", "0:a?", "-c", "copy"]
    arguments += ["-f", "segment", "-segment_time", str(seconds), "-reset_timestamps", "1"]
    # The folder's name may hold a percent sign, which the segment muxer would take for a number's place.
    target = str(folder.absolute()).replace("%", "%%")
    run_ffmpeg(
        [*arguments, f"{target}/split%03d{movie.suffix}"], program=ffmpeg, doing=f"cutting {movie.name}"
    )
    return sorted(folder.glob(pattern), key=lambda clip: (len(clip.name), clip.name))
