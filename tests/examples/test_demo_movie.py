"""The generated movie, its cut into clips, and the merge of what came back."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from discogrid.demo.merge import merge_movies, read_frame_table
from discogrid.demo.movie import make_movie, split_movie
from discogrid.errors import DiscogridError, InputError, MissingProgram
from tests.examples.footage import eyes_of, frames, rate, run_example, run_ffmpeg, sound

EXACT = Fraction(0)  # seconds


def test_every_frame_shows_one_face(movie: Path, glasses_5: ModuleType) -> None:
    assert [len(eyes_of(glasses_5, frame)) for frame in frames(movie)] == [1] * 60


def test_the_same_call_makes_the_same_bytes(movie: Path, tmp_path: Path) -> None:
    again = make_movie(tmp_path / "again.mp4", seconds=2, size=(640, 360))
    assert again.read_bytes() == movie.read_bytes()


def test_rate_and_size_are_those_asked_for(tmp_path: Path) -> None:
    film = make_movie(tmp_path / "film.mp4", seconds=1, size=(320, 240), rate=Fraction(25))
    assert rate(film) == 25
    assert [frame.shape for frame in frames(film)] == [(240, 320, 3)] * 25


def test_every_gop_is_closed_and_a_second_long(movie: Path) -> None:
    with av.open(str(movie)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [place for place, packet in enumerate(packets) if packet.is_keyframe] == [0, 30]
    boundary = packets[30].pts
    assert boundary is not None
    assert all(packet.pts is not None and packet.pts > boundary for packet in packets[31:])


def test_flash_and_beep_come_together(movie: Path) -> None:
    lit = [frame[35, 600].min() > 230 for frame in frames(movie)]
    assert [number for number, is_lit in enumerate(lit) if is_lit] == [0, 1, 2, 30, 31, 32]
    with av.open(str(movie)) as container:
        blocks = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    wave = np.concatenate(blocks)
    tone = np.convolve(wave * np.exp(-2j * np.pi * 880 / 48000 * np.arange(wave.size)), np.ones(480) / 480)
    loud = np.nonzero(np.abs(tone[24000:]) > 0.07)[0][0] + 24000 - 240
    assert loud / 48000 == pytest.approx(30 * 1001 / 30000, abs=0.02)


def test_clips_hold_all_frames_and_all_sound(movie: Path, tmp_path: Path) -> None:
    clips = split_movie(movie, tmp_path / "50% off", 1)
    assert [clip.name for clip in clips] == ["split000.mp4", "split001.mp4"]
    assert [len(read_frame_table(clip).pts) for clip in clips] == [30, 30]
    assert [packet for clip in clips for packet in sound(clip)] == sound(movie)
    together = [frame for clip in clips for frame in frames(clip)]
    assert all(np.array_equal(one, other) for one, other in zip(frames(movie), together, strict=True))


def test_a_folder_with_older_clips_is_refused(movie: Path, tmp_path: Path) -> None:
    split_movie(movie, tmp_path, 1)
    with pytest.raises(DiscogridError, match="already holds"):
        split_movie(movie, tmp_path, 1)


def test_clips_with_glasses_become_one_movie_without_a_frame_lost(movie: Path, tmp_path: Path) -> None:
    clips = split_movie(movie, tmp_path / "clips", 1)
    worn = [tmp_path / f"disco_{clip.name}" for clip in clips]
    for clip, out in zip(clips, worn, strict=True):
        assert run_example("glasses_5.py", clip, out, cwd=tmp_path).returncode == 0
    report = merge_movies(worn, movie, tmp_path / "whole.mp4")
    assert (report.frames_in, report.frames_out, report.pts_error_max_s) == (60, 60, EXACT)
    assert report.audio_is_identical
    assert report.audio_packets == len(sound(movie))
    assert sound(tmp_path / "whole.mp4") == sound(movie)
    assert rate(tmp_path / "whole.mp4") == Fraction(30000, 1001)
    apart = [frame for out in worn for frame in frames(out)]
    whole = list(frames(tmp_path / "whole.mp4"))
    assert all(np.array_equal(one, other) for one, other in zip(apart, whole, strict=True))


def recoded(clips: list[Path], folder: Path, *options: str) -> list[Path]:
    folder.mkdir()
    for clip in clips:
        run_ffmpeg("-i", clip, *options, folder / clip.name)
    return [folder / clip.name for clip in clips]


def test_clips_of_a_script_that_forgot_rate_and_sound_are_restamped(movie: Path, tmp_path: Path) -> None:
    clips = split_movie(movie, tmp_path / "clips", 1)
    # 29 instead of 29.97 frames a second, no sound: the lab's own script does this.
    parts = recoded(clips, tmp_path / "parts", "-an", "-vf", "settb=1/29,setpts=N", "-r", "29", "-bf", "3")
    report = merge_movies(parts, movie, tmp_path / "whole.mp4")
    assert (report.frames_out, report.pts_error_max_s, report.audio_is_identical) == (60, EXACT, True)
    with av.open(str(tmp_path / "whole.mp4")) as container:  # the pictures themselves say so as well
        assert container.streams.video[0].codec_context.framerate == Fraction(30000, 1001)


@pytest.mark.parametrize("bframes", ["0", "2", "8"])
def test_reordered_frames_are_shown_in_order(bframes: str, movie: Path, tmp_path: Path) -> None:
    clips = split_movie(movie, tmp_path / "clips", 1)
    parts = recoded(clips, tmp_path / "parts", "-bf", bframes, "-x264-params", "b-adapt=0")
    report = merge_movies(parts, movie, tmp_path / "whole.mp4")
    assert (report.frames_out, report.pts_error_max_s) == (60, EXACT)
    pairs = zip(frames(movie), frames(tmp_path / "whole.mp4"), strict=True)
    assert max(float(np.abs(one.astype(int) - other).mean()) for one, other in pairs) < 4


def test_a_picture_that_starts_late_and_an_uneven_rate_stay_so(movie: Path, tmp_path: Path) -> None:
    uneven, source = tmp_path / "uneven.mp4", tmp_path / "source.mp4"
    run_ffmpeg(
        "-i", movie, "-vf", "select='not(mod(n,3))+gt(n,30)'", "-fps_mode", "vfr", "-g", "10", "-an", uneven
    )
    run_ffmpeg(
        "-itsoffset", "0.066", "-i", uneven, "-i", movie, "-map", "0:v", "-map", "1:a", "-c", "copy", source
    )
    clips = split_movie(source, tmp_path / "clips", 0.5)
    assert len(clips) > 1
    parts = recoded(clips, tmp_path / "parts", "-an", "-fps_mode", "passthrough")
    report = merge_movies(parts, source, tmp_path / "whole.mp4")
    assert (report.frames_in, report.frames_out, report.pts_error_max_s) == (40, 40, EXACT)
    assert report.audio_is_identical


def test_a_lost_frame_is_refused_with_the_numbers(movie: Path, tmp_path: Path) -> None:
    clips = split_movie(movie, tmp_path / "clips", 1)
    parts = recoded(clips, tmp_path / "parts", "-frames:v", "29")
    with pytest.raises(DiscogridError, match=r"58 frames, movie\.mp4 has 60") as refused:
        merge_movies(parts, movie, tmp_path / "whole.mp4")
    assert "split000.mp4 29" in str(refused.value)
    assert not (tmp_path / "whole.mp4").exists()


def test_clips_encoded_differently_are_refused(movie: Path, tmp_path: Path) -> None:
    clips = split_movie(movie, tmp_path / "clips", 1)
    other = recoded(clips[1:], tmp_path / "parts", "-vf", "scale=320:180")
    with pytest.raises(DiscogridError, match="encoded differently"):
        merge_movies([clips[0], *other], movie, tmp_path / "whole.mp4")


def test_a_clip_that_cannot_be_read_is_named(movie: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.mp4").write_bytes(b"no movie")
    with pytest.raises(InputError, match=r"torn\.mp4"):
        merge_movies([tmp_path / "torn.mp4"], movie, tmp_path / "whole.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["torn.mp4"]


def test_a_movie_of_sound_alone_is_named(movie: Path, tmp_path: Path) -> None:
    run_ffmpeg("-i", movie, "-vn", "-c", "copy", tmp_path / "song.mp4")
    with pytest.raises(InputError, match="no picture"):
        read_frame_table(tmp_path / "song.mp4")


def test_no_clips_at_all_are_refused(movie: Path, tmp_path: Path) -> None:
    with pytest.raises(DiscogridError, match="0 frames"):
        merge_movies([], movie, tmp_path / "whole.mp4")


def test_a_machine_without_ffmpeg_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("discogrid.demo.ffmpeg.find_ffmpeg", lambda: None)
    with pytest.raises(MissingProgram) as told:
        make_movie(tmp_path / "film.mp4")
    assert "pip install 'discogrid[demo]'" in str(told.value)


def test_a_machine_without_scikit_image_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingProgram) as told:
        make_movie(tmp_path / "film.mp4")
    assert "pip install 'discogrid[demo]'" in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_ffmpeg_is_quoted(tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho 'No space left on device' >&2\nexit 228\n")
    program.chmod(0o755)
    with pytest.raises(DiscogridError, match="making the movie") as failed:
        make_movie(tmp_path / "film.mp4", ffmpeg=program)
    assert "No space left on device" in str(failed.value)
    assert list(tmp_path.iterdir()) == [program]


def test_an_odd_size_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even"):
        make_movie(tmp_path / "film.mp4", size=(321, 240))


def test_import_discogrid_loads_no_demo() -> None:
    code = "import sys, discogrid; sys.exit(any(m in sys.modules for m in ('discogrid.demo', 'av', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_making_a_movie_imports_no_scikit_image() -> None:
    code = "import sys, discogrid.demo.movie as m; m.find_portrait(); sys.exit('skimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_real_film_is_cut_and_merged_exactly(real_media: Path, tmp_path: Path) -> None:
    film = real_media / "samsungfun.mp4"
    clips = split_movie(film, tmp_path / "clips", 2)
    assert [len(read_frame_table(clip).pts) for clip in clips] == [137, 41, 74, 79]
    report = merge_movies(clips, film, tmp_path / "whole.mp4")
    assert (report.frames_out, report.pts_error_max_s, report.audio_is_identical) == (331, EXACT, True)
