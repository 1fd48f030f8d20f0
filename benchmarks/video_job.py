"""A real video job: `discogrid submit glasses_5.py clips` against `xargs -P2` over the same clips, unboxed.

Both run the same script with the same interpreter on two slots, in turn. `submit` is the whole command. Every clip
of the grid is compared, byte for byte, with the one that xargs made. Without a MOVIE one is generated.
Run: python benchmarks/video_job.py [--movie MOVIE] [--seconds 30] [--clip 2] [--repeats 3]
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from discogrid.demo.movie import make_movie, split_movie

SLOTS = 2
SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "glasses_5.py"


def submit(work: Path, target: str) -> float:
    """Wall time of the whole command."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "discogrid", "-q", "submit", SCRIPT, "split*.mp4", "-o", target],
        cwd=work,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def xargs(work: Path, target: str) -> float:
    """Wall time of the same script over the same clips, two at a time, as a task would be called."""
    clips = sorted(work.glob("split*.mp4"))
    for clip in clips:
        folder = work / target / clip.stem
        (folder / "run-result").mkdir(parents=True)
        shutil.copy(clip, folder)
    lines = "\0".join(clip.stem for clip in clips)
    command = f'cd {target}/"$1" && exec "{sys.executable}" "{SCRIPT}" "$1.mp4"'
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    began = time.perf_counter()
    subprocess.run(
        ["xargs", "-0", "-P", str(SLOTS), "-I", "{}", "sh", "-c", command, "sh", "{}"],
        input=lines.encode(),
        cwd=work,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **threads},
        check=True,
    )
    return time.perf_counter() - began


def main() -> None:
    """Print both times, their ratio and what became of the frames."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--movie", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the generated movie")
    parser.add_argument("--clip", type=float, default=2.0, help="seconds a clip")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="discogrid-bench-") as name:
        work = Path(name)
        os.environ["DISCOGRID_HOME"] = str(work / "home")
        os.environ["DISCOGRID_IDLE_EXIT"] = "60s"
        movie = options.movie or make_movie(work / "movie.mp4", seconds=options.seconds)
        clips = split_movie(movie, work / "clips", options.clip)
        for clip in clips:
            clip.rename(work / clip.name)
        (work / "one.py").write_text("")
        subprocess.run(
            [sys.executable, "-m", "discogrid", "-q", "submit", "one.py"], cwd=work, check=True
        )  # starts the grid
        ours, theirs = [], []
        for repeat in range(options.repeats):
            ours.append(submit(work, f"grid{repeat}"))
            theirs.append(xargs(work, f"xargs{repeat}"))
        same = sum(
            (work / "grid0" / "output" / f"disco_{clip.name}").read_bytes()
            == (work / "xargs0" / clip.stem / "run-result" / f"disco_{clip.name}").read_bytes()
            for clip in clips
        )
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        print(f"{len(clips)} clips of {movie.name}, {SLOTS} slots, median of {options.repeats} runs in turn")
        print(
            f"  submit {statistics.median(ours):6.2f} s   xargs -P{SLOTS} unboxed {statistics.median(theirs):6.2f} s"
        )
        print(
            f"  ratio  {statistics.median(ratios):6.3f}     (each: {', '.join(f'{ratio:.3f}' for ratio in ratios)})"
        )
        print(f"  {same} of {len(clips)} clips equal, byte for byte, to those the script makes alone")


if __name__ == "__main__":
    main()
