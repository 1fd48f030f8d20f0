"""Puts processed clips together again, frame for frame.

The law: the n-th frame shown by the clips is shown when the source shows its n-th frame. Time stamps and durations of
the clips are ignored; they are what scripts and containers get wrong. The sound is the source's own.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from discogrid.demo.ffmpeg import run_ffmpeg
from discogrid.errors import DiscogridError, InputError, MissingProgram

try:
    import av
except ImportError as _error:
    raise MissingProgram(
        "Movies cannot be merged.", why=f"{_error}.", fix="Run: pip install 'discogrid[demo]'"
    ) from _error


@dataclass(frozen=True, slots=True)
class FrameTable:
    """When each frame of a movie is shown: ascending, in units of `time_base` seconds."""

    pts: tuple[int, ...]
    time_base: Fraction

    def seconds(self, frame: int) -> Fraction:
        return self.pts[frame] * self.time_base

    def mean_rate(self) -> Fraction:
        """Frames per second; 25 for a single frame, which has no rate."""
        shown = self.seconds(-1) - self.seconds(0)
        return ((len(self.pts) - 1) / shown).limit_denominator(1001) if shown else Fraction(25)


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge promises, as read back from the file it wrote."""

    frames_in: int
    frames_out: int
    pts_error_max_s: Fraction
    audio_packets: int
    audio_is_identical: bool


def merge_movies(
    parts: Sequence[Path], source: Path, target: Path, *, ffmpeg: Path | None = None
) -> MergeReport:
    """Join `parts`, the processed clips of `source` in order, into `target`; the source is only read.

    Sound, subtitles, chapters and metadata are the source's. `target` appears complete or not at all.
    Raises InputError for a movie that cannot be read, DiscogridError when the clips do not fit: together they must
    have as many frames as the source and be encoded alike.
    """
    table = read_frame_table(source)
    with tempfile.TemporaryDirectory(prefix=".merge-", dir=target.parent) as scratch:
        restamped, whole = Path(scratch, "video.mp4"), Path(scratch, f"whole{target.suffix}")
        folder = Path(scratch, "parts")
        folder.mkdir()
        alike = [_name_rate(part, folder / f"{n}-{part.name}", table, ffmpeg) for n, part in enumerate(parts)]
        order = _display_order(alike, [part.name for part in parts], len(table.pts), source)
        _restamp(alike, order, table, restamped)
        # copyts: without it a source whose first frame is not at 0 moves against its sound.
        arguments: list[str | Path] = ["-copyts", "-i", restamped, "-i", source.absolute()]
        arguments += ["-map", "0:v:0", "-map", "1:a?", "-map", "1:s?", "-c", "copy"]
        arguments += ["-map_metadata", "1", "-map_chapters", "1"]
        run_ffmpeg([*arguments, whole], program=ffmpeg, doing=f"joining picture and sound of {target.name}")
        report = _compare(source, table, whole)
        whole.replace(target)
    return report


def read_frame_table(movie: Path) -> FrameTable:
    """Read when each frame is shown, from the packets alone; raises InputError."""
    with _opened(movie) as container:
        stream = container.streams.video[0]
        return FrameTable(tuple(sorted(_shown_pts(container))), Fraction(stream.time_base or 0))


def _opened(movie: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(movie.absolute()))
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"{movie} cannot be read as a movie.", why=str(error), fix="Is it complete? Try to play it."
        ) from error
    if not container.streams.video:
        container.close()
        raise InputError(f"{movie} has no picture, only sound.")
    return container


def _video_packets(container: av.container.InputContainer) -> Iterator[av.Packet[av.VideoStream]]:
    """Yield the packets of frames that are shown, in the order of decoding."""
    for packet in container.demux(container.streams.video[0]):
        # An edit list marks frames that are decoded but not shown: no player and no script sees them.
        if packet.pts is not None and not packet.is_discard:
            yield packet


def _shown_pts(container: av.container.InputContainer) -> list[int]:
    return [packet.pts for packet in _video_packets(container) if packet.pts is not None]


def _name_rate(part: Path, copy: Path, table: FrameTable, ffmpeg: Path | None) -> Path:
    """Copy a part with the source's frame rate written into its video stream, where the codec has a place for it.

    Encoders write there what they were told, and a level that follows from it; the clips of an uneven movie were told
    different rates, and would not join.
    """
    with _opened(part) as container:
        codec = container.streams.video[0].codec_context.name
    rate = table.mean_rate()
    match codec:
        case "h264":
            named = f"h264_metadata=level=auto:tick_rate={2 * rate}"  # counted in fields, two a frame
        case "hevc":
            named = f"hevc_metadata=level=auto:tick_rate={rate}"
        case _:
            return part
    arguments: list[str | Path] = [
        "-i",
        part.absolute(),
        "-map",
        "0:v:0",
        "-c",
        "copy",
        "-bsf:v",
        named,
        copy,
    ]
    run_ffmpeg(arguments, program=ffmpeg, doing=f"reading {part.name}")
    return copy


def _display_order(parts: Sequence[Path], names: Sequence[str], frames: int, source: Path) -> list[int]:
    """Number of the frame in each packet of the parts, in the order of decoding; checks that the parts fit."""
    order: list[int] = []
    counts: list[int] = []
    looks: list[tuple[object, ...]] = []
    for part, name in zip(parts, names, strict=True):
        with _opened(part) as container:
            context = container.streams.video[0].codec_context
            looks.append((context.name, context.width, context.height, context.pix_fmt, context.extradata))
            pts = _shown_pts(container)
        rank = {stamp: place for place, stamp in enumerate(sorted(pts))}
        if len(rank) != len(pts):
            raise DiscogridError(f"{name} shows two frames at the same time.", why="It is damaged.")
        order += [len(order) + rank[stamp] for stamp in pts]
        counts.append(len(pts))
        if looks[-1] != looks[0]:
            raise DiscogridError(
                f"{name} is encoded differently from {names[0]}.",
                why="Codec, size, pixel format and encoder settings must be those of the first clip.",
                fix="Process all clips with the same script, ffmpeg and settings.",
            )
    if len(order) != frames:
        each = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
        raise DiscogridError(
            f"The clips have {len(order)} frames, {source.name} has {frames}; nothing was merged.",
            why=f"A script dropped or repeated frames, or a clip is missing: {each}.",
        )
    return order


def _restamp(parts: Sequence[Path], order: Sequence[int], table: FrameTable, target: Path) -> None:
    """Write the packets of all parts into one file, each with the time stamp of its frame in the source."""
    pts, last = table.pts, len(table.pts) - 1
    step = pts[1] - pts[0] if last else 1
    # A packet must be decoded before it is shown: so many frames ahead does the decoding run.
    ahead = max((place - frame for place, frame in enumerate(order)), default=0)
    numbers = iter(enumerate(order))
    options = {"video_track_timescale": str(table.time_base.denominator)}
    with av.open(str(target), "w", format="mp4", options=options) as out, _opened(parts[0]) as first:
        stream = out.add_stream_from_template(first.streams.video[0])
        stream.time_base = table.time_base
        for part in parts:
            with _opened(part) as container:
                for packet in _video_packets(container):
                    place, frame = next(numbers)
                    packet.stream, packet.time_base = stream, table.time_base
                    packet.pts = pts[frame]
                    packet.dts = pts[place - ahead] if place >= ahead else pts[0] - (ahead - place) * step
                    packet.duration = pts[frame + 1] - pts[frame] if frame < last else step
                    out.mux(packet)


def _compare(source: Path, table: FrameTable, merged: Path) -> MergeReport:
    result = read_frame_table(merged)
    shown = min(len(table.pts), len(result.pts))
    before, after = _audio(source), _audio(merged)
    return MergeReport(
        frames_in=len(table.pts),
        frames_out=len(result.pts),
        pts_error_max_s=max(
            (abs(table.seconds(n) - result.seconds(n)) for n in range(shown)), default=Fraction(0)
        ),
        audio_packets=after[0],
        audio_is_identical=before == after,
    )


def _audio(movie: Path) -> tuple[int, str]:
    """Count the audio packets of a movie and hash their content."""
    count, digest = 0, hashlib.blake2b()
    with _opened(movie) as container:
        if container.streams.audio:
            for packet in container.demux(container.streams.audio):
                content = bytes(packet)
                count += bool(content)
                digest.update(content)
    return count, digest.hexdigest()
